//! Which repositories hold which blobs, and when bytes may go.
//!
//! ```text
//! absent ──upload, mount──▶ Fresh(since) ──manifest commit──▶ Held (≥ 1 mref)
//! Held ──last mref goes, same commit sets since──▶ Fresh ──age ≥ T, sweep──▶ absent
//! last link gone ⇒ blob row deleted in the same commit + Append(reap, id) ⇒ unlink
//! ```
//! Digests are opaque text here (`sha256:…`), repositories and manifests too. Functions that take a [`Tx`] contribute
//! to an act and never commit; those that take a [`Store`] and the time are jobs for the collector.
//!
//! Invariant: a row names a file only after [`BlobWriter::finish`](crate::BlobWriter::finish).
//! Invariant: a file is unlinked only after a commit in which nothing names it.
//! Invariant: where there is a link there is a blob row, and where there is an mref there is a link.
//! Invariant: reads never write; what [`find`] returned stays for T / 2 at least.
//!
//! T is the grace period: [`FRESH_MS`] unless configured. Every caller of one store has to name the same.

mod collect;
#[cfg(test)]
mod interleave_tests;
#[cfg(test)]
mod race_tests;
mod scrub;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::act::Tx;
use crate::blobs::{BlobId, Stored};
use crate::key::{Key, KeyRange, Space, key};
use crate::seam::Row;
use crate::store::{Store, StoreError};

pub use collect::{CollectError, Stale, orphans, reap, stale, stale_page};
pub use scrub::{Scrubbed, scrub_page};

/// How long a blob that no manifest needs is kept in a repository, unless configured; milliseconds.
pub const FRESH_MS: u64 = 24 * 60 * 60 * 1000;

/// A blob row: where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Bytes.
    pub size: u64,
    /// Where they are.
    pub stored: Stored,
    /// The same content's other digest (sha256 or sha512), if known; its row may name the same file.
    pub twin: Option<String>,
    /// A scrub found the file damaged: nobody is served from it, and the next push replaces it.
    pub damaged: bool,
}

/// The row's value is this as one line of JSON, then the bytes if they are kept in the row.
#[derive(Serialize, Deserialize)]
struct Header {
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<BlobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    twin: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
}

impl Blob {
    /// The row's value.
    pub fn encode(&self) -> Result<Bytes, StoreError> {
        let (id, bytes) = match &self.stored {
            Stored::File(id) => (Some(id.clone()), &Bytes::new()),
            Stored::Inline(bytes) => (None, bytes),
        };
        let header = Header { size: self.size, id, twin: self.twin.clone(), damaged: self.damaged };
        let mut out = crate::value::encode(&header)?.to_vec();
        out.push(b'\n');
        out.extend_from_slice(bytes);
        Ok(out.into())
    }

    /// Reads a row of [`Space::Blob`]; inline bytes are shared with the row.
    pub fn decode(row: &Row) -> Result<Blob, StoreError> {
        let damaged = |reason: String| StoreError::Damaged { key: row.key.clone(), reason };
        let end = row.val.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("no header".into()))?;
        let header: Header = serde_json::from_slice(&row.val[..end]).map_err(|e| damaged(e.to_string()))?;
        let stored = match header.id {
            Some(id) => Stored::File(id),
            None => Stored::Inline(row.val.slice(end + 1..)),
        };
        Ok(Blob { size: header.size, stored, twin: header.twin, damaged: header.damaged })
    }

    fn names(&self, id: &BlobId) -> bool {
        matches!(&self.stored, Stored::File(named) if named == id)
    }
}

/// A link row: the repository has the blob. The time counts only while no manifest needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Since when nothing has needed it, Unix milliseconds.
    pub since_ms: u64,
}

/// A row of [`Space::Reap`]: a file that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reap {
    /// The file.
    pub id: BlobId,
}

/// `blob/<digest>`.
pub fn blob_key(digest: &str) -> Key {
    key(Space::Blob, &[digest])
}

/// `link/<digest>/<repo>`.
pub fn link_key(digest: &str, repo: &str) -> Key {
    key(Space::Link, &[digest, repo])
}

/// `mref/<digest>/<repo>/<manifest>`.
pub fn mref_key(digest: &str, repo: &str, manifest: &str) -> Key {
    key(Space::Mref, &[digest, repo, manifest])
}

/// Bytes that a repository is to have: a finished upload, or a manifest's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlob<'a> {
    /// The digest it is asked for by.
    pub digest: &'a str,
    /// The other digest of the same bytes, where it was computed too.
    pub twin: Option<&'a str>,
    /// Bytes.
    pub size: u64,
    /// Where they are; see [`Finished`](crate::Finished).
    pub stored: &'a Stored,
}

