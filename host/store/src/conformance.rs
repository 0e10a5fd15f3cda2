//! What every engine must do; one suite for all of them.
//!
//! The entry is [`run`]. An engine that passes may stand behind [`Store`](crate::Store); what only some engines can do
//! wrong (crashes, a full disk) is tested beside them, with this suite once more where it can be.
//!
//! Invariant: nothing here names an engine, and each check starts with an empty one.
//! Invariant: time is asked of the engine and let pass by the [`Subject`]; a clock that nobody can set will do.

// A failed check is a panic that says what was expected, as in any test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};

use crate::clock::ManualClock;
use crate::key::{Key, KeyRange, Space, key};
use crate::seam::{
    Class, Commit, CommitError, Direction, Engine, Expect, MAX_COMMIT_BYTES, MAX_EXPECTS, MAX_GET,
    MAX_GET_BYTES, MAX_KEY_BYTES, MAX_OPS, MAX_PAGE, MAX_PAGE_BYTES, MAX_UNTIL_MS, Op, ReadError, Rev, Row,
    appended,
};
use crate::value::{Counter, Refs};

/// Lets so much of an engine's time pass.
type Pass = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// An empty engine to be checked, and how its time passes.
pub struct Subject {
    engine: Arc<dyn Engine>,
    pass: Pass,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Subject {
    /// An engine whose clock the suite may move.
    pub fn by_hand(engine: Arc<dyn Engine>, clock: ManualClock) -> Subject {
        let pass = move |time: Duration| -> BoxFuture<'static, ()> {
            clock.advance(time.as_millis() as u64);
            Box::pin(ready(()))
        };
        Subject { engine, pass: Box::new(pass) }
    }

    /// An engine whose clock runs by itself: the suite waits, for some seconds in all.
    pub fn by_itself(engine: Arc<dyn Engine>) -> Subject {
        Subject { engine, pass: Box::new(|time| Box::pin(tokio::time::sleep(time))) }
    }
}

/// Runs every check, each on an engine that `make` returns.
///
/// # Panics
/// If a check fails.
pub async fn run<Fut: Future<Output = Subject>>(make: impl Fn() -> Fut) {
    let subject = &make;
    rows_come_back(subject().await).await;
    revisions_count_commits(subject().await).await;
    expectations_of_one_row(subject().await).await;
    expectations_of_a_range(subject().await).await;
    a_refused_commit_leaves_no_trace(subject().await).await;
    operations_apply_in_order(subject().await).await;
    expectations_come_before_operations(subject().await).await;
    time_is_the_engines(subject().await).await;
    counters_keep_their_bounds(subject().await).await;
    references_count_their_edge(subject().await).await;
    logs_are_in_commit_order(subject().await).await;
    pages_go_both_ways(subject().await).await;
    pages_are_bounded_in_bytes(subject().await).await;
    a_read_is_one_view(subject().await).await;
    spaces_are_apart(subject().await).await;
    limits_are_limits(subject().await).await;
    large_values_come_back(subject().await).await;
    a_get_is_bounded_in_bytes(subject().await).await;
    the_head_wakes(subject().await).await;
    one_of_many_wins(subject().await).await;
    increments_add_up(subject().await).await;
    background_work_is_done_too(subject().await).await;
}

fn tag(name: &str) -> Key {
    key(Space::Tag, &["dev/app", name])
}

fn put(key: &Key, val: &'static str) -> Op {
    Op::Put { key: key.clone(), val: Bytes::from_static(val.as_bytes()), ttl: None }
}

impl Subject {
    async fn commit(&self, expect: Vec<Expect>, ops: Vec<Op>) -> Result<Rev, CommitError> {
        let commit = Commit { expect, ops, class: Class::Foreground };
        self.engine.commit(commit).await.map(|committed| committed.rev)
    }

    async fn write(&self, ops: Vec<Op>) -> Rev {
        self.commit(Vec::new(), ops).await.unwrap()
    }

