//! Errors as the distribution specification writes them ("Error Codes"), and the status code of each.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;

/// Seconds that a client is asked to wait when the store is busy or restarting.
const RETRY_AFTER_S: u64 = 1;

/// The specification's codes, and what this server says where the specification has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    /// A chunk that does not follow the last one: `BLOB_UPLOAD_INVALID` with 416.
    ChunkOutOfOrder,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    /// A manifest over the limit: `MANIFEST_INVALID` with 413.
    ManifestTooLarge,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    /// Content that something else still needs: `DENIED` with 405, as deletion of it is disabled.
    InUse,
    Unsupported,
    TooManyRequests,
    /// A `Range` that the blob has no byte of: `UNSUPPORTED` would mislead, so `BLOB_UNKNOWN` with 416.
    RangeInvalid,
    /// A query parameter that cannot be understood: `UNSUPPORTED` with 400.
    QueryInvalid,
    /// More in the query than is looked at: `UNSUPPORTED` with 414.
    UriTooLong,
    /// A blob over the limit: `SIZE_INVALID` with 413.
    BlobTooLarge,
    /// Another request writes to the same upload: `BLOB_UPLOAD_INVALID` with 409.
    UploadInUse,
    /// Not an endpoint of the API.
    PageUnknown,
    /// The server cannot answer now.
    Unavailable,
    /// The disk is full.
    InsufficientStorage,
    /// The server is at fault.
    Internal,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Code::BlobUnknown | Code::RangeInvalid => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid | Code::ChunkOutOfOrder | Code::UploadInUse => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid | Code::ManifestTooLarge => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid | Code::BlobTooLarge => "SIZE_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied | Code::InUse => "DENIED",
            Code::Unsupported | Code::PageUnknown | Code::QueryInvalid | Code::UriTooLong => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unavailable => "UNAVAILABLE",
            Code::InsufficientStorage => "INSUFFICIENT_STORAGE",
            Code::Internal => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown
            | Code::BlobUploadUnknown
            | Code::ManifestUnknown
            | Code::NameUnknown
            | Code::PageUnknown => StatusCode::NOT_FOUND,
            Code::BlobUploadInvalid
            | Code::DigestInvalid
            | Code::ManifestBlobUnknown
            | Code::ManifestInvalid
            | Code::NameInvalid
            | Code::QueryInvalid
            | Code::SizeInvalid => StatusCode::BAD_REQUEST,
            Code::UploadInUse => StatusCode::CONFLICT,
            Code::UriTooLong => StatusCode::URI_TOO_LONG,
            Code::ChunkOutOfOrder | Code::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::ManifestTooLarge | Code::BlobTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::InUse | Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One error, as a response.
#[derive(Debug)]
pub(super) struct OciError {
    code: Code,
    message: String,
    detail: Option<serde_json::Value>,
    /// A few; a whole map would make every `Result` of this API large.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl OciError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> OciError {
        let headers = match code {
            Code::TooManyRequests | Code::Unavailable => vec![(RETRY_AFTER, RETRY_AFTER_S.into())],
            Code::InUse => vec![(ALLOW, HeaderValue::from_static("GET, HEAD"))],
            _ => Vec::new(),
        };
        OciError { code, message: message.into(), detail: None, headers }
    }

    /// A method that the endpoint does not have.
    pub(super) fn method(allowed: &'static str) -> OciError {
        OciError::new(Code::Unsupported, format!("this endpoint answers {allowed}"))
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> OciError {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    pub(super) fn detail(mut self, detail: serde_json::Value) -> OciError {
        self.detail = Some(detail);
        self
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> Code {
        self.code
    }
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a serde_json::Value>,
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let entry = Entry { code: self.code.text(), message: &self.message, detail: self.detail.as_ref() };
        // Texts and a JSON value always serialize.
        let body = serde_json::to_vec(&Body { errors: [entry] }).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(self.headers);
        response
    }
}
