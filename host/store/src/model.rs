//! The in-memory engine: what the other engines are compared against.
//!
//! It is written for plainness: one map under a mutex, operations applied one by one and undone on failure. It
//! shares no logic with the redb engine, so that a mistake in one shows as a difference.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::key::{Key, KeyRange, Space};
use crate::seam::{
    Commit, CommitError, Committed, Direction, Engine, Expect, MAX_GET, MAX_GET_BYTES, MAX_PAGE,
    MAX_PAGE_BYTES, MAX_UNTIL_MS, Op, Page, ReadError, Rev, Row, appended,
};
use crate::value::{Counter, Refs};

/// An engine that forgets everything when it is dropped.
#[derive(Debug)]
pub struct Model {
    state: Mutex<State>,
    head: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    head: u64,
}

impl Default for Model {
    fn default() -> Model {
        Model::new(Arc::new(SystemClock))
    }
}

impl Model {
    /// An empty engine that goes by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Model {
        Model { state: Mutex::default(), head: watch::Sender::new(0), clock }
    }

    /// Everything there is, in order.
    pub fn rows(&self) -> Vec<Row> {
        self.lock().rows.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a commit or refuses it.
    pub(crate) fn apply(&self, commit: &Commit) -> Result<Committed, CommitError> {
        commit.check_size()?;
        let now_ms = self.clock.now_ms();
        let mut state = self.lock();
        for expect in &commit.expect {
            state.check(expect, now_ms)?;
        }
        if commit.ops.is_empty() {
            return Ok(Committed { rev: Rev(state.head) });
        }
        let rev = Rev(state.head + 1);
        let mut write = Write { rows: &mut state.rows, undo: Vec::new(), rev, now_ms, appends: 0 };
        for op in &commit.ops {
            if let Err(error) = write.apply(op) {
                write.undo();
                return Err(error);
            }
        }
        state.head = rev.0;
        drop(state);
        self.head.send_modify(|head| *head = (*head).max(rev.0));
        Ok(Committed { rev })
    }
}

impl State {
    fn in_range(&self, range: &KeyRange) -> impl DoubleEndedIterator<Item = &Row> {
        let next_space = Space::ALL.get(range.space as usize).copied();
        let to = match (&range.to, next_space) {
            (Some(to), _) => Bound::Excluded(Key::new(range.space, to.clone())),
            (None, Some(next)) => Bound::Excluded(Key::new(next, Bytes::new())),
            (None, None) => Bound::Unbounded,
        };
        let bounds = (Bound::Included(range.first()), to);
        // The map refuses a range that ends before it begins.
        let rows = (!range.is_empty()).then(|| self.rows.range(bounds));
        rows.into_iter().flatten().map(|(_, row)| row)
    }

    fn check(&self, expect: &Expect, now_ms: u64) -> Result<(), CommitError> {
        let (holds, key) = match expect {
            Expect::Absent(key) => (!self.rows.contains_key(key), key),
            Expect::Present(key) => (self.rows.contains_key(key), key),
            Expect::At(key, rev) => (self.rows.get(key).is_some_and(|row| row.rev == *rev), key),
            Expect::Expired(key) => (self.rows.get(key).is_none_or(|row| row.expired(now_ms)), key),
            Expect::Range { range, rows, max_rev } => {
                let found: Vec<Rev> = self.in_range(range).map(|row| row.rev).collect();
                let newest = found.iter().max().copied().unwrap_or_default();
                if found.len() == *rows as usize && newest == *max_rev {
                    return Ok(());
                }
                return Err(CommitError::Conflict(range.first()));
            }
        };
        if holds { Ok(()) } else { Err(CommitError::Conflict(key.clone())) }
    }
}

struct Write<'a> {
    rows: &'a mut BTreeMap<Key, Row>,
    undo: Vec<(Key, Option<Row>)>,
    rev: Rev,
    now_ms: u64,
    appends: usize,
}