    async fn row(&self, key: &Key) -> Option<Row> {
        self.engine.get(vec![key.clone()]).await.unwrap().remove(0)
    }

    async fn val(&self, key: &Key) -> Option<Bytes> {
        self.row(key).await.map(|row| row.val)
    }

    async fn counter(&self, key: &Key) -> Counter {
        Counter::decode(&self.val(key).await.unwrap()).unwrap()
    }

    async fn names(&self, range: KeyRange, limit: usize, direction: Direction) -> (Vec<String>, bool) {
        let page = self.engine.scan(range, limit, direction).await.unwrap();
        (page.rows.iter().map(|row| row.key.part(1).unwrap_or_default()).collect(), page.more)
    }
}

async fn rows_come_back(s: Subject) {
    assert_eq!(s.row(&tag("a")).await, None);
    let rev = s.write(vec![put(&tag("a"), "1"), put(&tag("b"), "")]).await;
    let row = Row { key: tag("a"), rev, until_ms: 0, val: "1".into() };
    assert_eq!(s.row(&tag("a")).await, Some(row.clone()));
    let keys = vec![tag("b"), tag("none"), tag("a"), tag("b"), key(Space::User, &["u"])];
    let rows = s.engine.get(keys).await.unwrap();
    let vals: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.val.as_ref())).collect();
    assert_eq!(vals, [Some(&b""[..]), None, Some(b"1"), Some(b""), None]);
    s.write(vec![Op::Delete(tag("a")), Op::Delete(tag("none"))]).await;
    assert_eq!(s.row(&tag("a")).await, None);
    assert_eq!(s.engine.get(Vec::new()).await, Ok(Vec::new()));
    let raw = Key::new(Space::Meta, vec![0, 255, 1, 0]);
    s.write(vec![put(&raw, "raw"), put(&Key::new(Space::Meta, ""), "empty")]).await;
    assert_eq!(s.val(&raw).await, Some("raw".into()));
    assert_eq!(s.val(&Key::new(Space::Meta, "")).await, Some("empty".into()));
}

async fn revisions_count_commits(s: Subject) {
    assert_eq!(*s.engine.head().borrow(), 0);
    for n in 1..=3 {
        assert_eq!(s.write(vec![put(&tag("a"), "x")]).await, Rev(n));
        assert_eq!(*s.engine.head().borrow(), n);
    }
    assert_eq!(s.write(Vec::new()).await, Rev(3), "a check has no number of its own");
    assert_eq!(*s.engine.head().borrow(), 3);
    assert_eq!(s.write(vec![Op::Delete(tag("none"))]).await, Rev(4), "what changes no row is a commit");
    assert_eq!(s.row(&tag("a")).await.unwrap().rev, Rev(3));
}

async fn expectations_of_one_row(s: Subject) {
    let (here, gone) = (tag("here"), tag("gone"));
    let rev = s.write(vec![put(&here, "1")]).await;
    let holds = [
        Expect::Absent(gone.clone()),
        Expect::Present(here.clone()),
        Expect::At(here.clone(), rev),
        Expect::Expired(gone.clone()),
    ];
    for expect in holds {
        assert!(s.commit(vec![expect.clone()], Vec::new()).await.is_ok(), "{expect:?} holds");
    }
    let fails = [
        (Expect::Absent(here.clone()), &here),
        (Expect::Present(gone.clone()), &gone),
        (Expect::At(here.clone(), Rev(rev.0 + 1)), &here),
        (Expect::At(gone.clone(), rev), &gone),
        (Expect::At(gone.clone(), Rev(0)), &gone),
        (Expect::Expired(here.clone()), &here),
    ];
    for (expect, at) in fails {
        let refused = s.commit(vec![expect.clone()], vec![put(&tag("x"), "x")]).await;
        assert_eq!(refused, Err(CommitError::Conflict(at.clone())), "{expect:?} does not hold");
    }
    let first =
        vec![Expect::Present(here.clone()), Expect::Present(gone.clone()), Expect::Absent(here.clone())];
    assert_eq!(s.commit(first, Vec::new()).await, Err(CommitError::Conflict(gone.clone())));
    let own = s.commit(vec![Expect::Present(gone.clone())], vec![put(&gone, "x")]).await;
    assert_eq!(own, Err(CommitError::Conflict(gone)), "expectations are about the state before");
    assert_eq!(s.row(&tag("x")).await, None);
}

