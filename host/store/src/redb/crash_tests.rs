//! Random histories on a disk that crashes, tears, fails to sync and fills up, compared with the model.
//!
//! A commit that was acknowledged is there; one that was refused or failed is not; one whose outcome nobody knows is
//! there as a whole or not at all; and the file always opens. The two are compared after every crash and every fault,
//! and the suite that all engines pass is run on such a disk as well.

use std::time::Duration;

use proptest::prelude::*;

use super::beside::{Beside, all_rows, opener};
use super::disk::{Disk, Fault};
use super::*;
use crate::clock::ManualClock;
use crate::conformance::{self, Subject};
use crate::model::Model;
use crate::{Class, Counter, Expect, Op, Rev, Space, key};

/// The ballast of these tests: enough for a commit that deletes.
const BALLAST_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    Commit(Commit),
    /// Many at once, so that batches form.
    Together(Vec<Commit>),
    Fail {
        after: u64,
        fault: Fault,
    },
    PowerLoss,
    LeavePages(usize),
    Sleep(u64),
}

fn a_key() -> impl Strategy<Value = Key> {
    (0..6u8).prop_map(|n| key(Space::Tag, &["r", &n.to_string()]))
}

fn a_counter() -> impl Strategy<Value = Key> {
    (0..2u8).prop_map(|n| key(Space::Counter, &[n.to_string()]))
}

fn an_op() -> impl Strategy<Value = Op> {
    let val =
        prop_oneof![Just(3usize), Just(40), Just(5_000), Just(60_000)].prop_map(|len| vec![b'v'; len].into());
    let edge = (0..3u8).prop_map(|n| key(Space::Edge, &[n.to_string()]));
    prop_oneof![
        4 => (a_key(), val.clone(), proptest::option::of(0..2000u64)).prop_map(|(key, val, ttl)| Op::Put {
            key,
            val,
            ttl: ttl.map(Duration::from_millis),
        }),
        2 => a_key().prop_map(Op::Delete),
        2 => (a_counter(), -3..5i64).prop_map(|(key, delta)| Op::Add { key, delta }),
        1 => (a_counter(), 0..10u64).prop_map(|(key, max)| Op::Max { key, max }),
        2 => (edge, -1..3i32, a_counter(), 1..4i64)
            .prop_map(|(key, delta, counter, n)| Op::Ref { key, delta, edge: (counter, n) }),
        2 => val.prop_map(|val| Op::Append { space: Space::Event, val }),
    ]
}

fn an_expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        a_key().prop_map(Expect::Absent),
        a_key().prop_map(Expect::Present),
        (a_key(), 0..20u64).prop_map(|(key, rev)| Expect::At(key, Rev(rev))),
        a_key().prop_map(Expect::Expired),
        (0..4u32, 0..20u64).prop_map(|(rows, rev)| Expect::Range {
            range: KeyRange::prefix(Space::Tag, &["r"]),
            rows,
            max_rev: Rev(rev),
        }),
    ]
}

fn a_class() -> impl Strategy<Value = Class> {
    prop_oneof![3 => Just(Class::Foreground), 1 => Just(Class::Background)]
}

fn a_commit(expects: usize) -> impl Strategy<Value = Commit> {
    let (expect, ops) =
        (proptest::collection::vec(an_expect(), 0..=expects), proptest::collection::vec(an_op(), 0..6));
    (expect, ops, a_class()).prop_map(|(expect, ops, class)| Commit { expect, ops, class })
}

fn a_step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::PowerLoss)];
    prop_oneof![
        10 => a_commit(1).prop_map(Step::Commit),
        2 => proptest::collection::vec(a_commit(0), 2..8).prop_map(Step::Together),
        4 => (0..40u64, fault).prop_map(|(after, fault)| Step::Fail { after, fault }),
        1 => Just(Step::PowerLoss),
        1 => prop_oneof![0..30usize, Just(usize::MAX)].prop_map(Step::LeavePages),
        1 => (0..3000u64).prop_map(Step::Sleep),
    ]
}

/// The engine under test, the model that follows it commit by commit, and the disk below.
struct World {
    disk: Disk,
    clock: ManualClock,
    model: Model,
    redb: Option<Redb>,
    /// Where the ballast is; for the test it takes room on the disk.
    dir: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> World {
        let (disk, clock) = (Disk::new(seed), ManualClock::new(1_000_000));
        let (model, dir) = (Model::new(Arc::new(clock.clone())), tempfile::tempdir().unwrap());
        disk.holds(dir.path().join("ballast"), BALLAST_BYTES);
        let mut w = World { disk, clock, model, redb: None, dir };
        w.start();
        w
    }

