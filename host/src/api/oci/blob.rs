//! end-2 and end-10: blobs.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use http::{HeaderMap, StatusCode};
use wharf_oci::{Digest, RepoName};
use wharf_store::{BlobError, Stored};

use super::error::{Code, OciError};
use super::range::{self, Wanted};
use super::{CONTENT_DIGEST, Call, header_value};
use crate::access::Action;
use crate::flow;
use crate::registry::RegistryError;
use crate::registry::blob::{self, Blob};

pub(super) async fn read(call: &Call<'_>, name: &RepoName, digest: &Digest) -> Result<Response, OciError> {
    call.require(Action::Pull, name).await?;
    let unknown = || RegistryError::BlobUnknown { repository: name.clone(), digest: digest.clone() };
    let grace_ms = call.app.config.registry.grace_ms;
    let found = blob::promise(&call.app.store, name, digest, grace_ms).await?.ok_or_else(unknown)?;
    let mut headers = headers(digest)?;
    if is_known(call, digest) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let asked = call.header(RANGE).filter(|_| may_be_part(call, digest));
    let (status, part) = match range::parse(asked, found.size) {
        Wanted::Whole => (StatusCode::OK, 0..found.size),
        Wanted::Part(part) => {
            let value = format!("bytes {}-{}/{}", part.start, part.end - 1, found.size);
            headers.insert(CONTENT_RANGE, header_value(&value)?);
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Wanted::Unsatisfiable => {
            let message = format!("the blob has {} bytes, none of them in this range", found.size);
            let size = header_value(&format!("bytes */{}", found.size))?;
            return Err(OciError::new(Code::RangeInvalid, message).with(CONTENT_RANGE, size));
        }
    };
    headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
    let body = if call.is_head() { Body::empty() } else { bytes(call, found, part).await? };
    Ok((status, headers, body).into_response())
}

/// The bytes of a range: at once from a row, or streamed from a file.
async fn bytes(call: &Call<'_>, found: Blob, part: std::ops::Range<u64>) -> Result<Body, OciError> {
    match found.stored {
        Stored::Inline(bytes) => {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Body::from(bytes.slice(at(part.start)..at(part.end))))
        }
        Stored::File(id) => {
            let reader = call.app.blobs.open(&id).await.map_err(|error| match error {
                // Collected between the read of its row and here.
                BlobError::NotFound(_) => OciError::new(Code::BlobUnknown, "the blob has just been deleted"),
                error => error.into(),
            })?;
            Ok(Body::from_stream(reader.stream(part)))
        }
    }
}

fn headers(digest: &Digest) -> Result<HeaderMap, OciError> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_DIGEST, header_value(digest.as_str())?);
    headers.insert(ETAG, etag(digest)?);
    Ok(headers)
}

/// Content never changes under its digest, which so is its entity tag.
pub(super) fn etag(digest: &Digest) -> Result<HeaderValue, OciError> {
    header_value(&format!("\"{digest}\""))
}

/// Whether the client says that it has this content (RFC 9110, section 13.1.2).
pub(super) fn is_known(call: &Call<'_>, digest: &Digest) -> bool {
    let Some(header) = call.header(IF_NONE_MATCH) else { return false };
    header.split(',').any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == digest.as_str()
    })
}

/// Whether a range that the client asks for is looked at: `GET` alone has ranges (RFC 9110, section 14.2), and with
/// `If-Range` only where the client has other parts of this very content (section 13.1.5).
fn may_be_part(call: &Call<'_>, digest: &Digest) -> bool {
    let has_parts = |tag: &str| {
        tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(digest.as_str())
    };
    !call.is_head() && call.header(IF_RANGE).is_none_or(has_parts)
}

pub(super) async fn delete(call: &Call<'_>, name: &RepoName, digest: &Digest) -> Result<Response, OciError> {
    call.require(Action::Delete, name).await?;
    flow::delete::blob(call.app, name, digest).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