async fn expectations_of_a_range(s: Subject) {
    let range = KeyRange::prefix(Space::Tag, &["dev/app"]);
    let expect = |rows, max_rev| vec![Expect::Range { range: range.clone(), rows, max_rev: Rev(max_rev) }];
    let conflict = Err(CommitError::Conflict(Key::new(Space::Tag, range.from.clone())));
    assert!(s.commit(expect(0, 0), vec![put(&tag("a"), "1")]).await.is_ok());
    assert_eq!(s.commit(expect(0, 0), Vec::new()).await, conflict, "not empty any more");
    assert_eq!(s.commit(expect(1, 0), Vec::new()).await, conflict);
    assert!(s.commit(expect(1, 1), vec![put(&tag("b"), "1")]).await.is_ok());
    assert_eq!(s.commit(expect(1, 1), Vec::new()).await, conflict, "a row came");
    let rev = s.write(vec![put(&tag("a"), "2")]).await.0;
    assert_eq!(s.commit(expect(2, rev - 1), Vec::new()).await, conflict, "a row changed");
    assert!(s.commit(expect(2, rev), Vec::new()).await.is_ok());
    let next = s.write(vec![Op::Delete(tag("a")), put(&tag("c"), "1")]).await.0;
    assert_eq!(s.commit(expect(2, rev), Vec::new()).await, conflict, "one came and one went");
    assert!(s.commit(expect(2, next), Vec::new()).await.is_ok());
    s.write(vec![put(&key(Space::Tag, &["dev/app2", "a"]), "1"), put(&key(Space::Tag, &["dev/app"]), "1")])
        .await;
    assert!(s.commit(expect(2, next), Vec::new()).await.is_ok(), "neighbours do not matter");
    let nothing = KeyRange { space: Space::Tag, from: "b".into(), to: Some("a".into()) };
    let nothing = vec![Expect::Range { range: nothing, rows: 0, max_rev: Rev(0) }];
    assert!(s.commit(nothing, Vec::new()).await.is_ok());
}

async fn a_refused_commit_leaves_no_trace(s: Subject) {
    let quota = key(Space::Counter, &["q"]);
    s.write(vec![put(&tag("a"), "1"), Op::Max { key: quota.clone(), max: 1 }]).await;
    let ops = vec![
        put(&tag("a"), "2"),
        Op::Delete(tag("a")),
        put(&tag("b"), "2"),
        Op::Append { space: Space::Event, val: "x".into() },
        Op::Add { key: quota.clone(), delta: 1 },
        Op::Add { key: quota.clone(), delta: 1 },
    ];
    let refused = s.commit(Vec::new(), ops).await;
    assert_eq!(refused, Err(CommitError::Bound { key: quota.clone(), n: 1, delta: 1, max: 1 }));
    assert_eq!(s.val(&tag("a")).await, Some("1".into()));
    assert_eq!(s.row(&tag("b")).await, None);
    assert_eq!(s.counter(&quota).await, Counter { n: 0, max: 1 });
    assert_eq!(s.names(KeyRange::all(Space::Event), 9, Direction::Forward).await, (Vec::new(), false));
    assert_eq!(*s.engine.head().borrow(), 1);
    assert_eq!(s.write(vec![Op::Delete(tag("none"))]).await, Rev(2));
}

