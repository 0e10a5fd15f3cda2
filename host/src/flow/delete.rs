//! Deletes: a tag, a manifest with its tags, a blob. What is left without a link is collected later.
//!
//! A manifest goes in one commit, however many tags point to it: either they go with it, or the commit hides them all and
//! a job removes their rows afterwards ([`untag`]).

use wharf_oci::{Digest, RepoName, Tag, Target};
use wharf_store::{MAX_PAGE, Rev, Row, StoreError, Tx};

use crate::App;
use crate::access::Principal;
use crate::event::{self, Event, Kind};
use crate::registry::row::{self, TagRow};
use crate::registry::setting::{self, RepoSetting};
use crate::registry::untag::{self, Marks};
use crate::registry::{RegistryError, blob, manifest, tag};

/// Pages of tags that a delete searches for those it takes along; an immutable one is looked for on all of them.
const TAG_PAGES: usize = 4;
/// Tags removed in the manifest's commit, each with its event: what its own rows leave of the operations.
const TAGS_IN_COMMIT: usize = 16;
/// Tags looked at in one portion of the job that removes the others, and so removed in one commit.
const TAGS_A_PORTION: usize = 256;

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
        tag_deleted(&mut tx, app, &who.name, repository, tag, digest, false)
    });
    act.await.map(drop)
}

fn tag_deleted(
    tx: &mut Tx,
    app: &App,
    by: &str,
    repository: &RepoName,
    tag: &Tag,
    digest: Digest,
    hidden: bool,
) -> Result<(), RegistryError> {
    let kind = Kind::TagDeleted { repository: repository.clone(), tag: tag.clone(), digest, hidden };
    let event = Event { at_ms: app.now_ms(), by: by.to_owned(), kind };
    Ok(event::append(tx, &event)?)
}

async fn one_manifest(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
) -> Result<(), RegistryError> {
    let act =
        app.store.act(|mut tx| async move { remove_manifest(&mut tx, app, who, repository, digest).await });
    act.await.map(drop)
}

/// Takes a manifest away with its tags. The commit expects what it decides on and no more: the manifest, the setting, the
/// tags that go along and that none has come since they were looked for. What else is pushed meanwhile does not hold it up.
async fn remove_manifest(
    tx: &mut Tx,
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
) -> Result<(), RegistryError> {
    // First what must stay as it is, then the tags as they are.
    tag::expect_no_more(tx, repository, digest).await?;
    let setting = setting::get(tx, repository).await?;
    manifest::remove(tx, repository, digest, app.now_ms()).await?;
    let tags = tags_of(app, &setting, repository, digest).await?;
    let tags_left = tags.is_none();
    if tags_left {
        untag::mark(tx, repository, digest, &who.name)?;
    }
    for tag in tags.unwrap_or_default() {
        // One that was pointed elsewhere since stays there.
        if tag::get(tx, repository, &tag).await?.is_some_and(|(now, _)| now.digest == *digest) {
            tx.delete(&row::tag(repository, &tag));
            tag_deleted(tx, app, &who.name, repository, &tag, digest.clone(), false)?;
        }
    }
    let (repository, digest) = (repository.clone(), digest.clone());
    let kind = Kind::ManifestDeleted { repository, digest, tags_left };
    Ok(event::append(tx, &Event { at_ms: app.now_ms(), by: who.name.clone(), kind })?)
}

/// The tags that point to a manifest; none where there are, or may be, more than its commit removes.
///
/// # Errors
/// [`RegistryError::TagImmutable`] where one of them is, however many there are.
async fn tags_of(
    app: &App,
    setting: &RepoSetting,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<Vec<Tag>>, RegistryError> {
    let marks = Marks::of(&app.store, repository).await?;
    let mut range = row::tags(repository);
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = app.store.scan(range.clone(), MAX_PAGE).await?;
        pages += 1;
        for row in &page.rows {
            let Some(tag) = tag_of(row, digest, &marks)? else { continue };
            if let Some(pattern) = setting.immutable(&tag) {
                let (repository, digest, pattern) = (repository.clone(), digest.clone(), pattern.to_owned());
                return Err(RegistryError::TagImmutable { repository, tag, pattern, digest });
            }
            if found.len() <= TAGS_IN_COMMIT {
                found.push(tag);
            }
        }
        let too_many = found.len() > TAGS_IN_COMMIT || (page.more && pages >= TAG_PAGES);
        match page.rows.last() {
            Some(_) if too_many && setting.immutable_tags.is_empty() => return Ok(None),
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok((!too_many).then_some(found)),
        }
    }
}

/// Removes hidden tags of one portion of a repository's tags, and at the end what hid them. Returns where to go on; none
/// once nothing is hidden any more. Any portion may be done again.
///
/// # Errors
/// Only where the store fails.
pub async fn untag(
    app: &App,
    repository: &RepoName,
    from: Option<&str>,
) -> Result<Option<String>, RegistryError> {
    let store = app.store.background();
    let marks = &Marks::of(&store, repository).await?;
    let Some(youngest) = marks.youngest() else { return Ok(None) };
    // A walk that began before a mark was made has not passed all that it hides; the next one will.
    let walk = from.and_then(Walk::parse).unwrap_or(Walk { until: youngest, after: None });
    let mut range = row::tags(repository);
    if let Some(after) = &walk.after {
        range = range.after(&row::tag(repository, after));
    }
    let page = store.scan(range, TAGS_A_PORTION).await?;
    let rows = &page.rows;
    let act = store.act(|mut tx| async move {
        for row in rows {
            let (Some(mark), Some(tag)) = (marks.hiding(row)?, tag_in(row)) else { continue };
            // Pointed elsewhere meanwhile, it is wanted.
            if tx.get(&row.key).await?.is_some_and(|now| now.rev == row.rev) {
                let old: TagRow = row.value()?;
                tx.delete(&row.key);
                tag_deleted(&mut tx, app, &mark.by, repository, &tag, old.digest, true)?;
            }
        }
        Ok::<_, RegistryError>(())
    });
    act.await?;
    if let Some(last) = page.rows.last().filter(|_| page.more).and_then(tag_in) {
        return Ok(Some(Walk { after: Some(last), ..walk }.text()));
    }
    let done = &marks.up_to(walk.until, TAGS_A_PORTION);
    let act = store.act(|mut tx| async move {
        for digest in done {
            untag::unmark(&mut tx, repository, digest, walk.until).await?;
        }
        Ok::<_, RegistryError>(())
    });
    act.await?;
    let rest = Marks::of(&store, repository).await?.youngest();
    Ok(rest.map(|youngest| Walk { until: youngest, after: None }.text()))
}

/// One walk over a repository's tags: the marks it began with, and how far it is.
struct Walk {
    until: Rev,
    after: Option<Tag>,
}

impl Walk {
    fn text(&self) -> String {
        format!("{} {}", self.until.0, self.after.as_ref().map_or("", Tag::as_str))
    }

    fn parse(text: &str) -> Option<Walk> {
        let (until, after) = text.split_once(' ')?;
        Some(Walk { until: Rev(until.parse().ok()?), after: after.parse().ok() })
    }
}

fn tag_in(row: &Row) -> Option<Tag> {
    row.key.part(1)?.parse().ok()
}

/// The tag that the row is, if it points to `digest` and is not hidden.
fn tag_of(row: &Row, digest: &Digest, marks: &Marks) -> Result<Option<Tag>, StoreError> {
    let value: TagRow = row.value()?;
    let points_here = value.digest == *digest && marks.hiding(row)?.is_none();
    Ok(tag_in(row).filter(|_| points_here))
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

#[cfg(test)]
mod tests;
