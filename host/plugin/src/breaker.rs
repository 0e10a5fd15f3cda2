//! Stops asking a plugin that keeps failing on one image: three failures in a row, and the pair is held without a call until a
//! time that doubles with each further failure.
//!
//! Invariant: counted by plugin *and* image. A plugin that fails on one image goes on judging all others, and an image cannot
//! bring an older version back by making the new one fail.
//! Invariant: an open breaker is a hold, never an approval.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::plugin::CallError;

/// Failures in a row that open the breaker.
pub const MAX_FAILURES: u32 = 3;

/// How long it stays open at first, and at most, in ms.
pub const FIRST_COOL_DOWN_MS: u64 = 5_000;
/// See [`FIRST_COOL_DOWN_MS`].
pub const LAST_COOL_DOWN_MS: u64 = 3_600_000;

/// The most pairs that are remembered; the one that failed longest ago is forgotten first.
const MAX_PAIRS: usize = 4_096;

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
struct Pair {
    failures: u32,
    failed_at_ms: u64,
    until_ms: u64,
    last: String,
}

/// The failures of every (plugin, image) pair.
#[derive(Debug, Default)]
pub struct Breaker {
    pairs: Mutex<HashMap<(String, String), Pair>>,
}

impl Breaker {
    /// Whether this plugin may be asked about this image at `now_ms`, by a clock that does not leap. After the time has passed it
    /// is asked again; a further failure opens at once, for twice as long.
    pub fn gate(&self, plugin_digest: &str, image_digest: &str, now_ms: u64) -> Gate {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        match pairs.get(&key(plugin_digest, image_digest)) {
            Some(pair) if now_ms < pair.until_ms => Gate::Open {
                until_ms: pair.until_ms,
                reason: format!("{} failures in a row on this image, the last: {}", pair.failures, pair.last),
            },
            _ => Gate::Closed,
        }
    }

    /// The call came to a verdict.
    pub fn succeeded(&self, plugin_digest: &str, image_digest: &str) {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(plugin_digest, image_digest));
    }

    /// The call failed; failures that are not the plugin's fault do not count. True: the breaker opened by it, which is worth
    /// an event.
    pub fn failed(&self, plugin_digest: &str, image_digest: &str, error: &CallError, now_ms: u64) -> bool {
        error.cause.is_fault() && self.count(plugin_digest, image_digest, error.to_string(), now_ms)
    }

    fn count(&self, plugin_digest: &str, image_digest: &str, last: String, now_ms: u64) -> bool {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(plugin_digest, image_digest);
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&key) {
            let oldest = pairs.iter().min_by_key(|(_, pair)| pair.failed_at_ms).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| pairs.remove(&oldest));
        }
        let new = Pair { failures: 0, failed_at_ms: now_ms, until_ms: 0, last: String::new() };
        let pair = pairs.entry(key).or_insert(new);
        pair.failures = pair.failures.saturating_add(1);
        pair.failed_at_ms = now_ms;
        pair.last = last;
        let Some(doublings) = pair.failures.checked_sub(MAX_FAILURES) else { return false };
        let cool_down = FIRST_COOL_DOWN_MS.saturating_mul(1 << doublings.min(20)).min(LAST_COOL_DOWN_MS);
        pair.until_ms = now_ms.saturating_add(cool_down);
        true
    }
}

fn key(plugin_digest: &str, image_digest: &str) -> (String, String) {
    (plugin_digest.to_owned(), image_digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, image: &str, now_ms: u64) -> bool {
        breaker.count("sha256:p", image, "trapped".into(), now_ms)
    }

    #[test]
    fn opens_on_the_third_and_doubles() {
        let breaker = Breaker::default();
        assert!(!fail(&breaker, "a", 0) && !fail(&breaker, "a", 1));
        assert_eq!(breaker.gate("sha256:p", "a", 1), Gate::Closed);
        assert!(fail(&breaker, "a", 2));
        let Gate::Open { until_ms, reason } = breaker.gate("sha256:p", "a", 3) else { panic!("open") };
        assert_eq!(
            (until_ms, reason.as_str()),
            (5_002, "3 failures in a row on this image, the last: trapped")
        );
        assert_eq!(breaker.gate("sha256:p", "b", 3), Gate::Closed, "another image");
        assert_eq!(breaker.gate("sha256:q", "a", 3), Gate::Closed, "another plugin");
        assert_eq!(breaker.gate("sha256:p", "a", 5_002), Gate::Closed, "asked again");
        assert!(fail(&breaker, "a", 5_002));
        assert!(matches!(breaker.gate("sha256:p", "a", 15_001), Gate::Open { until_ms: 15_002, .. }));
        (0..100).for_each(|_| assert!(fail(&breaker, "a", 20_000)));
        let longest = 20_000 + LAST_COOL_DOWN_MS;
        assert!(
            matches!(breaker.gate("sha256:p", "a", 20_000), Gate::Open { until_ms, .. } if until_ms == longest)
        );
        breaker.succeeded("sha256:p", "a");
        assert_eq!(breaker.gate("sha256:p", "a", 20_000), Gate::Closed);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let breaker = Breaker::default();
        for n in 0..MAX_PAIRS as u64 + 10 {
            fail(&breaker, &n.to_string(), n);
        }
        let pairs = breaker.pairs.lock().unwrap();
        assert_eq!(pairs.len(), MAX_PAIRS);
        assert!(!pairs.contains_key(&key("sha256:p", "0")), "the oldest went");
    }
}
