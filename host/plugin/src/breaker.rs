//! Stops asking a plugin that keeps failing on one image: three failures in a row, and the call is held without being made until
//! a time that doubles with each further failure.
//!
//! Invariant: counted by plugin *and* image. A plugin that fails on one image goes on judging all others, and an image cannot
//! bring an older version back by making the new one fail.
//! Invariant: what decides how a call goes is part of what is counted, so that whoever mends the cause is not held for what was.
//! Invariant: an open breaker is a hold, never an approval.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plugin::CallError;
use crate::sandbox::CallLimits;

/// Failures in a row that open the breaker.
pub const MAX_FAILURES: u32 = 3;

/// How long it stays open at first, and at most, in ms.
pub const FIRST_COOL_DOWN_MS: u64 = 5_000;
/// See [`FIRST_COOL_DOWN_MS`].
pub const LAST_COOL_DOWN_MS: u64 = 3_600_000;

/// The most calls that are remembered; the one that failed longest ago is forgotten first.
const MAX_CALLS: usize = 4_096;

/// A call that may be made again and again, by what makes it fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// The digest of the plugin.
    pub plugin: String,
    /// What it may take: more of it, and the call may come to an end.
    pub limits: CallLimits,
    /// The digest of its config: that of one binding may make it fail on an image which another binding is about, too.
    pub config: String,
    /// The digest of the image.
    pub image: String,
}

/// Whether a call may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Call it.
    Closed,
    /// Do not call it; hold the image.
    Open {
        /// Until when, in ms by the caller's clock.
        until_ms: u64,
        /// Why, for the record of the decision.
        reason: String,
    },
}

#[derive(Debug)]
struct Failures {
    in_a_row: u32,
    failed_at_ms: u64,
    until_ms: u64,
    last: String,
}

/// The failures of every call.
#[derive(Debug, Default)]
pub struct Breaker {
    calls: Mutex<HashMap<Call, Failures>>,
}

impl Breaker {
    /// Whether this call may be made at `now_ms`, by a clock that does not leap. After the time has passed it is made again; a
    /// further failure opens at once, for twice as long.
    pub fn gate(&self, call: &Call, now_ms: u64) -> Gate {
        match self.lock().get(call) {
            Some(failures) if now_ms < failures.until_ms => Gate::Open {
                until_ms: failures.until_ms,
                reason: format!(
                    "{} failures in a row on this image, the last: {}",
                    failures.in_a_row, failures.last
                ),
            },
            _ => Gate::Closed,
        }
    }

    /// The call came to a verdict.
    pub fn succeeded(&self, call: &Call) {
        self.lock().remove(call);
    }

    /// The call failed; failures that are not the plugin's fault do not count. True: the breaker opened by it, which is worth
    /// an event.
    pub fn failed(&self, call: Call, error: &CallError, now_ms: u64) -> bool {
        error.cause.is_fault() && self.count(call, error.to_string(), now_ms)
    }

    fn count(&self, call: Call, last: String, now_ms: u64) -> bool {
        let mut calls = self.lock();
        if calls.len() >= MAX_CALLS && !calls.contains_key(&call) {
            let oldest = calls.iter().min_by_key(|(_, failures)| failures.failed_at_ms);
            let oldest = oldest.map(|(call, _)| call.clone());
            oldest.and_then(|oldest| calls.remove(&oldest));
        }
        let new = Failures { in_a_row: 0, failed_at_ms: now_ms, until_ms: 0, last: String::new() };
        let failures = calls.entry(call).or_insert(new);
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.failed_at_ms = now_ms;
        failures.last = last;
        let Some(doublings) = failures.in_a_row.checked_sub(MAX_FAILURES) else { return false };
        let cool_down = FIRST_COOL_DOWN_MS.saturating_mul(1 << doublings.min(20)).min(LAST_COOL_DOWN_MS);
        failures.until_ms = now_ms.saturating_add(cool_down);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Call, Failures>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(image: &str) -> Call {
        Call {
            plugin: "sha256:p".into(),
            limits: CallLimits::default(),
            config: "sha256:c".into(),
            image: image.into(),
        }
    }

    fn fail(breaker: &Breaker, image: &str, now_ms: u64) -> bool {
        breaker.count(call(image), "trapped".into(), now_ms)
    }

    #[test]
    fn opens_on_the_third_and_doubles() {
        let breaker = Breaker::default();
        let a = call("a");
        assert!(!fail(&breaker, "a", 0) && !fail(&breaker, "a", 1));
        assert_eq!(breaker.gate(&a, 1), Gate::Closed);
        assert!(fail(&breaker, "a", 2));
        let Gate::Open { until_ms, reason } = breaker.gate(&a, 3) else { panic!("open") };
        assert_eq!(
            (until_ms, reason.as_str()),
            (5_002, "3 failures in a row on this image, the last: trapped")
        );
        assert_eq!(breaker.gate(&call("b"), 3), Gate::Closed, "another image");
        assert_eq!(breaker.gate(&Call { plugin: "sha256:q".into(), ..a.clone() }, 3), Gate::Closed);
        assert_eq!(breaker.gate(&a, 5_002), Gate::Closed, "asked again");
        assert!(fail(&breaker, "a", 5_002));
        assert!(matches!(breaker.gate(&a, 15_001), Gate::Open { until_ms: 15_002, .. }));
        (0..100).for_each(|_| assert!(fail(&breaker, "a", 20_000)));
        let longest = 20_000 + LAST_COOL_DOWN_MS;
        assert!(matches!(breaker.gate(&a, 20_000), Gate::Open { until_ms, .. } if until_ms == longest));
        breaker.succeeded(&a);
        assert_eq!(breaker.gate(&a, 20_000), Gate::Closed);
    }

    /// Regression: who gave a plugin more time was told for up to an hour that it had run into the old limit.
    #[test]
    fn other_limits_are_another_call() {
        let breaker = Breaker::default();
        (0..MAX_FAILURES).for_each(|_| _ = fail(&breaker, "a", 0));
        assert!(matches!(breaker.gate(&call("a"), 1), Gate::Open { .. }));
        let limits = CallLimits { time_ms: 60_000, ..CallLimits::default() };
        assert_eq!(breaker.gate(&Call { limits, ..call("a") }, 1), Gate::Closed);
    }

    /// Regression: a binding whose config made the plugin fail had the images held of every other binding that asks it.
    #[test]
    fn another_config_is_another_call() {
        let breaker = Breaker::default();
        (0..MAX_FAILURES).for_each(|_| _ = fail(&breaker, "a", 0));
        let mine = Call { config: "sha256:d".into(), ..call("a") };
        assert_eq!(breaker.gate(&mine, 1), Gate::Closed);
        // Nor does what passes for one close it for the other.
        breaker.succeeded(&mine);
        assert!(matches!(breaker.gate(&call("a"), 1), Gate::Open { .. }));
    }

    #[test]
    fn remembers_a_bounded_number() {
        let breaker = Breaker::default();
        for n in 0..MAX_CALLS as u64 + 10 {
            fail(&breaker, &n.to_string(), n);
        }
        assert_eq!(breaker.lock().len(), MAX_CALLS);
        assert!(!breaker.lock().contains_key(&call("0")), "the oldest went");
    }
}
