//! end-4, end-5, end-6, end-11, end-13 and end-14: uploads and mounts. The state of an upload is found by its path alone.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyDataStream, BodyExt};
use wharf_oci::{Algorithm, Digest, RepoName};
use wharf_store::{BlobId, BlobWriter};

use super::error::{Code, OciError};
use super::{CONTENT_DIGEST, Call, header_value};
use crate::access::Action;
use crate::flow;
use crate::flow::upload::Chunk;
use crate::registry::upload::{self, ChunkRange};

/// Docker's name for the upload's id.
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// `POST`: mounts a blob, takes one whole, or opens an upload.
pub(super) async fn start(call: &Call<'_>, name: &RepoName, body: &mut Body) -> Result<Response, OciError> {
    call.require(Action::Push, name).await?;
    if let Some(digest) = call.query.get("mount") {
        let digest: Digest = digest.parse()?;
        // A name that is none cannot be a repository; the specification then has the client upload.
        let from = call.query.get("from").filter(|from| !from.is_empty()).map(str::parse::<RepoName>);
        let mounted = match from {
            Some(Err(_)) => false,
            Some(Ok(from)) => {
                call.caller.may_mount(call.app, name, &from).await?
                    && mount(call, name, &digest, Some(&from)).await?
            }
            None => mount(call, name, &digest, None).await?,
        };
        return if mounted { created(name, &digest) } else { open(call, name, digest.algorithm()).await };
    }
    if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        upload::check_chunk(0, None, content_length(call))?;
        flow::upload::whole(call.app, &call.caller.principal, name, &digest, chunk(call, body, None)).await?;
        return created(name, &digest);
    }
    let algorithm = call.query.get("digest-algorithm").map_or(Ok(Algorithm::Sha256), str::parse)?;
    open(call, name, algorithm).await
}

async fn mount(
    call: &Call<'_>,
    name: &RepoName,
    digest: &Digest,
    from: Option<&RepoName>,
) -> Result<bool, OciError> {
    Ok(flow::upload::mount(call.app, &call.caller.principal, name, digest, from).await?)
}

async fn open(call: &Call<'_>, name: &RepoName, algorithm: Algorithm) -> Result<Response, OciError> {
    let id = flow::upload::open(call.app, &call.caller.principal, name, algorithm).await?;
    Ok((StatusCode::ACCEPTED, session(name, &id, 0)?).into_response())
}

/// `PATCH`: the next chunk.
pub(super) async fn append(
    call: &Call<'_>,
    name: &RepoName,
    id: &BlobId,
    body: &mut Body,
) -> Result<Response, OciError> {
    call.require(Action::Push, name).await?;
    let (writer, range) = resume(call, name, id).await?;
    let offset = flow::upload::append(call.app, name, writer, chunk(call, body, range)).await?;
    Ok((StatusCode::ACCEPTED, session(name, id, offset)?).into_response())
}

/// `PUT`: the last chunk, if there is one, and the digest of the whole.
pub(super) async fn finish(
    call: &Call<'_>,
    name: &RepoName,
    id: &BlobId,
    body: &mut Body,
) -> Result<Response, OciError> {
    call.require(Action::Push, name).await?;
    let digest = call.query.get("digest");
    let digest: Digest =
        digest.ok_or_else(|| OciError::new(Code::DigestInvalid, "`?digest=` is missing"))?.parse()?;
    let (writer, range) = resume(call, name, id).await?;
    flow::upload::finish(call.app, name, writer, &digest, chunk(call, body, range)).await?;
    created(name, &digest)
}

/// Opens the upload for the chunk that the request announces. Out of order is a 416 that says where to go on.
async fn resume(
    call: &Call<'_>,
    name: &RepoName,
    id: &BlobId,
) -> Result<(BlobWriter, Option<ChunkRange>), OciError> {
    let range = match call.parts.headers.get(CONTENT_RANGE) {
        None => None,
        Some(value) => {
            let range = value.to_str().ok().and_then(ChunkRange::parse);
            let wrong = || OciError::new(Code::BlobUploadInvalid, "`Content-Range` is not `<start>-<end>`");
            Some(range.ok_or_else(wrong)?)
        }
    };
    let writer = upload::resume(&call.app.blobs, name, id).await?;
    let offset = writer.offset();
    let Err(error) = upload::check_chunk(offset, range, content_length(call)) else {
        return Ok((writer, range));
    };
    drop(writer);
    let headers = session(name, id, offset)?;
    Err(headers.into_iter().fold(OciError::from(error), |error, (header, value)| match header {
        Some(header) => error.with(header, value),
        None => error,
    }))
}

/// `GET`: how far the upload is.
pub(super) async fn status(call: &Call<'_>, name: &RepoName, id: &BlobId) -> Result<Response, OciError> {
    call.require(Action::Push, name).await?;
    let offset = upload::offset(&call.app.blobs, name, id).await?;
    Ok((StatusCode::NO_CONTENT, session(name, id, offset)?).into_response())
}

/// `DELETE`: gives the upload up.
pub(super) async fn cancel(call: &Call<'_>, name: &RepoName, id: &BlobId) -> Result<Response, OciError> {
    call.require(Action::Push, name).await?;
    let writer = upload::resume(&call.app.blobs, name, id).await?;
    flow::upload::cancel(call.app, name, writer).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Where the upload goes on. An upload without a byte says `0-0`, as Docker's registry always has.
fn session(name: &RepoName, id: &BlobId, offset: u64) -> Result<HeaderMap, OciError> {
    let id = upload::show(id);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(LOCATION, header_value(&format!("/v2/{name}/blobs/uploads/{id}"))?);
    headers.insert(RANGE, header_value(&format!("0-{}", offset.saturating_sub(1)))?);
    headers.insert(UPLOAD_UUID, header_value(&id)?);
    Ok(headers)
}

fn created(name: &RepoName, digest: &Digest) -> Result<Response, OciError> {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(LOCATION, header_value(&format!("/v2/{name}/blobs/{digest}"))?);
    headers.insert(CONTENT_DIGEST, header_value(digest.as_str())?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok((StatusCode::CREATED, headers).into_response())
}

/// The request's part of a blob.
fn chunk<'b>(
    call: &Call<'_>,
    body: &'b mut Body,
    range: Option<ChunkRange>,
) -> Chunk<BodyDataStream<&'b mut Body>> {
    Chunk { body: BodyExt::into_data_stream(body), range, bytes: content_length(call) }
}

fn content_length(call: &Call<'_>) -> Option<u64> {
    call.header(CONTENT_LENGTH)?.parse().ok()
}
