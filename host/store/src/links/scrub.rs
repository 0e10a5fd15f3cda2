//! Looking for files that the disk has damaged, before a client finds them.
//!
//! Invariant: a row is marked only if it still names the very file that was read.

use rustix::io::Errno;

use super::{Blob, blob_in, mark_damaged};
use crate::blobs::{BlobError, Blobs, Stored};
use crate::key::{Key, KeyRange, Space};
use crate::links::CollectError;
use crate::store::{Store, StoreError};

/// Blobs read in one page; they may be gigabytes each.
const SCRUB_PAGE: usize = 16;
/// What a failing disk, and a file system that keeps checksums, answer to a read.
const DAMAGE: [Errno; 3] = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];

/// What one page of the scrub found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs read.
    pub seen: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Digests of those whose bytes are gone or are others; they are marked.
    pub damaged: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<Key>,
}

/// Reads blobs again and compares their digests; marks what is damaged, so that nobody is served from it and the next
/// push replaces it. Begin with no cursor and go on with [`Scrubbed::next`].
pub async fn scrub_page(
    store: &Store,
    blobs: &Blobs,
    cursor: Option<&Key>,
) -> Result<Scrubbed, CollectError> {
    let store = store.background();
    let mut range = KeyRange::all(Space::Blob);
    if let Some(cursor) = cursor {
        range = range.after(cursor);
    }
    let page = store.scan(range, SCRUB_PAGE).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    let mut scrubbed = Scrubbed { seen: 0, bytes: 0, damaged: Vec::new(), next };
    for row in &page.rows {
        let (digest, blob) = (row.key.part(0).unwrap_or_default(), Blob::decode(row)?);
        if blob.damaged {
            continue;
        }
        scrubbed.seen += 1;
        scrubbed.bytes += blob.size;
        match is_sound(blobs, &digest, &blob.stored).await {
            Ok(true) => {}
            Ok(false) => {
                if mark(&store, &digest, &blob.stored).await? {
                    tracing::error!(digest, stored = ?blob.stored, "a blob is damaged; hint: push it again");
                    scrubbed.damaged.push(digest);
                }
            }
            // Those behind it are read all the same: it may be the only one.
            Err(error) => tracing::warn!(digest, %error, "a blob cannot be read; the next scrub tries again"),
        }
    }
    Ok(scrubbed)
}

async fn is_sound(blobs: &Blobs, digest: &str, stored: &Stored) -> Result<bool, BlobError> {
    match blobs.digests(stored, digest.starts_with("sha512:")).await {
        Ok((sha256, sha512)) => Ok(sha256 == digest || sha512.as_deref() == Some(digest)),
        Err(BlobError::NotFound(_)) => Ok(false),
        Err(BlobError::Io { cause, .. })
            if Errno::from_io_error(&cause).is_some_and(|e| DAMAGE.contains(&e)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether it was marked; not if a sweep or a push was faster.
async fn mark(store: &Store, digest: &str, read: &Stored) -> Result<bool, StoreError> {
    let act = store.act(|mut tx| async move {
        match blob_in(&mut tx, digest).await? {
            Some(blob) if blob.stored == *read => mark_damaged(&mut tx, digest).await,
            _ => Ok(false),
        }
    });
    Ok(act.await?.0)
}
