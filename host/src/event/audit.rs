use serde::{Deserialize, Serialize};
use wharf_store::{Key, KeyRange, Space, Store, StoreError, Tx};

/// A request that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    pub by: String,
    /// What was attempted: `push`, `pull`, `bind` …
    pub action: String,
    /// On what: a repository, a binding, a user.
    pub resource: String,
    pub reason: String,
}

pub(super) fn append(tx: &mut Tx, refusal: &Refusal) -> Result<(), StoreError> {
    tx.append_value(Space::Audit, refusal)
}

/// At most `limit` refusals before the row of `cursor`, newest first, each with its place in the log; and whether there are
/// more.
pub async fn refusals(
    store: &Store,
    cursor: Option<&Key>,
    limit: usize,
) -> Result<(Vec<(Key, Refusal)>, bool), StoreError> {
    let mut range = KeyRange::all(Space::Audit);
    if let Some(cursor) = cursor {
        range = range.before(cursor);
    }
    let page = store.scan_back(range, limit.min(super::PAGE_MAX)).await?;
    let found: Result<_, StoreError> =
        page.rows.into_iter().map(|row| Ok((row.key.clone(), row.value()?))).collect();
    Ok((found?, page.more))
}
