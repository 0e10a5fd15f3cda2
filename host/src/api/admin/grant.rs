//! `/api/v1/grants`: subject × role × repositories.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wharf_oci::{ParseError, RepoPattern};

use super::extract::{Administrator, Asked, Body};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::access::{self, Grant, GrantRow};
use crate::api::{ApiError, ErrorBody};
use crate::flow::grant::{self, GrantingError};

/// One grant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GrantText {
    /// `user:NAME`, `authenticated` (whoever logs in) or `anonymous` (everybody).
    #[schema(example = "user:alice")]
    #[param(example = "user:alice")]
    pub subject: String,
    /// `read` (pull), `write` (also push), `maintain` (also delete, promote, bind policies) or `admin`.
    #[schema(example = "write")]
    #[param(example = "write")]
    pub role: String,
    /// Repositories: `*` stands for part of a component, `**` for any number of components.
    #[schema(example = "dev/*")]
    #[param(example = "dev/*")]
    pub repository: String,
}

/// One grant, and who made it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantEntry {
    #[schema(example = "user:alice")]
    pub subject: String,
    #[schema(example = "write")]
    pub role: String,
    #[schema(example = "dev/*")]
    pub repository: String,
    pub by: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/grants", get(ls).post(add).delete(remove))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, add, remove))]
pub(super) struct Doc;

impl From<GrantRow> for GrantEntry {
    fn from(row: GrantRow) -> Self {
        GrantEntry {
            subject: row.grant.subject.to_string(),
            role: row.grant.role.to_string(),
            repository: row.grant.pattern.to_string(),
            by: row.by,
            at_ms: row.at_ms,
        }
    }
}

impl GrantText {
    fn parse(&self) -> Result<Grant, ApiError> {
        let pattern: Result<RepoPattern, ParseError> = self.repository.parse();
        Ok(Grant {
            subject: self.subject.parse()?,
            role: self.role.parse()?,
            pattern: pattern.map_err(ApiError::invalid)?,
        })
    }
}

/// What a cursor holds: the grant before, in an order of its own that has no spaces in its parts.
fn cursor(grant: &Grant) -> String {
    grant.to_string()
}

fn from_cursor(cursor: &str) -> Option<Grant> {
    let mut parts = cursor.split(' ');
    let (subject, role, pattern) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Grant { subject: subject.parse().ok()?, role: role.parse().ok()?, pattern: pattern.parse().ok()? })
}

/// Grants by subject. For administrators.
#[utoipa::path(get, path = "/api/v1/grants", tag = "grants", params(Paging),
    responses((status = 200, body = Page<GrantEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    _: Administrator,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<GrantEntry>>, ApiError> {
    let after = match paging.cursor() {
        Some(text) => Some(from_cursor(text).ok_or_else(|| paging.wrong_cursor())?),
        None => None,
    };
    let (rows, more) = access::grants(&app.store, after.as_ref(), paging.limit()?).await?;
    let next = rows.last().filter(|_| more).map(|row| cursor(&row.grant));
    Ok(Json(Page { items: rows.into_iter().map(GrantEntry::from).collect(), next }))
}

/// Grants; what is granted already stays as it is. For administrators.
#[utoipa::path(post, path = "/api/v1/grants", tag = "grants", request_body = GrantText,
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), Unread, Failures))]
async fn add(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Body(text): Body<GrantText>,
) -> Result<StatusCode, ApiError> {
    grant::add(&app, &caller.principal, &text.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a grant away. For administrators.
#[utoipa::path(delete, path = "/api/v1/grants", tag = "grants", params(GrantText),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), Failures))]
async fn remove(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Asked(text): Asked<GrantText>,
) -> Result<StatusCode, ApiError> {
    grant::remove(&app, &caller.principal, &text.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<GrantingError> for ApiError {
    fn from(error: GrantingError) -> Self {
        match error {
            GrantingError::Grant(error) => error.into(),
            GrantingError::User(error) => error.into(),
            GrantingError::Store(error) => error.into(),
        }
    }
}
