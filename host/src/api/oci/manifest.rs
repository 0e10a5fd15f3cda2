//! end-3, end-7 and end-9: manifests and tags. A manifest is served as it was pushed, in its own media type, whatever the
//! client accepts: another form would have another digest.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, LOCATION};
use http::{HeaderMap, StatusCode};
use wharf_oci::{MANIFEST_BYTES_MAX, MediaType, RepoName, Tag, Target};

use super::blob::{etag, is_known};
use super::error::{Code, OciError};
use super::{CONTENT_DIGEST, Call, body, header_value};
use crate::access::Action;
use crate::event::Observation;
use crate::flow;
use crate::flow::push::Push;
use crate::registry::RegistryError;
use crate::registry::manifest::Found;

/// Tags that one push may name besides its target.
const TAGS_MAX: usize = 64;
/// Which subject the server has noted.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Which tags the server has set.
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

pub(super) async fn read(call: &Call<'_>, name: &RepoName, target: &Target) -> Result<Response, OciError> {
    call.require(Action::Pull, name).await?;
    let served = call.app.manifests.read(&call.app.store, name, target).await?;
    let unknown = || RegistryError::ManifestUnknown { repository: name.clone(), target: target.clone() };
    let served = served.ok_or_else(unknown)?;
    let (found, bytes) = &*served;
    let headers = headers(found)?;
    // The length of a `HEAD` is in its headers.
    let bytes = if call.is_head() {
        Bytes::new()
    } else {
        note_pull(call, name, target, found);
        bytes.clone()
    };
    if is_known(call, &found.digest) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((StatusCode::OK, headers, Body::from(bytes)).into_response())
}

/// Remembered in memory and written within a second, if at all: a pull is never a durable write.
fn note_pull(call: &Call<'_>, repository: &RepoName, target: &Target, found: &Found) {
    let tag = match target {
        Target::Tag(tag) => Some(tag.clone()),
        Target::Digest(_) => None,
    };
    call.app.observations.note(Observation::Pulled {
        repository: repository.clone(),
        digest: found.digest.clone(),
        tag,
        by: call.caller.principal.name.clone(),
        at_ms: call.app.now_ms(),
    });
}

fn headers(found: &Found) -> Result<HeaderMap, OciError> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, header_value(found.row.media_type.as_str())?);
    headers.insert(CONTENT_LENGTH, found.row.size.into());
    headers.insert(CONTENT_DIGEST, header_value(found.digest.as_str())?);
    headers.insert(ETAG, etag(&found.digest)?);
    Ok(headers)
}

pub(super) async fn put(
    call: &Call<'_>,
    repository: RepoName,
    target: Target,
    body: &mut Body,
) -> Result<Response, OciError> {
    call.require(Action::Push, &repository).await?;
    let push = match read_push(call, repository, target, body).await? {
        Some(push) => push,
        None => {
            let message = format!("a manifest of more than {MANIFEST_BYTES_MAX} bytes is not taken");
            return Err(OciError::new(Code::ManifestTooLarge, message));
        }
    };
    let pushed = flow::push::manifest(call.app, &call.caller.principal, &push).await?;
    let mut headers = HeaderMap::with_capacity(6);
    let location = format!("/v2/{}/manifests/{}", push.repository, pushed.digest);
    headers.insert(LOCATION, header_value(&location)?);
    headers.insert(CONTENT_DIGEST, header_value(pushed.digest.as_str())?);
    if let Some(subject) = &pushed.subject {
        headers.insert(OCI_SUBJECT, header_value(subject.as_str())?);
    }
    for tag in &push.tags {
        headers.append(OCI_TAG, header_value(tag.as_str())?);
    }
    Ok((StatusCode::CREATED, headers).into_response())
}

/// The request, as the flow takes it; `None` where the manifest is too large.
async fn read_push(
    call: &Call<'_>,
    repository: RepoName,
    target: Target,
    body: &mut Body,
) -> Result<Option<Push>, OciError> {
    let tags = call.query.all("tag").map(str::parse::<Tag>).collect::<Result<Vec<_>, _>>();
    let tags = tags.map_err(|e| OciError::new(Code::ManifestInvalid, e.to_string()))?;
    if tags.len() > TAGS_MAX {
        let message = format!("{} tags are more than the limit of {TAGS_MAX}", tags.len());
        return Err(OciError::new(Code::UriTooLong, message));
    }
    if !tags.is_empty() && matches!(target, Target::Tag(_)) {
        let message = "`?tag=` goes with a push by digest; hint: put the first tag into `?tag=`, too";
        return Err(OciError::new(Code::ManifestInvalid, message));
    }
    let content_type = match call.header(CONTENT_TYPE) {
        None => None,
        Some(text) => {
            let essence = text.split(';').next().unwrap_or(text).trim();
            let parsed: Result<MediaType, _> = essence.parse();
            Some(parsed.map_err(|e| OciError::new(Code::ManifestInvalid, e.to_string()))?)
        }
    };
    let declared = call.header(CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let Some(bytes) = body::read(std::mem::take(body), declared, MANIFEST_BYTES_MAX).await? else {
        return Ok(None);
    };
    Ok(Some(Push { repository, target, tags, content_type, bytes }))
}

pub(super) async fn delete(call: &Call<'_>, name: &RepoName, target: &Target) -> Result<Response, OciError> {
    call.require(Action::Delete, name).await?;
    flow::delete::target(call.app, &call.caller.principal, name, target).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