async fn operations_apply_in_order(s: Subject) {
    s.write(vec![put(&tag("a"), "1"), Op::Delete(tag("a")), put(&tag("b"), "1"), put(&tag("b"), "2")]).await;
    assert_eq!(s.row(&tag("a")).await, None);
    assert_eq!(s.val(&tag("b")).await, Some("2".into()));
    s.write(vec![Op::Delete(tag("b")), put(&tag("b"), "3")]).await;
    assert_eq!(s.val(&tag("b")).await, Some("3".into()));
}

async fn expectations_come_before_operations(s: Subject) {
    let (a, q) = (tag("a"), key(Space::Counter, &["q"]));
    let absent = || vec![Expect::Absent(a.clone()), Expect::Absent(q.clone())];
    let ten = Counter { n: 5, max: 10 }.encode();
    let ops = vec![
        put(&a, "1"),
        Op::Put { key: q.clone(), val: ten, ttl: None },
        Op::Add { key: q.clone(), delta: 3 },
        Op::Max { key: q.clone(), max: 8 },
    ];
    let rev = s.commit(absent(), ops).await.unwrap();
    assert_eq!(s.counter(&q).await, Counter { n: 8, max: 8 });
    // What the commit itself deletes or writes does not make its expectations hold.
    let refused = s.commit(absent(), vec![Op::Delete(a.clone()), Op::Delete(q.clone())]).await;
    assert_eq!(refused, Err(CommitError::Conflict(a.clone())), "the first that fails is named");
    let next = Rev(rev.0 + 1);
    assert!(s.commit(vec![Expect::At(a.clone(), next)], vec![put(&a, "2")]).await.is_err());
    let ops = vec![Op::Delete(q.clone()), Op::Add { key: q.clone(), delta: 1 }];
    s.commit(vec![Expect::At(q.clone(), rev)], ops).await.unwrap();
    assert_eq!(s.counter(&q).await, Counter { n: 1, max: u64::MAX });
}

async fn time_is_the_engines(s: Subject) {
    let lease = key(Space::Lease, &["leader"]);
    let with_ttl = |ttl| vec![Op::Put { key: lease.clone(), val: "x".into(), ttl: Some(ttl) }];
    let expired = || vec![Expect::Expired(lease.clone())];
    let ttl = Duration::from_millis(1500);
    let before = s.engine.now_ms();
    s.write(with_ttl(ttl)).await;
    let written = before..=s.engine.now_ms();
    let until_ms = s.row(&lease).await.unwrap().until_ms;
    assert!(written.contains(&(until_ms - 1500)), "{until_ms} is 1,500 ms after {written:?}");
    assert_eq!(s.commit(expired(), Vec::new()).await, Err(CommitError::Conflict(lease.clone())));
    (s.pass)(ttl).await;
    assert!(s.commit(expired(), Vec::new()).await.is_ok());
    let row = s.row(&lease).await.unwrap();
    assert!(row.expired(s.engine.now_ms()), "an expired row is still read");
    assert!(s.commit(vec![Expect::Present(lease.clone())], Vec::new()).await.is_ok());
    assert_eq!(
        s.commit(vec![Expect::Absent(lease.clone())], Vec::new()).await,
        Err(CommitError::Conflict(lease.clone()))
    );
    assert!(s.commit(expired(), with_ttl(Duration::from_secs(60))).await.is_ok());
    assert!(s.row(&lease).await.unwrap().until_ms > until_ms + 50_000, "it begins again");
    assert_eq!(s.commit(expired(), Vec::new()).await, Err(CommitError::Conflict(lease.clone())));
    s.write(vec![put(&lease, "for ever")]).await;
    assert_eq!(s.row(&lease).await.unwrap().until_ms, 0);
    assert_eq!(s.commit(expired(), Vec::new()).await, Err(CommitError::Conflict(lease.clone())));
    s.write(with_ttl(Duration::ZERO)).await;
    assert!(s.commit(expired(), Vec::new()).await.is_ok(), "no time passes at once");
    for long in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_millis(1 << 63)] {
        s.write(with_ttl(long)).await;
        assert_eq!(s.row(&lease).await.unwrap().until_ms, MAX_UNTIL_MS);
    }
}