/// What became of the bytes given to [`add_blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The row names them.
    Stored,
    /// The same bytes were there already: after the commit, [`Finished::discard`](crate::Finished::discard) these.
    Known,
}

/// Gives a repository a blob, Fresh from `now_ms` on.
pub async fn add_blob(tx: &mut Tx, new: NewBlob<'_>, repo: &str, now_ms: u64) -> Result<Added, StoreError> {
    tx.put_value(&link_key(new.digest, repo), &Link { since_ms: now_ms })?;
    let old = blob_in(tx, new.digest).await?;
    if old.as_ref().is_some_and(|old| !old.damaged) {
        return Ok(Added::Known);
    }
    let twin = new.twin.map(str::to_string).or_else(|| old.as_ref().and_then(|old| old.twin.clone()));
    let twin_blob = match &twin {
        Some(twin) => blob_in(tx, twin).await?,
        None => None,
    };
    if let (Some(twin), Some(mut known)) = (&twin, twin_blob.clone().filter(|known| !known.damaged)) {
        // The content is there under its other digest: both name one file from now on.
        known.twin = Some(new.digest.to_string());
        tx.put(&blob_key(twin), known.encode()?);
        let blob = Blob { twin: Some(twin.clone()), ..known };
        tx.put(&blob_key(new.digest), blob.encode()?);
        release_file(tx, old, None)?;
        return Ok(Added::Known);
    }
    let blob = Blob { size: new.size, stored: new.stored.clone(), twin: twin.clone(), damaged: false };
    tx.put(&blob_key(new.digest), blob.encode()?);
    if let (Some(twin), Some(damaged)) = (&twin, &twin_blob) {
        let repaired = Blob { twin: Some(new.digest.to_string()), ..blob };
        tx.put(&blob_key(twin), repaired.encode()?);
        // Where both named the damaged file, `old` names it too and releases it below.
        if old.as_ref().is_none_or(|old| old.stored != damaged.stored) {
            release_file(tx, Some(damaged.clone()), None)?;
        }
    }
    release_file(tx, old, None)?;
    Ok(Added::Stored)
}

/// Hands the file of a row that went or changed to the collector, unless `other` still names it.
fn release_file(tx: &mut Tx, old: Option<Blob>, other: Option<&Blob>) -> Result<(), StoreError> {
    match old.map(|old| old.stored) {
        Some(Stored::File(id)) if !other.is_some_and(|other| other.names(&id)) => {
            tx.append_value(Space::Reap, &Reap { id })
        }
        _ => Ok(()),
    }
}

async fn blob_in(tx: &mut Tx, digest: &str) -> Result<Option<Blob>, StoreError> {
    tx.get(&blob_key(digest)).await?.as_ref().map(Blob::decode).transpose()
}

/// Gives `repo` a blob that `from` has, Fresh from `now_ms` on; false if `from` does not have it. Whether the caller may
/// read `from` is the caller's question.
pub async fn mount(
    tx: &mut Tx,
    digest: &str,
    from: &str,
    repo: &str,
    now_ms: u64,
) -> Result<bool, StoreError> {
    if !tx.present(&link_key(digest, from)).await? || is_damaged(tx, digest).await? {
        return Ok(false);
    }
    tx.put_value(&link_key(digest, repo), &Link { since_ms: now_ms })?;
    Ok(true)
}

async fn is_damaged(tx: &Tx, digest: &str) -> Result<bool, StoreError> {
    let row = tx.peek(&blob_key(digest)).await?;
    Ok(row.as_ref().map(Blob::decode).transpose()?.is_none_or(|blob| blob.damaged))
}

/// Records that a manifest of the repository needs a blob; false, and nothing recorded, if the repository does not
/// have it. Called for each descriptor that is not sparse or foreign, and for the manifest's own bytes.
pub async fn hold(tx: &mut Tx, digest: &str, repo: &str, manifest: &str) -> Result<bool, StoreError> {
    if !tx.present(&link_key(digest, repo)).await? {
        return Ok(false);
    }
    tx.put(&mref_key(digest, repo, manifest), Bytes::new());
    Ok(true)
}

/// Takes back what [`hold`] recorded; nothing happens if it recorded nothing. If it was the last need for the blob in
/// this repository, the blob is Fresh from `now_ms` on.
pub async fn release(
    tx: &mut Tx,
    digest: &str,
    repo: &str,
    manifest: &str,
    now_ms: u64,
) -> Result<(), StoreError> {
    let mref = mref_key(digest, repo, manifest);
    if tx.get(&mref).await?.is_none() {
        return Ok(());
    }
    tx.delete(&mref);
    let others = tx.scan(KeyRange::prefix(Space::Mref, &[digest, repo]), 1).await?;
    if others.rows.is_empty() {
        tx.put_value(&link_key(digest, repo), &Link { since_ms: now_ms })?;
    }
    Ok(())
}

