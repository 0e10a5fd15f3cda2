//! `/api/v1/vulnerability-data`: what images are compared with.

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wharf_scan::vuln::{Db, Release, ReleaseData, SourceName};

use super::Failures;
use super::extract::{Administrator, Asked};
use crate::App;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::flow::db_import::{self, DbImportError, Export};

/// Largest export that is taken, in bytes: several times that of all of Debian's.
const EXPORT_BYTES_MAX: u64 = 4 << 30;

/// What data there is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatabaseEntry {
    /// Digest of all of it; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub sources: Vec<SourceEntry>,
    /// What there is of each release, such as `Debian:12`.
    pub releases: BTreeMap<String, ReleaseEntry>,
}

impl From<&Db> for DatabaseEntry {
    fn from(db: &Db) -> Self {
        let sources = db.coverage().into_iter().map(|coverage| SourceEntry {
            malformed: db.malformed(&coverage.source),
            source: coverage.source,
            as_of_ms: coverage.as_of_ms,
            records: coverage.records,
        });
        DatabaseEntry {
            version: Some(db.version().to_owned()),
            sources: sources.collect(),
            releases: db.releases().map(|(release, data)| (release.to_string(), data.into())).collect(),
        }
    }
}

/// What all sources together have of one release.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEntry {
    pub records: u64,
    /// Those among them that do not say of every version whether it is affected, or not in a form that can be evaluated: for the
    /// others it is a finding that is possible only.
    #[serde(default)]
    pub undecided: u64,
    /// The newest change among them, milliseconds since 1970.
    pub as_of_ms: u64,
    /// Whether a source is known to have everything about it. If not, its images are shown as `no data`.
    pub covered: bool,
}

impl From<ReleaseData> for ReleaseEntry {
    fn from(data: ReleaseData) -> Self {
        let ReleaseData { records, undecided, as_of_ms, covered } = data;
        ReleaseEntry { records, undecided, as_of_ms, covered }
    }
}

/// One source of data.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SourceEntry {
    pub source: String,
    /// The newest change among its records, milliseconds since 1970.
    pub as_of_ms: u64,
    pub records: u64,
    /// Further ones that could not be read: nothing is known of what they are about.
    #[serde(default)]
    pub malformed: u64,
}

/// What an import did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImportEntry {
    /// Of all data in force now.
    pub version: String,
    /// Records read.
    pub records: u64,
    /// Records of releases that are matched.
    pub kept: u64,
    /// Those among the kept that do not say of every version whether it is affected.
    #[serde(default)]
    pub undecided: u64,
    pub withdrawn: u64,
    /// Records that could not be read, and the first of them described.
    pub malformed: u64,
    pub described: Vec<String>,
    /// Records of ecosystems that are not matched, by ecosystem; they are not stored.
    pub others: BTreeMap<String, u64>,
    /// Entries of a list of exploited vulnerabilities.
    pub exploited: u64,
    /// The source, if it was there before and nothing of it was kept.
    #[serde(default)]
    pub removed: Vec<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Under which name: it takes the place of what was imported under it before.
    #[param(example = "debian")]
    source: String,
    /// Releases, with commas between them, that it has everything about. A zip file is a whole export and covers those that it
    /// has at least 100 records of; other files are single records and cover none.
    #[param(example = "Debian:12,Alpine:v3.20")]
    covers: Option<String>,
    /// Also where it has less than half the records of a release that were imported under the name before, covers less, or
    /// cannot be read for a good part. Where it has nothing to keep, the source is removed.
    #[serde(default)]
    force: bool,
}

pub(super) fn routes() -> Router<App> {
    // The body goes to a file as it comes, with a bound of its own.
    Router::new().route("/vulnerability-data", get(show).post(import).layer(DefaultBodyLimit::disable()))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(show, import))]
pub(super) struct Doc;

impl From<DbImportError> for ApiError {
    fn from(error: DbImportError) -> Self {
        match error {
            DbImportError::Import(error) if error.is_forced() => ApiError::conflict(error),
            DbImportError::Import(error) => ApiError::invalid(error),
            DbImportError::Store(error) => error.into(),
            DbImportError::Db(_) | DbImportError::Write(_) | DbImportError::Interrupted => {
                ApiError::internal(error)
            }
        }
    }
}

/// What data images are compared with, and how old it is.
pub(super) async fn entry(app: &App) -> Result<DatabaseEntry, ApiError> {
    let app = app.clone();
    // Reads the file where it is a new one.
    let read = tokio::task::spawn_blocking(move || app.vulnerability_data.usable());
    let found = read.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let none = DatabaseEntry { version: None, sources: Vec::new(), releases: BTreeMap::new() };
    Ok(found.map_or(none, |db| DatabaseEntry::from(&*db)))
}

/// What data images are compared with, and how old it is.
#[utoipa::path(get, path = "/api/v1/vulnerability-data", tag = "vulnerability data",
    responses((status = 200, body = DatabaseEntry), Failures))]
async fn show(State(app): State<App>, _: Caller) -> Result<Json<DatabaseEntry>, ApiError> {
    Ok(Json(entry(&app).await?))
}

/// Imports an OSV export (`all.zip`, or JSON records), in place of the earlier records of its source. What is known of all
/// images is then compared again. For administrators.
#[utoipa::path(post, path = "/api/v1/vulnerability-data", tag = "vulnerability data", params(Query),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ImportEntry), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), Failures))]
async fn import(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Asked(query): Asked<Query>,
    body: Body,
) -> Result<Json<ImportEntry>, ApiError> {
    let source: SourceName = query.source.parse().map_err(ApiError::invalid)?;
    let covers = query.covers.iter().flat_map(|list| list.split(',')).map(str::parse);
    let covers: Vec<Release> = covers.collect::<Result<_, _>>().map_err(ApiError::invalid)?;
    let file = receive(&app, body).await?;
    let export = Export { source, file, covers };
    let done = db_import::import(&app, &caller.principal.name, vec![export], query.force).await?;
    Ok(Json(ImportEntry {
        version: done.version,
        records: done.records,
        kept: done.kept,
        undecided: done.undecided,
        withdrawn: done.withdrawn,
        malformed: done.malformed,
        described: done.described,
        others: done.others,
        exploited: done.exploited,
        removed: done.removed,
    }))
}

/// Writes the body to a file without a name, which goes with the request whatever happens.
async fn receive(app: &App, body: Body) -> Result<std::fs::File, ApiError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => wharf_store::StoreError::Full.into(),
        _ => ApiError::internal(format!("the export cannot be kept: {error}")),
    };
    let mut file = tempfile::tempfile_in(&app.config.data).map_err(failed)?;
    let mut stream = body.into_data_stream();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::invalid(format!("the body ended early: {error}")))?;
        size += chunk.len() as u64;
        if size > EXPORT_BYTES_MAX {
            let message = format!("the export is larger than {EXPORT_BYTES_MAX} bytes");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
        }
        file = tokio::task::spawn_blocking(move || file.write_all(&chunk).map(|()| file))
            .await
            .map_err(ApiError::internal)?
            .map_err(failed)?;
    }
    use std::io::Seek as _;
    file.rewind().map_err(failed)?;
    Ok(file)
}