async fn counters_keep_their_bounds(s: Subject) {
    let q = key(Space::Counter, &["q"]);
    let add = |delta| vec![Op::Add { key: q.clone(), delta }];
    let bound = |n, delta, max| Err(CommitError::Bound { key: q.clone(), n, delta, max });
    assert_eq!(s.commit(Vec::new(), add(-1)).await, bound(0, -1, u64::MAX));
    s.write(add(5)).await;
    assert_eq!(s.counter(&q).await, Counter { n: 5, max: u64::MAX });
    s.write(vec![Op::Max { key: q.clone(), max: 7 }]).await;
    assert_eq!(s.commit(Vec::new(), add(3)).await, bound(5, 3, 7));
    s.write(add(2)).await;
    assert_eq!(s.commit(Vec::new(), add(-8)).await, bound(7, -8, 7));
    s.write(vec![Op::Max { key: q.clone(), max: 4 }]).await;
    assert_eq!(s.commit(Vec::new(), add(1)).await, bound(7, 1, 4));
    s.write(add(-1)).await;
    assert_eq!(s.counter(&q).await, Counter { n: 6, max: 4 }, "giving back is always allowed");
    let huge = Counter { n: u64::MAX, max: u64::MAX };
    s.write(vec![Op::Put { key: q.clone(), val: huge.encode(), ttl: None }]).await;
    assert_eq!(s.commit(Vec::new(), add(1)).await, bound(u64::MAX, 1, u64::MAX));
    assert_eq!(s.commit(Vec::new(), add(i64::MIN)).await.map(|_| ()), Ok(()));
    let lasting = Op::Put { key: q.clone(), val: huge.encode(), ttl: Some(Duration::from_secs(60)) };
    s.write(vec![lasting]).await;
    let until_ms = s.row(&q).await.unwrap().until_ms;
    s.write(vec![Op::Add { key: q.clone(), delta: -1 }, Op::Max { key: q.clone(), max: 3 }]).await;
    assert_eq!(s.row(&q).await.unwrap().until_ms, until_ms, "counting does not change when it expires");
    s.write(vec![put(&q, "no counter")]).await;
    for op in [Op::Add { key: q.clone(), delta: 1 }, Op::Max { key: q.clone(), max: 1 }] {
        assert_eq!(s.commit(Vec::new(), vec![op]).await, Err(CommitError::NotACounter(q.clone())));
    }
}

async fn references_count_their_edge(s: Subject) {
    let (refs, quota) = (key(Space::Edge, &["dev", "sha256:1"]), key(Space::Counter, &["dev"]));
    let by = |delta| Op::Ref { key: refs.clone(), delta, edge: (quota.clone(), 60) };
    s.write(vec![Op::Max { key: quota.clone(), max: 100 }]).await;
    s.write(vec![by(1)]).await;
    s.write(vec![by(2)]).await;
    assert_eq!(s.counter(&quota).await.n, 60);
    assert_eq!(s.val(&refs).await, Some(Refs { n: 3 }.encode()));
    s.write(vec![by(-2)]).await;
    assert_eq!(s.counter(&quota).await.n, 60);
    let below = CommitError::Bound { key: refs.clone(), n: 1, delta: -2, max: u64::MAX };
    assert_eq!(s.commit(Vec::new(), vec![by(-2)]).await, Err(below));
    s.write(vec![by(-1)]).await;
    assert_eq!(s.counter(&quota).await.n, 0);
    assert_eq!(s.row(&refs).await, None, "a count of none is no row");
    s.write(vec![by(0), by(1), by(-1), by(1)]).await;
    assert_eq!(s.counter(&quota).await.n, 60);
    let other = Op::Ref { key: key(Space::Edge, &["dev", "sha256:2"]), delta: 1, edge: (quota.clone(), 41) };
    let over = CommitError::Bound { key: quota.clone(), n: 60, delta: 41, max: 100 };
    assert_eq!(s.commit(Vec::new(), vec![other]).await, Err(over));
    assert_eq!(s.row(&key(Space::Edge, &["dev", "sha256:2"])).await, None);
    s.write(vec![put(&refs, "none")]).await;
    assert_eq!(s.commit(Vec::new(), vec![by(1)]).await, Err(CommitError::NotACounter(refs)));
}

