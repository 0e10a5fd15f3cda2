//! Where an image of a repository was promoted to, and by whose right: so that what is said of it later finds the way.
//!
//! Rows of `Space::Destination`: `REPOSITORY/DIGEST/TO/binding or hand/NAME` → the tag and the decision. Written with the
//! promotion, and kept as long as the image is where it went.

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use crate::event::Stage;

/// Destinations in one page.
const PAGE: usize = 200;

/// A repository that an image was promoted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub from: Stage,
    pub digest: Digest,
    pub to: RepoName,
    pub by: By,
    /// The newest decision that led there, in the source's history.
    pub decision: u64,
}

/// Who answers for a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A binding, by its name.
    Binding(String),
    /// A user, by hand.
    Hand(String),
}

/// What the key does not say.
#[derive(Debug, Serialize, Deserialize)]
struct DestinationRow {
    tag: Tag,
    decision: u64,
}

impl Destination {
    fn key(&self) -> Key {
        let (kind, name) = match &self.by {
            By::Binding(name) => ("binding", name),
            By::Hand(name) => ("hand", name),
        };
        let from = self.from.repository.as_str();
        key(Space::Destination, &[from, self.digest.as_str(), self.to.as_str(), kind, name])
    }

    fn of(row: &Row) -> Result<Destination, StoreError> {
        let damaged = || StoreError::Damaged { key: row.key.clone(), reason: "not a destination".into() };
        let parts = row.key.parts();
        let [from, digest, to, kind, name] = parts.as_slice() else { return Err(damaged()) };
        let by = match kind.as_str() {
            "binding" => By::Binding(name.clone()),
            "hand" => By::Hand(name.clone()),
            _ => return Err(damaged()),
        };
        let DestinationRow { tag, decision } = row.value()?;
        Ok(Destination {
            from: Stage { repository: from.parse().map_err(|_| damaged())?, tag },
            digest: digest.parse().map_err(|_| damaged())?,
            to: to.parse().map_err(|_| damaged())?,
            by,
            decision,
        })
    }
}

/// Notes where an image goes, in the commit that promotes it.
pub fn put(tx: &mut Tx, destination: &Destination) -> Result<(), StoreError> {
    let row = DestinationRow { tag: destination.from.tag.clone(), decision: destination.decision };
    tx.put_value(&destination.key(), &row)
}

pub fn remove(tx: &mut Tx, destination: &Destination) {
    tx.delete(&destination.key());
}

/// A page of where an image of a repository went, in the order of repositories, and where to go on.
pub async fn of_image(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
    after: Option<&Key>,
) -> Result<(Vec<Destination>, Option<Key>), StoreError> {
    let range = KeyRange::prefix(Space::Destination, &[repository.as_str(), digest.as_str()]);
    page(store, range, after).await
}

/// A page of all that there are, and where to go on.
pub async fn all(store: &Store, after: Option<&Key>) -> Result<(Vec<Destination>, Option<Key>), StoreError> {
    page(store, KeyRange::all(Space::Destination), after).await
}

async fn page(
    store: &Store,
    range: KeyRange,
    after: Option<&Key>,
) -> Result<(Vec<Destination>, Option<Key>), StoreError> {
    let page = store.scan(after.map_or(range.clone(), |after| range.after(after)), PAGE).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    Ok((page.rows.iter().map(Destination::of).collect::<Result<_, _>>()?, next))
}
