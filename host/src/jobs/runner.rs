use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_store::{Key, Store, StoreError};

use super::claim::{self, Next};
use super::queue::Queue;
use super::router::{self, Route};
use super::row;
use super::run::{self, Handler, Running};
use super::schedule::{self, Every};

/// How often each loop looks although nothing woke it: leases of other hosts run out without a commit.
const POLL: Duration = Duration::from_secs(1);
/// How long a loop rests after the store failed.
const REST: Duration = Duration::from_millis(500);
/// And while the disk is full, which takes longer to pass: each try is a line in a log that may be on the same disk.
const REST_FULL: Duration = Duration::from_secs(10);

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

/// The loops that route, claim and run. Dropping it stops nothing: call [`Runner::stop`].
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    loops: JoinSet<()>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) settings: Settings,
    pub(super) handler: Handler,
    pub(super) stop: CancellationToken,
    /// Ends when the grace of a stopping server is over.
    pub(super) abandon: CancellationToken,
    lanes: BTreeMap<Queue, Lane>,
}

/// What this process knows of one queue.
struct Lane {
    wake: Notify,
    slots: Arc<Semaphore>,
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
            Queue::Scan | Queue::Judge | Queue::Rejudge | Queue::Follow | Queue::Rematch => {
                self.store.clone()
            }
        }
    }
}

impl Lane {
    fn new(slots: usize) -> Lane {
        Lane { wake: Notify::new(), slots: Arc::new(Semaphore::new(slots)), running: Mutex::default() }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Takes back what an earlier process left running (this process holds the store alone), then starts the loops.
    ///
    /// # Errors
    /// Where the store cannot be read, or written for another reason than a full disk.
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
        for queue in Queue::ALL {
            take_back(&shared.store, queue).await?;
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

/// Takes back what an earlier process left running. Few rows, one a slot, and in the background: a server whose disk is full
/// has to start, since to delete is the way out.
async fn take_back(store: &Store, queue: Queue) -> Result<(), StoreError> {
    match claim::recover(&store.background(), queue).await {
        Ok(0) => {}
        Ok(jobs) => tracing::info!(%queue, jobs, "took back jobs that an earlier process left running"),
        // Not even for that. Whatever is left is claimed again once its lease has run out.
        Err(error @ StoreError::Full) => {
            tracing::warn!(%queue, %error, "jobs that an earlier process left running wait for their leases to end");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn route_loop(shared: Arc<Shared>, route: Route) {
    let mut head = shared.store.head();
    while !shared.stop.is_cancelled() {
        head.borrow_and_update();
        let routed = match is_full(&shared).await {
            // The events stay where they are until jobs are done.
            Ok(true) => Ok(None),
            Ok(false) => router::route_once(&shared.store, route).await.map(Some),
            Err(error) => Err(error),
        };
        let (pause, wakes) = match routed {
            Ok(Some((0, _))) => (POLL, true),
            Ok(Some((_, queues))) => {
                queues
                    .iter()
                    .filter_map(|queue| shared.lanes.get(queue))
                    .for_each(|lane| lane.wake.notify_one());
                continue;
            }
            Ok(None) => (REST, false),
            // Those who run the jobs of a busy tag change them all the time. The tries have had their pauses.
            Err(StoreError::Conflict(_)) => {
                tracing::debug!("jobs changed while events were read; reading them again");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be read or jobs made; trying again");
                (rest_after(&error), false)
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            changed = head.changed(), if wakes => if changed.is_err() { tokio::time::sleep(REST).await },
        }
    }
}

fn rest_after(error: &StoreError) -> Duration {
    if *error == StoreError::Full { REST_FULL } else { REST }
}

/// Whether a queue has so many live jobs that no event makes more.
async fn is_full(shared: &Shared) -> Result<bool, StoreError> {
    let live_max = shared.settings.live_max as u64;
    Ok(row::live(&shared.store).await?.iter().any(|(_, live)| *live >= live_max))
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
            // First, so that nothing is claimed any more by a server that stops.
            biased;
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
                        rest_after(&error)
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
        run::run(&shared, &running, queue).await;
        let Some(lane) = shared.lanes.get(&queue) else { return };
        lane.running().remove(&subject);
        drop(slot);
        lane.wake.notify_one();
    });
    Ok(())
}
