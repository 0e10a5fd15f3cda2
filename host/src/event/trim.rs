use std::time::Duration;

use wharf_store::{KeyRange, Space, StoreError, Tx};

use super::{Event, EventId, Refusal};

/// Rows that one commit of a trim looks at.
pub const TRIM_ROWS: usize = 500;
/// Events younger than this are kept whatever the setting says: a reader that was away for a day finds its place.
pub const RETENTION_FLOOR: Duration = Duration::from_secs(24 * 3600);

/// What one step of a trim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    pub rows: usize,
    /// Whether older rows may be left.
    pub more: bool,
}

/// Drops events and refusals from before `cutoff_ms`, at most [`TRIM_ROWS`] of each, and no event that is not before
/// `floor`: the place of the slowest reader that must see everything.
pub async fn trim(tx: &mut Tx, cutoff_ms: u64, floor: EventId) -> Result<Trimmed, StoreError> {
    let read = KeyRange::all(Space::Event).before(&floor.key());
    let events = tx.peek_scan(read, TRIM_ROWS).await?;
    // A row that does not parse has no time; it goes with its neighbours.
    let old_event = |row: &&wharf_store::Row| row.value::<Event>().map_or(true, |e| e.at_ms < cutoff_ms);
    let old: Vec<_> = events.rows.iter().take_while(old_event).collect();
    let refusals = tx.peek_scan(KeyRange::all(Space::Audit), TRIM_ROWS).await?;
    let old_refusal = |row: &&wharf_store::Row| row.value::<Refusal>().map_or(true, |r| r.at_ms < cutoff_ms);
    let refused: Vec<_> = refusals.rows.iter().take_while(old_refusal).collect();
    let more = (old.len() == events.rows.len() && events.more)
        || (refused.len() == refusals.rows.len() && refusals.more);
    let rows = old.len() + refused.len();
    for row in old.into_iter().chain(refused) {
        tx.delete(&row.key);
    }
    Ok(Trimmed { rows, more })
}
