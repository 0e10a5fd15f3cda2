//! Passwords: argon2id hashes, checked a few at a time, remembered for a while once they were right.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::{Rng as _, TryRngCore as _};
use ring::hmac;
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AuthError;

/// Hashes computed at the same time. Each takes [`MEMORY_KIB`] and a core.
const AT_ONCE: usize = 2;
/// Checks that wait for their turn; one more is told to come back.
const WAITING_MAX: usize = 64;
/// Memory of one hash in KiB, passes and lanes: OWASP's first choice for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// KiB of address space taken for a hash, of which it touches [`MEMORY_KIB`]. glibc maps what is over 32 MiB for itself
/// and gives it back to the system at once; less would stay with whichever thread took it, in the end with each.
const MAPPED_BLOCKS: usize = 33 * 1024;
/// How long a password that was right needs no hash again: clients that send it with each request stay fast.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// Passwords remembered; when there are more, all are forgotten.
const KNOWN_MAX: usize = 4096;
/// Shortest and longest password, in bytes.
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=256;
/// Characters of a password that the server makes: none that look alike; 24 of 55 are 138 bits.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const RANDOM_CHARACTERS: usize = 24;

/// Why a password was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has 8 to 256 bytes")]
    Length,
    #[error("a password cannot start with `wharf_pat_`; hint: that is how access tokens start")]
    LooksLikeToken,
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// The right to compute one hash.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

/// What checking passwords needs. One for each host.
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    /// Keys what is remembered; made at start and never stored.
    secret: hmac::Key,
    known: Mutex<HashMap<[u8; 32], Instant>>,
    /// A hash of nobody's password, checked for users there are not.
    nobody: String,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(…)")
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords::new()
    }
}

impl Passwords {
    pub fn new() -> Self {
        let secret: [u8; 32] = rand::rng().random();
        // Parameters as of every stored hash, so that it takes the same work; salt and hash are arbitrary.
        let nobody = format!(
            "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1$bm9ib2R5bm9ib2R5$bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8"
        );
        Passwords {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: Mutex::default(),
            nobody,
        }
    }

    /// Whether this password was found right for this very hash a short while ago. Whoever goes on using it stays known, so
    /// that guesses from the same address do not stop a client at work.
    pub fn is_known(&self, user: &str, password: &str, hash: &str) -> bool {
        let tag = self.tag(user, password, hash);
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = known.get_mut(&tag).filter(|until| **until > now) else { return false };
        *until = now + KNOWN_FOR;
        true
    }

    /// Waits until a hash may be computed.
    ///
    /// # Errors
    /// [`AuthError::Busy`] where too many wait already.
    pub async fn turn(&self) -> Result<Turn, AuthError> {
        let _place = self.waiting.try_acquire().map_err(|_| AuthError::Busy)?;
        Ok(Turn(self.turns.clone().acquire_owned().await.map_err(|_| AuthError::Busy)?))
    }

    /// Whether the password is the one of the hash; with no hash (no such user, or one without a password) the same
    /// work is done and the answer is no. Hands back the turn, to be kept until what follows from the answer is written.
    ///
    /// # Errors
    /// [`AuthError::Hash`] where the stored hash is damaged.
    pub async fn check(
        &self,
        turn: Turn,
        user: &str,
        password: &str,
        hash: Option<&str>,
    ) -> Result<(bool, Turn), AuthError> {
        let attempted = password.to_owned();
        let stored = hash.unwrap_or(&self.nobody).to_owned();
        // The turn goes along: it is held for as long as the thread works, also where nobody waits for the answer any more.
        let work = move || (verify(attempted.as_bytes(), &stored), turn);
        let (right, turn) = tokio::task::spawn_blocking(work).await.map_err(|_| AuthError::Busy)?;
        let right = right.map_err(|e| AuthError::Hash(e.to_string()))?;
        if let Some(hash) = hash.filter(|_| right) {
            self.remember(self.tag(user, password, hash));
        }
        Ok((right, turn))
    }

    fn remember(&self, tag: [u8; 32]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, until| *until > now);
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(tag, now + KNOWN_FOR);
    }

    /// Stands for a password in memory: an HMAC over user, stored hash and password, each with its length.
    fn tag(&self, user: &str, password: &str, hash: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [user, hash, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// Whether the password is the one of a hash in PHC form.
fn verify(password: &[u8], stored: &str) -> Result<bool, argon2::password_hash::Error> {
    let stored = PasswordHash::new(stored)?;
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else { return Ok(false) };
    let mut salt_bytes = [0; argon2::password_hash::Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut salt_bytes)?;
    let version = stored.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let params = Params::try_from(&stored)?;
    let mut memory = Vec::with_capacity(MAPPED_BLOCKS.max(params.block_count()));
    memory.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::try_from(stored.algorithm)?, version, params);
    let mut actual = vec![0; expected.len()];
    argon2.hash_password_into_with_memory(password, salt, &mut actual, &mut memory)?;
    Ok(actual.ct_eq(expected.as_bytes()).into())
}

/// The hash to store for a password, in PHC form. Takes tens of milliseconds and 19 MiB: call it off the runtime's
/// threads.
///
/// # Errors
/// [`PasswordError::Length`] for one that is too short or too long.
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    if !PASSWORD_BYTES.contains(&password.len()) {
        return Err(PasswordError::Length);
    }
    if super::is_access_token(password) {
        return Err(PasswordError::LooksLikeToken);
    }
    let wrong = |e: &dyn fmt::Display| PasswordError::Hash(e.to_string());
    let mut salt = [0; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut salt).map_err(|e| wrong(&e))?;
    let salt = SaltString::encode_b64(&salt).map_err(|e| wrong(&e))?;
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|e| wrong(&e))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes(), &salt).map_err(|e| wrong(&e))?;
    Ok(hash.to_string())
}

/// A password for somebody to copy: 138 random bits.
pub fn random_password() -> String {
    let mut rng = rand::rng();
    let mut letter = || char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    (0..RANDOM_CHARACTERS).map(|_| letter()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(passwords: &Passwords, password: &str, hash: Option<&str>) -> bool {
        let turn = passwords.turn().await.unwrap();
        passwords.check(turn, "alice", password, hash).await.unwrap().0
    }

    #[tokio::test]
    async fn a_right_password_is_known_until_its_hash_changes() {
        let passwords = Passwords::new();
        let hash = hash_password("correct horse").unwrap();
        assert!(!passwords.is_known("alice", "correct horse", &hash));
        assert!(!check(&passwords, "wrong horse", Some(&hash)).await);
        assert!(!passwords.is_known("alice", "wrong horse", &hash));
        assert!(check(&passwords, "correct horse", Some(&hash)).await);
        assert!(passwords.is_known("alice", "correct horse", &hash));
        assert!(!passwords.is_known("bob", "correct horse", &hash));
        let changed = hash_password("correct horse").unwrap();
        assert!(!passwords.is_known("alice", "correct horse", &changed));
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = Passwords::new();
        assert!(PasswordHash::new(&passwords.nobody).is_ok());
        assert!(!check(&passwords, "whatever it is", None).await);
    }

    #[test]
    fn what_is_taken_as_a_password() {
        assert!(matches!(hash_password("short"), Err(PasswordError::Length)));
        assert!(matches!(hash_password(&"x".repeat(257)), Err(PasswordError::Length)));
        assert!(matches!(hash_password("wharf_pat_x"), Err(PasswordError::LooksLikeToken)));
        let made = random_password();
        assert_eq!(made.len(), RANDOM_CHARACTERS);
        assert_ne!(made, random_password());
    }
}
