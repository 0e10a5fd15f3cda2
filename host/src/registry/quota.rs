//! Bytes that a namespace may hold: each blob counts once, however many of its repositories link it.
//!
//! Invariant: charged in the commit that makes the first link of the namespace, given back in the one that takes the
//! last; nothing recounts.

use wharf_oci::{Digest, RepoName};
use wharf_store::{Key, Space, Store, StoreError, Tx, key};

use super::RegistryError;

/// What a namespace holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of distinct blobs and manifests.
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
    // A blob of more than 2^63 bytes does not fit on any disk.
    let bytes = i64::try_from(size).unwrap_or(i64::MAX);
    tx.reference(&links(namespace, digest), links_delta, (&counter(namespace), bytes));
}

/// What the namespace holds.
///
/// # Errors
/// Where the store cannot be read.
pub async fn usage(store: &Store, namespace: &str) -> Result<Usage, StoreError> {
    let counted = match store.get(&counter(namespace)).await? {
        Some(row) => row.counter()?,
        None => wharf_store::Counter::default(),
    };
    Ok(Usage { used: counted.n, max: (counted.max != u64::MAX).then_some(counted.max) })
}

/// Limits the namespace to `max_bytes`; `None` lifts the limit. A limit below what is used stops pushes only.
pub fn limit(tx: &mut Tx, namespace: &str, max_bytes: Option<u64>) {
    tx.max(&counter(namespace), max_bytes.unwrap_or(u64::MAX));
}

/// Refuses early what will not fit, before its bytes are taken. The commit decides.
///
/// # Errors
/// [`RegistryError::Quota`] where `bytes` more would go over the limit.
pub async fn precheck(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
    bytes: u64,
) -> Result<(), RegistryError> {
    let namespace = repository.namespace();
    match usage(store, namespace).await? {
        Usage { used, max: Some(max) } if used.saturating_add(bytes) > max => {
            if store.get(&links(namespace, digest)).await?.is_some() {
                // It is there already and costs nothing more.
                return Ok(());
            }
            Err(RegistryError::Quota { namespace: namespace.to_owned(), used, max, asked: bytes })
        }
        _ => Ok(()),
    }
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
