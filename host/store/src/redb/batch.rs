//! One batch inside one write transaction: each commit is checked against what the earlier ones of the batch left,
//! worked out in full, and only then written.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{ReadableTable as _, Table, WriteTransaction};

use super::file::table;
use super::{SHORT_ROW, decode_header, decode_row, encode_row};
use crate::key::{Key, KeyRange, Space};
use crate::seam::{Commit, CommitError, Committed, Expect, MAX_UNTIL_MS, Op, Rev, appended};
use crate::value::{Counter, Refs};

type SpaceTable<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The tables of one write transaction, opened as they are needed.
pub(super) struct Batch<'t> {
    transaction: &'t WriteTransaction,
    tables: [Option<SpaceTable<'t>>; Space::ALL.len()],
    /// The number of the newest commit, those of this batch included.
    pub(super) head: u64,
    now_ms: u64,
}

/// Refused, or the file failed.
enum Stop {
    Refused(CommitError),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// One row that is damaged costs the commits that look at it, and no others of their batch.
fn short(key: Key) -> Stop {
    Stop::Refused(CommitError::Damaged { key, reason: SHORT_ROW.into() })
}

/// What a commit makes of a row: value and expiry, or nothing.
type Writes = BTreeMap<Key, Option<(Bytes, u64)>>;

impl<'t> Batch<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, head: u64, now_ms: u64) -> Batch<'t> {
        Batch { transaction, tables: [const { None }; Space::ALL.len()], head, now_ms }
    }

