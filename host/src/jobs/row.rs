use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use super::queue::{Queue, Work};
use crate::event::EventId;

/// Characters of an error that are kept in a job.
const ERROR_CHARS: usize = 500;

/// A job as it is stored, under `live` or, once it failed for good, `dead`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    #[serde(flatten)]
    pub work: Work,
    #[serde(flatten)]
    pub state: State,
    /// Milliseconds since 1970, by the store's clock.
    pub made_at_ms: u64,
    /// Runs that began.
    pub attempts: u32,
    /// Runs that ended because the process did.
    #[serde(default)]
    pub interruptions: u32,
    /// What came while it ran: it runs once more, from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Work>,
    /// Somebody asked to stop it.
    #[serde(default)]
    pub cancelled: bool,
    /// The newest event that asked for it; none for scheduled work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum State {
    /// Waits for its turn, or for the end of a pause after a failure.
    Queued { ready_at_ms: u64 },
    /// Runs; the row's time to live is the lease.
    Running { claim: u64, since_ms: u64 },
    /// Failed for good; runs again when something new asks for it, or on demand.
    Dead { at_ms: u64 },
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Queued { .. } => "queued",
            State::Running { .. } => "running",
            State::Dead { .. } => "dead",
        }
    }
}

impl Job {
    pub(super) fn new(work: Work, cause: Option<EventId>, now_ms: u64) -> Job {
        Job {
            work,
            state: State::Queued { ready_at_ms: now_ms },
            made_at_ms: now_ms,
            attempts: 0,
            interruptions: 0,
            again: None,
            cancelled: false,
            cause,
            last_error: None,
        }
    }

    pub(super) fn set_error(&mut self, error: &str) {
        self.last_error = Some(error.chars().take(ERROR_CHARS).collect());
    }

    /// Ready at once, as if it had never failed: for what came meanwhile.
    pub(super) fn start_over(self, work: Work, now_ms: u64) -> Job {
        Job { last_error: self.last_error, ..Job::new(work, self.cause, now_ms) }
    }
}

/// Where live jobs of a queue are, ordered by namespace.
pub(super) fn live_range(queue: Queue) -> KeyRange {
    KeyRange::prefix(Space::Job, &["live", queue.name()])
}

pub(super) fn namespace_range(queue: Queue, namespace: &str) -> KeyRange {
    KeyRange::prefix(Space::Job, &["live", queue.name(), namespace])
}

pub(super) fn dead_range(queue: Queue) -> KeyRange {
    KeyRange::prefix(Space::Job, &["dead", queue.name()])
}

pub(super) fn live_key(work: &Work) -> Key {
    key(Space::Job, &["live", work.queue().name(), work.namespace(), &work.subject()])
}

pub(super) fn dead_key(work: &Work) -> Key {
    key(Space::Job, &["dead", work.queue().name(), work.namespace(), &work.subject()])
}

/// Counts the live jobs of a queue.
pub(super) fn count_key(queue: Queue) -> Key {
    key(Space::Counter, &["jobs", queue.name()])
}

/// Live jobs of each queue, as the commits that make and end them count them, in the order of [`Queue::ALL`].
pub async fn live(store: &Store) -> Result<Vec<(Queue, u64)>, StoreError> {
    let rows = store.get_many(Queue::ALL.map(count_key).to_vec()).await?;
    let count =
        |row: Option<Row>| -> Result<u64, StoreError> { row.map_or(Ok(0), |row| Ok(row.counter()?.n)) };
    Queue::ALL.into_iter().zip(rows).map(|(queue, row)| Ok((queue, count(row)?))).collect()
}

/// Takes a live job away.
pub(super) fn remove(tx: &mut Tx, work: &Work) {
    tx.delete(&live_key(work));
    tx.add(&count_key(work.queue()), -1);
}

/// Writes a live job that is there; `lease` is what is left of one that runs.
pub(super) fn put(tx: &mut Tx, job: &Job, lease: Option<Duration>) -> Result<(), StoreError> {
    let key = live_key(&job.work);
    match lease {
        Some(lease) => tx.put_value_ttl(&key, job, lease),
        None => tx.put_value(&key, job),
    }
}

/// What is left of a row's lease; `None` once it ran out.
pub(super) fn lease_left(row: &Row, now_ms: u64) -> Option<Duration> {
    row.until_ms.checked_sub(now_ms).filter(|left| *left > 0).map(Duration::from_millis)
}

/// Asks for `work`: a new job, or one that is there already and takes this in.
///
/// A job that runs is marked to run once more. One that was dead comes back to life: something new asks for it.
pub async fn enqueue(tx: &mut Tx, work: Work, cause: Option<EventId>) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    let keys = [live_key(&work), dead_key(&work)];
    let mut rows = tx.get_many(&keys).await?.into_iter();
    let (live, dead) = (rows.next().flatten(), rows.next().flatten());
    if dead.is_some() {
        tx.delete(&keys[1]);
    }
    let Some(row) = live else {
        tx.add(&count_key(work.queue()), 1);
        return put(tx, &Job::new(work, cause, now_ms), None);
    };
    let mut job: Job = row.value()?;
    job.cause = cause.max(job.cause);
    let State::Running { .. } = job.state else {
        return put(tx, &job.start_over(work, now_ms), None);
    };
    // What runs is not replaced under its run. Where the lease has just run out, whoever claims it next sees `again`.
    job.again = Some(work);
    let lease = lease_left(&row, now_ms).unwrap_or(Duration::from_millis(1));
    put(tx, &job, Some(lease))
}

/// Asks for `work` unless a job of it waits or runs: what nobody new asks for must not shorten its pauses.
pub(super) async fn enqueue_once(tx: &mut Tx, work: Work) -> Result<(), StoreError> {
    if tx.get(&live_key(&work)).await?.is_none() {
        enqueue(tx, work, None).await?;
    }
    Ok(())
}
