//! What happened, in commit order.
//!
//! An operator sees `wharf events`. State changes are appended in the commit that makes them and are never lost;
//! observations (a pull, a login) are buffered and flushed each second, and a crash may lose the last second of them.
//! Refused requests go to a log of their own.
//!
//! Entry: [`append`] writes, [`after`] reads; [`Observations`] is the buffer.
//!
//! Invariant: an event is immutable; its id orders it by commit.
//! Invariant: whoever causes an event knows none of its readers: they follow with a cursor of their own.
//! Invariant: no event that the router has not read is ever trimmed.

mod audit;
mod kind;
mod log;
mod observe;
mod trim;

pub use audit::{Refusal, refusals};
pub use kind::{Kind, Stage};
pub use log::{EventId, EventIdError, Events, PAGE_MAX, Recorded, after, before, get, wait};
pub use observe::{Batch, LastPull, OBSERVATIONS_MAX, Observation, Observations, last_pull};
pub use trim::{RETENTION_FLOOR, TRIM_ROWS, Trimmed, trim};

use serde::{Deserialize, Serialize};
use wharf_store::{Space, StoreError, Tx};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    /// Name of the principal that caused it.
    pub by: String,
    #[serde(flatten)]
    pub kind: Kind,
}

impl Event {
    /// An event caused by a principal.
    pub fn new(at_ms: u64, by: impl Into<String>, kind: Kind) -> Self {
        Event { at_ms, by: by.into(), kind }
    }

    /// An event that the server itself causes.
    pub fn system(at_ms: u64, kind: Kind) -> Self {
        Event::new(at_ms, crate::access::Principal::SYSTEM, kind)
    }
}

/// Appends `event` to the transaction that makes the change it tells of.
pub fn append(tx: &mut Tx, event: &Event) -> Result<(), StoreError> {
    tx.append_value(Space::Event, event)
}

#[cfg(test)]
mod tests;
