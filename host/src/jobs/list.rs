use serde::{Deserialize, Serialize};
use wharf_store::{Key, Row, Space, Store, StoreError, key};

use super::claim::{cancelled_event, end_cancelled, left_ms};
use super::queue::Queue;
use super::row::{Job, State, dead_range, enqueue, lease_left, live_range, put};
use crate::event;

/// Jobs in one page.
const PAGE_MAX: usize = 500;

/// One job as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    pub queue: Queue,
    pub namespace: String,
    pub subject: String,
    /// `queued`, `running`, `dead`.
    pub state: String,
    pub made_at_ms: u64,
    /// When it may run (queued), began to run (running), or was given up (dead).
    pub since_ms: u64,
    /// What is left of the lease of one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<u64>,
    pub attempts: u32,
    pub interruptions: u32,
    /// It runs once more when it is done.
    pub again: bool,
    pub cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The event that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// One page of the jobs of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    pub jobs: Vec<Listed>,
    /// Where the next page starts; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Jobs of a queue, live or dead, in the order of namespace and subject, behind `after` (the `next` of a page).
pub async fn ls(
    store: &Store,
    queue: Queue,
    dead: bool,
    after: Option<&str>,
    limit: usize,
) -> Result<JobPage, StoreError> {
    let kind = if dead { "dead" } else { "live" };
    let mut range = if dead { dead_range(queue) } else { live_range(queue) };
    if let Some((namespace, subject)) = after.and_then(|after| after.split_once('|')) {
        range = range.after(&key(Space::Job, &[kind, queue.name(), namespace, subject]));
    }
    let page = store.scan(range, limit.clamp(1, PAGE_MAX)).await?;
    let now_ms = store.now_ms();
    let jobs: Vec<Listed> = page.rows.iter().map(|row| listed(row, now_ms)).collect::<Result<_, _>>()?;
    let next = jobs.last().filter(|_| page.more).map(|job| format!("{}|{}", job.namespace, job.subject));
    Ok(JobPage { jobs, next })
}

/// One job; none once it is done.
pub async fn find(
    store: &Store,
    queue: Queue,
    namespace: &str,
    subject: &str,
) -> Result<Option<Listed>, StoreError> {
    let rows = store.get_many(keys(queue, namespace, subject).to_vec()).await?;
    rows.iter().flatten().next().map(|row| listed(row, store.now_ms())).transpose()
}

fn listed(row: &Row, now_ms: u64) -> Result<Listed, StoreError> {
    let job: Job = row.value()?;
    let lease_left_ms = left_ms(row, now_ms);
    let since_ms = match job.state {
        State::Queued { ready_at_ms } => ready_at_ms,
        State::Running { since_ms, .. } => since_ms,
        State::Dead { at_ms } => at_ms,
    };
    Ok(Listed {
        queue: job.work.queue(),
        namespace: job.work.namespace().to_owned(),
        subject: job.work.subject(),
        state: job.state.name().to_owned(),
        made_at_ms: job.made_at_ms,
        since_ms,
        lease_left_ms: lease_left_ms.filter(|_| matches!(job.state, State::Running { .. })),
        attempts: job.attempts,
        interruptions: job.interruptions,
        again: job.again.is_some(),
        cancelled: job.cancelled,
        last_error: job.last_error,
        cause: job.cause.map(|cause| cause.to_string()),
    })
}

fn keys(queue: Queue, namespace: &str, subject: &str) -> [Key; 2] {
    ["live", "dead"].map(|kind| key(Space::Job, &[kind, queue.name(), namespace, subject]))
}

/// Cancels a job: one that waits or is dead is gone, one that runs is told to stop. What is asked for later runs. Returns
/// whether there was one.
pub async fn cancel(store: &Store, queue: Queue, namespace: &str, subject: &str) -> Result<bool, StoreError> {
    let (found, _) = store
        .act(|mut tx| async move {
            let [live, dead] = keys(queue, namespace, subject);
            let now_ms = tx.now_ms();
            if let Some(row) = tx.get(&dead).await? {
                tx.delete(&dead);
                event::append(&mut tx, &cancelled_event(&row.value::<Job>()?.work, now_ms))?;
                return Ok(true);
            }
            let Some(row) = tx.get(&live).await? else { return Ok(false) };
            // All that was asked for until now is cancelled, also what waits for the end of this run.
            let mut job = Job { again: None, ..row.value()? };
            match (&job.state, lease_left(&row, now_ms)) {
                (State::Running { .. }, Some(lease)) => {
                    job.cancelled = true;
                    put(&mut tx, &job, Some(lease))?;
                }
                _ => end_cancelled(&mut tx, job, now_ms)?,
            }
            Ok::<_, StoreError>(true)
        })
        .await?;
    Ok(found)
}

/// Runs a dead job again, from the start. Returns whether there was one.
pub async fn retry(store: &Store, queue: Queue, namespace: &str, subject: &str) -> Result<bool, StoreError> {
    let (found, _) = store
        .act(|mut tx| async move {
            let [_, dead] = keys(queue, namespace, subject);
            let Some(row) = tx.get(&dead).await? else { return Ok(false) };
            let job: Job = row.value()?;
            enqueue(&mut tx, job.work.going_on(None), job.cause).await?;
            Ok::<_, StoreError>(true)
        })
        .await?;
    Ok(found)
}
