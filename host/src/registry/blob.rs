//! Blobs of a repository: the store's link state machine, with each link charged to its namespace's quota.
//!
//! Invariant: a link comes and goes only through here, so that the quota is exact.

use bytes::Bytes;
use wharf_oci::{Digest, RepoName};
use wharf_store::links::{self, Added, NewBlob};
use wharf_store::{Finished, Key, KeyRange, Space, Store, StoreError, Stored, Tx};

pub use wharf_store::links::Blob;

use super::{RegistryError, quota, row};

/// A blob that clients are told of: needed by a manifest, or young enough that whoever is told has half of `grace_ms` left
/// to push the manifest. One read of two rows; a third for an old blob.
///
/// # Errors
/// Where the store cannot be read.
pub async fn promise(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
    grace_ms: u64,
) -> Result<Option<Blob>, StoreError> {
    links::find(store, digest.as_str(), repository.as_str(), store.now_ms(), grace_ms).await
}

/// A blob that the repository has now, for readers inside the host, to whom nothing is promised.
///
/// # Errors
/// Where the store cannot be read.
pub async fn find(store: &Store, repository: &RepoName, digest: &Digest) -> Result<Option<Blob>, StoreError> {
    promise(store, repository, digest, u64::MAX).await
}

/// Links a finished upload to the repository. Returns whether the upload's file is used; if not, the same bytes were
/// there already.
///
/// # Errors
/// Only where the store fails.
pub async fn put(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    upload: &Finished,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let twin = match &upload.sha512 {
        Some(sha512) if sha512 != digest.as_str() => Some(sha512.as_str()),
        Some(_) => Some(upload.sha256.as_str()),
        None => None,
    };
    let new = NewBlob { digest: digest.as_str(), twin, size: upload.size, stored: &upload.stored };
    Ok(add(tx, repository, digest, new, now_ms).await? == Added::Stored)
}

/// Links bytes that are kept in the blob's row itself: a manifest's.
pub(super) async fn put_inline(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    bytes: &Bytes,
    now_ms: u64,
) -> Result<(), StoreError> {
    let stored = Stored::Inline(bytes.clone());
    let new = NewBlob { digest: digest.as_str(), twin: None, size: bytes.len() as u64, stored: &stored };
    add(tx, repository, digest, new, now_ms).await?;
    links::make_inline(tx, digest.as_str(), bytes).await
}

async fn add(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    new: NewBlob<'_>,
    now_ms: u64,
) -> Result<Added, StoreError> {
    let is_new = tx.get(&link(repository, digest)).await?.is_none();
    let size = new.size;
    let added = links::add_blob(tx, new, repository.as_str(), now_ms).await?;
    if is_new {
        quota::charge(tx, repository, digest, size);
    }
    Ok(added)
}

/// Links a blob of `from` to the repository; false where `from` does not have it. Whether the caller may read `from` is
/// the flow's question.
///
/// # Errors
/// Only where the store fails.
pub async fn mount(
    tx: &mut Tx,
    from: &RepoName,
    repository: &RepoName,
    digest: &Digest,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let is_new = tx.get(&link(repository, digest)).await?.is_none();
    if !links::mount(tx, digest.as_str(), from.as_str(), repository.as_str(), now_ms).await? {
        return Ok(false);
    }
    if is_new && let Some(blob) = peek(tx, digest).await? {
        quota::charge(tx, repository, digest, blob.size);
    }
    Ok(true)
}

/// As [`mount`], but what the repository has and needs already costs no write. What it has and does not need is kept for
/// another grace period, so that it is still there at the commit which needs it.
pub(super) async fn mount_if_absent(
    tx: &mut Tx,
    from: &RepoName,
    repository: &RepoName,
    digest: &Digest,
    now_ms: u64,
) -> Result<(), StoreError> {
    let needed = KeyRange::prefix(Space::Mref, &[digest.as_str(), repository.as_str()]);
    if tx.present(&link(repository, digest)).await? && !tx.peek_scan(needed, 1).await?.rows.is_empty() {
        return Ok(());
    }
    mount(tx, from, repository, digest, now_ms).await.map(drop)
}

