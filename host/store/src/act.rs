//! A transaction that concepts contribute to: it remembers what was read and collects what shall change.
//!
//! Concepts take a `&mut Tx` and never commit; only flows and jobs call [`Store::act`](crate::Store::act).
//!
//! Invariant: whatever [`Tx::get`] and [`Tx::scan`] returned still holds when the commit is applied.
//! Invariant: a transaction sees its own puts and deletes, in `get`, `peek` and scans alike. It does not see its
//! own `add`, `reference` and `append`, since their outcome is known to the engine alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::key::{Key, KeyRange, Space};
use crate::seam::{
    Class, Commit, Direction, Engine, Expect, MAX_PAGE, MAX_PAGE_BYTES, MAX_UNTIL_MS, Op, Page, Rev, Row,
};
use crate::store::StoreError;
use crate::value;

/// What one act has read and wants to write.
#[derive(Debug)]
pub struct Tx {
    engine: Arc<dyn Engine>,
    body: Body,
    slot: Slot,
}

/// Where a transaction leaves its content when it is dropped.
pub(crate) type Slot = Arc<Mutex<Option<Body>>>;

#[derive(Debug, Default)]
pub(crate) struct Body {
    expect: Vec<Expect>,
    ops: Vec<Op>,
    /// What was read by `get`; read once, it stays as it was.
    seen: BTreeMap<Key, Option<Row>>,
    /// What was put or deleted.
    written: BTreeMap<Key, Option<Row>>,
    /// How many moments what is expected is of, as each read is of one.
    moments: usize,
}

impl Drop for Tx {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

impl Tx {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> (Tx, Slot) {
        let slot = Slot::default();
        (Tx { engine, body: Body::default(), slot: slot.clone() }, slot)
    }

    /// What is to be committed; none where nothing was written and what was read needs no second look.
    pub(crate) fn into_commit(slot: Slot, class: Class) -> Result<Option<Commit>, StoreError> {
        let body = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A closure that keeps its transaction alive has not said all it wants to write.
        let Body { expect, ops, moments, .. } = body.ok_or(StoreError::Down)?;
        Ok((!ops.is_empty() || moments > 1).then_some(Commit { expect, ops, class }))
    }

    /// One row; the commit expects it to stay as it is, or to stay away.
    pub async fn get(&mut self, key: &Key) -> Result<Option<Row>, StoreError> {
        if let Some(row) = self.body.written.get(key).or_else(|| self.body.seen.get(key)) {
            return Ok(row.clone());
        }
        let row = self.engine.get(vec![key.clone()]).await?.pop().flatten();
        self.body.moments += 1;
        self.saw(key.clone(), row.clone());
        Ok(row)
    }

    /// Rows in the order asked for, as [`Tx::get`] reads each, but in one consistent view.
    pub async fn get_many(&mut self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        let known = |body: &Body, key: &Key| body.written.contains_key(key) || body.seen.contains_key(key);
        let missing: Vec<Key> = keys.iter().filter(|key| !known(&self.body, key)).cloned().collect();
        if !missing.is_empty() {
            let rows = self.engine.get(missing.clone()).await?;
            self.body.moments += 1;
            for (key, row) in missing.into_iter().zip(rows) {
                self.saw(key, row);
            }
        }
        let row = |key| self.body.written.get(key).or_else(|| self.body.seen.get(key)).cloned().flatten();
        Ok(keys.iter().map(row).collect())
    }

    fn saw(&mut self, key: Key, row: Option<Row>) {
        if self.body.seen.contains_key(&key) {
            return;
        }
        self.body.expect.push(match &row {
            Some(row) => Expect::At(key.clone(), row.rev),
            None => Expect::Absent(key.clone()),
        });
        self.body.seen.insert(key, row);
    }

    /// One row, without expecting anything of it at the commit.
    pub async fn peek(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        if let Some(row) = self.body.written.get(key) {
            return Ok(row.clone());
        }
        Ok(self.engine.get(vec![key.clone()]).await?.pop().flatten())
    }

    /// Whether there is a row; the commit expects just that, so that a row whose content does not matter may change.
    pub async fn present(&mut self, key: &Key) -> Result<bool, StoreError> {
        if let Some(row) = self.body.written.get(key).or_else(|| self.body.seen.get(key)) {
            return Ok(row.is_some());
        }
        let present = self.peek(key).await?.is_some();
        self.body.moments += 1;
        let key = key.clone();
        self.body.expect.push(if present { Expect::Present(key) } else { Expect::Absent(key) });
        Ok(present)
    }

    /// One page of a range, lowest key first; the commit expects that what was looked at has not changed and that
    /// nothing came between. One to [`MAX_PAGE`] rows, and no more once [`MAX_PAGE_BYTES`] are reached.
    pub async fn scan(&mut self, range: KeyRange, limit: usize) -> Result<Page, StoreError> {
        let mut looked_at = Vec::new();
        let page = self.merged(range, limit, Some(&mut looked_at)).await?;
        self.body.moments += looked_at.len();
        self.body.expect.extend(looked_at);
        Ok(page)
    }

    /// All rows of a range that is small by nature, at most `most`; expected as [`Tx::scan`] expects them.
    pub async fn scan_all(&mut self, mut range: KeyRange, most: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        while rows.len() < most {
            let page = self.scan(range.clone(), most - rows.len()).await?;
            rows.extend(page.rows);
            match rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => break,
            }
        }
        Ok(rows)
    }

