//! The calls that may run at the same time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ticker::{Running, Ticker};

/// Free slots, and who waits for one.
#[derive(Debug)]
pub(super) struct Slots {
    free: Mutex<u32>,
    freed: Condvar,
    wait: Duration,
}

/// A taken slot; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    _clock: Option<Running<'a>>,
}

impl Slots {
    pub(super) fn new(count: u32, wait: Duration) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new(), wait }
    }

    /// Waits for a slot, up to the time that was set.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        // A poisoned lock still guards a whole number.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if *free == 0 {
            let deadline = Instant::now() + self.wait;
            while *free == 0 {
                let left = deadline.checked_duration_since(Instant::now())?;
                (free, _) = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner);
            }
        }
        *free -= 1;
        Some(Slot { slots: self, _clock: None })
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
        *self.slots.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.slots.freed.notify_one();
    }
}