    fn start(&mut self) {
        let disk = self.disk.clone();
        let ballast = Ballast::on(self.ballast(), BALLAST_BYTES, Box::new(move |_| Ok(disk.left())));
        let clock = Arc::new(self.clock.clone());
        self.redb = Some(Redb::open(opener(&self.disk), ballast, clock).unwrap());
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.dir.path().join("ballast")
    }

    fn redb(&self) -> &Redb {
        self.redb.as_ref().unwrap()
    }

    /// The machine stops and starts; what the last commit's outcome was shows now.
    fn restart(&mut self) {
        self.redb = None;
        self.disk.power_on();
        self.start();
    }

    async fn commit(&mut self, commit: Commit) {
        let had_ballast = self.ballast().exists();
        match self.redb().commit(commit.clone()).await {
            Err(CommitError::Down) => {}
            Err(CommitError::Full) => {
                if had_ballast {
                    self.delete_something().await;
                }
            }
            // Where the file could not be opened again, only the next start tells.
            Err(CommitError::Unknown) => {
                self.restart();
                if *self.redb().head().borrow() > self.head() {
                    self.model.commit(commit).await.unwrap();
                }
            }
            outcome => assert_eq!(outcome, self.model.commit(commit).await),
        }
    }

    /// What the ballast is for: when the disk has just filled up, a commit that frees space finds room.
    async fn delete_something(&mut self) {
        let ops = vec![Op::Delete(key(Space::Tag, &["r", "0"]))];
        let delete = Commit { ops, ..Commit::default() };
        match self.redb().commit(delete.clone()).await {
            Ok(committed) => assert_eq!(self.model.commit(delete).await, Ok(committed)),
            Err(CommitError::Unknown) => {
                self.restart();
                if *self.redb().head().borrow() > self.head() {
                    self.model.commit(delete).await.unwrap();
                }
            }
            Err(error) => assert_eq!(error, CommitError::Down, "there was ballast to give"),
        }
    }

    /// The model follows in the order the engine chose.
    async fn together(&mut self, commits: Vec<Commit>) {
        let outcomes =
            futures_util::future::join_all(commits.iter().map(|c| self.redb().commit(c.clone()))).await;
        let (mut done, mut unknown): (Vec<(Rev, Commit)>, Vec<Commit>) = Default::default();
        for (outcome, commit) in outcomes.into_iter().zip(commits) {
            match outcome {
                Ok(committed) => done.push((committed.rev, commit)),
                Err(CommitError::Unknown) => unknown.push(commit),
                Err(_) => {}
            }
        }
        // A check has the number of the commit before it.
        done.sort_by_key(|(rev, commit)| (*rev, commit.ops.is_empty()));
        for (rev, commit) in done {
            assert_eq!(self.model.commit(commit).await, Ok(Committed { rev }));
        }
        if !unknown.is_empty() {
            // One batch, which is there as a whole or not at all.
            self.restart();
            if *self.redb().head().borrow() > self.head() {
                self.model.follow_batch(unknown);
            }
        }
    }

    fn head(&self) -> u64 {
        *self.model.head().borrow()
    }

    async fn compare(&self) {
        assert_eq!(all_rows(self.redb()).await, self.model.rows());
        assert_eq!(*self.redb().head().borrow(), self.head());
    }
}

async fn history(seed: u64, steps: Vec<Step>) {
    let mut w = World::new(seed);
    for step in steps {
        let crashed = matches!(step, Step::PowerLoss);
        match step {
            Step::Commit(commit) => w.commit(commit).await,
            Step::Together(commits) => w.together(commits).await,
            Step::Fail { after, fault } => w.disk.fail(after, fault),
            Step::PowerLoss => w.restart(),
            Step::LeavePages(more) => w.disk.leave_pages(more),
            Step::Sleep(ms) => w.clock.advance(ms),
        }
        // Reading may meet a fault itself; only one that has struck already is looked at here.
        if (crashed || w.disk.struck()) && !w.disk.is_dead() {
            w.compare().await;
        }
    }
    w.disk.heal();
    w.disk.leave_pages(usize::MAX);
    if w.disk.is_dead() {
        w.restart();
    }
    w.compare().await;
    w.restart();
    w.compare().await;
    let last = Op::Put { key: key(Space::Meta, &["last"]), val: "x".into(), ttl: None };
    w.commit(Commit { ops: vec![last], ..Commit::default() }).await;
    w.compare().await;
    assert_eq!(w.model.rows().iter().filter(|row| row.key.space == Space::Meta).count(), 1);
}

fn run<F: Future<Output = ()>>(future: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #[test]
    fn histories_on_a_bad_disk(seed: u64, steps in proptest::collection::vec(a_step(), 1..40)) {
        run(history(seed, steps));
    }
}

