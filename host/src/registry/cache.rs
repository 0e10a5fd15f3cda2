//! Manifests that are pulled over and over, in memory.
//!
//! Invariant: what it answers is what the store would: it holds what was read since the newest commit, and lets all of it go
//! at the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wharf_oci::{RepoName, Target};
use wharf_store::{Store, StoreError};

use super::manifest::{self, Found};

/// Bytes of manifests that are held at the same time.
const BYTES_MAX: usize = 16 << 20;
/// What one costs beside its bytes, about.
const OVERHEAD_BYTES: usize = 1024;

/// A manifest as a pull finds it, with its bytes.
pub type Served = Arc<(Found, Bytes)>;

/// The manifests in memory. One for each host.
#[derive(Debug, Default)]
pub struct ManifestCache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// The newest commit when these were read.
    head: u64,
    bytes: usize,
    manifests: HashMap<RepoName, HashMap<Target, Served>>,
}

impl ManifestCache {
    /// A manifest with its bytes; `None` where the repository has none by this tag or digest.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(
        &self,
        store: &Store,
        repository: &RepoName,
        target: &Target,
    ) -> Result<Option<Served>, StoreError> {
        // Before the rows, so that they are no older.
        let head = *store.head().borrow();
        if let Some(served) = self.find(head, repository, target) {
            return Ok(Some(served));
        }
        let Some(read) = manifest::read(store, repository, target).await? else { return Ok(None) };
        let served = Arc::new(read);
        self.keep(head, repository, target, &served);
        Ok(Some(served))
    }

    fn find(&self, head: u64, repository: &RepoName, target: &Target) -> Option<Served> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.head != head {
            // Whoever is behind looks at the store.
            if held.head < head {
                *held = Held { head, ..Held::default() };
            }
            return None;
        }
        held.manifests.get(repository)?.get(target).cloned()
    }

    fn keep(&self, head: u64, repository: &RepoName, target: &Target, served: &Served) {
        let bytes = served.1.len() + OVERHEAD_BYTES;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.head != head {
            return;
        }
        if held.bytes + bytes > BYTES_MAX {
            *held = Held { head, ..Held::default() };
        }
        let of_repository = held.manifests.entry(repository.clone()).or_default();
        if of_repository.insert(target.clone(), served.clone()).is_none() {
            held.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_oci::{Digest, MediaType};

    use super::*;
    use crate::registry::row::ManifestRow;

    #[test]
    fn it_holds_no_more_than_it_may() {
        let (cache, repository) = (ManifestCache::default(), "dev/app".parse().unwrap());
        let row = ManifestRow {
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            size: 1,
            artifact_type: None,
            subject: None,
            sparse: false,
            kept: true,
            pushed_at_ms: 1,
            pushed_by: "alice".to_owned(),
        };
        let served = |digest: &Digest| {
            let found = Found { digest: digest.clone(), row: row.clone(), tag: None };
            Arc::new((found, Bytes::from(vec![0; BYTES_MAX / 4])))
        };
        let digests: Vec<Digest> = (0..7_u8).map(|n| Digest::sha256(&[n])).collect();
        assert!(cache.find(1, &repository, &Target::Digest(digests[0].clone())).is_none());
        for digest in digests.iter().flat_map(|digest| [digest, digest]) {
            cache.keep(1, &repository, &Target::Digest(digest.clone()), &served(digest));
        }
        let held = |head| {
            let find = |digest: &&Digest| {
                cache.find(head, &repository, &Target::Digest((*digest).clone())).is_some()
            };
            digests.iter().filter(find).count()
        };
        assert_eq!(held(1), 1, "three fit, and a fourth lets them go");
        assert_eq!(held(2), 0, "a commit came");
        assert_eq!(held(1), 0, "whoever is behind finds nothing");
    }
}
