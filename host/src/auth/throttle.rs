//! Slows down whoever guesses passwords, without locking out whoever knows theirs.
//!
//! Failures are counted by (user, address) and by address. Past a few free tries each further failure doubles the
//! pause, up to a minute; a quarter of an hour without a failure forgets them. A password that was found right lately
//! is not subject to this, so that an attacker behind the same address cannot stop clients at work.
//!
//! Invariant: failures from elsewhere never slow a user down, or guessing would lock users out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one user from one address that cost nothing.
const FREE_BY_USER: u32 = 5;
/// Failures from one address that cost nothing, whoever is tried.
const FREE_BY_ADDRESS: u32 = 30;
const PAUSE_MAX: Duration = Duration::from_secs(60);
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Keys counted; when there are more, those that failed longest ago are forgotten.
const KEYS_MAX: usize = 8192;
/// What of an IPv6 address is counted: a machine picks the rest itself, as often as it likes.
const IPV6_NETWORK: u128 = u128::MAX << 64;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    User(String, IpAddr),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failed logins of late. One for each host.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<Counted, Failures>>);

impl Throttle {
    /// Whether a try is open to this user from this address now.
    ///
    /// # Errors
    /// The seconds to wait, at least 1.
    pub fn check(&self, user: &str, peer: IpAddr) -> Result<(), u64> {
        self.check_at(user, peer, Instant::now())
    }

    pub fn failed(&self, user: &str, peer: IpAddr) {
        self.failed_at(user, peer, Instant::now());
    }

    /// Forgets this user's failures from this address; those of the address stay.
    pub fn succeeded(&self, user: &str, peer: IpAddr) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.remove(&by_user(user, peer));
    }

    fn check_at(&self, user: &str, peer: IpAddr, now: Instant) -> Result<(), u64> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |key: &Counted, free: u32| {
            let failures = counted.get(key).filter(|f| now.duration_since(f.last) < FORGET_AFTER)?;
            (failures.last + pause(failures.count, free)).checked_duration_since(now)
        };
        let by_address = wait(&by_address(peer), FREE_BY_ADDRESS);
        match wait(&by_user(user, peer), FREE_BY_USER).max(by_address) {
            Some(left) if !left.is_zero() => Err(left.as_secs() + 1),
            _ => Ok(()),
        }
    }

    fn failed_at(&self, user: &str, peer: IpAddr, now: Instant) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() + 2 > KEYS_MAX {
            counted.retain(|_, failures| now.duration_since(failures.last) < PAUSE_MAX);
        }
        if counted.len() + 2 > KEYS_MAX {
            let mut last: Vec<Instant> = counted.values().map(|failures| failures.last).collect();
            let (_, middle, _) = last.select_nth_unstable(KEYS_MAX / 2);
            let middle = *middle;
            counted.retain(|_, failures| failures.last > middle);
        }
        for key in [by_user(user, peer), by_address(peer)] {
            let failures = counted.entry(key).or_insert(Failures { count: 0, last: now });
            if now.duration_since(failures.last) >= FORGET_AFTER {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
        }
    }
}

fn by_user(user: &str, peer: IpAddr) -> Counted {
    Counted::User(user.chars().take(64).collect(), network(peer))
}

fn by_address(peer: IpAddr) -> Counted {
    Counted::Address(network(peer))
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK)),
        address => address,
    }
}

/// 1, 2, 4 … seconds once the free tries are used up.
fn pause(count: u32, free: u32) -> Duration {
    match count.checked_sub(free) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(16)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_BY_USER {
            assert_eq!(throttle.check_at("alice", HERE, start), Ok(()));
            throttle.failed_at("alice", HERE, start);
        }
        assert!(throttle.check_at("alice", HERE, start).is_err());
        assert_eq!(throttle.check_at("alice", THERE, start), Ok(()));
        assert_eq!(throttle.check_at("bob", HERE, start), Ok(()));
        assert_eq!(throttle.check_at("alice", HERE, start + Duration::from_secs(2)), Ok(()));
        for _ in 0..20 {
            throttle.failed_at("alice", HERE, start);
        }
        assert!(throttle.check_at("alice", HERE, start + Duration::from_secs(59)).is_err());
        assert_eq!(throttle.check_at("alice", HERE, start + PAUSE_MAX), Ok(()));
        assert_eq!(throttle.check_at("alice", HERE, start + FORGET_AFTER), Ok(()));
    }

    #[test]
    fn an_address_that_tries_everybody_is_slowed_down() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for i in 0..FREE_BY_ADDRESS {
            throttle.failed_at(&format!("user{i}"), HERE, start);
        }
        assert!(throttle.check_at("alice", HERE, start).is_err());
        assert_eq!(throttle.check_at("alice", THERE, start), Ok(()));
    }

    #[test]
    fn an_address_is_counted_as_far_as_its_owner_did_not_choose_it() {
        let check = |failing: &str, trying: &str, slowed: bool| {
            let (throttle, start) = (Throttle::default(), Instant::now());
            for _ in 0..=FREE_BY_USER {
                throttle.failed_at("alice", failing.parse().unwrap(), start);
            }
            let tried = throttle.check_at("alice", trying.parse().unwrap(), start);
            assert_eq!(tried.is_err(), slowed, "{failing} {trying}");
        };
        check("2001:db8::1", "2001:db8::ffff:2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("192.0.2.1", "192.0.2.2", false);
        // IPv4 as a socket that takes both writes it.
        check("::ffff:192.0.2.1", "192.0.2.1", true);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for i in 0..20_000u32 {
            let peer = IpAddr::V4((0x0a00_0000 + i).into());
            throttle.failed_at("alice", peer, start + Duration::from_millis(i.into()));
        }
        assert!(throttle.0.lock().unwrap().len() <= KEYS_MAX);
    }
}
