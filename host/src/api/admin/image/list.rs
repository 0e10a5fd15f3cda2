use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wharf_oci::{Digest, Manifest, ManifestKind, RepoName, RepoPattern, Tag, Target};

use super::ScanEntry;
use super::scan::{known, summary};
use crate::App;
use crate::access::{self, Action};
use crate::api::admin::extract::Asked;
use crate::api::admin::{Failures, Page, Paging};
use crate::api::walk::Walk;
use crate::api::{ApiError, Caller};
use crate::auth::SEALED;
use crate::facts::total_size;
use crate::promote::Mode;
use crate::promote::binding::{self, Bound};
use crate::promote::standing::{self, Place};
use crate::registry::{index, list, manifest};

/// One tag.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImageEntry {
    #[schema(example = "dev/app")]
    pub repository: String,
    #[schema(example = "1.4")]
    pub tag: String,
    /// What the tag points at.
    pub digest: String,
    pub media_type: String,
    /// Config and layers as they are stored; of an index, of all its platforms that are here.
    pub size_bytes: u64,
    /// Digests of the manifests that run: one, or the platforms of an index.
    pub platforms: Vec<String>,
    /// When the tag was pointed there, milliseconds since 1970.
    pub pushed_at_ms: u64,
    pub pushed_by: String,
    /// The promotions that led here, oldest first, as `repository:tag`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
    pub scan: ScanEntry,
    /// What the bindings that match say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standings: Vec<StandingEntry>,
}

/// How a tag stands with a binding.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StandingEntry {
    pub binding: String,
    /// The binding's as it is now: what only watches says what it would do.
    pub mode: Mode,
    #[schema(example = "hold")]
    pub verdict: String,
    /// Whether this binding promoted what the tag points at.
    pub promoted: bool,
    /// The decision in the tag's history.
    pub decision: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Only of repositories of this pattern.
    #[param(example = "dev/*")]
    repository: Option<String>,
    /// Images at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// A place in the list.
enum At {
    /// Between two tags; without a tag, before the repository's first.
    Tag { repository: RepoName, tag: Option<Tag> },
    /// Where a walk over the repositories goes on, sealed.
    Rest(String),
}

impl At {
    fn parse(text: &str) -> Option<At> {
        let Some((repository, tag)) = text.rsplit_once(':') else {
            return text.starts_with(SEALED).then(|| At::Rest(text.to_owned()));
        };
        let tag = if tag.is_empty() { None } else { Some(tag.parse().ok()?) };
        Some(At::Tag { repository: repository.parse().ok()?, tag })
    }

    fn text(repository: &RepoName, tag: Option<&Tag>) -> String {
        format!("{repository}:{}", tag.map(Tag::as_str).unwrap_or_default())
    }
}

/// Tags with what they point at, by repository and tag, as far as the caller may pull.
#[utoipa::path(get, path = "/api/v1/images", tag = "images", params(Query),
    responses((status = 200, body = Page<ImageEntry>), Failures))]
