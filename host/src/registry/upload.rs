//! Uploads: blobs on their way in. An upload is a blob file that no row names yet; its state lies beside the file, so no
//! request of an upload but the last commits anything.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use wharf_oci::{Algorithm, Digest, RepoName};
use wharf_store::{BlobError, BlobId, BlobWriter, Blobs};

use super::RegistryError;
use super::quota::AHEAD_BYTES_MAX;

/// Largest blob that is taken, bytes.
pub const BLOB_BYTES_MAX: u64 = 1 << 40;
/// A request that sends nothing for this long is ended; what came stays for the client to resume.
pub const IDLE: Duration = Duration::from_secs(60);

/// Why an upload cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(
        "no upload `{0}` is known in this repository; hint: start again, uploads expire after a day without a request"
    )]
    Unknown(String),
    #[error("another request is writing to this upload; hint: wait for it, then ask for its range")]
    InUse,
    #[error("the chunk starts at byte {start}, but {offset} bytes have been received; hint: resume there")]
    OutOfOrder { start: u64, offset: u64 },
    #[error("`Content-Range` says {declared} bytes, the body has {actual}")]
    Length { declared: u64, actual: u64 },
    #[error("the bytes received have digest `{actual}`, not `{expected}`")]
    Digest { expected: Digest, actual: String },
    #[error("a blob of more than {BLOB_BYTES_MAX} bytes is not taken")]
    TooLarge,
    #[error(
        "{} {open} unfinished uploads in namespace `{namespace}`; hint: finish or cancel some, they expire after a day without a request",
        by.as_ref().map_or_else(|| "there are".to_owned(), |by| format!("`{by}` has"))
    )]
    TooMany {
        namespace: String,
        /// Whose they are; none where they are everybody's together.
        by: Option<String>,
        open: usize,
    },
    #[error("the request ended early: {0}")]
    Body(String),
    #[error(transparent)]
    Blob(BlobError),
}

impl From<BlobError> for UploadError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound(id) => UploadError::Unknown(show(&id)),
            BlobError::InUse(_) => UploadError::InUse,
            error => UploadError::Blob(error),
        }
    }
}

/// An upload's id as clients see it, in a UUID's form.
pub fn show(id: &BlobId) -> String {
    let id = id.as_str();
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

/// Reads what [`show`] wrote; `None` if it is not that.
pub fn parse(text: &str) -> Option<BlobId> {
    let id = BlobId::parse(&text.replace('-', ""))?;
    (show(&id) == text).then_some(id)
}

/// Whose an upload is, as it is written beside its file: its repository, and who opened it.
fn owner(repository: &RepoName, by: &str) -> String {
    format!("{repository} {by}")
}

/// Reads what [`owner`] wrote. Of an upload that an older version opened nobody knows who did.
pub(super) fn owned(owner: &str) -> (&str, &str) {
    owner.split_once(' ').unwrap_or((owner, ""))
}

/// Starts an upload: it is kept by [`BlobWriter::suspend`], and is a blob by [`BlobWriter::finish`].
///
/// # Errors
/// Where the disk is full or fails.
pub async fn begin(
    blobs: &Blobs,
    repository: &RepoName,
    by: &str,
    algorithm: Algorithm,
) -> Result<BlobWriter, UploadError> {
    Ok(blobs.create(&owner(repository, by), algorithm == Algorithm::Sha512).await?)
}

/// Bytes received so far.
///
/// # Errors
/// [`UploadError::Unknown`] where the repository has no such upload.
pub async fn offset(blobs: &Blobs, repository: &RepoName, id: &BlobId) -> Result<u64, UploadError> {
    let upload = blobs.upload(id).await?;
    if owned(&upload.owner).0 != repository.as_str() {
        return Err(UploadError::Unknown(show(id)));
    }
    Ok(upload.offset)
}

/// Goes on with an upload of this repository.
///
/// # Errors
/// [`UploadError::Unknown`] where the repository has none of this id, [`UploadError::InUse`] where another request
/// writes to it.
pub async fn resume(blobs: &Blobs, repository: &RepoName, id: &BlobId) -> Result<BlobWriter, UploadError> {
    let writer = blobs.resume(id).await?;
    if owned(writer.owner()).0 != repository.as_str() {
        return Err(UploadError::Unknown(show(id)));
    }
    Ok(writer)
}

/// Where a chunk claims to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRange {
    pub start: u64,
    /// Last byte, inclusive, as the header writes it.
    pub end: u64,
}

impl ChunkRange {
    /// Reads `Content-Range: <start>-<end>`. RFC 9110's own form, `bytes <start>-<end>/<size>`, is taken as well.
    pub fn parse(text: &str) -> Option<ChunkRange> {
        let text = text.strip_prefix("bytes ").unwrap_or(text);
        let text = text.split_once('/').map_or(text, |(range, _)| range);
        let (start, end) = text.split_once('-')?;
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(start) || !digits(end) {
            return None;
        }
        let range = ChunkRange { start: start.parse().ok()?, end: end.parse().ok()? };
        (range.start <= range.end && range.end < u64::MAX).then_some(range)
    }

    /// Bytes of the chunk.
    pub fn bytes(self) -> u64 {
        self.end - self.start + 1
    }
}

