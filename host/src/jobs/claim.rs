use std::time::Duration;

use rand::Rng as _;
use wharf_store::{Key, KeyRange, Row, Store, StoreError, Tx};

use super::queue::{Queue, Work};
use super::row::{
    Job, State, count_key, dead_key, lease_left, live_key, live_range, namespace_range, put, remove,
};
use crate::event::{self, Event, EventId, Kind};

/// Rows that are looked at in one read while searching for a job that is ready.
const SEARCH_PAGE: usize = 100;
/// The pause after a first failure; it doubles with each, up to [`BACKOFF_MAX`], and varies by half.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Runs of one job that may be ended by the end of the process before it counts as the cause.
pub(super) const INTERRUPTIONS_MAX: u32 = 20;
/// Interruptions after which a job starts again at once.
const INTERRUPTIONS_FREE: u32 = 5;

/// A job that this process runs, as its claim left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub work: Work,
    pub cause: Option<EventId>,
    /// Which run this is, from 1.
    pub attempt: u32,
    /// How many runs before it failed.
    pub failures: u32,
    pub(super) claim: u64,
}

/// Why a step of a claimed job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("the job is no longer this run's: its lease ran out, or it was taken over")]
    Lost,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the search for a job found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Ready(Key),
    /// Nothing is ready; a job becomes so at this time of the store's clock, if one is waiting at all.
    Nothing {
        ready_at_ms: Option<u64>,
    },
}

/// The next job of `queue` that can be claimed, from the namespaces behind `turn` first; `running` are not looked at.
pub async fn next(
    store: &Store,
    queue: Queue,
    turn: Option<&str>,
    running: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Next, StoreError> {
    let all = live_range(queue);
    let behind = turn.map(|namespace| {
        let to = namespace_range(queue, namespace).to.unwrap_or_default();
        KeyRange { from: to, ..all.clone() }
    });
    let ranges = behind.into_iter().chain([all]);
    let mut earliest: Option<u64> = None;
    for mut range in ranges {
        loop {
            let page = store.scan(range.clone(), SEARCH_PAGE).await?;
            let now_ms = store.now_ms();
            for row in &page.rows {
                let job: Job = row.value()?;
                let ready_at_ms = match job.state {
                    State::Queued { ready_at_ms } => ready_at_ms,
                    State::Running { .. } => row.until_ms,
                    State::Dead { .. } => continue,
                };
                if running(&job.work.subject()) {
                    continue;
                }
                if ready_at_ms <= now_ms {
                    return Ok(Next::Ready(row.key.clone()));
                }
                earliest = Some(earliest.map_or(ready_at_ms, |earliest| earliest.min(ready_at_ms)));
            }
            match page.rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => break,
            }
        }
    }
    Ok(Next::Nothing { ready_at_ms: earliest })
}