    /// One page of a range, without expecting anything of it at the commit.
    pub async fn peek_scan(&self, range: KeyRange, limit: usize) -> Result<Page, StoreError> {
        self.merged(range, limit, None).await
    }

    /// Reads pages until `limit` rows, or [`MAX_PAGE_BYTES`], are left after this transaction's own puts and deletes
    /// are laid over them.
    async fn merged(
        &self,
        mut range: KeyRange,
        limit: usize,
        mut looked_at: Option<&mut Vec<Expect>>,
    ) -> Result<Page, StoreError> {
        // For no rows at all, a page would say nothing of what it covered.
        let limit = limit.clamp(1, MAX_PAGE);
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let page = self.engine.scan(range.clone(), limit, Direction::Forward).await?;
            let last = page.rows.last().map(|row| row.key.clone());
            let covered = match (&last, page.more) {
                (Some(last), true) => range.clone().through(last),
                _ => range.clone(),
            };
            let max_rev = page.rows.iter().map(|row| row.rev).max().unwrap_or_default();
            if let Some(looked_at) = looked_at.as_deref_mut() {
                let rows = page.rows.len() as u32;
                looked_at.push(Expect::Range { range: covered.clone(), rows, max_rev });
            }
            let mut merged: BTreeMap<Key, Row> =
                page.rows.into_iter().map(|row| (row.key.clone(), row)).collect();
            for (key, row) in self.body.written.range(covered.first()..) {
                if !covered.contains(key) {
                    break;
                }
                match row {
                    Some(row) => merged.insert(key.clone(), row.clone()),
                    None => merged.remove(key),
                };
            }
            rows.extend(merged.into_values());
            let more = page.more || rows.len() > limit;
            let full = rows.len() >= limit || rows.iter().map(Row::bytes).sum::<usize>() >= MAX_PAGE_BYTES;
            match last {
                Some(last) if page.more && !full => range = range.after(&last),
                _ => {
                    rows.truncate(limit);
                    return Ok(Page { rows, more });
                }
            }
        }
    }

    /// Adds an expectation by hand, such as `Present` of a row whose content does not matter.
    pub fn expect(&mut self, expect: Expect) {
        // Whatever it was read from, it may be of another moment than all else.
        self.body.moments += 2;
        self.body.expect.push(expect);
    }

    /// Writes a row for ever.
    pub fn put(&mut self, key: &Key, val: impl Into<Bytes>) {
        self.put_for(key, val.into(), None);
    }

    /// Writes a row that expires `ttl` after the commit, by the engine's clock.
    pub fn put_ttl(&mut self, key: &Key, val: impl Into<Bytes>, ttl: Duration) {
        self.put_for(key, val.into(), Some(ttl));
    }

    /// Writes a row of JSON for ever.
    pub fn put_value<T: Serialize + ?Sized>(&mut self, key: &Key, value: &T) -> Result<(), StoreError> {
        self.put_for(key, value::encode(value)?, None);
        Ok(())
    }

    /// Writes a row of JSON that expires `ttl` after the commit, by the engine's clock.
    pub fn put_value_ttl<T: Serialize + ?Sized>(
        &mut self,
        key: &Key,
        value: &T,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        self.put_for(key, value::encode(value)?, Some(ttl));
        Ok(())
    }

    fn put_for(&mut self, key: &Key, val: Bytes, ttl: Option<Duration>) {
        let ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let until_ms =
            ttl.map_or(0, |ttl| self.engine.now_ms().saturating_add(ms(ttl)).clamp(1, MAX_UNTIL_MS));
        let row = Row { key: key.clone(), rev: Rev(0), until_ms, val: val.clone() };
        self.body.written.insert(key.clone(), Some(row));
        self.body.ops.push(Op::Put { key: key.clone(), val, ttl });
    }

    /// Removes a row, if there is one.
    pub fn delete(&mut self, key: &Key) {
        self.body.written.insert(key.clone(), None);
        self.body.ops.push(Op::Delete(key.clone()));
    }

    /// Adds to a counter; see [`Op::Add`].
    pub fn add(&mut self, key: &Key, delta: i64) {
        self.body.ops.push(Op::Add { key: key.clone(), delta });
    }

    /// Sets a counter's upper bound; see [`Op::Max`].
    pub fn max(&mut self, key: &Key, max: u64) {
        self.body.ops.push(Op::Max { key: key.clone(), max });
    }

    /// Counts references; see [`Op::Ref`].
    pub fn reference(&mut self, key: &Key, delta: i32, edge: (&Key, i64)) {
        self.body.ops.push(Op::Ref { key: key.clone(), delta, edge: (edge.0.clone(), edge.1) });
    }

    /// Adds a row behind all others of the space.
    pub fn append(&mut self, space: Space, val: impl Into<Bytes>) {
        self.body.ops.push(Op::Append { space, val: val.into() });
    }

    /// Adds a row of JSON behind all others of the space.
    pub fn append_value<T: Serialize + ?Sized>(&mut self, space: Space, value: &T) -> Result<(), StoreError> {
        self.append(space, value::encode(value)?);
        Ok(())
    }

    /// The engine's clock, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }
}
