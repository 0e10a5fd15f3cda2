//! Collection: links that nothing has needed for the grace period. Runs beside pushes; no lock, no read-only window.
//!
//! The flow looks for stale links page by page, then takes each away in a commit that looks again.

use wharf_oci::{Digest, RepoName};
use wharf_store::{StoreError, Tx, links};

use super::row::{self, ManifestRow};
use super::{RegistryError, blob, manifest};

/// What became of a stale link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// It is needed after all.
    Kept,
    /// A blob's link went.
    Blob,
    /// A manifest went, with its link.
    Manifest,
}

/// Takes away a link that is stale: its blob, or the manifest that came along with another and has lost it.
///
/// # Errors
/// Only where the store fails.
pub async fn sweep(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    now_ms: u64,
    grace_ms: u64,
) -> Result<Swept, RegistryError> {
    if !links::stale(tx, digest.as_str(), repository.as_str(), now_ms, grace_ms).await? {
        return Ok(Swept::Kept);
    }
    let Some(row) = tx.get(&row::manifest(repository, digest)).await? else {
        blob::unlink(tx, repository, digest).await?;
        return Ok(Swept::Blob);
    };
    let old: ManifestRow = row.value()?;
    if needed_by_subject(tx, repository, &old).await? {
        return Ok(Swept::Kept);
    }
    manifest::take_away(tx, repository, digest, &old, now_ms).await?;
    Ok(Swept::Manifest)
}

/// A referrer lives as long as its subject.
async fn needed_by_subject(
    tx: &mut Tx,
    repository: &RepoName,
    row: &ManifestRow,
) -> Result<bool, StoreError> {
    match &row.subject {
        Some(subject) => Ok(tx.get(&row::manifest(repository, subject)).await?.is_some()),
        None => Ok(false),
    }
}
