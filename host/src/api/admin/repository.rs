//! `/api/v1/repositories`, `/api/v1/quotas`: what a repository and its namespace allow.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wharf_oci::{RepoName, RepoPattern};

use super::extract::{Administrator, Asked, Body};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::access::{self, Action};
use crate::api::walk::Walk;
use crate::api::{ApiError, Caller};
use crate::flow::repository::{self, RepositoryError};
use crate::registry::quota;
use crate::registry::setting::{self, RepoSetting};

/// One repository.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RepositoryEntry {
    #[schema(example = "dev/app")]
    pub repository: String,
    /// Tags of these patterns are pointed once, then neither moved nor deleted.
    #[schema(example = json!(["v*"]))]
    pub immutable_tags: Vec<String>,
}

/// The settings of a repository to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSetting {
    #[schema(example = "dev/app")]
    pub repository: String,
    /// Tags of these patterns are pointed once, then neither moved nor deleted.
    #[schema(example = json!(["v*"]))]
    pub immutable_tags: Vec<String>,
}

/// The settings of a repository as they are now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SettingEntry {
    #[schema(example = "dev/app")]
    pub repository: String,
    #[schema(example = json!(["v*"]))]
    pub immutable_tags: Vec<String>,
    /// Whether the repository is there. If not, the settings are in force from its first push on.
    pub exists: bool,
}

/// What a namespace holds and may hold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QuotaEntry {
    /// The first part of its repositories' names.
    #[schema(example = "dev")]
    pub namespace: String,
    /// Bytes of distinct blobs and manifests.
    #[serde(default)]
    pub used_bytes: u64,
    /// Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// The limit of a namespace to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    #[schema(example = "dev")]
    pub namespace: String,
    /// Absent or null: unlimited.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Only repositories of this pattern.
    #[param(example = "dev/*")]
    pattern: Option<String>,
    /// Repositories at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Namespace {
    #[param(example = "dev")]
    namespace: String,
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/repositories", get(ls).put(set)).route("/quotas", get(show_quota).put(set_quota))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, set, show_quota, set_quota))]
pub(super) struct Doc;

impl From<RepositoryError> for ApiError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Setting(error) => ApiError::invalid(error),
            RepositoryError::Store(error) => error.into(),
        }
    }
}

/// Repositories by name, as far as the caller may see them.
#[utoipa::path(get, path = "/api/v1/repositories", tag = "repositories", params(Query),
    responses((status = 200, body = Page<RepositoryEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<RepositoryEntry>>, ApiError> {
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let pattern: Option<RepoPattern> =
        query.pattern.map(|pattern| pattern.parse().map_err(ApiError::invalid)).transpose()?;
    let view = access::view(&app, &caller.principal).await?;
    let walk = Walk::new(&app, &view, Action::List, pattern.as_ref(), paging.cursor());
    let (names, next) = walk.ok_or_else(|| paging.wrong_cursor())?.page(limit).await?;
    let mut items = Vec::with_capacity(names.len());
    for name in &names {
        let RepoSetting { immutable_tags } = setting::read(&app.store, name).await?;
        items.push(RepositoryEntry { repository: name.to_string(), immutable_tags });
    }
    Ok(Json(Page { items, next }))
}

/// Replaces a repository's settings; it need not exist yet.
#[utoipa::path(put, path = "/api/v1/repositories", tag = "repositories", request_body = NewSetting,
    responses((status = 200, body = SettingEntry), Unread, Failures))]
async fn set(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewSetting>,
) -> Result<Json<SettingEntry>, ApiError> {
    let name: RepoName = new.repository.parse().map_err(ApiError::invalid)?;
    caller.require(&app, Action::Maintain, &name).await?;
    let setting = RepoSetting { immutable_tags: new.immutable_tags };
    let exists = repository::set(&app, &caller.principal, &name, &setting).await?;
    Ok(Json(SettingEntry { repository: name.to_string(), immutable_tags: setting.immutable_tags, exists }))
}

/// What a namespace holds and may hold. For administrators.
#[utoipa::path(get, path = "/api/v1/quotas", tag = "repositories", params(Namespace),
    responses((status = 200, body = QuotaEntry), Failures))]
async fn show_quota(
    State(app): State<App>,
    _: Administrator,
    Asked(Namespace { namespace }): Asked<Namespace>,
) -> Result<Json<QuotaEntry>, ApiError> {
    check(&namespace)?;
    let usage = quota::usage(&app.store, &namespace).await?;
    Ok(Json(QuotaEntry { namespace, used_bytes: usage.used, max_bytes: usage.max }))
}

/// Limits the bytes of a namespace. For administrators.
#[utoipa::path(put, path = "/api/v1/quotas", tag = "repositories", request_body = NewQuota,
    responses((status = 204), Unread, Failures))]
async fn set_quota(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Body(new): Body<NewQuota>,
) -> Result<StatusCode, ApiError> {
    check(&new.namespace)?;
    repository::limit(&app, &caller.principal, &new.namespace, new.max_bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A namespace is the first part of a name, so it is a name of one part.
fn check(namespace: &str) -> Result<(), ApiError> {
    let name: RepoName = namespace.parse().map_err(ApiError::invalid)?;
    match name.namespace() == namespace {
        true => Ok(()),
        false => Err(ApiError::invalid(format!(
            "`{name}` is a repository; hint: its namespace is `{}`",
            name.namespace()
        ))),
    }
}