impl Write<'_> {
    fn set(&mut self, key: &Key, row: Option<(Bytes, u64)>) {
        let old = match row {
            Some((val, until_ms)) => {
                self.rows.insert(key.clone(), Row { key: key.clone(), rev: self.rev, until_ms, val })
            }
            None => self.rows.remove(key),
        };
        self.undo.push((key.clone(), old));
    }

    fn undo(self) {
        for (key, old) in self.undo.into_iter().rev() {
            match old {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    fn counter(&self, key: &Key) -> Result<(Counter, u64), CommitError> {
        let Some(row) = self.rows.get(key) else { return Ok((Counter::default(), 0)) };
        let counter = Counter::decode(&row.val).ok_or_else(|| CommitError::NotACounter(key.clone()))?;
        Ok((counter, row.until_ms))
    }

    fn refs(&self, key: &Key) -> Result<u64, CommitError> {
        let Some(row) = self.rows.get(key) else { return Ok(0) };
        Ok(Refs::decode(&row.val).ok_or_else(|| CommitError::NotACounter(key.clone()))?.n)
    }

    fn add(&mut self, key: &Key, delta: i64) -> Result<(), CommitError> {
        let (counter, until_ms) = self.counter(key)?;
        let bound = CommitError::Bound { key: key.clone(), n: counter.n, delta, max: counter.max };
        let after = counter.add(delta).ok_or(bound)?;
        self.set(key, Some((after.encode(), until_ms)));
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Result<(), CommitError> {
        match op {
            Op::Put { key, val, ttl } => {
                let until_ms = ttl.map_or(0, |ttl| {
                    let until = u128::from(self.now_ms).saturating_add(ttl.as_millis());
                    until.clamp(1, u128::from(MAX_UNTIL_MS)) as u64
                });
                self.set(key, Some((val.clone(), until_ms)));
            }
            Op::Delete(key) => self.set(key, None),
            Op::Add { key, delta } => self.add(key, *delta)?,
            Op::Max { key, max } => {
                let (counter, until_ms) = self.counter(key)?;
                self.set(key, Some((Counter { max: *max, ..counter }.encode(), until_ms)));
            }
            Op::Ref { key, delta, edge } => {
                let old = self.refs(key)?;
                let Some(n) = old.checked_add_signed(i64::from(*delta)) else {
                    let (key, delta) = (key.clone(), i64::from(*delta));
                    return Err(CommitError::Bound { key, n: old, delta, max: u64::MAX });
                };
                match (old, n) {
                    (0, 0) => {}
                    (0, _) => self.add(&edge.0, edge.1)?,
                    (_, 0) => self.add(&edge.0, edge.1.saturating_neg())?,
                    _ => {}
                }
                self.set(key, (n > 0).then(|| (Refs { n }.encode(), 0)));
            }
            Op::Append { space, val } => {
                let key = appended(*space, self.rev, self.appends);
                self.appends += 1;
                self.set(&key, Some((val.clone(), 0)));
            }
        }
        Ok(())
    }
}

impl Engine for Model {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        if keys.len() > MAX_GET {
            return Box::pin(ready(Err(ReadError::TooLarge)));
        }
        let state = self.lock();
        let rows: Vec<Option<Row>> = keys.iter().map(|key| state.rows.get(key).cloned()).collect();
        let fits = rows.iter().flatten().map(Row::bytes).sum::<usize>() <= MAX_GET_BYTES;
        Box::pin(ready(if fits { Ok(rows) } else { Err(ReadError::TooLarge) }))
    }

    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        let limit = limit.min(MAX_PAGE);
        let state = self.lock();
        let found = state.in_range(&range).cloned();
        let mut rows: Vec<Row> = match direction {
            Direction::Forward => found.take(limit + 1).collect(),
            Direction::Backward => found.rev().take(limit + 1).collect(),
        };
        let found = rows.len();
        rows.truncate(limit);
        while rows.len() > 1 && rows.iter().map(Row::bytes).sum::<usize>() > MAX_PAGE_BYTES {
            rows.pop();
        }
        let more = rows.len() < found;
        Box::pin(ready(Ok(Page { rows, more })))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(ready(self.apply(&commit)))
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::conformance::{self, Subject};

    #[tokio::test]
    async fn the_model_conforms() {
        conformance::run(|| async {
            let clock = ManualClock::new(1_000_000);
            Subject::by_hand(Arc::new(Model::new(Arc::new(clock.clone()))), clock)
        })
        .await;
    }

    /// As an engine does whose clock is a server's.
    #[tokio::test]
    async fn the_suite_takes_a_clock_that_nobody_sets() {
        conformance::run(|| async { Subject::by_itself(Arc::new(Model::default())) }).await;
    }
}
