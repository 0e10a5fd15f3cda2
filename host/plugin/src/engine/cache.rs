//! Compiled code, kept between starts: `<dir>/<engine>/<sha256>.cwasm`, where `<engine>` stands for the version and settings of
//! the compiler and for this kind of machine.
//!
//! Invariant: a file is used only if its first 32 bytes authenticate the rest under the key of this folder. Anything else, from
//! a missing file to a torn one, is a miss.
//! Invariant: folder 0700, files 0600. Who can write here can already do what this process can.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::watch;

/// The most compiled plugins that are kept: all that a folder may have, and what they took the place of. Those go first that were
/// not used for longest.
const MAX_FILES: usize = 2 * watch::MAX_FILES;

/// How far the time of a file may lie before its last use: most uses write nothing.
const USED_GRAIN: Duration = Duration::from_secs(3600);

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

const TAG_BYTES: usize = 32;
const KEY_FILE: &str = "key";

/// An open cache.
#[derive(Debug)]
pub(super) struct CompiledCache {
    dir: PathBuf,
    key: [u8; 32],
}

impl CompiledCache {
    /// Opens the cache for this engine; what other engines left is removed.
    pub(super) fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        private_dir(dir)?;
        let key = key(&dir.join(KEY_FILE))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != name.as_str() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let dir = dir.join(name);
        private_dir(&dir)?;
        Ok(Self { dir, key })
    }

    /// None: a miss.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let file = self.read(digest)?;
        let (tag, code) = file.split_at_checked(TAG_BYTES)?;
        self.mac(digest, code)?.verify_slice(tag).ok()?;
        self.deserialize(engine, digest, code)
    }

    #[expect(unsafe_code, reason = "the one exception; see the proof inside")]
    fn deserialize(&self, engine: &Engine, digest: &str, code: &[u8]) -> Option<Component> {
        // SAFETY: `Component::deserialize` runs what it is given as machine code, so the bytes must come from
        // `Component::serialize` of a compatible engine. They do:
        // - `get` has just verified a MAC over these very bytes (in memory, not in a file that could still change), which only
        //   `put` makes, and `put` is only given the output of `Component::serialize` by `Engine::compile`;
        // - the key is 32 random bytes in a 0600 file of a 0700 folder, so nobody else has made that MAC, unless with the
        //   rights of this process;
        // - the MAC also covers the plugin's digest and the folder's name, that is, the engine's compatibility hash, so code
        //   of another plugin or compiler cannot be moved here; and wasmtime checks its version and settings once more.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(%digest, %error, "cached code is not for this engine; compiling again");
                None
            }
        }
    }

    /// Whether there is code for this plugin, good or not.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_some_and(|path| path.is_file())
    }

    /// Keeps compiled code. A failure is logged; the next start compiles again.
    pub(super) fn put(&self, digest: &str, code: &[u8]) {
        if let Err(error) = self.write(digest, code) {
            tracing::warn!(%digest, %error, "compiled plugin is not cached");
        }
    }

    /// The file's time says when it was used last.
    fn read(&self, digest: &str) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(digest)?).ok()?;
        let meta = file.metadata().ok()?;
        if meta.len() > MAX_FILE_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > USED_GRAIN) {
            // Where it cannot be set, the file goes sooner.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(bytes)
    }

    fn write(&self, digest: &str, code: &[u8]) -> io::Result<()> {
        let (Some(path), Some(mac)) = (self.path(digest), self.mac(digest, code)) else {
            return Err(io::Error::other("not a sha256 digest"));
        };
        let partial = path.with_extension("partial");
        let mut file = private_file().create(true).truncate(true).open(&partial)?;
        file.write_all(&mac.finalize().into_bytes())?;
        file.write_all(code)?;
        drop(file);
        std::fs::rename(partial, path)?;
        self.trim()
    }

    fn trim(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        files.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    /// None: not a digest, so that nothing else ever becomes a file name.
    fn path(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        let plain = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| self.dir.join(format!("{hex}.cwasm")))
    }

    fn mac(&self, digest: &str, code: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(self.dir.file_name()?.as_encoded_bytes());
        mac.update(b"\0");
        mac.update(digest.as_bytes());
        mac.update(b"\0");
        mac.update(code);
        Some(mac)
    }
}

fn private_file() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// Reads the key, or makes one. A key of another length is replaced: every file is a miss then.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    if let Ok(bytes) = std::fs::read(path)
        && let Ok(key) = bytes.try_into()
    {
        return Ok(key);
    }
    let key: [u8; 32] = rand::random();
    let partial = path.with_extension("partial");
    let mut file = private_file().create(true).truncate(true).open(&partial)?;
    file.write_all(&key)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(partial, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> String {
        format!("sha256:{n:064x}")
    }

    /// Regression: there was room for half of a full folder, so that each start compiled the other half again.
    #[test]
    fn a_full_folder_is_kept_with_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledCache::open(dir.path(), &Engine::default()).unwrap();
        let kept = |count: usize| (0..count).filter(|n| cache.read(&digest(*n)).is_some()).count();
        let both = 2 * watch::MAX_FILES;
        (0..both).for_each(|n| cache.put(&digest(n), b"code"));
        assert_eq!(kept(both), both);
        cache.put(&digest(both), b"code");
        assert_eq!(kept(both + 1), both, "one went");
    }

    /// Regression: what was compiled first went first, though each start used it.
    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledCache::open(dir.path(), &Engine::default()).unwrap();
        let long_ago = SystemTime::now() - 2 * USED_GRAIN;
        for n in 0..MAX_FILES {
            cache.put(&digest(n), b"code");
            let file = File::open(cache.path(&digest(n)).unwrap()).unwrap();
            file.set_modified(long_ago + Duration::from_secs(n as u64)).unwrap();
        }
        assert!(cache.read(&digest(0)).is_some());
        cache.put(&digest(MAX_FILES), b"code");
        assert!(cache.has(&digest(0)), "it was used");
        assert!(!cache.has(&digest(1)));
    }
}
