//! A file that is only there to be deleted when the disk is full, so that deleting and collecting can still commit.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// Bytes left on the disk of a directory.
type Left = Box<dyn Fn(&Path) -> io::Result<u64> + Send>;

/// The ballast file.
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
    left: Left,
}

impl std::fmt::Debug for Ballast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ballast")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Ballast {
    pub(crate) fn new(path: PathBuf, bytes: u64) -> Ballast {
        Ballast::on(path, bytes, Box::new(left))
    }

    /// On a disk that says itself how much is left.
    pub(super) fn on(path: PathBuf, bytes: u64, left: Left) -> Ballast {
        Ballast { path, bytes, left }
    }

    /// Whether it is there in full; one of size 0 always is.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes == 0 || std::fs::metadata(&self.path).is_ok_and(|m| m.len() == self.bytes)
    }

    /// Gives its space to others; whether there was any to give.
    pub(super) fn free(&self) -> bool {
        self.bytes > 0 && std::fs::remove_file(&self.path).is_ok()
    }

    /// Makes it if it is not there and a quarter more than its size is left on the disk, so that making it does not
    /// fill the disk again.
    pub(super) fn make(&self) -> io::Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        let dir = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if (self.left)(dir)? < self.bytes.saturating_add(self.bytes / 4) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let made = self.fill();
        if made.is_err() {
            let _ = std::fs::remove_file(&self.path);
        }
        made
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = std::fs::File::create(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            done => return Ok(done?),
        }
        let zeros = vec![0; 1 << 20];
        let mut left = self.bytes;
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            file.write_all(&zeros[..n as usize])?;
            left -= n;
        }
        file.sync_all()
    }
}

fn left(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
