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
        .route("/bindings/{name}/dry-run", post(dry_run_bound))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, show, bind, unbind, dry_run_new, dry_run_bound))]
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
            BindError::Cycle(_) | BindError::Taken(_) | BindError::TooMany | BindError::Revision { .. } => {
                ApiError::conflict(error)
            }
            BindError::Owner(_) | BindError::Theirs { .. } | BindError::Refused { .. } => {
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
    caller.require_user()?;
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
    caller.require_user()?;
    refuse_narrowed(&app, &caller).await?;
    bind::unbind(&app, &caller.principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a dry run of a binding that need not be there is asked.
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

/// What a dry run of a binding in force is asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    /// Tags at most; 500 if left out, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the dry run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a binding would do about what is in the registry now, as far as the caller may pull. Nothing is written. Only
/// administrators ask what it would do as somebody else.
#[utoipa::path(post, path = "/api/v1/bindings/dry-run", tag = "bindings", request_body = NewDryRun,
    responses((status = 200, body = DryRun), Unread, Failures))]
async fn dry_run_new(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewDryRun>,
) -> Result<Json<DryRun>, ApiError> {
    caller.require_user()?;
    let binding = new.binding.named("dry-run", &caller.principal.name)?;
    bind::check(&app, &caller.principal, &binding).await?;
    bind::check_policies(&app, &binding).await?;
    let limit = new.limit.unwrap_or(dry_run::TAGS_MAX);
    let run = dry_run::dry_run(&app, &caller.principal, &binding, new.after.as_deref(), limit).await?;
    Ok(Json(run))
}

/// The same of a binding in force that the caller sees, whoever it acts as.
#[utoipa::path(post, path = "/api/v1/bindings/{name}/dry-run", tag = "bindings", params(("name" = String, Path)),
    request_body = Portion, responses((status = 200, body = DryRun), (status = 404, body = ErrorBody), Unread, Failures))]
async fn dry_run_bound(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
    Body(portion): Body<Portion>,
) -> Result<Json<DryRun>, ApiError> {
    caller.require_user()?;
    let bound = bind::show(&app, &caller.principal, &name).await?;
    let (after, limit) = (portion.after.as_deref(), portion.limit.unwrap_or(dry_run::TAGS_MAX));
    Ok(Json(dry_run::dry_run(&app, &caller.principal, &bound.binding, after, limit).await?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use http::{Method, Request};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;
    use wharf_store::{Model, Store};

    use super::*;
    use crate::access::{Grant, Principal, Role};
    use crate::config::Config;
    use crate::flow;
    use crate::promote::binding::{self, BindingRow};

    fn trial(owner: &str) -> Value {
        json!({"repositories": "dev/*", "policies": [{"plugin": "criteria"}], "as": owner,
            "targets": [{"name": "qa", "repository": "qa/{name}"}]})
    }

    /// Regression: what another user may do was read from a dry run, and what there is from how a removal was refused.
    #[tokio::test]
    async fn what_belongs_to_others_is_neither_tried_out_nor_told() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
        let app = &App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
        flow::account::first_start(app).await.unwrap();
        let admin = &Principal::user("admin");
        for name in ["alice", "ci"] {
            flow::account::add_user(app, admin, &name.parse().unwrap(), None).await.unwrap();
        }
        let (subject, role) = ("user:alice".parse().unwrap(), Role::Maintain);
        let own = Grant { subject, role, pattern: "dev/*".parse().unwrap() };
        flow::grant::add(app, admin, &own).await.unwrap();
        for (name, from) in [("seen", "dev/**"), ("hidden", "lab/**")] {
            let mut binding = trial("ci");
            (binding["name"], binding["repositories"]) = (json!(name), json!(from));
            let binding = serde_json::from_value(binding).unwrap();
            let row = &BindingRow { binding, by: "admin".into(), at_ms: 0 };
            app.store.act(async |mut tx| binding::put(&mut tx, row)).await.unwrap();
        }
        let (alice, hour) = ("alice".parse().unwrap(), Duration::from_secs(3600));
        let token = flow::token::create(app, admin, &alice, &"t".parse().unwrap(), None, hour).await;
        let login = &format!("Bearer {}", token.unwrap().0.reveal());
        let check = async |method: Method, path: &str, body: Value, expected: StatusCode| {
            let request = Request::builder().method(&method).uri(format!("/api/v1/bindings/{path}"));
            let request = request.header("authorization", login).header("content-type", "application/json");
            let request = request.body(Body::from(body.to_string())).unwrap();
            let router = super::super::routes(app.clone()).with_state(app.clone());
            assert_eq!(router.oneshot(request).await.unwrap().status(), expected, "{method} {path} {body}");
        };
        let own = |owner| json!({"binding": trial(owner)});
        // Nothing is in the way but that this server has no plugin.
        check(Method::POST, "dry-run", own("alice"), StatusCode::BAD_REQUEST).await;
        check(Method::POST, "dry-run", own("ci"), StatusCode::FORBIDDEN).await;
        check(Method::POST, "dry-run", own("nobody"), StatusCode::FORBIDDEN).await;
        check(Method::POST, "seen/dry-run", json!({}), StatusCode::OK).await;
        for name in ["hidden", "missing"] {
            let path = &format!("{name}/dry-run");
            check(Method::POST, path, json!({}), StatusCode::NOT_FOUND).await;
            check(Method::DELETE, name, json!({}), StatusCode::NOT_FOUND).await;
        }
        check(Method::DELETE, "seen", json!({}), StatusCode::FORBIDDEN).await;
    }
}
