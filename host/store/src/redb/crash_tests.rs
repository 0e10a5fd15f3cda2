//! Random histories on a disk that crashes, tears, fails to sync and fills up, compared with the model.
//!
//! A commit that was acknowledged is there; one that was refused or failed is not; one whose outcome nobody knows is
//! there as a whole or not at all; and the file always opens.

use std::time::Duration;

use proptest::prelude::*;

use super::disk::{Disk, Fault};
use super::*;
use crate::clock::ManualClock;
use crate::model::Model;
use crate::{Class, Counter, Expect, Op, Rev, Space, key};

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Expect>, Vec<Op>),
    /// Many at once, so that batches form.
    Together(Vec<Vec<Op>>),
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

fn some_ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(an_op(), 1..6)
}

fn a_step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::PowerLoss)];
    prop_oneof![
        10 => (proptest::collection::vec(an_expect(), 0..2), some_ops()).prop_map(|(e, o)| Step::Commit(e, o)),
        2 => proptest::collection::vec(some_ops(), 2..8).prop_map(Step::Together),
        4 => (0..40u64, fault).prop_map(|(after, fault)| Step::Fail { after, fault }),
        1 => Just(Step::PowerLoss),
        1 => prop_oneof![0..30usize, Just(usize::MAX)].prop_map(Step::LeavePages),
        1 => (0..3000u64).prop_map(Step::Sleep),
    ]
}

/// The engine under test, the model beside it, and the disk below it.
struct World {
    disk: Disk,
    clock: ManualClock,
    model: Model,
    redb: Option<Redb>,
}

impl World {
    fn new(seed: u64) -> World {
        let (disk, clock) = (Disk::new(seed), ManualClock::new(1_000_000));
        let model = Model::new(Arc::new(clock.clone()));
        let redb = Some(open(&disk, &clock));
        World { disk, clock, model, redb }
    }

    fn redb(&self) -> &Redb {
        self.redb.as_ref().unwrap()
    }

    /// The machine stops and starts; what the last commit's outcome was shows now.
    fn restart(&mut self) {
        self.redb = None;
        self.disk.power_on();
        self.redb = Some(open(&self.disk, &self.clock));
    }

    async fn commit(&mut self, commit: Commit) {
        let outcome = self.redb().commit(commit.clone()).await;
        match outcome {
            Err(CommitError::Down | CommitError::Full) => {}
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

    /// The model follows in the order the engine chose.
    async fn together(&mut self, commits: Vec<Commit>) {
        let outcomes =
            futures_util::future::join_all(commits.iter().map(|c| self.redb().commit(c.clone()))).await;
        let mut done: Vec<(Rev, Commit)> = Vec::new();
        let mut unknown = false;
        for (outcome, commit) in outcomes.into_iter().zip(commits) {
            match outcome {
                Ok(committed) => done.push((committed.rev, commit)),
                Err(CommitError::Unknown) => unknown = true,
                Err(_) => {}
            }
        }
        done.sort_by_key(|(rev, _)| *rev);
        for (rev, commit) in done {
            assert_eq!(self.model.commit(commit).await, Ok(Committed { rev }));
        }
        if unknown {
            // Which of them were in the batch nobody can say; the model takes over what is there.
            self.restart();
            let rows = all_rows(self.redb()).await;
            self.model = Model::with(Arc::new(self.clock.clone()), rows, *self.redb().head().borrow());
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

fn opener(disk: &Disk) -> Opener {
    let disk = disk.clone();
    let open = move |builder: &::redb::Builder, again: bool| builder.create_with_backend(disk.open(again)?);
    Opener::new("a disk".into(), 1 << 20, Box::new(open))
}

fn open(disk: &Disk, clock: &ManualClock) -> Redb {
    Redb::open(opener(disk), Ballast::new("none".into(), 0), Arc::new(clock.clone())).unwrap()
}

async fn all_rows(engine: &dyn Engine) -> Vec<Row> {
    let mut rows = Vec::new();
    for space in Space::ALL {
        rows.extend(engine.scan(KeyRange::all(space), MAX_PAGE, Direction::Forward).await.unwrap().rows);
    }
    rows
}

async fn history(seed: u64, steps: Vec<Step>) {
    let mut w = World::new(seed);
    for step in steps {
        match step {
            Step::Commit(expect, ops) => w.commit(Commit { expect, ops, class: Class::Foreground }).await,
            Step::Together(ops) => {
                let commits = ops.into_iter().map(|ops| Commit { ops, ..Commit::default() });
                w.together(commits.collect()).await;
            }
            Step::Fail { after, fault } => w.disk.fail(after, fault),
            Step::PowerLoss => w.restart(),
            Step::LeavePages(more) => w.disk.leave_pages(more),
            Step::Sleep(ms) => w.clock.advance(ms),
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
        w.commit(put(1, 500_000)).await;
        w.compare().await;
        assert_eq!(w.head(), 2);
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

/// While the ballast is spent, only what frees space goes through; with room again, everything does.
#[test]
fn the_ballast_lets_deletes_through() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let (disk, clock) = (Disk::new(1), ManualClock::new(1));
        let space = disk.clone();
        let ballast = Ballast::on(path.clone(), 1 << 20, Box::new(move |_| Ok(space.left())));
        let redb = Redb::open(opener(&disk), ballast, Arc::new(clock)).unwrap();
        redb.commit(put(0, 100_000)).await.unwrap();
        assert!(path.exists());
        disk.leave_pages(0);
        assert_eq!(redb.commit(put(1, 100_000)).await, Err(CommitError::Full));
        assert!(!path.exists(), "the ballast is spent");
        disk.leave_pages(200);
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
        assert!(path.exists());
        let counter = redb.get(vec![key(Space::Counter, &["c"])]).await.unwrap().remove(0).unwrap();
        assert_eq!(Counter::decode(&counter.val).unwrap().n, 1);
    });
}
