//! Tags: names that point to manifests.

use wharf_oci::{Descriptor, Digest, RepoName, Tag, Target};
use wharf_store::{Key, Rev, Space, Store, StoreError, Tx, key};

use super::row::{self, TagRow};
use super::setting::RepoSetting;
use super::{RegistryError, setting, untag};
use crate::event::Stage;

/// How often a tag is looked up again that moved meanwhile.
const LOOKS_MAX: usize = 8;

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
    let Some(manifest) = tx.get(&row::manifest(repository, &to.digest)).await? else {
        let target = Target::Digest(to.digest.clone());
        return Err(RegistryError::ManifestUnknown { repository: repository.clone(), target });
    };
    let pointed = match get(tx, repository, tag).await? {
        Some((old, _)) if old.digest == to.digest => return Ok(Pointed::Unchanged),
        Some((old, _)) => {
            refuse_if_immutable(&setting::get(tx, repository).await?, repository, tag, &old.digest)?;
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
    tx.put_value(&row::tag(repository, tag), &new)?;
    // A manifest that this commit writes has no revision yet: a delete that has seen an older one expects its revision.
    if manifest.rev != Rev::default() {
        tx.add(&tagged(repository, &to.digest), 1);
    }
    Ok(pointed)
}

/// `counter/tagged/<repo>/<digest>`: how often a tag was pointed to a manifest that was there already. It goes with the
/// manifest.
pub(super) fn tagged(repository: &RepoName, digest: &Digest) -> Key {
    key(Space::Counter, &["tagged", repository.as_str(), digest.as_str()])
}

/// Expects that no other tag is pointed to a manifest of the repository before the commit. Tags are in the order of their
/// names: whoever looked for those of one manifest could else expect no less than that all of them stay as they are. Call it
/// before the manifest is taken away.
///
/// # Errors
/// Where the store cannot be read.
pub async fn expect_no_more(tx: &mut Tx, repository: &RepoName, digest: &Digest) -> Result<(), StoreError> {
    tx.get(&tagged(repository, digest)).await.map(drop)
}

/// Removes a tag; its manifest stays. Returns what it pointed to.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where there is no such tag, [`RegistryError::TagImmutable`] where a setting
/// forbids it; else only where the store fails.
pub async fn remove(tx: &mut Tx, repository: &RepoName, tag: &Tag) -> Result<Digest, RegistryError> {
    let Some((old, _)) = get(tx, repository, tag).await? else {
        let target = Target::Tag(tag.clone());
        return Err(RegistryError::ManifestUnknown { repository: repository.clone(), target });
    };
    refuse_if_immutable(&setting::get(tx, repository).await?, repository, tag, &old.digest)?;
    tx.delete(&row::tag(repository, tag));
    Ok(old.digest)
}

/// The tag as the transaction finds it, with its revision; none where a large delete hides it.
///
/// # Errors
/// Where the store fails.
pub async fn get(tx: &mut Tx, repository: &RepoName, tag: &Tag) -> Result<Option<(TagRow, Rev)>, StoreError> {
    let Some(found) = tx.get(&row::tag(repository, tag)).await? else { return Ok(None) };
    let old: TagRow = found.value()?;
    let mark = tx.get(&untag::row(repository, &old.digest)).await?;
    Ok((!mark.is_some_and(|mark| untag::hides(mark.rev, found.rev))).then_some((old, found.rev)))
}

/// Whether the tag could be pointed to a manifest as things are now. Nothing is expected of what comes after: only [`point`]
/// itself is sure.
///
/// # Errors
/// [`RegistryError::TagImmutable`]; else only where the store cannot be read.
pub async fn may_point(
    store: &Store,
    repository: &RepoName,
    tag: &Tag,
    to: &Digest,
) -> Result<(), RegistryError> {
    match find(store, repository, tag).await? {
        Some(old) if old.digest != *to => {
            refuse_if_immutable(&setting::read(store, repository).await?, repository, tag, &old.digest)
        }
        _ => Ok(()),
    }
}

/// Refuses what would take an immutable tag away from the manifest it points to.
fn refuse_if_immutable(
    setting: &RepoSetting,
    repository: &RepoName,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), RegistryError> {
    match setting.immutable(tag) {
        Some(pattern) => Err(RegistryError::TagImmutable {
            repository: repository.clone(),
            tag: tag.clone(),
            pattern: pattern.to_owned(),
            digest: digest.clone(),
        }),
        None => Ok(()),
    }
}

/// Where a tag points now. The manifest may be going: [`super::manifest::read`] is what a pull asks.
///
/// # Errors
/// Where the store cannot be read, or the tag moves at each look.
pub async fn find(store: &Store, repository: &RepoName, tag: &Tag) -> Result<Option<TagRow>, StoreError> {
    Ok(find_at(store, repository, tag).await?.map(|(row, _)| row))
}

/// The same, with the tag's revision.
///
/// # Errors
/// As [`find`].
pub async fn find_at(
    store: &Store,
    repository: &RepoName,
    tag: &Tag,
) -> Result<Option<(TagRow, Rev)>, StoreError> {
    let unless_hidden = |old: TagRow, revision| async move {
        let mark = store.get(&untag::row(repository, &old.digest)).await?;
        Ok((!mark.is_some_and(|mark| untag::hides(mark.rev, revision))).then_some((old, revision)))
    };
    look_up(store, repository, tag, unless_hidden).await
}

/// What `look` finds at a tag. Where it finds nothing, the tag may have moved since its row was read, and what it pointed to may
/// have gone: it looks again until the tag stands still.
///
/// # Errors
/// Those of `look`; where the store cannot be read, or the tag moves at each look.
pub(super) async fn look_up<T, F: Future<Output = Result<Option<T>, StoreError>>>(
    store: &Store,
    repository: &RepoName,
    tag: &Tag,
    look: impl Fn(TagRow, Rev) -> F,
) -> Result<Option<T>, StoreError> {
    let key = row::tag(repository, tag);
    let mut looked_at = None;
    for _ in 0..LOOKS_MAX {
        let Some(row) = store.get(&key).await? else { return Ok(None) };
        if let Some(found) = look(row.value()?, row.rev).await? {
            return Ok(Some(found));
        }
        if looked_at.replace(row.rev) == Some(row.rev) {
            return Ok(None);
        }
    }
    Err(StoreError::Conflict(key))
}
