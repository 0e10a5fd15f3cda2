//! `/api/v1/users/{user}/tokens`: access tokens for machines.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, Named};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::access::Scope;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::auth::{self, AccessToken, Proof, TokenName, UserName};
use crate::flow::token::{self, TokenError};

/// How long a token holds where the request does not say: 90 days.
const EXPIRES_S_DEFAULT: u64 = 90 * 24 * 3600;

/// One token, without its text.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenEntry {
    #[schema(example = "ci")]
    pub name: String,
    #[schema(example = "alice")]
    pub user: String,
    /// What it is narrowed to; absent: everything its user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["dev/*:pull,push"]))]
    pub scopes: Option<Vec<String>>,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Milliseconds since 1970.
    pub expires_at_ms: u64,
    pub expired: bool,
}

/// A token to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenRequest {
    /// Letters, digits, `.`, `_`, `-` and `@`; at most 64.
    #[schema(example = "ci")]
    pub name: String,
    /// `PATTERN:ACTION,…` each; absent: everything its user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["dev/*:pull,push"]))]
    pub scopes: Option<Vec<String>>,
    /// Seconds from now; 90 days where absent, ten years at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 315360000)]
    pub expires_s: Option<u64>,
}

/// A new token with its text, which is never shown again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// To be used as a password with any user name, or as a bearer.
    #[schema(example = "wharf_pat_…")]
    pub text: String,
    #[serde(flatten)]
    pub token: TokenEntry,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/users/{user}/tokens", get(ls).post(create))
        .route("/users/{user}/tokens/{token}", delete(revoke))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, create, revoke))]
pub(super) struct Doc;

fn entry(token: AccessToken, now_ms: u64) -> TokenEntry {
    TokenEntry {
        name: token.name.to_string(),
        user: token.user.to_string(),
        scopes: token.scopes.map(|scopes| scopes.iter().map(Scope::to_string).collect()),
        created_at_ms: token.created_at_ms,
        expires_at_ms: token.expires_at_ms,
        expired: token.expires_at_ms <= now_ms,
    }
}

/// A user's tokens by name. For that user and administrators.
#[utoipa::path(get, path = "/api/v1/users/{user}/tokens", tag = "tokens", params(("user" = String, Path), Paging),
    responses((status = 200, body = Page<TokenEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    caller: Caller,
    Named(user): Named<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<TokenEntry>>, ApiError> {
    let user: UserName = user.parse()?;
    caller.require_owner(&app, &user).await?;
    let after = paging.cursor().map(str::parse).transpose().map_err(|_| paging.wrong_cursor())?;
    let (tokens, more) = auth::tokens(&app.store, &user, after.as_ref(), paging.limit()?).await?;
    let next = tokens.last().filter(|_| more).map(|token| token.name.to_string());
    let now_ms = app.store.now_ms();
    let items = tokens.into_iter().map(|token| entry(token, now_ms)).collect();
    Ok(Json(Page { items, next }))
}

/// Makes a token; its text is in this answer and nowhere else. One made with another token ends with that one at the
/// latest. For that user and administrators.
#[utoipa::path(post, path = "/api/v1/users/{user}/tokens", tag = "tokens", params(("user" = String, Path)),
    request_body = NewTokenRequest,
    responses((status = 201, body = MadeToken), (status = 409, body = ErrorBody), Unread, Failures))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Named(user): Named<String>,
    Body(new): Body<NewTokenRequest>,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    let user: UserName = user.parse()?;
    caller.require_owner(&app, &user).await?;
    let name: TokenName = new.name.parse()?;
    let scopes = new.scopes.map(|scopes| scopes.iter().map(|scope| scope.parse()).collect()).transpose();
    let scopes: Option<Vec<Scope>> =
        scopes.map_err(|error: crate::access::ScopeError| ApiError::invalid(error))?;
    let mut expires = Duration::from_secs(new.expires_s.unwrap_or(EXPIRES_S_DEFAULT));
    if let Proof::AccessToken(id) = &caller.proof {
        // A token makes none that outlives it, or a leaked one would last for ever.
        let rest_ms = auth::token_expires_ms(&app.store, id).await?.saturating_sub(app.store.now_ms());
        expires = expires.min(Duration::from_millis(rest_ms));
    }
    let (text, token) = token::create(&app, &caller.principal, &user, &name, scopes, expires).await?;
    let made = MadeToken { text: text.reveal().to_owned(), token: entry(token, app.store.now_ms()) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes a token; what was signed on it ends. For that user and administrators.
#[utoipa::path(delete, path = "/api/v1/users/{user}/tokens/{token}", tag = "tokens",
    params(("user" = String, Path), ("token" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), Failures))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Named((user, token)): Named<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user: UserName = user.parse()?;
    caller.require_owner(&app, &user).await?;
    token::revoke(&app, &caller.principal, &user, &token.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Token(error) => error.into(),
            TokenError::User(error) => error.into(),
            TokenError::Expires => ApiError::invalid(error),
            TokenError::Store(error) => error.into(),
        }
    }
}
