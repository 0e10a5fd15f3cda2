//! Manifests that are pulled over and over, in memory until the next commit: three rows in two reads of the store, and their
//! decoding, are most of what a pull costs beside its request.

use std::sync::Arc;

use bytes::Bytes;
use wharf_oci::{RepoName, Target};
use wharf_store::{Recent, Store, StoreError};

use super::manifest::{self, Found};

/// Bytes of manifests that are held at the same time.
const BYTES_MAX: usize = 16 << 20;
/// The most that one costs beside its bytes: its names, and the stages that its tag has passed.
const OVERHEAD_BYTES: usize = 8 << 10;

/// A manifest as a pull finds it, with its bytes.
pub type Served = Arc<(Found, Bytes)>;

/// The manifests in memory. One for each host.
#[derive(Debug)]
pub struct ManifestCache(Recent<(RepoName, Target), Served>);

impl Default for ManifestCache {
    fn default() -> Self {
        ManifestCache(Recent::new(BYTES_MAX))
    }
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
        let read = async {
            let read = manifest::read(store, repository, target).await?;
            Ok(read.map(|(found, bytes)| {
                let cost = bytes.len() + OVERHEAD_BYTES;
                (Arc::new((found, bytes)), cost)
            }))
        };
        self.0.read(store, (repository.clone(), target.clone()), read).await
    }
}
