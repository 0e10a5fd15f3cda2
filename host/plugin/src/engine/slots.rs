//! The calls that may run at the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ticker::{Running, Ticker};

/// Free slots, and who waits for one.
#[derive(Debug)]
pub(super) struct Slots {
    count: Mutex<Count>,
    freed: Condvar,
    wait: Duration,
}

#[derive(Debug)]
struct Count {
    free: u32,
    /// Calls that wait. Telling nobody that a slot is free would still be a system call, in each call of a plugin.
    waiting: u32,
}

/// A taken slot; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    _clock: Option<Running<'a>>,
}

impl Slots {
    pub(super) fn new(count: u32, wait: Duration) -> Self {
        Self { count: Mutex::new(Count { free: count, waiting: 0 }), freed: Condvar::new(), wait }
    }

    /// Waits for a slot, up to the time that was set.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let count = self.count();
        let mut count = if count.free == 0 { self.wait_for_one(count)? } else { count };
        count.free -= 1;
        Some(Slot { slots: self, _clock: None })
    }

    fn wait_for_one<'a>(&self, mut count: MutexGuard<'a, Count>) -> Option<MutexGuard<'a, Count>> {
        let deadline = Instant::now() + self.wait;
        count.waiting += 1;
        while count.free == 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            (count, _) = self.freed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner);
        }
        count.waiting -= 1;
        (count.free > 0).then_some(count)
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        // A poisoned lock still guards whole numbers.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Slot<'a> {
    pub(super) fn with_clock(mut self, ticker: &'a Ticker) -> Self {
        self._clock = Some(ticker.run());
        self
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut count = self.slots.count();
        count.free += 1;
        if count.waiting > 0 {
            self.slots.freed.notify_one();
        }
    }
}
