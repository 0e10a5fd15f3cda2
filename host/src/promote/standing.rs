//! How each tag stands with each binding, and what a new judgement of it waits for.
//!
//! Rows of `Space::Held`: `standing/BINDING/REPOSITORY/TAG` → [`Standing`]; `image/DIGEST/BINDING/REPOSITORY/TAG`, one for
//! each image about which an answer may change, and `image/REPOSITORY@DIGEST/…` for each that is not in the repository yet;
//! `at/MS/BINDING/REPOSITORY/TAG` for an age rule. The last two are empty and written and removed with the first.

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key, number};

use super::compose::Verdict;

/// The latest judgement of a tag by a binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub verdict: Verdict,
    /// The decision in the tag's history.
    pub decision: u64,
    pub tag_revision: u64,
    pub binding_revision: u64,
    /// Digest of all that went into the judgement: an equal one is not recorded again.
    pub fingerprint: String,
    /// Whether this revision of the tag was promoted by this binding.
    pub promoted: bool,
    /// Digests of images about which an answer may change, and what is [`missing`] in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// When to judge again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// A tag in the eyes of a binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub binding: String,
    pub repository: RepoName,
    pub tag: Tag,
}

impl Place {
    fn key(&self, head: &[&str]) -> Key {
        let tail = [self.binding.as_str(), self.repository.as_str(), self.tag.as_str()];
        key(Space::Held, &[head, &tail].concat())
    }

    /// From the last three parts of a key.
    fn of(row: &Row) -> Result<Place, StoreError> {
        let damaged = || StoreError::Damaged { key: row.key.clone(), reason: "not a place".into() };
        let parts = row.key.parts();
        let [.., binding, repository, tag] = parts.as_slice() else { return Err(damaged()) };
        Ok(Place {
            binding: binding.clone(),
            repository: repository.parse().map_err(|_| damaged())?,
            tag: tag.parse().map_err(|_| damaged())?,
        })
    }
}

/// How a tag stands, expected to stay so.
pub async fn expect(tx: &mut Tx, place: &Place) -> Result<Option<Standing>, StoreError> {
    tx.get(&place.key(&["standing"])).await?.map(|row| row.value()).transpose()
}

pub async fn find(store: &Store, place: &Place) -> Result<Option<Standing>, StoreError> {
    store.get(&place.key(&["standing"])).await?.map(|row| row.value()).transpose()
}

/// Replaces `old`, which [`expect`] gave, with its index, by `new`.
pub fn put(tx: &mut Tx, place: &Place, old: Option<&Standing>, new: &Standing) -> Result<(), StoreError> {
    tx.put_value(&place.key(&["standing"]), new)?;
    if let Some(old) = old {
        for image in old.images.iter().filter(|image| !new.images.contains(image)) {
            tx.delete(&place.key(&["image", image]));
        }
        if let Some(at_ms) = old.at_ms.filter(|at_ms| new.at_ms != Some(*at_ms)) {
            tx.delete(&place.key(&["at", &number(at_ms)]));
        }
    }
    let was = |image: &String| old.is_some_and(|old| old.images.contains(image));
    for image in new.images.iter().filter(|image| !was(image)) {
        tx.put(&place.key(&["image", image]), Vec::new());
    }
    if let Some(at_ms) = new.at_ms.filter(|at_ms| old.and_then(|old| old.at_ms) != Some(*at_ms)) {
        tx.put(&place.key(&["at", &number(at_ms)]), Vec::new());
    }
    Ok(())
}

/// Takes a standing away with its index.
pub fn remove(tx: &mut Tx, place: &Place, old: &Standing) {
    tx.delete(&place.key(&["standing"]));
    for image in &old.images {
        tx.delete(&place.key(&["image", image]));
    }
    if let Some(at_ms) = old.at_ms {
        tx.delete(&place.key(&["at", &number(at_ms)]));
    }
}

/// A page of places, with the key to go on behind.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub places: Vec<Place>,
    pub next: Option<Key>,
}

async fn places(
    store: &Store,
    range: KeyRange,
    after: Option<&Key>,
    limit: usize,
) -> Result<Places, StoreError> {
    let range = after.map_or(range.clone(), |after| range.after(after));
    let page = store.scan(range, limit).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    Ok(Places { places: page.rows.iter().map(Place::of).collect::<Result<_, _>>()?, next })
}

/// What waits for an answer about an image.
pub async fn of_image(
    store: &Store,
    digest: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Places, StoreError> {
    places(store, KeyRange::prefix(Space::Held, &["image", digest]), after, limit).await
}

/// What a tag waits for whose index names a manifest that its repository does not have: the scan may be known, of another.
pub fn missing(repository: &RepoName, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}

/// Whether something waits for an answer about an image; the commit expects that it stays so.
pub async fn is_awaited(tx: &mut Tx, digest: &str) -> Result<bool, StoreError> {
    let waiting = tx.scan(KeyRange::prefix(Space::Held, &["image", digest]), 1).await?;
    Ok(!waiting.rows.is_empty())
}

/// What a binding has an opinion of in one repository.
pub async fn of_repository(
    store: &Store,
    binding: &str,
    repository: &RepoName,
    after: Option<&Key>,
    limit: usize,
) -> Result<Places, StoreError> {
    let range = KeyRange::prefix(Space::Held, &["standing", binding, repository.as_str()]);
    places(store, range, after, limit).await
}

/// What a binding has an opinion of.
pub async fn of_binding(
    store: &Store,
    binding: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Places, StoreError> {
    places(store, KeyRange::prefix(Space::Held, &["standing", binding]), after, limit).await
}

/// What an age rule wants to be judged again by `now_ms`, the longest due first.
pub async fn due(
    store: &Store,
    now_ms: u64,
    after: Option<&Key>,
    limit: usize,
) -> Result<Places, StoreError> {
    let later = key(Space::Held, &["at", &number(now_ms.saturating_add(1))]);
    places(store, KeyRange::prefix(Space::Held, &["at"]).before(&later), after, limit).await
}