async fn logs_are_in_commit_order(s: Subject) {
    let append = |space, val: &'static str| Op::Append { space, val: val.into() };
    let first =
        s.write(vec![append(Space::Event, "a"), append(Space::Audit, "b"), append(Space::Event, "c")]).await;
    for _ in 0..20 {
        s.write(vec![append(Space::Event, "d")]).await;
    }
    assert_eq!(s.val(&appended(Space::Event, first, 0)).await, Some("a".into()));
    assert_eq!(s.val(&appended(Space::Audit, first, 1)).await, Some("b".into()));
    assert_eq!(s.val(&appended(Space::Event, first, 2)).await, Some("c".into()));
    let page = s.engine.scan(KeyRange::all(Space::Event), 100, Direction::Forward).await.unwrap();
    let revs: Vec<Rev> = page.rows.iter().map(|row| row.rev).collect();
    assert!(revs.is_sorted() && revs.len() == 22, "{revs:?}");
}

async fn pages_go_both_ways(s: Subject) {
    let names: Vec<String> = (0..230).map(|n| format!("{n:03}")).collect();
    s.write(names.iter().map(|name| put(&tag(name), "x")).collect()).await;
    s.write(vec![put(&key(Space::Tag, &["dev/app"]), "x"), put(&key(Space::Tag, &["dev/app2", "x"]), "x")])
        .await;
    let all = KeyRange::prefix(Space::Tag, &["dev/app"]);
    for limit in [1, 7, 100, 150, 229, 230, 231] {
        for direction in [Direction::Forward, Direction::Backward] {
            let (mut found, mut range) = (Vec::new(), all.clone());
            loop {
                let (page, more) = s.names(range.clone(), limit, direction).await;
                assert!(page.len() <= limit && (!more || page.len() == limit));
                let last = page.last().map(|name| tag(name));
                found.extend(page);
                range = match (last, direction) {
                    (Some(last), Direction::Forward) => range.after(&last),
                    (Some(last), Direction::Backward) => range.before(&last),
                    (None, _) => break,
                };
                if !more {
                    break;
                }
            }
            if direction == Direction::Backward {
                found.reverse();
            }
            assert_eq!(found, names, "pages of {limit}, {direction:?}");
        }
    }
    assert_eq!(s.names(all.clone(), 0, Direction::Forward).await, (Vec::new(), true));
    let empty = KeyRange { space: Space::Tag, from: "b".into(), to: Some("a".into()) };
    assert_eq!(s.names(empty, 9, Direction::Backward).await, (Vec::new(), false));
}

