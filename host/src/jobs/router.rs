use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharf_store::{Key, Space, Store, StoreError, key};

use super::queue::{Queue, Work};
use super::row::enqueue;
use crate::event::{self, EventId, Recorded};

/// Events that one commit of the router takes in.
pub const BATCH: usize = 64;
/// The router's name among the readers of events.
pub const ROUTER: &str = "router";

/// What follows from an event. Pure, so that a repeated try makes the same jobs.
pub type Route = fn(&Recorded) -> Vec<Work>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct CursorRow {
    /// The last event that was read.
    event: EventId,
}

fn cursor_key(reader: &str) -> Key {
    key(Space::Cursor, &[reader])
}

/// How far a reader has come; before the first event if it never read one.
pub async fn cursor(store: &Store, reader: &str) -> Result<EventId, StoreError> {
    let row = store.get(&cursor_key(reader)).await?;
    Ok(row.map(|row| row.value::<CursorRow>()).transpose()?.unwrap_or_default().event)
}

/// Reads one batch of events and makes their jobs, in one commit with the cursor. Returns how many events were read, and
/// the queues that have something to do.
pub async fn route_once(store: &Store, route: Route) -> Result<(usize, BTreeSet<Queue>), StoreError> {
    let from = cursor(store, ROUTER).await?;
    let page = event::after(store, Some(from), BATCH).await?;
    let Some(last) = page.events.last().map(|event| event.id) else { return Ok((0, BTreeSet::new())) };
    let events = &page.events;
    let (made, _) = store
        .act(|mut tx| async move {
            let cursor = cursor_key(ROUTER);
            let row = tx.get(&cursor).await?;
            let at = row.map(|row| row.value::<CursorRow>()).transpose()?.unwrap_or_default().event;
            if at != from {
                // Another router has read these.
                return Ok(BTreeSet::new());
            }
            let mut made = BTreeSet::new();
            for event in events {
                for work in route(event) {
                    made.insert(work.queue());
                    enqueue(&mut tx, work, Some(event.id)).await?;
                }
            }
            tx.put_value(&cursor, &CursorRow { event: last })?;
            Ok::<_, StoreError>(made)
        })
        .await?;
    Ok((events.len(), made))
}
