//! Plugins by digest, kept for as long as a decision refers to them: the last good one of each name, and what a replay runs.
//!
//! Invariant: what [`Archive::put`] returned from is on the disk; what [`Archive::get`] returns has the digest that was asked
//! for.
//! Invariant: what was put within [`LOADING_MAX`] before somebody found that nothing refers to it, or since then, stays.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::facts::sha256;
use crate::inspect::MAX_PLUGIN_BYTES;

/// The longest from a plugin's being put to its being in force, which it is only with all that was found beside it: at most 256
/// files, of which each takes seconds.
pub const LOADING_MAX: Duration = Duration::from_secs(3600);

/// What a plugin's file ends in.
const WHOLE: &str = "wasm";
/// What it ends in while it is written.
const PARTIAL: &str = "partial";

/// A folder of plugins, each in a file that is named by the hex digest of its bytes. Clones are the same archive.
#[derive(Debug, Clone)]
pub struct Archive {
    dir: PathBuf,
    /// When this process last put each digest.
    put: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Why bytes cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or folder cannot be read or written.
    #[error("plugin archive `{}`: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not `sha256:` and 64 hex digits.
    #[error("`{0}` is no sha256 digest")]
    NotADigest(String),
    /// The file has changed since it was written.
    #[error("plugin archive: the bytes kept as `{0}` no longer have that digest")]
    Damaged(String),
}

impl Archive {
    /// Opens the folder, and makes it if there is none.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| ArchiveError::Io { path: dir.to_owned(), error })?;
        Ok(Self { dir: dir.to_owned(), put: Arc::default() })
    }

    /// Keeps `bytes`, and returns their digest. Costs nothing if they are there.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<String, ArchiveError> {
        let digest = sha256(bytes);
        let path = self.path(&digest)?;
        // Before it is looked for: from here on nobody removes what is found.
        self.lock().insert(digest.clone(), Instant::now());
        if let Ok(Some(_)) = self.get(&digest) {
            return Ok(digest);
        }
        self.write(&path, bytes).map_err(|error| ArchiveError::Io { path, error })?;
        Ok(digest)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let partial = path.with_extension(PARTIAL);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(partial, path)?;
        std::fs::File::open(&self.dir)?.sync_all()
    }

    /// The bytes with this digest; none if they were never kept.
    ///
    /// # Errors
    /// Every [`ArchiveError`].
    pub fn get(&self, digest: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let path = self.path(digest)?;
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ArchiveError::Io { path, error }),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_PLUGIN_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| ArchiveError::Io { path, error })?;
        match sha256(&bytes) == digest {
            true => Ok(Some(bytes)),
            false => Err(ArchiveError::Damaged(digest.to_owned())),
        }
    }

    /// Digests of all that has a file here, in their order, also of what a kill left half written.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn digests(&self) -> Result<Vec<String>, ArchiveError> {
        let unreadable = |error| ArchiveError::Io { path: self.dir.clone(), error };
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
            let digest = format!("sha256:{}", stem.to_string_lossy());
            if (extension == WHOLE || extension == PARTIAL) && self.path(&digest).is_ok() {
                found.insert(digest);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Forgets the bytes with this digest, to which nothing referred at `looked`; not if they were put since then, or within
    /// [`LOADING_MAX`] before. Returns whether they are gone.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] and [`ArchiveError::NotADigest`].
    pub fn remove(&self, digest: &str, looked: Instant) -> Result<bool, ArchiveError> {
        let path = self.path(digest)?;
        let mut put = self.lock();
        if put.get(digest).is_some_and(|at| looked < *at + LOADING_MAX) {
            return Ok(false);
        }
        for path in [path.with_extension(PARTIAL), path] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ArchiveError::Io { path, error });
                }
                _ => {}
            }
        }
        put.remove(digest);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &str) -> Result<PathBuf, ArchiveError> {
        let hex = digest.strip_prefix("sha256:").unwrap_or("");
        let plain = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return Err(ArchiveError::NotADigest(digest.to_owned()));
        }
        Ok(self.dir.join(hex).with_extension(WHOLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When what was put until now has long been in force, if it ever will be.
    fn later() -> Instant {
        Instant::now() + LOADING_MAX
    }

    #[test]
    fn what_is_kept_is_had() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(&dir.path().join("plugins")).unwrap();
        let digest = archive.put(b"bytes").unwrap();
        assert_eq!(archive.put(b"bytes").unwrap(), digest);
        assert_eq!(archive.get(&digest).unwrap().unwrap(), b"bytes");
        assert!(archive.remove(&digest, later()).unwrap());
        assert!(archive.remove(&digest, later()).unwrap());
        assert!(archive.get(&digest).unwrap().is_none());
    }

    /// A plugin that came back between the look and the removal lost its bytes.
    #[test]
    fn what_was_put_since_the_look_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let digest = archive.put(b"bytes").unwrap();
        let looked = later();
        archive.clone().put(b"bytes").unwrap();
        assert!(!archive.remove(&digest, looked).unwrap());
        assert!(archive.get(&digest).unwrap().is_some());
        assert!(archive.remove(&digest, later()).unwrap());
    }

    /// Regression: a plugin was put, and while those beside it compiled, somebody looked and found that nothing referred to it: it
    /// came in force without its bytes.
    #[test]
    fn what_is_put_and_not_yet_in_force_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let digest = archive.put(b"bytes").unwrap();
        assert!(!archive.remove(&digest, Instant::now()).unwrap());
        assert!(archive.get(&digest).unwrap().is_some());
    }

    /// Regression: what a kill left of a plugin stayed for ever, as nothing had yet said that it was there.
    #[test]
    fn what_a_kill_left_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let (whole, half) = (archive.put(b"whole").unwrap(), sha256(b"half"));
        std::fs::write(archive.path(&half).unwrap().with_extension(PARTIAL), b"ha").unwrap();
        for other in ["notes.wasm".to_owned(), whole.replace("sha256:", "")] {
            std::fs::write(dir.path().join(other), b"not ours").unwrap();
        }
        let archive = Archive::open(dir.path()).unwrap();
        assert_eq!(
            archive.digests().unwrap(),
            BTreeSet::from([&whole, &half]).into_iter().cloned().collect::<Vec<_>>()
        );
        for digest in [&whole, &half] {
            assert!(archive.remove(digest, Instant::now()).unwrap());
        }
        assert!(archive.digests().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "what is not ours stays");
    }

    #[test]
    fn damage_is_seen_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let digest = archive.put(b"bytes").unwrap();
        std::fs::write(archive.path(&digest).unwrap(), b"others").unwrap();
        assert!(matches!(archive.get(&digest), Err(ArchiveError::Damaged(_))));
        archive.put(b"bytes").unwrap();
        assert!(archive.get(&digest).unwrap().is_some());
    }

    #[test]
    fn a_digest_is_never_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        for bad in ["", "sha256:", "sha256:../../etc/passwd", &format!("sha256:{}", "G".repeat(64))] {
            assert!(matches!(archive.get(bad), Err(ArchiveError::NotADigest(_))), "{bad}");
        }
    }
}
