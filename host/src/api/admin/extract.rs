//! Who sent a request, and what it says, with the REST API's own errors where it says it wrongly.
//!
//! Invariant: a handler's arguments are read in their order, so the caller stands before all that the request says.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::App;
use crate::api::{ApiError, Caller};

/// A caller who administers the server.
#[derive(Debug)]
pub(super) struct Administrator(pub Caller);

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

/// The part of a path that names something.
#[derive(Debug)]
pub(super) struct Named<T>(pub T);

/// The query string.
#[derive(Debug)]
pub(super) struct Asked<T>(pub T);

/// Passes whoever has a name to the handler, which finds the [`Caller`] among its arguments. It stands before every route,
/// so that a stranger is told to log in whatever the request says.
pub(super) async fn admit(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::of(&app, &parts).await?;
    caller.require_user()?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let admitted = parts.extensions.get::<Caller>().cloned();
        admitted.ok_or_else(|| ApiError::internal("a route asks who calls and nobody was admitted to it"))
    }
}

impl FromRequestParts<App> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.require_admin(app).await?;
        Ok(Administrator(caller))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(body) = Json::from_request(request, state).await.map_err(|rejection: JsonRejection| {
            match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large")
                }
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    let message = "the body is not JSON; hint: send `Content-Type: application/json`";
                    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", message)
                }
                _ => wrong("body", &rejection.body_text()),
            }
        })?;
        Ok(Body(body))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::from_request_parts(parts, state).await;
        let Path(named) = named.map_err(|rejection: PathRejection| wrong("path", &rejection.body_text()))?;
        Ok(Named(named))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::from_request_parts(parts, state).await;
        let Query(asked) =
            asked.map_err(|rejection: QueryRejection| wrong("query", &rejection.body_text()))?;
        Ok(Asked(asked))
    }
}

/// axum's own words begin with what it could not do; what is wrong comes after the colon.
fn wrong(what: &str, text: &str) -> ApiError {
    let why = text
        .split_once(": ")
        .filter(|(before, _)| before.starts_with("Failed to"))
        .map_or(text, |(_, why)| why);
    ApiError::invalid(format!("the {what} is wrong: {why}"))
}
