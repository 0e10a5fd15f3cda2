//! What an index holds: platforms that run, and what stands beside them.
//!
//! Invariant: what is taken for no platform here is nothing that runs, whatever the index says of it: the mark is written by
//! whoever pushes.

use std::collections::BTreeMap;

use wharf_oci::{Descriptor, Digest, Manifest, RepoName};
use wharf_store::{Store, StoreError};

use super::manifest;

/// Marked entries of one index that are looked at; those beyond are taken for platforms. Builders write one for each platform.
const MARKED_MAX: usize = 256;

/// The entries that run or may run, in the order of the index: all but those that are marked `unknown/unknown` and are here as
/// something that does not run, such as an attestation. What is not here may come at any time, and run.
///
/// # Errors
/// Where the store cannot be read.
pub async fn platforms<'a>(
    store: &Store,
    repository: &RepoName,
    index: &'a Manifest,
) -> Result<Vec<&'a Descriptor>, StoreError> {
    let mut platforms = Vec::new();
    let mut looked: BTreeMap<&Digest, bool> = BTreeMap::new();
    for entry in &index.manifests {
        if entry.platform.as_ref().is_none_or(|platform| !platform.is_unknown()) {
            platforms.push(entry);
            continue;
        }
        let runs = match looked.get(&entry.digest) {
            Some(runs) => *runs,
            None if looked.len() == MARKED_MAX => true,
            None => {
                let found = manifest::parsed(store, repository, &entry.digest).await?;
                let runs = found.is_none_or(|found| found.may_run());
                looked.insert(&entry.digest, runs);
                runs
            }
        };
        if runs {
            platforms.push(entry);
        }
    }
    Ok(platforms)
}