/// Keeps a blob's bytes in its row from now on, whatever their size: those of a manifest, which may have come as a blob
/// before. Nothing happens where there is no such blob or the row has them.
pub async fn make_inline(tx: &mut Tx, digest: &str, bytes: &Bytes) -> Result<(), StoreError> {
    let Some(old) = blob_in(tx, digest).await?.filter(|old| matches!(old.stored, Stored::File(_))) else {
        return Ok(());
    };
    let twin = match &old.twin {
        Some(twin) => blob_in(tx, twin).await?,
        None => None,
    };
    let new = Blob { stored: Stored::Inline(bytes.clone()), damaged: false, ..old.clone() };
    tx.put(&blob_key(digest), new.encode()?);
    release_file(tx, Some(old), twin.as_ref())
}

/// Takes a blob from a repository, whatever needs it there, and its row with the last link. Returns the blob as it was;
/// none if the repository did not have it.
pub async fn unlink(tx: &mut Tx, digest: &str, repo: &str) -> Result<Option<Blob>, StoreError> {
    let link = link_key(digest, repo);
    if tx.get(&link).await?.is_none() {
        return Ok(None);
    }
    tx.delete(&link);
    let Some(blob) = blob_in(tx, digest).await? else { return Ok(None) };
    let others = tx.scan(KeyRange::prefix(Space::Link, &[digest]), 1).await?;
    if others.rows.is_empty() {
        let twin = match &blob.twin {
            Some(twin) => blob_in(tx, twin).await?,
            None => None,
        };
        tx.delete(&blob_key(digest));
        release_file(tx, Some(blob.clone()), twin.as_ref())?;
    }
    Ok(Some(blob))
}

/// Marks a blob whose file a scrub found damaged; false if there is none.
pub async fn mark_damaged(tx: &mut Tx, digest: &str) -> Result<bool, StoreError> {
    let Some(mut blob) = blob_in(tx, digest).await? else { return Ok(false) };
    blob.damaged = true;
    tx.put(&blob_key(digest), blob.encode()?);
    let Some(twin) = &blob.twin else { return Ok(true) };
    if let Some(mut other) = blob_in(tx, twin).await?.filter(|other| other.stored == blob.stored) {
        other.damaged = true;
        tx.put(&blob_key(twin), other.encode()?);
    }
    Ok(true)
}

/// How a repository has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does not.
    Absent,
    /// No manifest needs it, since this time (Unix milliseconds).
    Fresh {
        /// Since when.
        since_ms: u64,
    },
    /// At least one manifest needs it.
    Held,
}

/// How a repository has a blob; reads only.
pub async fn state(store: &Store, digest: &str, repo: &str) -> Result<LinkState, StoreError> {
    // In this order: what is not held and goes on so has its time in the link that is read afterwards.
    if is_held(store, digest, repo).await? {
        return Ok(LinkState::Held);
    }
    let Some(row) = store.get(&link_key(digest, repo)).await? else { return Ok(LinkState::Absent) };
    let link: Link = row.value()?;
    Ok(LinkState::Fresh { since_ms: link.since_ms })
}

async fn is_held(store: &Store, digest: &str, repo: &str) -> Result<bool, StoreError> {
    Ok(!store.scan(KeyRange::prefix(Space::Mref, &[digest, repo]), 1).await?.rows.is_empty())
}

/// A blob that can be served from the repository: Held, or Fresh for less than half of `fresh_ms`, and not damaged.
/// So whoever is told that it is there has the other half to push a manifest that needs it.
pub async fn find(
    store: &Store,
    digest: &str,
    repo: &str,
    now_ms: u64,
    fresh_ms: u64,
) -> Result<Option<Blob>, StoreError> {
    let mut looked_at = None;
    loop {
        let rows = store.get_many(vec![link_key(digest, repo), blob_key(digest)]).await?;
        let [Some(link), Some(blob)] = rows.as_slice() else { return Ok(None) };
        let blob = Blob::decode(blob)?;
        if blob.damaged {
            return Ok(None);
        }
        let since_ms = link.value::<Link>()?.since_ms;
        if now_ms < since_ms.saturating_add(fresh_ms / 2) || is_held(store, digest, repo).await? {
            return Ok(Some(blob));
        }
        // Between the two reads the last mref may have gone, in a commit that wrote the link: then it is Fresh now.
        if looked_at.replace(link.rev) == Some(link.rev) {
            return Ok(None);
        }
    }
}