/// Passes the suite on a bad disk: it goes on after whatever happens, and the model stays beside it.
#[derive(Debug)]
struct Patient {
    beside: Beside,
    /// One call at a time, since what is unknown of one shows before the next.
    turn: tokio::sync::Mutex<u64>,
}

impl Patient {
    /// One call in four meets trouble.
    fn trouble(&self, turn: &mut u64, commits: bool) -> bool {
        *turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, after) = (*turn >> 61, (*turn >> 32) % 24);
        match kind {
            0 if commits => self.beside.lose_power(after),
            0 | 1 => self.beside.fail_one(after),
            2 if commits => self.beside.leave_pages(after as usize),
            _ => return false,
        }
        true
    }
}

impl Engine for Patient {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        Box::pin(async move {
            let mut turn = self.turn.lock().await;
            self.trouble(&mut turn, false);
            self.beside.get(keys).await
        })
    }

    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            let mut turn = self.turn.lock().await;
            self.trouble(&mut turn, false);
            self.beside.scan(range, limit, direction).await
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let mut turn = self.turn.lock().await;
            let trouble = self.trouble(&mut turn, true);
            let before = *self.beside.head().borrow();
            let outcome = self.beside.commit(commit.clone()).await;
            self.beside.follow();
            if trouble {
                self.beside.settle(*turn >> 60 & 1 == 0).await;
            }
            match outcome {
                Err(CommitError::Down | CommitError::Full | CommitError::Unknown) => {}
                outcome => return outcome,
            }
            let head = *self.beside.head().borrow();
            if head > before {
                return Ok(Committed { rev: Rev(head) });
            }
            let again = self.beside.commit(commit).await;
            self.beside.follow();
            again
        })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.beside.head()
    }

    fn now_ms(&self) -> u64 {
        self.beside.now_ms()
    }
}

