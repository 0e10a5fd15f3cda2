//! A disk for tests: it crashes, tears writes, fails to sync and fills up.
//!
//! What was written is `pending` until it is synced. At a power loss each 512-byte sector of each pending write is kept
//! or lost on its own. A failed sync loses pending writes the same way, while reads go on showing them until the
//! cache is dropped, as Linux does.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use ::redb::{BackendError, StorageBackend};

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operation fails; of a write some sectors are done.
    Io,
    /// From this operation on nothing answers until [`Disk::power_on`].
    PowerLoss,
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    /// Sectors written and not synced yet.
    pending: Vec<(usize, Vec<u8>)>,
    /// What reads see.
    view: Vec<u8>,
    /// Pages that hold data; a hole takes no space.
    used: BTreeSet<usize>,
    capacity_pages: usize,
    /// A file of the real file system that stands for one on this disk, and the pages it takes while it is there.
    beside: Option<(PathBuf, usize)>,
    /// What goes wrong next, and after how many operations; the next one counts from there.
    faults: VecDeque<(u64, Fault)>,
    struck: bool,
    panics: bool,
    dead: bool,
    random: u64,
    handles: u64,
    locks: Vec<(u64, u128, u128, bool)>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Mutex<State>>);

/// One open file on it.
#[derive(Debug)]
pub(super) struct Handle {
    disk: Disk,
    number: u64,
}

fn eio() -> io::Error {
    io::Error::other("input/output error")
}

impl State {
    /// Pages that hold data.
    fn used_pages(&self) -> usize {
        let beside = self.beside.as_ref().filter(|(path, _)| path.exists()).map_or(0, |(_, pages)| *pages);
        self.used.len() + beside
    }

    fn chance(&mut self) -> bool {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random & 4 == 0
    }

    /// Counts one operation; `Some` if it is the one that fails.
    fn strike(&mut self) -> Option<Fault> {
        if self.dead {
            return Some(Fault::PowerLoss);
        }
        let (left, fault) = self.faults.front_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        self.faults.pop_front();
        self.struck = true;
        self.dead = fault == Fault::PowerLoss;
        Some(fault)
    }

