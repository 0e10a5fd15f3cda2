//! Bytes that a namespace may hold: each blob counts once, however many of its repositories link it.
//!
//! What an upload brings is reserved before it is taken, so that many at once do not fill the disk with what the limit
//! will refuse: what a request declares before its first byte, what it does not declare as it arrives.
//!
//! Invariant: charged in the commit that makes the first link of the namespace, given back in the one that takes the
//! last; nothing recounts.
//! Invariant: a reservation goes in the commit that charges its blob, or when its upload ends or expires.
//! Invariant: without a limit nothing is reserved.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName};
use wharf_store::links::{Blob, blob_key};
use wharf_store::{BlobId, Counter, Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use super::RegistryError;

/// Bytes that an upload may be ahead of what it has reserved, so that a small blob costs no commit of its own. The commit
/// that links it decides.
pub const AHEAD_BYTES_MAX: u64 = 8 << 20;
/// Reservations looked at at once.
const EXPIRED_PAGE: usize = 256;

/// What a namespace holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of distinct blobs and manifests, and of what uploads under way have reserved.
    pub used: u64,
    /// None: unlimited.
    pub max: Option<u64>,
}

/// The counter of a namespace's bytes.
fn counter(namespace: &str) -> Key {
    key(Space::Counter, &["quota", namespace])
}

fn links(namespace: &str, digest: &Digest) -> Key {
    key(Space::Edge, &["nsref", namespace, digest.as_str()])
}

/// A link of `repository` to a blob of `size` bytes comes.
pub fn charge(tx: &mut Tx, repository: &RepoName, digest: &Digest, size: u64) {
    change(tx, repository, digest, size, 1);
}

/// A link of `repository` to a blob of `size` bytes goes.
pub fn give_back(tx: &mut Tx, repository: &RepoName, digest: &Digest, size: u64) {
    change(tx, repository, digest, size, -1);
}

fn change(tx: &mut Tx, repository: &RepoName, digest: &Digest, size: u64, links_delta: i32) {
    let namespace = repository.namespace();
    tx.reference(&links(namespace, digest), links_delta, (&counter(namespace), signed(size)));
}

/// A blob of more than 2^63 bytes does not fit on any disk.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What the namespace holds.
///
/// # Errors
/// Where the store cannot be read.
pub async fn usage(store: &Store, namespace: &str) -> Result<Usage, StoreError> {
    let counted = match store.get(&counter(namespace)).await? {
        Some(row) => row.counter()?,
        None => Counter::default(),
    };
    Ok(Usage { used: counted.n, max: (counted.max != u64::MAX).then_some(counted.max) })
}

/// Limits the namespace to `max_bytes`; `None` lifts the limit. A limit below what is used stops pushes only.
pub fn limit(tx: &mut Tx, namespace: &str, max_bytes: Option<u64>) {
    tx.max(&counter(namespace), max_bytes.unwrap_or(u64::MAX));
}

/// `upload/<namespace>/<id>`: what an unfinished upload has reserved. It expires with the upload.
#[derive(Debug, Serialize, Deserialize)]
struct Reservation {
    bytes: u64,
}

fn reservation(repository: &RepoName, upload: &BlobId) -> Key {
    key(Space::Upload, &[repository.namespace(), upload.as_str()])
}

/// Whether an upload of `bytes` has to [`reserve`] them before they are taken: where its namespace is limited, and they
/// are [`AHEAD_BYTES_MAX`] or more above what it has reserved.
///
/// # Errors
/// [`RegistryError::Quota`] where they would go over the limit, unless the namespace has the blob `digest` already, which
/// costs nothing more.
pub async fn must_reserve(
    store: &Store,
    repository: &RepoName,
    upload: &BlobId,
    digest: Option<&Digest>,
    bytes: u64,
) -> Result<bool, RegistryError> {
    let namespace = repository.namespace();
    let rows = store.get_many(vec![counter(namespace), reservation(repository, upload)]).await?;
    let [Some(counted), own] = rows.as_slice() else { return Ok(false) };
    let Counter { n: used, max } = counted.counter()?;
    if max == u64::MAX {
        return Ok(false);
    }
    let own: Option<Reservation> = own.as_ref().map(Row::value).transpose()?;
    let more = bytes.saturating_sub(own.map_or(0, |own| own.bytes));
    if used.saturating_add(more) <= max {
        return Ok(more >= AHEAD_BYTES_MAX);
    }
    if let Some(digest) = digest
        && holds(store, namespace, digest, bytes).await?
    {
        return Ok(false);
    }
    Err(RegistryError::Quota { namespace: namespace.to_owned(), used, max, asked: more })
}

