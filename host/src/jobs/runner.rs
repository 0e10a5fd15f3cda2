use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_store::{Key, Store, StoreError};

use super::claim::{self, ClaimError, Claimed, Next};
use super::queue::{Queue, Work};
use super::router::{self, Route};
use super::schedule::{self, Every};
use crate::event::EventId;

/// How often each loop looks although nothing woke it: leases of other hosts run out without a commit.
const POLL: Duration = Duration::from_secs(1);
/// How long a loop rests after the store failed.
const REST: Duration = Duration::from_millis(500);

/// Limits of the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A job whose process says nothing for this long is taken over by another. Seconds.
    pub lease_s: u64,
    /// Failed runs after which a job is a dead letter.
    pub attempts_max: u32,
    /// Live jobs of one queue; above it events wait to be read.
    pub live_max: usize,
    /// How long a stopping server waits for what runs. Seconds.
    pub grace_s: u64,
    /// Jobs that run at once, by queue, where they differ from the default.
    pub concurrency: BTreeMap<Queue, usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lease_s: 30,
            attempts_max: 8,
            live_max: 100_000,
            grace_s: 10,
            concurrency: BTreeMap::new(),
        }
    }
}

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
    claimed: Claimed,
    store: Store,
    lease: Duration,
    attempts_max: u32,
    stop: CancellationToken,
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

/// The loops that route, claim and run. Dropping it stops nothing: call [`Runner::stop`].
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    loops: JoinSet<()>,
}

struct Shared {
    store: Store,
    settings: Settings,
    handler: Handler,
    stop: CancellationToken,
    /// Ends when the grace of a stopping server is over.
    abandon: CancellationToken,
    lanes: BTreeMap<Queue, Lane>,
}

