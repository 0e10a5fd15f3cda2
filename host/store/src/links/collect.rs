//! The collector's three jobs: links that nothing needs, files that nothing names, files that never were named.
//!
//! Invariant: each works page by page and holds nothing between two pages; clients never wait for it.

use std::collections::BTreeMap;

use super::{Blob, Link, Reap, is_held, link_key};
use crate::act::Tx;
use crate::blobs::{BlobError, BlobId, Blobs, Stored};
use crate::key::{Key, KeyRange, Space};
use crate::seam::MAX_PAGE;
use crate::store::{Store, StoreError};

/// Links looked at in one page.
const STALE_PAGE: usize = 256;
/// Files unlinked in one page.
const REAP_PAGE: usize = 64;
/// Blob rows read at once while looking for orphans, or fewer where they hold manifests.
const ORPHAN_PAGE: usize = MAX_PAGE;

/// One page of links that look stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Links looked at.
    pub seen: usize,
    /// Digest and repository of those that no manifest has needed for the grace period.
    pub links: Vec<(String, String)>,
    /// Where the next page begins; none at the end.
    pub next: Option<Key>,
}

/// Looks for links to take away. Begin with no cursor and go on with [`Stale::next`]. Whoever takes one away asks
/// [`stale`] again in the act that calls [`unlink`](super::unlink).
pub async fn stale_page(
    store: &Store,
    cursor: Option<&Key>,
    now_ms: u64,
    fresh_ms: u64,
) -> Result<Stale, StoreError> {
    let mut range = KeyRange::all(Space::Link);
    if let Some(cursor) = cursor {
        range = range.after(cursor);
    }
    let page = store.scan(range, STALE_PAGE).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    let mut found = Stale { seen: page.rows.len(), links: Vec::new(), next };
    for row in page.rows {
        if !is_old(row.value()?, now_ms, fresh_ms) {
            continue;
        }
        let (digest, repo) = (row.key.part(0).unwrap_or_default(), row.key.part(1).unwrap_or_default());
        if !is_held(store, &digest, &repo).await? {
            found.links.push((digest, repo));
        }
    }
    Ok(found)
}

fn is_old(link: Link, now_ms: u64, fresh_ms: u64) -> bool {
    link.since_ms.saturating_add(fresh_ms) <= now_ms
}

/// Whether the repository has the blob and no manifest of it has needed it for `fresh_ms`. The act is applied only
/// while that stays so.
pub async fn stale(
    tx: &mut Tx,
    digest: &str,
    repo: &str,
    now_ms: u64,
    fresh_ms: u64,
) -> Result<bool, StoreError> {
    let Some(row) = tx.get(&link_key(digest, repo)).await? else { return Ok(false) };
    if !is_old(row.value()?, now_ms, fresh_ms) {
        return Ok(false);
    }
    Ok(tx.scan(KeyRange::prefix(Space::Mref, &[digest, repo]), 1).await?.rows.is_empty())
}

/// Why the collector stopped.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The rows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Unlinks files that a commit has let go; returns how many. Call it again until that is 0.
pub async fn reap(store: &Store, blobs: &Blobs) -> Result<usize, CollectError> {
    let store = store.background();
    let page = store.scan(KeyRange::all(Space::Reap), REAP_PAGE).await?;
    for row in &page.rows {
        let reap: Reap = row.value()?;
        blobs.delete(&reap.id).await?;
    }
    if page.rows.is_empty() {
        return Ok(0);
    }
    let keys: Vec<Key> = page.rows.into_iter().map(|row| row.key).collect();
    let keys = &keys;
    let done = store.act(|mut tx| async move {
        keys.iter().for_each(|key| tx.delete(key));
        Ok::<_, StoreError>(())
    });
    done.await?;
    Ok(keys.len())
}

/// Removes files that no row names and that nobody has written to for `fresh_ms`: what crashes and clients that went
/// away leave behind. Looks at ids that begin with one hexadecimal digit (0 to 15), so that memory stays small;
/// returns how many it removed.
pub async fn orphans(
    store: &Store,
    blobs: &Blobs,
    digit: u8,
    now_ms: u64,
    fresh_ms: u64,
) -> Result<usize, CollectError> {
    let before_ms = now_ms.saturating_sub(fresh_ms);
    // An upload may have a file and a state: it is as old as the newer of the two.
    let mut files: BTreeMap<BlobId, u64> = BTreeMap::new();
    for file in blobs.list(digit).await? {
        let modified_ms = files.entry(file.id).or_default();
        *modified_ms = (*modified_ms).max(file.modified_ms);
    }
    files.retain(|_, modified_ms| *modified_ms < before_ms);
    // Files first, rows afterwards: what is named in between was finished, and so written to, just now. Twice, since between
    // two pages a name may move behind our back, from the row of one digest to that of the content's other digest.
    for _ in 0..2 {
        leave_out_named(store, &mut files).await?;
    }
    let mut removed = 0;
    for id in files.keys() {
        removed += usize::from(blobs.remove_orphan(id, before_ms).await?);
    }
    Ok(removed)
}

async fn leave_out_named(store: &Store, files: &mut BTreeMap<BlobId, u64>) -> Result<(), StoreError> {
    let mut range = KeyRange::all(Space::Blob);
    while !files.is_empty() {
        let page = store.scan(range.clone(), ORPHAN_PAGE).await?;
        for row in &page.rows {
            if let Stored::File(id) = Blob::decode(row)?.stored {
                files.remove(&id);
            }
        }
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => break,
        }
    }
    Ok(())
}