/// Whether the namespace has the blob already, and it has as many bytes: more cannot be it, whatever it is called.
async fn holds(store: &Store, namespace: &str, digest: &Digest, bytes: u64) -> Result<bool, StoreError> {
    let rows = store.get_many(vec![links(namespace, digest), blob_key(digest.as_str())]).await?;
    let [Some(_), Some(blob)] = rows.as_slice() else { return Ok(false) };
    Ok(bytes <= Blob::decode(blob)?.size)
}

/// Reserves so much for an upload, in all, for as long as it may wait for its next request.
///
/// # Errors
/// Only where the store fails; a limit that it would go over is the commit's refusal, see [`explain`].
pub async fn reserve(
    tx: &mut Tx,
    repository: &RepoName,
    upload: &BlobId,
    bytes: u64,
    grace: Duration,
) -> Result<(), StoreError> {
    let row = reservation(repository, upload);
    let before = reserved(tx, &row).await?;
    if bytes > before {
        tx.add(&counter(repository.namespace()), signed(bytes - before));
        tx.put_value_ttl(&row, &Reservation { bytes }, grace)?;
    }
    Ok(())
}

/// Gives back what an upload has reserved above `bytes`, if it has; 0 where it ends, as a blob or as nothing.
///
/// # Errors
/// Only where the store fails.
pub async fn lower(
    tx: &mut Tx,
    repository: &RepoName,
    upload: &BlobId,
    bytes: u64,
    grace: Duration,
) -> Result<(), StoreError> {
    let row = reservation(repository, upload);
    let before = reserved(tx, &row).await?;
    if bytes < before {
        tx.add(&counter(repository.namespace()), -signed(before - bytes));
        match bytes {
            0 => tx.delete(&row),
            _ => tx.put_value_ttl(&row, &Reservation { bytes }, grace)?,
        }
    }
    Ok(())
}

async fn reserved(tx: &mut Tx, row: &Key) -> Result<u64, StoreError> {
    let found: Option<Reservation> = tx.get(row).await?.as_ref().map(Row::value).transpose()?;
    Ok(found.map_or(0, |found| found.bytes))
}

/// A page of reservations whose uploads are past their time at `now_ms`, and where the next page begins.
///
/// # Errors
/// Where the store cannot be read.
pub async fn expired(
    store: &Store,
    cursor: Option<&Key>,
    now_ms: u64,
) -> Result<(Vec<Key>, Option<Key>), StoreError> {
    let all = KeyRange::all(Space::Upload);
    let page = store.scan(cursor.map_or(all.clone(), |cursor| all.after(cursor)), EXPIRED_PAGE).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    let old = page.rows.into_iter().filter(|row| row.expired(now_ms)).map(|row| row.key);
    Ok((old.collect(), next))
}

/// Gives back what the upload of a row has reserved, unless it was renewed and holds at `now_ms`.
///
/// # Errors
/// Only where the store fails.
pub async fn expire(tx: &mut Tx, row: &Key, now_ms: u64) -> Result<(), StoreError> {
    if tx.get(row).await?.is_some_and(|row| row.expired(now_ms)) {
        let bytes = reserved(tx, row).await?;
        tx.add(&counter(&row.part(0).unwrap_or_default()), -signed(bytes));
        tx.delete(row);
    }
    Ok(())
}

/// A counter's refusal, as what it means here.
pub fn explain(error: RegistryError, repository: &RepoName) -> RegistryError {
    match error {
        RegistryError::Store(StoreError::Bound { key, n, delta, max })
            if key == counter(repository.namespace()) =>
        {
            RegistryError::Quota {
                namespace: repository.namespace().to_owned(),
                used: n,
                max,
                asked: delta.unsigned_abs(),
            }
        }
        error => error,
    }
}
