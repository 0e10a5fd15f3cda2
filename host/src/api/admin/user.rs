//! `/api/v1/users`: accounts and their passwords.

use std::net::IpAddr;

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Administrator, Asked, Body, Named};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::access::{self, GrantError};
use crate::api::caller::address;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::auth::{self, AuthError, Credentials, NewTokenError, PasswordError, User, UserError, UserName};
use crate::flow::account::{self, AccountError};

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserEntry {
    #[schema(example = "alice")]
    pub name: String,
    /// A suspended user may do nothing; grants and tokens stay.
    pub suspended: bool,
    /// A service account has no password and acts by access tokens alone.
    pub service: bool,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    pub created_by: String,
}

/// An account to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Lower-case letters and digits, then also `.`, `_` and `-`; at most 64.
    #[schema(example = "alice")]
    pub name: String,
    /// 8 to 256 bytes; without one it is a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A password to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// 8 to 256 bytes.
    pub password: String,
    /// One's own password of now; not needed of an administrator who sets another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
}

/// Whether a user may do anything at all.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    pub suspended: bool,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/users", get(ls).post(add))
        .route("/users/{user}", get(show).delete(remove))
        .route("/users/{user}/password", put(set_password))
        .route("/users/{user}/suspension", put(set_suspension))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, add, show, remove, set_password, set_suspension))]
pub(super) struct Doc;

async fn entry(app: &App, name: UserName, user: User) -> Result<UserEntry, ApiError> {
    Ok(UserEntry {
        suspended: access::is_suspended(&app.store, name.as_str()).await?,
        name: name.to_string(),
        service: user.password_hash.is_none(),
        created_at_ms: user.created_at_ms,
        created_by: user.created_by,
    })
}

/// Accounts by name. For administrators.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(Paging),
    responses((status = 200, body = Page<UserEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    _: Administrator,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<UserEntry>>, ApiError> {
    let after = paging.cursor().map(str::parse).transpose().map_err(|_| paging.wrong_cursor())?;
    let (users, more) = auth::users(&app.store, after.as_ref(), paging.limit()?).await?;
    let next = users.last().filter(|_| more).map(|(name, _)| name.to_string());
    let mut items = Vec::with_capacity(users.len());
    for (name, user) in users {
        items.push(entry(&app, name, user).await?);
    }
    Ok(Json(Page { items, next }))
}

/// Adds an account. For administrators.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = UserEntry), (status = 409, body = ErrorBody), Unread, Failures))]
async fn add(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserEntry>), ApiError> {
    let name: UserName = new.name.parse()?;
    account::add_user(&app, &caller.principal, &name, new.password.as_deref()).await?;
    let user = find(&app, &name).await?;
    Ok((StatusCode::CREATED, Json(entry(&app, name, user).await?)))
}

async fn find(app: &App, name: &UserName) -> Result<User, ApiError> {
    let found = auth::find_user(&app.store, name).await?;
    Ok(found.map(|(user, _)| user).ok_or_else(|| UserError::Unknown(name.clone()))?)
}

/// One account. For that user and administrators.
#[utoipa::path(get, path = "/api/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 200, body = UserEntry), (status = 404, body = ErrorBody), Failures))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(user): Named<String>,
) -> Result<Json<UserEntry>, ApiError> {
    let name: UserName = user.parse()?;
    caller.require_owner(&app, &name).await?;
    let user = find(&app, &name).await?;
    Ok(Json(entry(&app, name, user).await?))
}

/// Removes an account with its tokens and grants. For administrators.
#[utoipa::path(delete, path = "/api/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), Failures))]
async fn remove(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Named(user): Named<String>,
) -> Result<StatusCode, ApiError> {
    account::remove_user(&app, &caller.principal, &user.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a password; tokens signed on the old one end. For that user, with the password of now, and administrators.
#[utoipa::path(put, path = "/api/v1/users/{user}/password", tag = "users", params(("user" = String, Path)),
    request_body = NewPassword,
    responses((status = 204), (status = 404, body = ErrorBody), Unread, Failures))]
async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Named(user): Named<String>,
    parts: Parts,
    Body(new): Body<NewPassword>,
) -> Result<StatusCode, ApiError> {
    let name: UserName = user.parse()?;
    caller.require_owner(&app, &name).await?;
    if caller.principal.name == name.as_str() {
        check_current(&app, &name, new.current, address(&app, &parts)).await?;
    }
    account::set_password(&app, &caller.principal, &name, &new.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Passes whoever knows the password of now: a session left open must not be enough to take an account over.
async fn check_current(
    app: &App,
    name: &UserName,
    current: Option<String>,
    peer: IpAddr,
) -> Result<(), ApiError> {
    let Some(password) = current else {
        return Err(ApiError::invalid(
            "`current` is missing; hint: one's own password is changed with the one of now",
        ));
    };
    let user = name.to_string();
    match auth::identify(app, &Credentials::Basic { user, password }, peer).await {
        Ok(identity) if matches!(identity.proof, auth::Proof::Password(_)) => Ok(()),
        Ok(_) | Err(AuthError::Wrong | AuthError::Suspended | AuthError::Token) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "denied", "`current` is not the password of now"))
        }
        Err(AuthError::Store(error)) => Err(error.into()),
        Err(AuthError::Throttled { retry_s }) => Err(crate::api::Refusal::Throttled { retry_s }.into()),
        Err(AuthError::Busy) => Err(crate::api::Refusal::Busy.into()),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// Suspends a user, or ends that. For administrators.
#[utoipa::path(put, path = "/api/v1/users/{user}/suspension", tag = "users", params(("user" = String, Path)),
    request_body = Suspension,
    responses((status = 200, body = UserEntry), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), Unread,
        Failures))]
async fn set_suspension(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Named(user): Named<String>,
    Body(wanted): Body<Suspension>,
) -> Result<Json<UserEntry>, ApiError> {
    let name: UserName = user.parse()?;
    account::set_suspended(&app, &caller.principal, &name, wanted.suspended).await?;
    let user = find(&app, &name).await?;
    Ok(Json(entry(&app, name, user).await?))
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Name(_) | UserError::Reserved(_) => ApiError::invalid(error),
            UserError::Exists(_) => ApiError::conflict(error),
            UserError::Unknown(_) => ApiError::not_found(error),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<GrantError> for ApiError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Subject(_) | GrantError::Role(_) => ApiError::invalid(error),
            GrantError::NoSuchGrant(_) => ApiError::not_found(error),
            GrantError::LastAdmin | GrantError::TooMany | GrantError::TooManyOf(_) => {
                ApiError::conflict(error)
            }
            GrantError::Store(error) => error.into(),
        }
    }
}

impl From<NewTokenError> for ApiError {
    fn from(error: NewTokenError) -> Self {
        match error {
            NewTokenError::Name(_) | NewTokenError::TooManyScopes => ApiError::invalid(error),
            NewTokenError::Exists { .. } | NewTokenError::TooMany(_) => ApiError::conflict(error),
            NewTokenError::Unknown { .. } => ApiError::not_found(error),
            NewTokenError::Random(_) => ApiError::internal(error),
            NewTokenError::Store(error) => error.into(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::User(error) => error.into(),
            AccountError::Grant(error) => error.into(),
            AccountError::Token(error) => error.into(),
            AccountError::Store(error) => error.into(),
            AccountError::Password(PasswordError::Hash(_)) | AccountError::PasswordFile { .. } => {
                ApiError::internal(error)
            }
            AccountError::Password(error) => ApiError::invalid(error),
        }
    }
}