/// Takes a blob away from the repository, and its row with the last link. What needs it is looked at here.
///
/// # Errors
/// [`RegistryError::BlobUnknown`], [`RegistryError::InUse`]; else only where the store fails.
pub async fn remove(tx: &mut Tx, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
    if let Some(by) = holder(tx, repository, digest, None).await? {
        return Err(RegistryError::InUse { repository: repository.clone(), digest: digest.clone(), by });
    }
    if tx.get(&row::manifest(repository, digest)).await?.is_some() {
        // One that came along with another holds itself by nothing but its row.
        let (repository, digest) = (repository.clone(), digest.clone());
        return Err(RegistryError::InUse { repository, by: digest.clone(), digest });
    }
    if tx.get(&link(repository, digest)).await?.is_none() {
        let (repository, digest) = (repository.clone(), digest.clone());
        return Err(RegistryError::BlobUnknown { repository, digest });
    }
    Ok(unlink(tx, repository, digest).await?)
}

/// Takes the link away whoever needs the blob, and gives the quota back.
pub(super) async fn unlink(tx: &mut Tx, repository: &RepoName, digest: &Digest) -> Result<(), StoreError> {
    if let Some(blob) = links::unlink(tx, digest.as_str(), repository.as_str()).await? {
        quota::give_back(tx, repository, digest, blob.size);
    }
    Ok(())
}

/// Records that `manifest` needs the blob. Returns its size; `None`, and nothing recorded, where the repository does not
/// have it.
pub(super) async fn hold(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    manifest: &Digest,
) -> Result<Option<u64>, StoreError> {
    if !links::hold(tx, digest.as_str(), repository.as_str(), manifest.as_str()).await? {
        return Ok(None);
    }
    Ok(peek(tx, digest).await?.map(|blob| blob.size))
}

/// Takes back what [`hold`] recorded.
pub(super) async fn release(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    manifest: &Digest,
    now_ms: u64,
) -> Result<(), StoreError> {
    links::release(tx, digest.as_str(), repository.as_str(), manifest.as_str(), now_ms).await
}

/// Whether [`hold`] recorded that `manifest` needs the blob.
pub(super) async fn is_held_by(
    tx: &Tx,
    repository: &RepoName,
    digest: &Digest,
    manifest: &Digest,
) -> Result<bool, StoreError> {
    let mref = links::mref_key(digest.as_str(), repository.as_str(), manifest.as_str());
    Ok(tx.peek(&mref).await?.is_some())
}

/// A manifest of the repository, other than `except`, that needs the blob.
pub(super) async fn holder(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    except: Option<&Digest>,
) -> Result<Option<Digest>, StoreError> {
    let range = KeyRange::prefix(Space::Mref, &[digest.as_str(), repository.as_str()]);
    let page = tx.scan(range, 2).await?;
    let holders = page.rows.iter().filter_map(|row| row.key.part(2)?.parse::<Digest>().ok());
    Ok(holders.into_iter().find(|holder| Some(holder) != except))
}

/// Manifests of the repository that need the blob, itself among them where it is one that is kept; at most `n`.
pub(super) async fn holders(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
    n: usize,
) -> Result<Vec<Digest>, StoreError> {
    let range = KeyRange::prefix(Space::Mref, &[digest.as_str(), repository.as_str()]);
    let rows = store.scan_all(range, n).await?;
    Ok(rows.iter().filter_map(|row| row.key.part(2)?.parse().ok()).collect())
}

/// The blob as it is now, whichever repositories have it.
pub(super) async fn peek(tx: &Tx, digest: &Digest) -> Result<Option<Blob>, StoreError> {
    tx.peek(&key(digest)).await?.as_ref().map(Blob::decode).transpose()
}

/// The key of the blob's row.
pub(super) fn key(digest: &Digest) -> Key {
    links::blob_key(digest.as_str())
}

fn link(repository: &RepoName, digest: &Digest) -> Key {
    links::link_key(digest.as_str(), repository.as_str())
}

/// Bytes kept in the row; `None` for a blob that has a file.
pub(super) fn inline(blob: Blob) -> Option<Bytes> {
    match blob.stored {
        Stored::Inline(bytes) => Some(bytes),
        Stored::File(_) => None,
    }
}

/// Repositories that link the blob, at most `n`.
///
/// # Errors
/// Where the store cannot be read.
pub async fn repositories(store: &Store, digest: &Digest, n: usize) -> Result<Vec<RepoName>, StoreError> {
    let page = store.scan(KeyRange::prefix(Space::Link, &[digest.as_str()]), n).await?;
    Ok(page.rows.iter().filter_map(|row| row.key.part(1)?.parse().ok()).collect())
}