/// What this process knows of one queue.
struct Lane {
    wake: Notify,
    slots: Arc<Semaphore>,
    live: AtomicUsize,
    /// Subjects that run here, whatever their rows say.
    running: Mutex<BTreeMap<String, CancellationToken>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Shared {
    /// The store for a queue's bookkeeping. Work that frees space has to begin while the disk is full, when only
    /// background commits are taken.
    fn store_of(&self, queue: Queue) -> Store {
        match queue {
            Queue::Housekeeping => self.store.background(),
            Queue::Scan | Queue::Judge | Queue::Rejudge | Queue::Rematch => self.store.clone(),
        }
    }
}

impl Lane {
    fn new(slots: usize) -> Lane {
        Lane {
            wake: Notify::new(),
            slots: Arc::new(Semaphore::new(slots)),
            live: AtomicUsize::new(0),
            running: Mutex::default(),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Takes back what an earlier process left running (this process holds the store alone), then starts the loops.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn start(
        store: Store,
        settings: Settings,
        route: Route,
        schedule: Vec<Every>,
        handler: Handler,
    ) -> Result<Runner, StoreError> {
        let slots = |queue: Queue| settings.concurrency.get(&queue).copied().unwrap_or(queue.concurrency());
        let lanes = Queue::ALL.map(|queue| (queue, Lane::new(slots(queue).max(1)))).into();
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let shared = Arc::new(Shared { store, settings, handler, stop, abandon, lanes });
        for (queue, lane) in &shared.lanes {
            let (live, taken) = claim::recover(&shared.store_of(*queue), *queue).await?;
            lane.live.store(live, Ordering::Relaxed);
            if taken > 0 {
                tracing::info!(%queue, jobs = taken, "took back jobs that an earlier process left running");
            }
        }
        let mut loops = JoinSet::new();
        loops.spawn(route_loop(shared.clone(), route));
        loops.spawn(schedule_loop(shared.clone(), schedule));
        for queue in Queue::ALL {
            loops.spawn(queue_loop(shared.clone(), queue));
        }
        Ok(Runner { shared, loops })
    }

    /// Tells the queue that a job was made by something other than an event.
    pub fn wake(&self, queue: Queue) {
        if let Some(lane) = self.shared.lanes.get(&queue) {
            lane.wake.notify_one();
        }
    }

    /// Tells a job that runs here to stop, beside the mark in its row that [`super::cancel`] sets.
    pub fn interrupt(&self, queue: Queue, subject: &str) {
        if let Some(stop) =
            self.shared.lanes.get(&queue).and_then(|lane| lane.running().get(subject).cloned())
        {
            stop.cancel();
        }
    }

    /// Stops: nothing new is claimed, what runs has the grace to end and is handed back after it.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        let grace = Duration::from_secs(self.shared.settings.grace_s);
        let ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.shared.abandon.cancel();
            while self.loops.join_next().await.is_some() {}
        }
    }
}

async fn route_loop(shared: Arc<Shared>, route: Route) {
    let mut head = shared.store.head();
    while !shared.stop.is_cancelled() {
        head.borrow_and_update();
        let full = shared.lanes.values().any(|l| l.live.load(Ordering::Relaxed) >= shared.settings.live_max);
        let pause = if full {
            // The events stay where they are until jobs are done.
            REST
        } else {
            match router::route_once(&shared.store, route).await {
                Ok((0, _)) => POLL,
                Ok((_, made)) => {
                    made_jobs(&shared, made);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read or jobs made; trying again");
                    REST
                }
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            changed = head.changed(), if !full => if changed.is_err() { tokio::time::sleep(REST).await },
        }
    }
}

fn made_jobs(shared: &Shared, made: Vec<(Queue, bool)>) {
    let mut woken = BTreeSet::new();
    for (queue, new) in made {
        let Some(lane) = shared.lanes.get(&queue) else { continue };
        if new {
            lane.live.fetch_add(1, Ordering::Relaxed);
        }
        if woken.insert(queue) {
            lane.wake.notify_one();
        }
    }
}

async fn schedule_loop(shared: Arc<Shared>, schedule: Vec<Every>) {
    // Nobody waits for this work, and some of it frees space.
    let store = shared.store.background();
    while !shared.stop.is_cancelled() {
        match schedule::tick(&store, &schedule).await {
            Ok(0) => {}
            // Those queues poll.
            Ok(made) => tracing::debug!(made, "scheduled work is due"),
            Err(error) => tracing::warn!(%error, "scheduled work cannot be made; trying again"),
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(POLL * 5) => {}
        }
    }
}

async fn queue_loop(shared: Arc<Shared>, queue: Queue) {
    let Some(lane) = shared.lanes.get(&queue) else { return };
    let mut turn: Option<String> = None;
    let mut runs = JoinSet::new();
    loop {
        while runs.try_join_next().is_some() {}
        let slot = tokio::select! {
            () = shared.stop.cancelled() => break,
            slot = lane.slots.clone().acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let is_running = |subject: &str| lane.running().contains_key(subject);
        let pause = match claim::next(&shared.store, queue, turn.as_deref(), &is_running).await {
            Ok(Next::Ready(key)) => {
                turn = key.part(2);
                match begin(&shared, queue, &key, slot, &mut runs).await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(%queue, %error, "a job cannot be claimed; trying again");
                        REST
                    }
                }
            }
            Ok(Next::Nothing { ready_at_ms }) => {
                drop(slot);
                let until = |at: u64| Duration::from_millis(at.saturating_sub(shared.store.now_ms()).max(1));
                ready_at_ms.map_or(POLL, until).min(POLL)
            }
            Err(error) => {
                drop(slot);
                tracing::warn!(%queue, %error, "jobs cannot be read; trying again");
                REST
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = lane.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    while runs.join_next().await.is_some() {}
}

/// Claims the job and runs it in a task of its own, which holds the slot.
async fn begin(
    shared: &Arc<Shared>,
    queue: Queue,
    key: &Key,
    slot: OwnedSemaphorePermit,
    runs: &mut JoinSet<()>,
) -> Result<(), StoreError> {
    let lease = Duration::from_secs(shared.settings.lease_s);
    let store = shared.store_of(queue);
    let claimed = claim::claim(&store, key, lease, shared.settings.attempts_max).await?;
    let Some(claimed) = claimed else { return Ok(()) };
    let stop = shared.stop.child_token();
    let subject = claimed.work.subject();
    if let Some(lane) = shared.lanes.get(&queue) {
        lane.running().insert(subject.clone(), stop.clone());
    }
    let shared = shared.clone();
    let attempts_max = shared.settings.attempts_max;
    let running = Running { claimed, store, lease, attempts_max, stop };
    runs.spawn(async move {
        let ended = run(&shared, &running, queue).await;
        let Some(lane) = shared.lanes.get(&queue) else { return };
        lane.running().remove(&subject);
        if ended.is_ok_and(|gone| gone) {
            let _ = lane.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
        drop(slot);
        lane.wake.notify_one();
    });
    Ok(())
}

/// How a run ended.
enum End {
    Done,
    Failed(String),
    /// The process stops.
    HandedBack,
    Lost,
}

/// Runs a claimed job to its end and writes that end. Returns whether its row is gone.
async fn run(shared: &Shared, running: &Running, queue: Queue) -> Result<bool, ClaimError> {
    let (store, claimed) = (&running.store, &running.claimed);
    let end = supervise(shared, running, queue).await;
    let written = match &end {
        End::Done => claim::complete(store, claimed).await,
        End::Failed(error) => {
            tracing::warn!(%queue, subject = claimed.work.subject(), attempt = claimed.attempt, error, "a job failed");
            let state = claim::fail(store, claimed, error, shared.settings.attempts_max).await;
            state.map(|state| matches!(state, super::State::Dead { .. }))
        }
        End::HandedBack => claim::hand_back(store, claimed).await.map(|()| false),
        End::Lost => Err(ClaimError::Lost),
    };
    let outcome = match (&end, &written) {
        (_, Err(_)) => "lost",
        (End::Done, _) => "done",
        (End::Failed(_), Ok(true)) => "dead",
        (End::Failed(_), _) => "failed",
        (End::HandedBack | End::Lost, _) => "handed-back",
    };
    metrics::counter!("wharf_jobs_total", "queue" => queue.name(), "outcome" => outcome).increment(1);
    if let Err(error) = &written {
        // Its effects are idempotent; the lease runs out and it runs again.
        tracing::warn!(%queue, subject = claimed.work.subject(), %error, "the end of a job cannot be written");
    }
    written
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
