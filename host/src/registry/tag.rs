//! Tags: names that point to manifests.

use wharf_oci::{Descriptor, Digest, RepoName, Tag, Target};
use wharf_store::{Store, StoreError, Tx};

use super::row::{self, TagRow};
use super::{RegistryError, setting};
use crate::event::Stage;

/// What [`point`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pointed {
    /// It pointed there already; nothing is written.
    Unchanged,
    Created,
    Moved {
        from: Digest,
    },
}

/// Points `tag` to a manifest of the repository, by its digest and media type. `lineage` names the promotions that led
/// here, oldest first.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where the repository lacks the manifest, [`RegistryError::TagImmutable`] where a
/// setting forbids to move the tag; else only where the store fails.
pub async fn point(
    tx: &mut Tx,
    repository: &RepoName,
    tag: &Tag,
    to: &Descriptor,
    by: &str,
    now_ms: u64,
    lineage: &[Stage],
) -> Result<Pointed, RegistryError> {
    if tx.get(&row::manifest(repository, &to.digest)).await?.is_none() {
        let target = Target::Digest(to.digest.clone());
        return Err(RegistryError::ManifestUnknown { repository: repository.clone(), target });
    }
    let key = row::tag(repository, tag);
    let old: Option<TagRow> = tx.get(&key).await?.map(|row| row.value()).transpose()?;
    let pointed = match old {
        Some(old) if old.digest == to.digest => return Ok(Pointed::Unchanged),
        Some(old) => {
            refuse_if_immutable(tx, repository, tag, &old.digest).await?;
            Pointed::Moved { from: old.digest }
        }
        None => Pointed::Created,
    };
    let new = TagRow {
        digest: to.digest.clone(),
        media_type: to.media_type.clone(),
        at_ms: now_ms,
        by: by.to_owned(),
        lineage: lineage.to_vec(),
    };
    tx.put_value(&key, &new)?;
    Ok(pointed)
}

/// Removes a tag; its manifest stays. Returns what it pointed to.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where there is no such tag, [`RegistryError::TagImmutable`] where a setting
/// forbids it; else only where the store fails.
pub async fn remove(tx: &mut Tx, repository: &RepoName, tag: &Tag) -> Result<Digest, RegistryError> {
    let key = row::tag(repository, tag);
    let Some(old) = tx.get(&key).await? else {
        let target = Target::Tag(tag.clone());
        return Err(RegistryError::ManifestUnknown { repository: repository.clone(), target });
    };
    let old: TagRow = old.value()?;
    refuse_if_immutable(tx, repository, tag, &old.digest).await?;
    tx.delete(&key);
    Ok(old.digest)
}

/// Refuses what would take an immutable tag away from the manifest it points to.
///
/// # Errors
/// [`RegistryError::TagImmutable`]; else only where the store fails.
pub async fn refuse_if_immutable(
    tx: &mut Tx,
    repository: &RepoName,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), RegistryError> {
    match setting::get(tx, repository).await?.immutable(tag) {
        Some(pattern) => Err(RegistryError::TagImmutable {
            repository: repository.clone(),
            tag: tag.clone(),
            pattern: pattern.to_owned(),
            digest: digest.clone(),
        }),
        None => Ok(()),
    }
}

/// Where a tag points now. The manifest may be going: [`super::manifest::find`] is what a pull asks.
///
/// # Errors
/// Where the store cannot be read.
pub async fn find(store: &Store, repository: &RepoName, tag: &Tag) -> Result<Option<TagRow>, StoreError> {
    store.get(&row::tag(repository, tag)).await?.map(|row| row.value()).transpose()
}