/// Checks a chunk before any of it is read: its place, and what the request declares of its length.
///
/// # Errors
/// [`UploadError::OutOfOrder`], [`UploadError::Length`], and [`UploadError::TooLarge`] where the blob would be larger than
/// [`BLOB_BYTES_MAX`].
pub fn check_chunk(
    offset: u64,
    range: Option<ChunkRange>,
    content_length: Option<u64>,
) -> Result<(), UploadError> {
    if let Some(range) = range {
        if range.start != offset {
            return Err(UploadError::OutOfOrder { start: range.start, offset });
        }
        if let Some(actual) = content_length.filter(|actual| *actual != range.bytes()) {
            return Err(UploadError::Length { declared: range.bytes(), actual });
        }
    }
    let bytes = range.map(ChunkRange::bytes).or(content_length).unwrap_or(0);
    if offset.saturating_add(bytes) > BLOB_BYTES_MAX {
        return Err(UploadError::TooLarge);
    }
    Ok(())
}

/// Takes a request's body into the upload. What arrived before an error stays in `writer`. Whenever
/// [`AHEAD_BYTES_MAX`] more have arrived, `reserve` is asked about all of the upload's bytes.
///
/// # Errors
/// [`UploadError::Body`] where the client stops early or stalls for [`IDLE`], [`UploadError::Length`] where it sends
/// another length than the chunk's, [`UploadError::TooLarge`], what the disk says, and what `reserve` does.
pub async fn receive<S, E, F, Fut>(
    writer: &mut BlobWriter,
    mut body: S,
    range: Option<ChunkRange>,
    mut reserve: F,
) -> Result<(), RegistryError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
    F: FnMut(u64) -> Fut,
    Fut: Future<Output = Result<(), RegistryError>>,
{
    let limit = range.map_or(BLOB_BYTES_MAX, |range| range.start + range.bytes());
    let mut reserved = writer.offset();
    loop {
        let next = tokio::time::timeout(IDLE, body.next());
        let next = next.await.map_err(|_| UploadError::Body("nothing arrived for a minute".into()))?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|e| UploadError::Body(e.to_string()))?;
        let end = writer.offset().saturating_add(chunk.len() as u64);
        if end > limit {
            return Err(match range {
                Some(range) => UploadError::Length { declared: range.bytes(), actual: end - range.start },
                None => UploadError::TooLarge,
            }
            .into());
        }
        if end - reserved >= AHEAD_BYTES_MAX {
            reserve(end).await?;
            reserved = end;
        }
        writer.write(chunk).await.map_err(UploadError::from)?;
    }
    match range {
        Some(range) if writer.offset() != limit => {
            let actual = writer.offset() - range.start;
            Err(UploadError::Length { declared: range.bytes(), actual }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let range = |start, end| Some(ChunkRange { start, end });
        assert_eq!(ChunkRange::parse("0-99"), range(0, 99));
        assert_eq!(ChunkRange::parse("bytes 5-5/*"), range(5, 5));
        for text in ["", "-", "5", "5-", "-5", "9-5", "+1-2", "a-b", "0-18446744073709551615", "0 - 1"] {
            assert_eq!(ChunkRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn chunks_follow_each_other() {
        let range = |start, end| Some(ChunkRange { start, end });
        assert!(check_chunk(7, None, Some(3)).is_ok());
        assert!(check_chunk(7, range(7, 9), Some(3)).is_ok());
        assert!(matches!(
            check_chunk(7, range(0, 9), None),
            Err(UploadError::OutOfOrder { start: 0, offset: 7 })
        ));
        assert!(matches!(check_chunk(7, range(7, 9), Some(4)), Err(UploadError::Length { .. })));
    }

    /// `Content-Length: 99999999999999999` was waited for.
    #[test]
    fn a_blob_over_the_limit_is_refused_by_what_is_announced() {
        let check = |offset, range: Option<(u64, u64)>, length, expected: bool| {
            let range = range.map(|(start, end)| ChunkRange { start, end });
            let refused = matches!(check_chunk(offset, range, length), Err(UploadError::TooLarge));
            assert_eq!(refused, expected, "{offset} {range:?} {length:?}");
        };
        check(0, None, Some(BLOB_BYTES_MAX), false);
        check(0, None, Some(BLOB_BYTES_MAX + 1), true);
        check(1, None, Some(BLOB_BYTES_MAX), true);
        check(1, None, Some(u64::MAX), true);
        check(1, None, None, false);
        // A chunked body has no length, but its range has.
        check(7, Some((7, BLOB_BYTES_MAX - 1)), None, false);
        check(7, Some((7, BLOB_BYTES_MAX)), None, true);
    }

    #[test]
    fn ids_have_one_form() {
        let id = BlobId::parse("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(show(&id), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(parse(&show(&id)), Some(id));
        assert_eq!(parse("0123456789abcdef0123456789abcdef"), None);
        assert_eq!(parse("0123456789abcdef-0123456789abcdef"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_not(text in "(bytes )?[0-9*/ -]{0,44}") {
            if let Some(range) = ChunkRange::parse(&text) {
                prop_assert!(range.bytes() >= 1);
            }
        }
    }
}
