//! `/api/v1/bindings`: which tags are judged by which policies, and where they go.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, Named};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::flow::promote::bind::{self, BindError};
use crate::flow::promote::dry_run::{self, DryRun};
use crate::promote::{Binding, BindingName, Bound, Mode, Policy, TargetRule};

/// A binding as it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBinding {
    /// Such as `dev/**`.
    pub repositories: String,
    /// Such as `v*`; every tag if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    pub policies: Vec<Policy>,
    pub targets: Vec<TargetRule>,
    /// The user with whose rights it acts, asked again each time; the caller if left out.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default)]
    pub mode: Mode,
    /// The platforms of an index that count; all of them if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// A binding in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BindingEntry {
    pub name: String,
    pub repositories: String,
    pub tags: String,
    pub policies: Vec<Policy>,
    pub targets: Vec<TargetRule>,
    /// The user with whose rights it acts.
    #[serde(rename = "as")]
    pub owner: String,
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Who wrote it, and when.
    pub by: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Changes with every write.
    pub revision: u64,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/bindings", get(ls))
        .route("/bindings/dry-run", post(dry_run_new))
        .route("/bindings/{name}", get(show).put(bind).delete(unbind))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, show, bind, unbind, dry_run_new))]
pub(super) struct Doc;

impl From<Bound> for BindingEntry {
    fn from(bound: Bound) -> Self {
        let Bound { binding, by, at_ms, revision } = bound;
        BindingEntry {
            name: binding.name.to_string(),
            repositories: binding.repositories.to_string(),
            tags: binding.tags.to_string(),
            policies: binding.policies,
            targets: binding.targets,
            owner: binding.owner,
            mode: binding.mode,
            platforms: binding.platforms,
            by,
            at_ms,
            revision,
        }
    }
}

impl NewBinding {
    fn named(self, name: &str, caller: &str) -> Result<Binding, ApiError> {
        let name: BindingName = name.parse().map_err(ApiError::invalid)?;
        let tags = self.tags.as_deref().unwrap_or("*").parse().map_err(ApiError::invalid)?;
        Ok(Binding {
            name,
            repositories: self.repositories.parse().map_err(ApiError::invalid)?,
            tags,
            policies: self.policies,
            targets: self.targets,
            owner: self.owner.unwrap_or_else(|| caller.to_owned()),
            mode: self.mode,
            platforms: self.platforms,
        })
    }
}

impl From<BindError> for ApiError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Binding(_) | BindError::Config(_) | BindError::User(_) => ApiError::invalid(error),
            BindError::Cycle(_) | BindError::TooMany | BindError::Revision { .. } => {
                ApiError::conflict(error)
            }
            BindError::Owner(_) | BindError::Refused { .. } => {
                ApiError::new(StatusCode::FORBIDDEN, "denied", error)
            }
            BindError::None(_) => ApiError::not_found(error),
            BindError::Store(error) => error.into(),
        }
    }
}

/// A token that is narrower than its user must not make what acts with all the user's rights.
async fn refuse_narrowed(app: &App, caller: &Caller) -> Result<(), ApiError> {
    if caller.principal.scopes.is_some() {
        caller.require_admin(app).await?;
    }
    Ok(())
}

/// Bindings by name: the caller's own, and those about repositories of which the caller may pull some.
#[utoipa::path(get, path = "/api/v1/bindings", tag = "bindings", params(Paging),
    responses((status = 200, body = Page<BindingEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    caller: Caller,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<BindingEntry>>, ApiError> {
    caller.require_user()?;
    let limit = paging.limit()?;
    // There are at most `BINDINGS_MAX`, which is one page of the store.
    let after = paging.cursor().unwrap_or_default();
    let mut items: Vec<BindingEntry> =
        bind::visible(&app, &caller.principal).await?.into_iter().map(Into::into).collect();
    items.retain(|entry| entry.name.as_str() > after);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(Page { items, next }))
}

/// One binding.
#[utoipa::path(get, path = "/api/v1/bindings/{name}", tag = "bindings", params(("name" = String, Path)),
    responses((status = 200, body = BindingEntry), (status = 404, body = ErrorBody), Failures))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Json<BindingEntry>, ApiError> {
    caller.require_user()?;
    Ok(Json(bind::show(&app, &caller.principal, &name).await?.into()))
}

/// Makes a binding or replaces it. It acts with its owner's rights, which are asked each time. The caller maintains all
/// repositories of the pattern; only administrators bind for somebody else.
#[utoipa::path(put, path = "/api/v1/bindings/{name}", tag = "bindings", params(("name" = String, Path)),
    request_body = NewBinding,
    responses((status = 200, body = BindingEntry), (status = 409, body = ErrorBody), Unread, Failures))]
async fn bind(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
    Body(new): Body<NewBinding>,
) -> Result<Json<BindingEntry>, ApiError> {
    let binding = new.named(&name, &caller.principal.name)?;
    refuse_narrowed(&app, &caller).await?;
    let bound = bind::bind(&app, &caller.principal, binding, None).await?;
    Ok(Json(bound.into()))
}

/// Removes a binding. What it promoted stays where it is.
#[utoipa::path(delete, path = "/api/v1/bindings/{name}", tag = "bindings", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), Failures))]
async fn unbind(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<StatusCode, ApiError> {
    refuse_narrowed(&app, &caller).await?;
    bind::unbind(&app, &caller.principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a dry run is asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDryRun {
    pub binding: NewBinding,
    /// Tags at most; 500 if left out, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the dry run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a binding would do about what is in the registry now, as far as the caller may pull. Nothing is written.
#[utoipa::path(post, path = "/api/v1/bindings/dry-run", tag = "bindings", request_body = NewDryRun,
    responses((status = 200, body = DryRun), Unread, Failures))]
async fn dry_run_new(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewDryRun>,
) -> Result<Json<DryRun>, ApiError> {
    let binding = new.binding.named("dry-run", &caller.principal.name)?;
    binding.check().map_err(ApiError::invalid)?;
    let limit = new.limit.unwrap_or(dry_run::TAGS_MAX);
    let run = dry_run::dry_run(&app, &caller.principal, &binding, new.after.as_deref(), limit).await?;
    Ok(Json(run))
}
