//! How long a call may run: counted in time on a processor, so that a busy machine does not turn good calls into timeouts,
//! with a bound on the time that passes as well.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Ticks before the first look. Most calls have ended by then, and never pay for one.
pub(crate) const FIRST_LOOK_TICKS: u64 = 2;

/// Steps of a host function from one look to the next; a step is one text matched against one pattern.
const LOOK_STEPS: u32 = 16;

/// A call may wait for a processor for so many times its limit.
const MAX_STALL: u32 = 50;

/// Watches one call.
#[derive(Debug)]
pub(crate) struct Deadline {
    limit_ms: u64,
    started: Instant,
    /// What the thread had used of a processor at the first look, in ns.
    first_ns: Cell<Option<u64>>,
    /// Of host functions.
    steps: Cell<u32>,
    up: Cell<bool>,
}

impl Deadline {
    pub(crate) fn new(limit_ms: u64) -> Self {
        let (first_ns, steps, up) = (Cell::new(None), Cell::new(0), Cell::new(false));
        Self { limit_ms, started: Instant::now(), first_ns, steps, up }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a step of a host function, which no epoch reaches. False: the time is up, and what is left of the question is not
    /// worth doing.
    pub(crate) fn step(&self) -> bool {
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(LOOK_STEPS) && self.elapsed() >= self.limit() && self.look().is_none() {
            self.up.set(true);
        }
        !self.up.get()
    }

    /// Whether a [`step`](Self::step) found the time up.
    pub(crate) fn is_up(&self) -> bool {
        self.up.get()
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }

    /// The ticks until the next look; none: the time is up.
    pub(crate) fn look(&self) -> Option<u64> {
        let limit = self.limit();
        let passed = self.started.elapsed();
        if passed >= limit.saturating_mul(MAX_STALL) {
            return None;
        }
        let used = match (self.first_ns.get(), thread_ns()) {
            // A machine that does not tell: the time that passes.
            (_, None) => passed,
            (None, Some(now)) => {
                self.first_ns.set(Some(now));
                Duration::from_millis(FIRST_LOOK_TICKS).min(passed)
            }
            (Some(first), Some(now)) => {
                Duration::from_nanos(now.saturating_sub(first)) + Duration::from_millis(FIRST_LOOK_TICKS)
            }
        };
        let left = limit.checked_sub(used).filter(|left| !left.is_zero())?;
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

/// How long this thread has been on a processor, in ns, by the kernel's own account
/// (`Documentation/scheduler/sched-stats.rst`); none where there is no such account.
fn thread_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_running() {
        // A machine on which this thread stands still for half a minute is none that stalls for too long.
        let deadline = Deadline::new(1_000);
        assert!(deadline.look().is_some());
        std::thread::sleep(Duration::from_millis(1_100));
        assert!(thread_ns().is_none() || deadline.look().is_some(), "it slept");
        let bound = deadline.limit() * (MAX_STALL + 10);
        while deadline.look().is_some() {
            assert!(deadline.elapsed() < bound, "it runs, and is never stopped");
            std::hint::black_box((0..10_000).sum::<u64>());
        }
        assert!(!(0..=LOOK_STEPS).all(|_| deadline.step()) && deadline.is_up());
    }
}