    /// Each pending sector reaches the disk or does not.
    fn lose(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.pending) {
            if self.chance() {
                write_at(&mut self.durable, at, &bytes);
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.strike() {
            Some(Fault::Io) => {
                self.lose();
                return Err(eio());
            }
            Some(Fault::PowerLoss) => return Err(eio()),
            None => {}
        }
        for (at, bytes) in std::mem::take(&mut self.pending) {
            write_at(&mut self.durable, at, &bytes);
        }
        Ok(())
    }

    fn write_sectors(&mut self, offset: usize, data: &[u8], torn: bool) {
        let mut at = 0;
        while at < data.len() {
            let len = (SECTOR - (offset + at) % SECTOR).min(data.len() - at);
            if !torn || self.chance() {
                write_at(&mut self.view, offset + at, &data[at..at + len]);
                self.pending.push((offset + at, data[at..at + len].to_vec()));
            }
            at += len;
        }
    }
}

fn write_at(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    // A sector beyond the end was cut off by a shorter length that became durable first.
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    pub(super) fn new(random: u64) -> Disk {
        let state = State { random: random | 1, capacity_pages: usize::MAX, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Opens the file; `again` syncs it and drops the cache first.
    pub(super) fn open(&self, again: bool) -> io::Result<Handle> {
        let mut state = self.lock();
        if state.dead {
            return Err(eio());
        }
        if again {
            state.sync()?;
            state.view = state.durable.clone();
        }
        state.handles += 1;
        Ok(Handle { disk: self.clone(), number: state.handles })
    }

    /// Lets an operation fail; `after` of them still succeed.
    pub(super) fn fail(&self, after: u64, fault: Fault) {
        self.lock().faults = [(after, fault)].into();
    }

    /// Lets one more fail, counted from the one before.
    pub(super) fn then_fail(&self, after: u64, fault: Fault) {
        self.lock().faults.push_back((after, fault));
    }

    /// Lets the next sync panic, as a defect would.
    pub(super) fn panic_once(&self) {
        self.lock().panics = true;
    }

    /// Takes a fault back that has not struck; whether there was one.
    pub(super) fn heal(&self) -> bool {
        !std::mem::take(&mut self.lock().faults).is_empty()
    }

    /// Whether a fault has struck since this was last asked.
    pub(super) fn struck(&self) -> bool {
        std::mem::take(&mut self.lock().struck)
    }

    /// Whether nothing answers.
    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// The power goes and comes back: unsynced sectors are kept or lost.
    pub(super) fn power_on(&self) {
        let mut state = self.lock();
        state.lose();
        state.view = state.durable.clone();
        state.dead = false;
        state.faults.clear();
        state.locks.clear();
    }

    /// Bytes that still fit.
    pub(super) fn left(&self) -> u64 {
        let state = self.lock();
        (state.capacity_pages.saturating_sub(state.used_pages()) as u64).saturating_mul(PAGE as u64)
    }

    /// Counts a file of the real file system as one of this disk while it is there.
    pub(super) fn holds(&self, path: PathBuf, bytes: u64) {
        self.lock().beside = Some((path, bytes as usize / PAGE));
    }

    /// Leaves room for so many more pages.
    pub(super) fn leave_pages(&self, more: usize) {
        let mut state = self.lock();
        state.capacity_pages = state.used_pages().saturating_add(more);
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        if state.dead { Err(eio()) } else { Ok(state.view.len() as u64) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.strike().is_some() {
            return Err(eio());
        }
        let offset = offset as usize;
        let bytes = state.view.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.strike().is_some() {
            return Err(eio());
        }
        // The length is metadata: journalled, and in order.
        let len = len as usize;
        state.view.resize(len, 0);
        state.durable.resize(len, 0);
        state.pending.retain(|(at, bytes)| at + bytes.len() <= len);
        state.used.retain(|page| page * PAGE < len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if std::mem::take(&mut state.panics) {
            drop(state);
            panic!("a defect");
        }
        state.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let was_dead = state.dead;
        let struck = state.strike();
        if struck == Some(Fault::PowerLoss) && was_dead {
            return Err(eio());
        }
        let offset = offset as usize;
        let pages = offset / PAGE..(offset + data.len()).div_ceil(PAGE);
        let new = pages.clone().filter(|page| !state.used.contains(page)).count();
        if struck.is_none() && new > 0 && state.used_pages() + new > state.capacity_pages {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.write_sectors(offset, data, struck.is_some());
        if struck.is_some() {
            return Err(eio());
        }
        state.used.extend(pages);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let number = self.number;
        self.disk.lock().locks.retain(|lock| lock.0 != number);
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.try_lock(start, end, false))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.try_lock(start, end, true))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let (from, to) = range(start, end);
        let number = self.number;
        self.disk.lock().locks.retain(|lock| (lock.0, lock.1, lock.2) != (number, from, to));
        Ok(())
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.conflicts(&self.disk.lock(), range(start, end), false))
    }
}

impl Handle {
    fn conflicts(&self, state: &State, (from, to): (u128, u128), shared: bool) -> bool {
        let conflicts = |lock: &(u64, u128, u128, bool)| {
            lock.0 != self.number && lock.1 < to && from < lock.2 && !(shared && lock.3)
        };
        state.locks.iter().any(conflicts)
    }

    fn try_lock(&self, start: Bound<u64>, end: Bound<u64>, shared: bool) -> bool {
        let mut state = self.disk.lock();
        let (from, to) = range(start, end);
        if self.conflicts(&state, (from, to), shared) {
            return false;
        }
        state.locks.push((self.number, from, to, shared));
        true
    }
}

fn range(start: Bound<u64>, end: Bound<u64>) -> (u128, u128) {
    let from = match start {
        Bound::Included(n) => u128::from(n),
        Bound::Excluded(n) => u128::from(n) + 1,
        Bound::Unbounded => 0,
    };
    let to = match end {
        Bound::Included(n) => u128::from(n) + 1,
        Bound::Excluded(n) => u128::from(n),
        Bound::Unbounded => u128::MAX,
    };
    (from, to)
}
