use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_store::{Key, KeyRange, Rev, Row, Space, Store, StoreError, appended, parse_number};

use super::{Event, Kind};

/// Events in one page.
pub const PAGE_MAX: usize = 1000;

/// Where an event stands: the commit that made it, and its place among the events of that commit. Text form `REV.INDEX`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    pub rev: u64,
    pub index: u64,
}

impl EventId {
    /// The key of the event's row.
    pub fn key(self) -> Key {
        appended(Space::Event, Rev(self.rev), usize::try_from(self.index).unwrap_or(usize::MAX))
    }

    pub(super) fn of(key: &Key) -> Result<EventId, StoreError> {
        let parts = key.parts();
        let number = |index: usize| parts.get(index).and_then(|part| parse_number(part));
        match (number(0), number(1)) {
            (Some(rev), Some(index)) => Ok(EventId { rev, index }),
            _ => Err(StoreError::Damaged { key: key.clone(), reason: "not the key of an event".into() }),
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.rev, self.index)
    }
}

/// A text that is not `REV.INDEX`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of an event; hint: ids look like `1204.0`, and `wharf events` shows them")]
pub struct EventIdError(String);

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let wrong = || EventIdError(text.chars().take(64).collect());
        let (rev, index) = text.split_once('.').ok_or_else(wrong)?;
        let (rev, index) = (rev.parse().map_err(|_| wrong())?, index.parse().map_err(|_| wrong())?);
        Ok(EventId { rev, index })
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An event where it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub id: EventId,
    #[serde(flatten)]
    pub event: Event,
}

/// One page of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: Vec<Recorded>,
    /// Whether the log holds more in this direction; the last id here is where the next page starts.
    pub more: bool,
}

fn recorded(row: &Row) -> Result<Recorded, StoreError> {
    let id = EventId::of(&row.key)?;
    // A form that this version cannot read (a newer one wrote it) must not stop every reader of the log.
    let event = row.value::<Event>().unwrap_or_else(|error| {
        tracing::warn!(event = %id, %error, "an event is of an unknown form");
        Event { at_ms: 0, by: String::new(), kind: Kind::Unknown }
    });
    Ok(Recorded { id, event })
}

/// At most `limit` (and [`PAGE_MAX`]) events behind `cursor`, oldest first; from the oldest without one.
pub async fn after(store: &Store, cursor: Option<EventId>, limit: usize) -> Result<Events, StoreError> {
    let mut range = KeyRange::all(Space::Event);
    if let Some(cursor) = cursor {
        range = range.after(&cursor.key());
    }
    let page = store.scan(range, limit.min(PAGE_MAX)).await?;
    Ok(Events { events: page.rows.iter().map(recorded).collect::<Result<_, _>>()?, more: page.more })
}

/// At most `limit` (and [`PAGE_MAX`]) events before `cursor`, newest first; from the newest without one.
pub async fn before(store: &Store, cursor: Option<EventId>, limit: usize) -> Result<Events, StoreError> {
    let mut range = KeyRange::all(Space::Event);
    if let Some(cursor) = cursor {
        range = range.before(&cursor.key());
    }
    let page = store.scan_back(range, limit.min(PAGE_MAX)).await?;
    Ok(Events { events: page.rows.iter().map(recorded).collect::<Result<_, _>>()?, more: page.more })
}

/// One event; none if it was trimmed, or never was.
pub async fn get(store: &Store, id: EventId) -> Result<Option<Recorded>, StoreError> {
    store.get(&id.key()).await?.as_ref().map(recorded).transpose()
}

/// The page behind `cursor`; where there is none yet, waits for an event, at most for `patience`.
pub async fn wait(
    store: &Store,
    cursor: Option<EventId>,
    limit: usize,
    patience: Duration,
) -> Result<Events, StoreError> {
    let deadline = tokio::time::Instant::now() + patience;
    // Subscribed before reading, so that a commit between the two is not missed.
    let mut head = store.head();
    loop {
        head.borrow_and_update();
        let page = after(store, cursor, limit).await?;
        if !page.events.is_empty() {
            return Ok(page);
        }
        match tokio::time::timeout_at(deadline, head.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(page),
        }
    }
}