/// Claims the job of `key` for `lease`. None if it is not ready any more, or is past its attempts and was put away.
pub async fn claim(
    store: &Store,
    key: &Key,
    lease: Duration,
    attempts_max: u32,
) -> Result<Option<Claimed>, StoreError> {
    let claim: u64 = rand::rng().random();
    let claimed = store
        .act(|mut tx| async move {
            let Some(row) = tx.get(key).await? else { return Ok(None) };
            let mut job: Job = row.value()?;
            let now_ms = tx.now_ms();
            match job.state {
                State::Queued { ready_at_ms } if ready_at_ms <= now_ms => {}
                State::Running { .. } if row.expired(now_ms) => match interrupted(&mut tx, job, now_ms)? {
                    Some(again) => job = again,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
            if job.attempts.saturating_sub(job.interruptions) >= attempts_max {
                bury(&mut tx, job, now_ms)?;
                return Ok(None);
            }
            let failures = job.attempts.saturating_sub(job.interruptions);
            job.attempts += 1;
            // Whatever came until now is seen by this run.
            if let Some(work) = job.again.take() {
                job.work = work;
            }
            job.state = State::Running { claim, since_ms: now_ms };
            put(&mut tx, &job, Some(lease))?;
            let Job { work, cause, attempts: attempt, .. } = job;
            Ok::<_, StoreError>(Some(Claimed { work, cause, attempt, failures, claim }))
        })
        .await;
    match claimed {
        Ok((claimed, _)) => Ok(claimed),
        // Somebody else has it.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The row of a job that is still this run's.
async fn own(tx: &mut Tx, claimed: &Claimed) -> Result<Job, ClaimError> {
    let row = tx.get(&live_key(&claimed.work)).await?.ok_or(ClaimError::Lost)?;
    let job: Job = row.value()?;
    match job.state {
        State::Running { claim, .. } if claim == claimed.claim => Ok(job),
        _ => Err(ClaimError::Lost),
    }
}

/// Prolongs the lease, and keeps `progress` to go on from. Returns whether somebody asked to stop the job.
pub async fn renew(
    store: &Store,
    claimed: &Claimed,
    lease: Duration,
    progress: Option<&Work>,
) -> Result<bool, ClaimError> {
    let (cancelled, _) = store
        .act(|mut tx| async move {
            let mut job = own(&mut tx, claimed).await?;
            if let Some(progress) = progress {
                job.work = progress.clone();
            }
            put(&mut tx, &job, Some(lease))?;
            Ok::<_, ClaimError>(job.cancelled)
        })
        .await?;
    Ok(cancelled)
}

/// The run is done: the job is gone or, if more came meanwhile, ready to run once more.
pub async fn complete(store: &Store, claimed: &Claimed) -> Result<(), ClaimError> {
    store
        .act(|mut tx| async move {
            let mut job = own(&mut tx, claimed).await?;
            let now_ms = tx.now_ms();
            if job.cancelled {
                end_cancelled(&mut tx, job, now_ms)?;
            } else if let Some(work) = job.again.take() {
                put(&mut tx, &job.start_over(work, now_ms), None)?;
            } else {
                remove(&mut tx, &job.work);
            }
            Ok::<_, ClaimError>(())
        })
        .await?;
    Ok(())
}

/// The run failed: the job waits for a while or, past its attempts, is dead. Returns whether it is.
pub async fn fail(
    store: &Store,
    claimed: &Claimed,
    error: &str,
    attempts_max: u32,
) -> Result<bool, ClaimError> {
    let jitter: f64 = rand::rng().random_range(0.5..1.5);
    let (dead, _) = store
        .act(|mut tx| async move {
            let mut job = own(&mut tx, claimed).await?;
            let now_ms = tx.now_ms();
            job.set_error(error);
            let failures = job.attempts.saturating_sub(job.interruptions);
            if job.cancelled {
                end_cancelled(&mut tx, job, now_ms)?;
            } else if let Some(work) = job.again.take() {
                put(&mut tx, &job.start_over(work, now_ms), None)?;
            } else if failures >= attempts_max {
                bury(&mut tx, job, now_ms)?;
                return Ok(true);
            } else {
                job.state = State::Queued { ready_at_ms: now_ms + backoff_ms(failures, jitter) };
                put(&mut tx, &job, None)?;
            }
            Ok::<_, ClaimError>(false)
        })
        .await?;
    Ok(dead)
}

/// The process stops: the job is ready for the next one, and this run did not count.
pub async fn hand_back(store: &Store, claimed: &Claimed) -> Result<(), ClaimError> {
    store
        .act(|mut tx| async move {
            let mut job = own(&mut tx, claimed).await?;
            let now_ms = tx.now_ms();
            if job.cancelled {
                return Ok(end_cancelled(&mut tx, job, now_ms)?);
            }
            job.attempts = job.attempts.saturating_sub(1);
            job.state = State::Queued { ready_at_ms: now_ms };
            put(&mut tx, &job, None)?;
            Ok::<_, ClaimError>(())
        })
        .await?;
    Ok(())
}

/// At start, where this process holds the store alone: whatever runs by its row was run by a process that is gone.
/// Makes it ready at once instead of after its lease. Returns how many were taken back.
pub async fn recover(store: &Store, queue: Queue) -> Result<usize, StoreError> {
    let (mut range, mut live, mut running) = (live_range(queue), 0, Vec::new());
    let runs = |row: &&Row| row.value::<Job>().is_ok_and(|job| matches!(job.state, State::Running { .. }));
    loop {
        let page = store.scan(range.clone(), SEARCH_PAGE).await?;
        live += page.rows.len() as u64;
        running.extend(page.rows.iter().filter(runs).map(|row| row.key.clone()));
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => break,
        }
    }
    recount(store, queue, live).await?;
    for key in &running {
        take_back(store, key).await?;
    }
    Ok(running.len())
}

/// Sets the count of live jobs to what the rows say: an older version kept none.
async fn recount(store: &Store, queue: Queue, live: u64) -> Result<(), StoreError> {
    let count = &count_key(queue);
    store
        .act(|mut tx| async move {
            let counted = tx.get(count).await?.map_or(Ok(0), |row| Ok::<_, StoreError>(row.counter()?.n))?;
            if counted != live {
                tx.add(count, live.cast_signed() - counted.cast_signed());
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}

async fn take_back(store: &Store, key: &Key) -> Result<(), StoreError> {
    store
        .act(|mut tx| async move {
            let Some(row) = tx.get(key).await? else { return Ok(()) };
            let now_ms = tx.now_ms();
            let Some(mut job) = interrupted(&mut tx, row.value()?, now_ms)? else {
                return Ok::<_, StoreError>(());
            };
            let pause = match job.interruptions.checked_sub(INTERRUPTIONS_FREE) {
                Some(more) => backoff_ms(more, 1.0),
                None => 0,
            };
            job.state = State::Queued { ready_at_ms: now_ms + pause };
            put(&mut tx, &job, None)
        })
        .await?;
    Ok(())
}

/// Counts a run that ended with its process. `None` where the job is not to run again: it was cancelled, or has ended its
/// process too often.
fn interrupted(tx: &mut Tx, mut job: Job, now_ms: u64) -> Result<Option<Job>, StoreError> {
    if job.cancelled {
        end_cancelled(tx, job, now_ms)?;
        return Ok(None);
    }
    job.interruptions += 1;
    if job.interruptions > INTERRUPTIONS_MAX {
        job.set_error("it ended with the process, or stalled, too often");
        bury(tx, job, now_ms)?;
        return Ok(None);
    }
    Ok(Some(job))
}

/// Moves a job to the dead letters and says so.
fn bury(tx: &mut Tx, mut job: Job, now_ms: u64) -> Result<(), StoreError> {
    remove(tx, &job.work);
    job.state = State::Dead { at_ms: now_ms };
    tx.put_value(&dead_key(&job.work), &job)?;
    let dead = Kind::JobDead {
        queue: job.work.queue().name().to_owned(),
        subject: job.work.subject(),
        attempts: job.attempts,
        reason: job.last_error.unwrap_or_default(),
    };
    event::append(tx, &Event::system(now_ms, dead))
}

/// Ends a job that was told to stop. What was asked for after that runs.
pub(super) fn end_cancelled(tx: &mut Tx, mut job: Job, now_ms: u64) -> Result<(), StoreError> {
    event::append(tx, &cancelled_event(&job.work, now_ms))?;
    match job.again.take() {
        Some(work) => put(tx, &job.start_over(work, now_ms), None),
        None => {
            remove(tx, &job.work);
            Ok(())
        }
    }
}

pub(super) fn cancelled_event(work: &Work, now_ms: u64) -> Event {
    let kind = Kind::JobCancelled { queue: work.queue().name().to_owned(), subject: work.subject() };
    Event::system(now_ms, kind)
}

/// Milliseconds to wait after so many failures; `jitter` is 0.5 to 1.5.
fn backoff_ms(failures: u32, jitter: f64) -> u64 {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(BACKOFF_MAX).mul_f64(jitter).as_millis().try_into().unwrap_or(u64::MAX)
}

/// Milliseconds that are left of a lease, for a listing.
pub(super) fn left_ms(row: &Row, now_ms: u64) -> Option<u64> {
    lease_left(row, now_ms).and_then(|left| u64::try_from(left.as_millis()).ok())
}
