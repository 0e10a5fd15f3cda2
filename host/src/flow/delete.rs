//! Deletes: a tag, a manifest with its tags, a blob. What is left without a link is collected later.

use wharf_oci::{Digest, RepoName, Tag, Target};
use wharf_store::{KeyRange, MAX_PAGE, Row, StoreError, Tx};

use crate::App;
use crate::access::Principal;
use crate::event::{self, Event, Kind};
use crate::registry::row::{self, TagRow};
use crate::registry::{RegistryError, blob, manifest, setting, tag};

/// Pages of tags that are searched within the commit which deletes their manifest. A repository with more keeps the
/// rest, which nobody is served by from that commit on, for the chunks that follow.
const TAG_PAGES_IN_COMMIT: usize = 4;
/// Tags removed in that commit, each with its event: what the manifest's own rows leave of its operations.
const TAGS_IN_COMMIT: usize = 16;
/// Tags removed in one chunk.
const TAG_CHUNK: usize = 256;

/// Deletes what `target` names: a tag alone, or a manifest and every tag that points to it.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`], [`RegistryError::TagImmutable`], [`RegistryError::InUse`] for a manifest that an
/// index needs; else only where the store fails.
pub async fn target(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    target: &Target,
) -> Result<(), RegistryError> {
    match target {
        Target::Tag(tag) => one_tag(app, who, repository, tag).await,
        Target::Digest(digest) => one_manifest(app, who, repository, digest).await,
    }
}

async fn one_tag(app: &App, who: &Principal, repository: &RepoName, tag: &Tag) -> Result<(), RegistryError> {
    let act = app.store.act(|mut tx| async move {
        let digest = tag::remove(&mut tx, repository, tag).await?;
        tag_deleted(&mut tx, app, who, repository, tag, digest)
    });
    act.await.map(drop)
}

fn tag_deleted(
    tx: &mut Tx,
    app: &App,
    who: &Principal,
    repository: &RepoName,
    tag: &Tag,
    digest: Digest,
) -> Result<(), RegistryError> {
    let kind = Kind::TagDeleted { repository: repository.clone(), tag: tag.clone(), digest };
    let event = Event { at_ms: app.now_ms(), by: who.name.clone(), kind };
    Ok(event::append(tx, &event)?)
}

async fn one_manifest(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
) -> Result<(), RegistryError> {
    refuse_immutable(app, repository, digest).await?;
    let act = app.store.act(|mut tx| async move {
        let rest = remove_tags(&mut tx, app, who, repository, digest).await?;
        manifest::remove(&mut tx, repository, digest, app.now_ms()).await?;
        let kind = Kind::ManifestDeleted { repository: repository.clone(), digest: digest.clone() };
        event::append(&mut tx, &Event { at_ms: app.now_ms(), by: who.name.clone(), kind })?;
        Ok::<_, RegistryError>(rest)
    });
    let (rest, _) = act.await?;
    let Some(range) = rest else { return Ok(()) };
    let (app, who) = (app.clone(), who.clone());
    let (repository, digest) = (repository.clone(), digest.clone());
    // Tags are served only while their manifest is there, so what follows hides nothing; a client that goes away must not
    // leave them in the list.
    let following = tokio::spawn(async move {
        let mut rest = Some(range);
        while let Some(range) = rest {
            rest = remove_chunk(&app, &who, &repository, &digest, range).await?;
        }
        Ok::<_, RegistryError>(())
    });
    following.await.unwrap_or(Err(StoreError::Down.into()))
}

/// Refuses to delete a manifest that an immutable tag points to, however many tags there are. The first pages are looked
/// at again in the commit.
async fn refuse_immutable(app: &App, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
    let setting = setting::read(&app.store, repository).await?;
    if setting.immutable_tags.is_empty() {
        return Ok(());
    }
    let mut range = row::tags(repository);
    loop {
        let page = app.store.scan(range.clone(), MAX_PAGE).await?;
        for row in &page.rows {
            let Some(tag) = tag_of(row, digest)? else { continue };
            if let Some(pattern) = setting.immutable(&tag) {
                let (repository, digest, pattern) = (repository.clone(), digest.clone(), pattern.to_owned());
                return Err(RegistryError::TagImmutable { repository, tag, pattern, digest });
            }
        }
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok(()),
        }
    }
}

/// Removes the tags of a manifest in the commit that removes it, the first few of them. Returns the range in which there
/// may be more.
async fn remove_tags(
    tx: &mut Tx,
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<KeyRange>, RegistryError> {
    let all = row::tags(repository);
    let mut range = all.clone();
    let mut found = Vec::new();
    let mut all_seen = false;
    for _ in 0..TAG_PAGES_IN_COMMIT {
        let page = tx.scan(range.clone(), MAX_PAGE).await?;
        for row in &page.rows {
            found.extend(tag_of(row, digest)?);
        }
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => {
                all_seen = true;
                break;
            }
        }
    }
    for tag in &found {
        tag::refuse_if_immutable(tx, repository, tag, digest).await?;
    }
    for tag in found.iter().take(TAGS_IN_COMMIT) {
        tag::remove(tx, repository, tag).await?;
        tag_deleted(tx, app, who, repository, tag, digest.clone())?;
    }
    Ok((!all_seen || found.len() > TAGS_IN_COMMIT).then_some(all))
}

/// Removes what is left of a deleted manifest's tags in the first page of `range` that has any. Returns what follows.
async fn remove_chunk(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
    range: KeyRange,
) -> Result<Option<KeyRange>, RegistryError> {
    let page = app.store.scan(range.clone(), TAG_CHUNK).await?;
    let Some(last) = page.rows.last().map(|row| row.key.clone()) else { return Ok(None) };
    let rows = &page.rows;
    let act = app.store.act(|mut tx| async move {
        // The manifest may have been pushed again meanwhile; then its tags are wanted.
        if tx.get(&row::manifest(repository, digest)).await?.is_some() {
            return Ok(());
        }
        for row in rows {
            let Some(tag) = tag_of(row, digest)? else { continue };
            let current = tx.get(&row.key).await?;
            if current.as_ref().is_some_and(|current| current.rev == row.rev) {
                tx.delete(&row.key);
                tag_deleted(&mut tx, app, who, repository, &tag, digest.clone())?;
            }
        }
        Ok::<_, RegistryError>(())
    });
    act.await?;
    Ok(page.more.then(|| range.after(&last)))
}

/// The tag that the row is, if it points to `digest`.
fn tag_of(row: &Row, digest: &Digest) -> Result<Option<Tag>, StoreError> {
    let value: TagRow = row.value()?;
    let tag = row.key.part(1).and_then(|part| part.parse().ok());
    Ok(tag.filter(|_| value.digest == *digest))
}

/// Deletes a blob from the repository. Other repositories keep it.
///
/// # Errors
/// [`RegistryError::BlobUnknown`], [`RegistryError::InUse`] where a manifest of the repository needs it; else only where
/// the store fails.
pub async fn blob(app: &App, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
    let act = app.store.act(|mut tx| async move { blob::remove(&mut tx, repository, digest).await });
    act.await.map(drop)
}