#[test]
fn redb_conforms_on_a_bad_disk() {
    run(async {
        for round in 0..4u64 {
            let seed = std::cell::Cell::new(round * 1_000);
            conformance::run(|| async {
                seed.set(seed.get() + 1);
                let turn = tokio::sync::Mutex::new(seed.get().wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let patient = Patient { beside: Beside::new(seed.get()), turn };
                let clock = patient.beside.clock().clone();
                Subject::by_hand(Arc::new(patient), clock)
            })
            .await;
        }
    });
}

fn put(n: usize, len: usize) -> Commit {
    let op = Op::Put { key: key(Space::Tag, &["r", &n.to_string()]), val: vec![b'v'; len].into(), ttl: None };
    Commit { ops: vec![op], ..Commit::default() }
}

/// Every single operation of a commit fails once, in both ways.
#[test]
fn a_fault_at_every_operation_of_a_commit() {
    for (fault, seed) in
        [Fault::Io, Fault::PowerLoss].into_iter().flat_map(|f| (1..20).map(move |s| (f, s * 7_919)))
    {
        for after in 0.. {
            let struck = async {
                let mut w = World::new(seed);
                w.commit(put(0, 10)).await;
                w.disk.fail(after, fault);
                w.commit(put(1, 9_000)).await;
                let struck = !w.disk.heal();
                if w.disk.is_dead() {
                    w.restart();
                }
                w.compare().await;
                w.restart();
                w.compare().await;
                struck
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if !runtime.block_on(struck) {
                assert!(after > 4, "a commit writes and syncs");
                break;
            }
        }
    }
}

/// A batch that failed late was once shown to readers before it was synced anew, and told as unknown where that failed.
#[test]
fn what_is_shown_of_a_failed_batch_is_durable_and_told_as_done() {
    for (first, seed) in (0..30).flat_map(|first| (1..3).map(move |s| (first, s * 7_919))) {
        for second in 0.. {
            let struck = async {
                let mut w = World::new(seed);
                w.redb().commit(put(0, 10)).await.unwrap();
                w.disk.fail(first, Fault::Io);
                w.disk.then_fail(second, Fault::PowerLoss);
                let outcome = w.redb().commit(put(1, 9_000)).await;
                let shown = *w.redb().head().borrow() == 2;
                assert_eq!(shown, outcome.is_ok(), "{outcome:?} after {first} and {second} operations");
                let struck = !w.disk.heal();
                w.restart();
                let there = *w.redb().head().borrow() == 2;
                match outcome {
                    Ok(_) => assert!(there),
                    Err(CommitError::Unknown) => {}
                    Err(error) => assert!(!there, "{error} means that nothing was applied"),
                }
                struck
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if !runtime.block_on(struck) {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_and_serves_on_when_there_is_room() {
    run(async {
        let mut w = World::new(1);
        w.commit(put(0, 10)).await;
        w.disk.leave_pages(10);
        assert_eq!(w.redb().commit(put(1, 500_000)).await, Err(CommitError::Full));
        assert_eq!(
            w.redb().get(vec![key(Space::Tag, &["r", "0"])]).await.unwrap()[0].clone().unwrap().rev,
            Rev(1)
        );
        w.disk.leave_pages(usize::MAX);
        while w.redb().commit(put(1, 500_000)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        w.model.commit(put(1, 500_000)).await.unwrap();
        w.compare().await;
    });
}

#[test]
fn a_read_error_opens_the_file_again() {
    run(async {
        let mut w = World::new(1);
        // More than the cache holds, so that reads reach the disk.
        for n in 0..40 {
            w.commit(put(n, 60_000)).await;
        }
        w.disk.fail(0, Fault::Io);
        for n in 0..40 {
            let rows = w.redb().get(vec![key(Space::Tag, &["r", &n.to_string()])]).await.unwrap();
            assert_eq!(rows[0].as_ref().unwrap().val.len(), 60_000);
        }
        assert!(!w.disk.heal(), "the fault struck");
        assert!(*w.redb().file.opened().borrow() > 1);
    });
}

#[test]
fn a_dead_disk_is_down_and_comes_back() {
    run(async {
        let mut w = World::new(1);
        w.commit(put(0, 10)).await;
        w.disk.fail(0, Fault::PowerLoss);
        let lost = w.redb().commit(put(1, 10)).await.unwrap_err();
        assert!(matches!(lost, CommitError::Down | CommitError::Unknown));
        assert_eq!(w.redb().commit(put(1, 10)).await, Err(CommitError::Down));
        w.disk.power_on();
        while w.redb().commit(put(2, 10)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rows = all_rows(w.redb()).await;
        assert!(rows.iter().any(|row| row.key == key(Space::Tag, &["r", "2"])));
    });
}

/// A panic in the engine's depths ended the committer, and with it every commit until the next start.
#[test]
fn a_defect_costs_its_batch_and_no_more() {
    run(async {
        let w = World::new(1);
        w.redb().commit(put(0, 10)).await.unwrap();
        w.disk.panic_once();
        assert_eq!(w.redb().commit(put(1, 10)).await, Err(CommitError::Unknown));
        w.redb().commit(put(2, 10)).await.unwrap();
        let rows = all_rows(w.redb()).await;
        let has = |n: usize| rows.iter().any(|row| row.key == key(Space::Tag, &["r", &n.to_string()]));
        assert!(has(0) && has(2));
    });
}

/// While the ballast is spent, only what frees space goes through; with room again, everything does.
#[test]
fn the_ballast_lets_deletes_through() {
    run(async {
        let w = World::new(1);
        let (redb, disk, path) = (w.redb(), &w.disk, w.ballast());
        redb.commit(put(0, 100_000)).await.unwrap();
        assert!(path.exists());
        disk.leave_pages(0);
        assert_eq!(redb.commit(put(1, 100_000)).await, Err(CommitError::Full));
        assert!(!path.exists() && redb.is_full(), "the ballast is spent");
        assert_eq!(redb.commit(put(1, 10)).await, Err(CommitError::Full));
        let delete = |n: usize| Op::Delete(key(Space::Tag, &["r", &n.to_string()]));
        redb.commit(Commit { ops: vec![delete(0)], ..Commit::default() }).await.unwrap();
        let add = Op::Add { key: key(Space::Counter, &["c"]), delta: 1 };
        let background = Commit { ops: vec![add], class: Class::Background, ..Commit::default() };
        redb.commit(background).await.unwrap();
        assert!(!path.exists(), "there is no room for it yet");
        disk.leave_pages(usize::MAX);
        while redb.commit(put(2, 10)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(path.exists() && !redb.is_full());
        let counter = redb.get(vec![key(Space::Counter, &["c"])]).await.unwrap().remove(0).unwrap();
        assert_eq!(Counter::decode(&counter.val).unwrap().n, 1);
    });
}

/// Killed with the ballast spent, it is opened as full as it was: what frees space goes through, nothing else does.
#[test]
fn a_full_store_is_opened_again() {
    run(async {
        let mut w = World::new(1);
        w.redb().commit(put(0, 100_000)).await.unwrap();
        w.disk.leave_pages(0);
        assert_eq!(w.redb().commit(put(1, 100_000)).await, Err(CommitError::Full));
        w.restart();
        assert_eq!(w.redb().commit(put(1, 10)).await, Err(CommitError::Full));
        let background = Commit { class: Class::Background, ..put(1, 10) };
        w.redb().commit(background).await.unwrap();
        let delete = Op::Delete(key(Space::Tag, &["r", "0"]));
        w.redb().commit(Commit { ops: vec![delete], ..Commit::default() }).await.unwrap();
        assert!(!w.ballast().exists(), "there is no room for it");
    });
}
