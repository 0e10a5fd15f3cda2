//! One run of a job, from its claim to the end that is written for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use wharf_store::{Store, StoreError};

use super::claim::{self, ClaimError, Claimed};
use super::queue::{Queue, Work};
use super::runner::Shared;
use crate::event::EventId;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    pub fn new(why: impl fmt::Display) -> Self {
        Failure(why.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::new(error)
    }
}

/// Does the work of a job. Given at start, so that `jobs` needs to know no flow.
pub type Handler = Arc<dyn Fn(Running) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// A job in the hands of its handler.
#[derive(Debug, Clone)]
pub struct Running {
    pub(super) claimed: Claimed,
    pub(super) store: Store,
    pub(super) lease: Duration,
    pub(super) attempts_max: u32,
    pub(super) stop: CancellationToken,
}

impl Running {
    pub fn work(&self) -> &Work {
        &self.claimed.work
    }

    /// The event that asked for it; none for scheduled work.
    pub fn cause(&self) -> Option<EventId> {
        self.claimed.cause
    }

    /// Which run this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.claimed.attempt
    }

    /// Whether a failure of this run is the end of it.
    pub fn is_last(&self) -> bool {
        self.claimed.failures + 1 >= self.attempts_max
    }

    /// Ends when the job is to stop: it was cancelled, lost its lease, or the server stops. A handler may go on to a good
    /// place; after a grace it is dropped.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Keeps `progress` as the place to go on from after an interruption; it must be the same queue and subject.
    ///
    /// # Errors
    /// Where the lease was lost: the handler ends then.
    pub async fn save(&self, progress: &Work) -> Result<(), Failure> {
        let cancelled = claim::renew(&self.store, &self.claimed, self.lease, Some(progress)).await;
        if cancelled.map_err(Failure::new)? {
            self.stop.cancel();
        }
        Ok(())
    }
}

/// How often the end of a run is written at most, and how much longer each pause between is than the one before.
const END_TRIES: u32 = 6;
const END_PAUSE: Duration = Duration::from_millis(50);
/// How long the next job waits where an end could not be written.
const END_REST: Duration = Duration::from_secs(1);

/// How a run ended.
enum End {
    Done,
    Failed(String),
    /// The process stops.
    HandedBack,
    Lost,
}

/// Writes how a run ended. Returns that in a word.
async fn write(shared: &Shared, running: &Running, end: &End) -> Result<&'static str, ClaimError> {
    let claimed = &running.claimed;
    match end {
        End::Done => claim::complete(&running.store, claimed).await.map(|()| "done"),
        End::Failed(error) => {
            let dead = claim::fail(&running.store, claimed, error, shared.settings.attempts_max).await;
            dead.map(|dead| if dead { "dead" } else { "failed" })
        }
        End::HandedBack => claim::hand_back(&running.store, claimed).await.map(|()| "handed-back"),
        End::Lost => Err(ClaimError::Lost),
    }
}

/// Runs a claimed job to its end and writes that end.
pub(super) async fn run(shared: &Shared, running: &Running, queue: Queue) {
    let claimed = &running.claimed;
    let end = supervise(shared, running, queue).await;
    if let End::Failed(error) = &end {
        tracing::warn!(%queue, subject = claimed.work.subject(), attempt = claimed.attempt, error, "a job failed");
    }
    let mut tries = 1;
    let written = loop {
        match write(shared, running, &end).await {
            // Whoever keeps adding to a busy tag's job changes its row; unwritten, its end would wait for the lease.
            Err(ClaimError::Store(StoreError::Conflict(_))) if tries < END_TRIES => {
                tokio::time::sleep(END_PAUSE * tries).await;
                tries += 1;
            }
            written => break written,
        }
    };
    let outcome = match written {
        Ok(outcome) => outcome,
        // Its effects are idempotent; the lease runs out and it runs again.
        Err(error) => {
            tracing::warn!(%queue, subject = claimed.work.subject(), %error, "the end of a job cannot be written");
            // Not at once: what keeps it from being written may stay.
            if matches!(error, ClaimError::Store(_)) {
                tokio::time::sleep(END_REST).await;
            }
            "lost"
        }
    };
    metrics::counter!("wharf_jobs_total", "queue" => queue.name(), "outcome" => outcome).increment(1);
}

/// Drives the handler beside the lease, the deadline and the wish to stop.
async fn supervise(shared: &Shared, running: &Running, queue: Queue) -> End {
    // A task of its own, so that a handler that panics fails its job alone.
    let mut work = tokio::spawn((shared.handler)(running.clone()));
    let deadline = tokio::time::sleep(queue.deadline());
    tokio::pin!(deadline);
    let mut beat = tokio::time::interval(running.lease / 3);
    beat.tick().await;
    let mut stopped_at = None;
    loop {
        let grace = async {
            match stopped_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut work => return match ended {
                Ok(Ok(())) => End::Done,
                Ok(Err(_)) if shared.stop.is_cancelled() => End::HandedBack,
                Ok(Err(failure)) => End::Failed(failure.to_string()),
                Err(panic) => End::Failed(format!("the handler failed: {panic}")),
            },
            _ = beat.tick() => match claim::renew(&running.store, &running.claimed, running.lease, None).await {
                Ok(cancelled) => if cancelled { running.stop.cancel() },
                Err(ClaimError::Lost) => { work.abort(); return End::Lost }
                Err(ClaimError::Store(error)) => tracing::warn!(%queue, %error, "a lease cannot be prolonged"),
            },
            () = running.stop.cancelled(), if stopped_at.is_none() && !shared.stop.is_cancelled() => {
                // A server that stops has a grace of its own, after which the job is handed back.
                if !shared.stop.is_cancelled() {
                    let grace = Duration::from_secs(shared.settings.grace_s);
                    stopped_at = Some(tokio::time::Instant::now() + grace);
                }
            }
            () = grace => { work.abort(); return End::Failed("it was cancelled and did not stop".to_owned()) }
            () = shared.abandon.cancelled() => { work.abort(); return End::HandedBack }
            () = &mut deadline => {
                work.abort();
                return End::Failed(format!("it ran longer than {} s", queue.deadline().as_secs()));
            }
        }
    }
}