/// A page ends before the row that would take it above the bound; a row that is larger than a page is one of its own.
async fn pages_are_bounded_in_bytes(s: Subject) {
    let third = MAX_PAGE_BYTES / 3 - 20;
    let sizes = [third, third, third, third, MAX_PAGE_BYTES, 1, 2 * MAX_PAGE_BYTES, 2 * MAX_PAGE_BYTES, 1, 1];
    let at = |n: usize| tag(&n.to_string());
    for (n, size) in sizes.iter().enumerate() {
        s.write(vec![Op::Put { key: at(n), val: vec![7; *size].into(), ttl: None }]).await;
    }
    let ways = [
        (Direction::Forward, vec![vec![0, 1, 2], vec![3], vec![4], vec![5], vec![6], vec![7], vec![8, 9]]),
        (Direction::Backward, vec![vec![9, 8], vec![7], vec![6], vec![5], vec![4], vec![3, 2, 1], vec![0]]),
    ];
    for (direction, expected) in ways {
        for limit in [5, MAX_PAGE] {
            let (mut range, mut found) = (KeyRange::prefix(Space::Tag, &["dev/app"]), Vec::new());
            loop {
                let (page, more) = s.names(range.clone(), limit, direction).await;
                let page: Vec<usize> = page.iter().map(|name| name.parse().unwrap()).collect();
                let last = at(*page.last().unwrap());
                found.push(page);
                range = match direction {
                    Direction::Forward => range.after(&last),
                    Direction::Backward => range.before(&last),
                };
                if !more {
                    break;
                }
            }
            assert_eq!(found, expected, "pages of {limit}, {direction:?}");
        }
    }
}

/// Two rows that every commit writes alike are never seen to differ, by key or in a page.
async fn a_read_is_one_view(s: Subject) {
    let pair = |n: usize| {
        let val = Bytes::from(n.to_string());
        [tag("a"), tag("b")].map(|key| Op::Put { key, val: val.clone(), ttl: None }).to_vec()
    };
    s.write(pair(0)).await;
    let write = async {
        for n in 1..100 {
            s.write(pair(n)).await;
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for _ in 0..100 {
            let rows = s.engine.get(vec![tag("a"), tag("b")]).await.unwrap();
            assert_eq!(rows[0].as_ref().map(|row| &row.val), rows[1].as_ref().map(|row| &row.val));
            // Long enough that no engine reads it in passing.
            let page = s.engine.scan(KeyRange::all(Space::Tag), MAX_PAGE, Direction::Forward).await.unwrap();
            assert_eq!(page.rows[0].val, page.rows[1].val);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}

async fn spaces_are_apart(s: Subject) {
    let puts = Space::ALL.map(|space| put(&Key::new(space, "k"), "x"));
    s.write(puts.to_vec()).await;
    for space in Space::ALL {
        let page = s.engine.scan(KeyRange::all(space), 10, Direction::Forward).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [Key::new(space, "k")]);
    }
}

async fn limits_are_limits(s: Subject) {
    let ops = |n: usize| (0..n).map(|n| put(&tag(&n.to_string()), "x")).collect::<Vec<_>>();
    assert!(s.commit(Vec::new(), ops(MAX_OPS)).await.is_ok());
    assert_eq!(s.commit(Vec::new(), ops(MAX_OPS + 1)).await, Err(CommitError::TooLarge));
    let expects = |n: usize| vec![Expect::Absent(tag("none")); n];
    assert!(s.commit(expects(MAX_EXPECTS), Vec::new()).await.is_ok());
    assert_eq!(s.commit(expects(MAX_EXPECTS + 1), Vec::new()).await, Err(CommitError::TooLarge));
    let wide = |rows| {
        let range = KeyRange::all(Space::User);
        s.commit(vec![Expect::Range { range, rows, max_rev: Rev(0) }], Vec::new())
    };
    assert!(matches!(wide(MAX_PAGE as u32).await, Err(CommitError::Conflict(_))));
    assert_eq!(wide(MAX_PAGE as u32 + 1).await, Err(CommitError::TooLarge));
    let long = |len| put(&Key::new(Space::Meta, vec![b'k'; len]), "x");
    assert!(s.commit(Vec::new(), vec![long(MAX_KEY_BYTES)]).await.is_ok());
    assert_eq!(s.commit(Vec::new(), vec![long(MAX_KEY_BYTES + 1)]).await, Err(CommitError::TooLarge));
    assert!(s.engine.get(vec![tag("1"); MAX_GET]).await.is_ok());
    assert_eq!(s.engine.get(vec![tag("1"); MAX_GET + 1]).await, Err(ReadError::TooLarge));
    let page = s.engine.scan(KeyRange::all(Space::Tag), usize::MAX, Direction::Forward).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (MAX_PAGE, true));
}

async fn large_values_come_back(s: Subject) {
    let big = |len: usize| Op::Put { key: Key::new(Space::Blob, "m"), val: vec![7; len].into(), ttl: None };
    assert_eq!(s.commit(Vec::new(), vec![big(MAX_COMMIT_BYTES)]).await, Err(CommitError::TooLarge));
    s.write(vec![big(MAX_COMMIT_BYTES - 1)]).await;
    assert_eq!(s.val(&Key::new(Space::Blob, "m")).await, Some(vec![7; MAX_COMMIT_BYTES - 1].into()));
}

/// A get once took whatever its keys led to into memory: 4,096 rows of 6 MiB.
async fn a_get_is_bounded_in_bytes(s: Subject) {
    let large = Key::new(Space::Blob, "m");
    let val = Bytes::from(vec![7; MAX_COMMIT_BYTES - 1]);
    s.write(vec![Op::Put { key: large.clone(), val, ttl: None }]).await;
    s.write(vec![put(&tag("a"), "x")]).await;
    let most = MAX_GET_BYTES / MAX_COMMIT_BYTES;
    let keys = |n| [vec![tag("a")], vec![large.clone(); n]].concat();
    assert_eq!(s.engine.get(keys(most)).await.map(|rows| rows.len()), Ok(most + 1));
    assert_eq!(s.engine.get(keys(most + 1)).await, Err(ReadError::TooLarge));
}

async fn the_head_wakes(s: Subject) {
    let mut head = s.engine.head();
    assert!(!head.has_changed().unwrap());
    let waiting = tokio::spawn(async move {
        head.changed().await.unwrap();
        *head.borrow()
    });
    let rev = s.write(vec![put(&tag("a"), "x")]).await;
    assert_eq!(waiting.await.unwrap(), rev.0);
}

async fn one_of_many_wins(s: Subject) {
    let commits = (0..50).map(|_| s.commit(vec![Expect::Absent(tag("a"))], vec![put(&tag("a"), "x")]));
    let outcomes = futures_util::future::join_all(commits).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let conflict = CommitError::Conflict(tag("a"));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.as_ref() == Err(&conflict)).count(), 49);
    assert_eq!(s.row(&tag("a")).await.unwrap().rev, Rev(1));
}

