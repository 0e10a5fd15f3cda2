//! For tests: redb on a bad disk with the model beside it.
//!
//! Commits go to redb alone, as many at once as their callers like. [`Beside::settle`], while nothing is under way, lets
//! the model follow in the order that redb chose and compares the two.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Fault};
use super::*;
use crate::clock::ManualClock;
use crate::model::Model;
use crate::{Class, Rev, Space};

/// The engine under test, and what the model has not followed yet.
#[derive(Debug)]
pub(crate) struct Beside {
    disk: Disk,
    clock: ManualClock,
    state: Mutex<State>,
    /// Outlives the engine, as whoever waits for the head does.
    head: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    redb: Option<Arc<Redb>>,
    model: Model,
    done: Vec<(Rev, Commit)>,
    /// Where the file could not be opened again, only the next start tells.
    unknown: Vec<Commit>,
}

impl Beside {
    pub(crate) fn new(seed: u64) -> Beside {
        let (disk, clock) = (Disk::new(seed), ManualClock::new(1_000_000));
        let model = Model::new(Arc::new(clock.clone()));
        let redb = Some(Arc::new(open(&disk, &clock)));
        let state = Mutex::new(State { redb, model, done: Vec::new(), unknown: Vec::new() });
        Beside { disk, clock, state, head: watch::Sender::new(0) }
    }

    pub(crate) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redb(&self) -> Arc<Redb> {
        self.state().redb.clone().unwrap()
    }

    /// One of the operations on the disk that come next fails; a write is torn.
    pub(crate) fn fail_one(&self, after: u64) {
        self.disk.fail(after, Fault::Io);
    }

    /// The power goes at one of the operations on the disk that come next.
    pub(crate) fn lose_power(&self, after: u64) {
        self.disk.fail(after, Fault::PowerLoss);
    }

    /// The disk takes so many pages more.
    pub(crate) fn leave_pages(&self, more: usize) {
        self.disk.leave_pages(more);
    }

    /// With nothing under way: the disk is well again, after a restart where `restart` says so or the power went; what
    /// redb holds is what the model holds.
    pub(crate) async fn settle(&self, restart: bool) {
        self.disk.heal();
        self.disk.leave_pages(usize::MAX);
        if restart || self.disk.is_dead() || !self.state().unknown.is_empty() {
            self.state().redb = None;
            self.disk.power_on();
            self.state().redb = Some(Arc::new(open(&self.disk, &self.clock)));
        }
        self.follow();
        let redb = self.redb();
        let (rows, head) = (all_rows(&*redb).await, *redb.head().borrow());
        let mut state = self.state();
        let unknown = std::mem::take(&mut state.unknown);
        if head > *state.model.head().borrow() {
            state.model.follow_batch(unknown);
        }
        assert_eq!(rows, state.model.rows());
        assert_eq!(head, *state.model.head().borrow());
        self.publish(head);
    }

    /// With nothing under way: the model takes in what was done. Before the clock moves on, as that is in the rows.
    pub(super) fn follow(&self) {
        let mut state = self.state();
        let mut done = std::mem::take(&mut state.done);
        // A check has the number of the commit before it.
        done.sort_by_key(|(rev, commit)| (*rev, commit.ops.is_empty()));
        for (rev, commit) in done {
            assert_eq!(state.model.apply(&commit), Ok(Committed { rev }), "{commit:?}");
        }
    }

    fn publish(&self, head: u64) {
        self.head.send_if_modified(|newest| {
            let newer = head > *newest;
            *newest = head.max(*newest);
            newer
        });
    }
}

impl Model {
    /// Takes in a batch of which nobody knew whether it was done: those that are refused were refused then, too. The
    /// engine takes background work first.
    pub(super) fn follow_batch(&self, mut batch: Vec<Commit>) {
        batch.sort_by_key(|commit| commit.class == Class::Foreground);
        for commit in batch {
            let _ = self.apply(&commit);
        }
    }
}

pub(super) fn opener(disk: &Disk) -> Opener {
    let disk = disk.clone();
    let open = move |builder: &::redb::Builder, again: bool| builder.create_with_backend(disk.open(again)?);
    Opener::new("a disk".into(), 1 << 20, Box::new(open))
}

fn open(disk: &Disk, clock: &ManualClock) -> Redb {
    Redb::open(opener(disk), Ballast::new("none".into(), 0), Arc::new(clock.clone())).unwrap()
}

/// Everything an engine holds, in order.
pub(super) async fn all_rows(engine: &dyn Engine) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for space in Space::ALL {
        let mut range = KeyRange::all(space);
        loop {
            let page = engine.scan(range.clone(), MAX_PAGE, Direction::Forward).await.unwrap();
            rows.extend(page.rows);
            match rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => break,
            }
        }
    }
    rows
}

impl Engine for Beside {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        // A dead disk is down at once rather than after the wait for another opening.
        if self.disk.is_dead() {
            return Box::pin(ready(Err(ReadError::Down)));
        }
        let redb = self.redb();
        Box::pin(async move { redb.get(keys).await })
    }

    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        if self.disk.is_dead() {
            return Box::pin(ready(Err(ReadError::Down)));
        }
        let redb = self.redb();
        Box::pin(async move { redb.scan(range, limit, direction).await })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let redb = self.redb();
        Box::pin(async move {
            let outcome = redb.commit(commit.clone()).await;
            match &outcome {
                Ok(committed) => {
                    self.state().done.push((committed.rev, commit));
                    self.publish(committed.rev.0);
                }
                Err(CommitError::Unknown) => self.state().unknown.push(commit),
                Err(_) => {}
            }
            outcome
        })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