pub(super) async fn ls(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<ImageEntry>>, ApiError> {
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let at = match paging.cursor() {
        Some(cursor) => Some(At::parse(cursor).ok_or_else(|| paging.wrong_cursor())?),
        None => None,
    };
    let pattern: Option<RepoPattern> =
        query.repository.map(|pattern| pattern.parse().map_err(ApiError::invalid)).transpose()?;
    let view = access::view(&app, &caller.principal).await?;
    let after = match &at {
        Some(At::Tag { repository, .. }) => Some(repository.as_str()),
        Some(At::Rest(rest)) => Some(rest.as_str()),
        None => None,
    };
    let walk = Walk::new(&app, &view, Action::Pull, pattern.as_ref(), after);
    let walk = walk.ok_or_else(|| paging.wrong_cursor())?;
    // The repository that the page before ended in goes first, from behind its last tag.
    let first = match at {
        Some(At::Tag { repository, tag }) => Some((repository, tag)).filter(|(name, _)| walk.shows(name)),
        _ => None,
    };
    let bindings = binding::all(&app.store).await?;
    Ok(Json(images(&app, walk, first, &bindings, limit).await?))
}

async fn images(
    app: &App,
    mut walk: Walk<'_>,
    mut first: Option<(RepoName, Option<Tag>)>,
    bindings: &[Bound],
    limit: usize,
) -> Result<Page<ImageEntry>, ApiError> {
    let mut items = Vec::new();
    loop {
        let (repository, tag) = match first.take() {
            Some(first) => first,
            None => match walk.next().await? {
                Some(next) => (next, None),
                None => return Ok(Page { items, next: walk.rest()? }),
            },
        };
        if let Some(next) = one_repository(app, bindings, &repository, tag, limit, &mut items).await? {
            return Ok(Page { items, next: Some(next) });
        }
    }
}

/// Adds a repository's tags. Returns where to go on once the page is full.
async fn one_repository(
    app: &App,
    bindings: &[Bound],
    repository: &RepoName,
    mut after: Option<Tag>,
    limit: usize,
    items: &mut Vec<ImageEntry>,
) -> Result<Option<String>, ApiError> {
    loop {
        let rest = limit - items.len();
        if rest == 0 {
            return Ok(Some(At::text(repository, after.as_ref())));
        }
        let page = list::tags(&app.store, repository, after.as_ref().map(Tag::as_str), rest).await?;
        let Some(page) = page else { return Ok(None) };
        for tag in &page.names {
            items.extend(entry(app, bindings, repository, tag).await?);
        }
        after = page.names.last().cloned().or(after);
        if !page.more {
            return Ok(None);
        }
    }
}

/// One tag; none where it went between the list and this.
async fn entry(
    app: &App,
    bindings: &[Bound],
    repository: &RepoName,
    tag: &Tag,
) -> Result<Option<ImageEntry>, ApiError> {
    let found = manifest::read(&app.store, repository, &Target::Tag(tag.clone())).await?;
    let Some((found, bytes)) = found else { return Ok(None) };
    let Some((row, _)) = found.tag else { return Ok(None) };
    let manifest = Manifest::parse(&bytes, Some(&found.row.media_type)).ok();
    let (platforms, size_bytes) = match &manifest {
        Some(manifest) => platforms(app, repository, &found.digest, manifest).await?,
        None => (vec![found.digest.clone()], 0),
    };
    let scans = known(app, repository, &platforms).await?;
    Ok(Some(ImageEntry {
        repository: repository.to_string(),
        tag: tag.to_string(),
        digest: found.digest.to_string(),
        media_type: row.media_type.to_string(),
        size_bytes,
        platforms: platforms.iter().map(ToString::to_string).collect(),
        pushed_at_ms: row.at_ms,
        pushed_by: row.by,
        lineage: row.lineage.iter().map(ToString::to_string).collect(),
        scan: summary(&scans),
        standings: standings(app, bindings, repository, tag).await?,
    }))
}

/// The manifests that run, with the bytes of their configs and layers, each blob once.
pub(super) async fn platforms(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
    manifest: &Manifest,
) -> Result<(Vec<Digest>, u64), ApiError> {
    let mut blobs = BTreeMap::new();
    let mut take = |manifest: &Manifest| {
        blobs.extend(manifest.blobs().map(|blob| (blob.digest.clone(), blob.size)));
    };
    let platforms = if manifest.kind == ManifestKind::Index {
        // An index may name one platform thousands of times.
        let (mut platforms, mut seen) = (Vec::new(), BTreeSet::new());
        let entries = index::platforms(&app.store, repository, manifest).await?;
        for entry in entries.into_iter().filter(|entry| seen.insert(&entry.digest)) {
            if let Some(manifest) = manifest::parsed(&app.store, repository, &entry.digest).await? {
                take(&manifest);
            }
            platforms.push(entry.digest.clone());
        }
        platforms
    } else {
        take(manifest);
        vec![digest.clone()]
    };
    Ok((platforms, total_size(&blobs)))
}

async fn standings(
    app: &App,
    bindings: &[Bound],
    repository: &RepoName,
    tag: &Tag,
) -> Result<Vec<StandingEntry>, ApiError> {
    let mut found = Vec::new();
    for bound in bindings.iter().filter(|bound| bound.binding.matches(repository, tag)) {
        let binding = bound.binding.name.to_string();
        let place = Place { binding: binding.clone(), repository: repository.clone(), tag: tag.clone() };
        if let Some(standing) = standing::find(&app.store, &place).await? {
            let (mode, verdict) = (bound.binding.mode, standing.verdict.to_string());
            let (promoted, decision) = (standing.promoted, standing.decision);
            found.push(StandingEntry { binding, mode, verdict, promoted, decision });
        }
    }
    Ok(found)
}
