//! Errors as the REST API writes them: `{"error": {"code", "message", "hint"}}`.

use std::any::Any;

use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use wharf_store::StoreError;

use super::Refusal;

/// Seconds that a client is asked to wait when the server is busy.
const RETRY_AFTER_S: u64 = 1;

/// What a request failed with.
#[derive(Debug)]
pub struct ApiError(Box<Answer>);

/// Boxed, so that what succeeds does not pay for it.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: ErrorBody,
    challenge: Option<HeaderValue>,
    retry_s: Option<u64>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    pub error: ErrorText,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorText {
    /// A word that programs may tell errors apart by.
    #[schema(example = "not-found")]
    pub code: String,
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error of this status; a `hint: …` at the message's end becomes a field of its own.
    pub fn new(status: StatusCode, code: &str, message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let (message, hint) = match message.split_once("hint: ") {
            Some((message, hint)) => {
                (message.trim_end().trim_end_matches(';').to_owned(), Some(hint.to_owned()))
            }
            None => (message, None),
        };
        let error = ErrorText { code: code.to_owned(), message, hint };
        ApiError(Box::new(Answer { status, body: ErrorBody { error }, challenge: None, retry_s: None }))
    }

    /// 400.
    pub fn invalid(message: impl std::fmt::Display) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// 404.
    pub fn not_found(message: impl std::fmt::Display) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// 409: what there is stands against it.
    pub fn conflict(message: impl std::fmt::Display) -> Self {
        ApiError::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 500; the message goes to the log alone.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        tracing::error!(error = %message, "a request failed");
        let shown = "the server failed; its log says why, under this request's id";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", shown)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let mut answer = match &error {
            StoreError::Conflict(_) => ApiError::new(StatusCode::CONFLICT, "conflict", &error),
            StoreError::Bound { .. } => ApiError::new(StatusCode::CONFLICT, "bound", &error),
            StoreError::TooLarge => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &error),
            StoreError::Full => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", &error),
            StoreError::Busy | StoreError::Down | StoreError::Unknown => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error)
            }
            StoreError::Damaged { .. } | StoreError::Encode(_) => ApiError::internal(&error),
        };
        if answer.0.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.0.retry_s = Some(RETRY_AFTER_S);
        }
        answer
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated { challenge, message } => {
                let mut error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
                error.0.challenge = Some(challenge);
                error.0.body.error.hint.get_or_insert("`wharf login` logs in".to_owned());
                error
            }
            Refusal::Denied { message } => ApiError::new(StatusCode::FORBIDDEN, "denied", message),
            Refusal::Throttled { retry_s } => {
                let message = format!("too many failed logins; hint: try again in {retry_s} s");
                let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "throttled", message);
                error.0.retry_s = Some(retry_s);
                error
            }
            Refusal::Busy => {
                let message = "too many logins are being checked; hint: try again";
                let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
                error.0.retry_s = Some(RETRY_AFTER_S);
                error
            }
            Refusal::Store(error) => error.into(),
            Refusal::Internal => ApiError::internal("credentials could not be checked"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Answer { status, body, challenge, retry_s } = *self.0;
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(retry_s) = retry_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_s));
        }
        response
    }
}

/// No route has this path.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::not_found(format!("there is nothing at `{path}`"))
}

/// A handler panicked.
pub(super) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    metrics::counter!("wharf_http_panics_total").increment(1);
    ApiError::internal(format!("a panic: {}", text.unwrap_or_default())).into_response()
}