async fn increments_add_up(s: Subject) {
    let q = key(Space::Counter, &["q"]);
    s.write(vec![Op::Max { key: q.clone(), max: 70 }]).await;
    let commits = (0..100).map(|_| s.commit(Vec::new(), vec![Op::Add { key: q.clone(), delta: 1 }]));
    let outcomes = futures_util::future::join_all(commits).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 70);
    assert_eq!(s.counter(&q).await, Counter { n: 70, max: 70 });
    let mut revs: Vec<Rev> = outcomes.into_iter().flatten().collect();
    revs.sort();
    revs.dedup();
    assert_eq!((revs.len(), revs.first(), revs.last()), (70, Some(&Rev(2)), Some(&Rev(71))));
}

async fn background_work_is_done_too(s: Subject) {
    let commit = |n: usize| {
        let class = if n.is_multiple_of(2) { Class::Background } else { Class::Foreground };
        let ops = vec![Op::Append { space: Space::Event, val: n.to_string().into() }];
        s.engine.commit(Commit { expect: Vec::new(), ops, class })
    };
    let outcomes = futures_util::future::join_all((0..300).map(commit)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let page = s.engine.scan(KeyRange::all(Space::Event), 1000, Direction::Forward).await.unwrap();
    assert_eq!(page.rows.len(), 300);
}
