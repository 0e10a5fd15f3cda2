//! Tags of a deleted manifest that are still to be removed.
//!
//! A manifest that many tags point to is deleted in one commit all the same: the commit takes its row away and leaves a
//! mark. From then on nobody sees the tags that pointed to it; a job removes their rows page by page, then the mark.
//!
//! Invariant: a tag is hidden while a mark of the manifest it points to is younger than the tag's row. So a tag that is
//! pointed to the same manifest after it was pushed again is a new one, and the old ones do not come back with it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName};
use wharf_store::{Key, KeyRange, MAX_PAGE, Rev, Row, Space, Store, StoreError, Tx, key};

use super::row::TagRow;

/// `cursor/untag/<repo>/<digest>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who deleted the manifest.
    pub by: String,
}

/// The marks of a repository as they were read: none, but while a large delete is under way.
#[derive(Debug, Default)]
pub struct Marks(HashMap<String, (Mark, Rev)>);

impl Marks {
    /// Reads them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn of(store: &Store, repository: &RepoName) -> Result<Marks, StoreError> {
        let mut marks = Marks::default();
        let mut range = KeyRange::prefix(Space::Cursor, &["untag", repository.as_str()]);
        loop {
            let page = store.scan(range.clone(), MAX_PAGE).await?;
            for row in &page.rows {
                marks.0.insert(row.key.part(2).unwrap_or_default(), (row.value()?, row.rev));
            }
            match page.rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => return Ok(marks),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mark that hides this tag, if one does.
    ///
    /// # Errors
    /// Where the row is no tag's.
    pub fn hiding(&self, tag: &Row) -> Result<Option<&Mark>, StoreError> {
        if self.is_empty() {
            return Ok(None);
        }
        let value: TagRow = tag.value()?;
        let mark = self.0.get(value.digest.as_str()).filter(|(_, mark)| hides(*mark, tag.rev));
        Ok(mark.map(|(mark, _)| mark))
    }

    /// When the youngest was made; none where there are none.
    pub fn youngest(&self) -> Option<Rev> {
        self.0.values().map(|(_, rev)| *rev).max()
    }

    /// Manifests whose marks are as old as `until` or older, at most `n`.
    pub fn up_to(&self, until: Rev, n: usize) -> Vec<Digest> {
        let old = self.0.iter().filter(|(_, (_, rev))| *rev <= until);
        old.filter_map(|(digest, _)| digest.parse().ok()).take(n).collect()
    }
}

pub(super) fn row(repository: &RepoName, digest: &Digest) -> Key {
    key(Space::Cursor, &["untag", repository.as_str(), digest.as_str()])
}

/// Whether a mark hides a tag's row. A row that this transaction wrote has no revision yet: it is the newest of all.
pub(super) fn hides(mark: Rev, tag: Rev) -> bool {
    tag != Rev::default() && tag < mark
}

/// Hides every tag that points to the manifest now.
///
/// # Errors
/// Where the value cannot be written.
pub fn mark(tx: &mut Tx, repository: &RepoName, digest: &Digest, by: &str) -> Result<(), StoreError> {
    tx.put_value(&row(repository, digest), &Mark { by: by.to_owned() })
}

/// Takes a mark away once no tag is left that it hides; not where it is younger than `until`.
///
/// # Errors
/// Where the store cannot be read.
pub async fn unmark(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    until: Rev,
) -> Result<(), StoreError> {
    let mark = row(repository, digest);
    if tx.get(&mark).await?.is_some_and(|row| row.rev <= until) {
        tx.delete(&mark);
    }
    Ok(())
}