    /// Applies one commit or refuses it, which leaves no trace. An outer error fails the whole batch.
    pub(super) fn apply(&mut self, commit: &Commit) -> Result<Result<Committed, CommitError>, redb::Error> {
        match self.plan(commit) {
            Ok(writes) => {
                if !commit.ops.is_empty() {
                    self.write(writes)?;
                }
                Ok(Ok(Committed { rev: Rev(self.head) }))
            }
            Err(Stop::Refused(error)) => Ok(Err(error)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn write(&mut self, writes: Writes) -> Result<(), redb::Error> {
        self.head += 1;
        let rev = self.head;
        for (key, row) in writes {
            let table = self.table(key.space)?;
            match row {
                Some((val, until_ms)) => {
                    table.insert(key.bytes.as_ref(), encode_row(rev, until_ms, &val).as_slice())?;
                }
                None => {
                    table.remove(key.bytes.as_ref())?;
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, space: Space) -> Result<&mut SpaceTable<'t>, redb::Error> {
        let slot = &mut self.tables[space as usize - 1];
        match slot {
            Some(table) => Ok(table),
            None => Ok(slot.insert(self.transaction.open_table(table(space))?)),
        }
    }

    fn read(&mut self, key: &Key) -> Result<Option<(u64, u64, Bytes)>, Stop> {
        match self.table(key.space)?.get(key.bytes.as_ref())? {
            Some(bytes) => Ok(Some(decode_row(bytes.value()).ok_or_else(|| short(key.clone()))?)),
            None => Ok(None),
        }
    }

    /// Revision and expiry alone: a manifest's bytes are not copied to compare its revision.
    fn header(&mut self, key: &Key) -> Result<Option<(u64, u64)>, Stop> {
        match self.table(key.space)?.get(key.bytes.as_ref())? {
            Some(bytes) => Ok(Some(decode_header(bytes.value()).ok_or_else(|| short(key.clone()))?)),
            None => Ok(None),
        }
    }

    fn plan(&mut self, commit: &Commit) -> Result<Writes, Stop> {
        for expect in &commit.expect {
            self.check(expect)?;
        }
        let mut plan = Plan { batch: self, writes: Writes::new(), appends: 0 };
        for op in &commit.ops {
            plan.op(op)?;
        }
        Ok(plan.writes)
    }

    fn check(&mut self, expect: &Expect) -> Result<(), Stop> {
        let (holds, key) = match expect {
            Expect::Absent(key) => (self.header(key)?.is_none(), key),
            Expect::Present(key) => (self.header(key)?.is_some(), key),
            Expect::At(key, at) => (self.header(key)?.is_some_and(|(rev, _)| rev == at.0), key),
            Expect::Expired(key) => {
                let now_ms = self.now_ms;
                let over = |(_, until_ms)| until_ms != 0 && until_ms <= now_ms;
                (self.header(key)?.is_none_or(over), key)
            }
            Expect::Range { range, rows, max_rev } => {
                let holds = self.unchanged(range, *rows, *max_rev)?;
                return if holds { Ok(()) } else { Err(Stop::Refused(CommitError::Conflict(range.first()))) };
            }
        };
        if holds { Ok(()) } else { Err(Stop::Refused(CommitError::Conflict(key.clone()))) }
    }

    fn unchanged(&mut self, range: &KeyRange, rows: u32, max_rev: Rev) -> Result<bool, Stop> {
        let (mut found, mut newest) = (0, 0);
        if !range.is_empty() {
            for entry in self.table(range.space)?.range::<&[u8]>(range.bounds())? {
                let (key, bytes) = entry?;
                let damaged = || short(Key::new(range.space, key.value().to_vec()));
                let (rev, _) = decode_header(bytes.value()).ok_or_else(damaged)?;
                found += 1;
                newest = newest.max(rev);
                if found > rows || newest > max_rev.0 {
                    return Ok(false);
                }
            }
        }
        Ok(found == rows && newest == max_rev.0)
    }
}

/// What one commit will write, on top of what the batch has written.
struct Plan<'a, 't> {
    batch: &'a mut Batch<'t>,
    writes: Writes,
    appends: usize,
}

impl Plan<'_, '_> {
    /// The row as it would be now.
    fn row(&mut self, key: &Key) -> Result<Option<(Bytes, u64)>, Stop> {
        if let Some(row) = self.writes.get(key) {
            return Ok(row.clone());
        }
        Ok(self.batch.read(key)?.map(|(_, until_ms, val)| (val, until_ms)))
    }

    fn counter(&mut self, key: &Key) -> Result<(Counter, u64), Stop> {
        let Some((val, until_ms)) = self.row(key)? else { return Ok((Counter::default(), 0)) };
        let other = || Stop::Refused(CommitError::NotACounter(key.clone()));
        Ok((Counter::decode(&val).ok_or_else(other)?, until_ms))
    }

    fn add(&mut self, key: &Key, delta: i64) -> Result<(), Stop> {
        let (counter, until_ms) = self.counter(key)?;
        let (n, max) = (counter.n, counter.max);
        let bound = || Stop::Refused(CommitError::Bound { key: key.clone(), n, delta, max });
        let after = counter.add(delta).ok_or_else(bound)?;
        self.writes.insert(key.clone(), Some((after.encode(), until_ms)));
        Ok(())
    }

    fn reference(&mut self, key: &Key, delta: i32, edge: &(Key, i64)) -> Result<(), Stop> {
        let old = match self.row(key)? {
            Some((val, _)) => {
                let other = || Stop::Refused(CommitError::NotACounter(key.clone()));
                Refs::decode(&val).ok_or_else(other)?.n
            }
            None => 0,
        };
        let delta = i64::from(delta);
        let bound = || Stop::Refused(CommitError::Bound { key: key.clone(), n: old, delta, max: u64::MAX });
        let n = old.checked_add_signed(delta).ok_or_else(bound)?;
        if old == 0 && n > 0 {
            self.add(&edge.0, edge.1)?;
        } else if old > 0 && n == 0 {
            self.add(&edge.0, edge.1.saturating_neg())?;
        }
        self.writes.insert(key.clone(), (n > 0).then(|| (Refs { n }.encode(), 0)));
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), Stop> {
        match op {
            Op::Put { key, val, ttl } => {
                let until_ms = ttl.map_or(0, |ttl| {
                    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                    self.batch.now_ms.saturating_add(ms).clamp(1, MAX_UNTIL_MS)
                });
                self.writes.insert(key.clone(), Some((val.clone(), until_ms)));
            }
            Op::Delete(key) => {
                self.writes.insert(key.clone(), None);
            }
            Op::Add { key, delta } => self.add(key, *delta)?,
            Op::Max { key, max } => {
                let (counter, until_ms) = self.counter(key)?;
                let counter = Counter { max: *max, ..counter };
                self.writes.insert(key.clone(), Some((counter.encode(), until_ms)));
            }
            Op::Ref { key, delta, edge } => self.reference(key, *delta, edge)?,
            Op::Append { space, val } => {
                let key = appended(*space, Rev(self.batch.head + 1), self.appends);
                self.appends += 1;
                self.writes.insert(key, Some((val.clone(), 0)));
            }
        }
        Ok(())
    }
}
