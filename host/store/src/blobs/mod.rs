//! Blob files: opaque names, written once, never renamed.
//!
//! An operator sees `blobs/<2>/<id>` (complete blobs and uploads alike) and `uploads/<id>` (how far an upload is).
//! The entry is [`Blobs::create`] and [`Blobs::open`].
//!
//! Invariant: an id is 128 random bits and is never used again, so a late unlink cannot hit a newer blob.
//! Invariant: [`BlobWriter::finish`] returns only after the file and its directory entry are on the disk.
//! Invariant: an id that is being written, finished or collected is claimed; nobody else in this process touches it.
//! Invariant: no thread is held by a slow client; file I/O and hashing run in short pieces on blocking threads.

mod hash;
mod id;
mod reader;
mod sidecar;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions};
use rustix::fs::Advice;

use hash::Hashes;
use sidecar::{Sidecar, hash_file};

pub use id::BlobId;
pub use reader::BlobReader;
pub use writer::{BlobWriter, Finished, Stored};

/// Blobs up to this size are kept in their row rather than in a file; bytes.
pub const INLINE_MAX: usize = 4096;
/// Uploads are refused when the disk has less left than this, unless configured; bytes.
pub const WATERMARK_BYTES: u64 = 128 * 1024 * 1024;

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No such blob or upload.
    #[error("no blob or upload `{0}`")]
    NotFound(BlobId),
    /// Another request writes this upload right now.
    #[error("upload `{0}` is in use by another request")]
    InUse(BlobId),
    /// Less space is left than the watermark.
    #[error("the disk is full{}", left(*free, *watermark))]
    Full {
        /// Bytes left.
        free: u64,
        /// Bytes kept free; 0 where a write failed for want of space.
        watermark: u64,
    },
    /// The file system failed.
    #[error("cannot {what} `{name}`: {cause}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file, below the data directory.
        name: String,
        /// Why not.
        cause: io::Error,
    },
}

fn left(free: u64, watermark: u64) -> String {
    if watermark == 0 { String::new() } else { format!(": {free} bytes are left, {watermark} are kept free") }
}

fn failed(what: &'static str, name: impl Into<String>) -> impl FnOnce(io::Error) -> BlobError {
    move |cause| match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BlobError::Full { free: 0, watermark: 0 }
        }
        _ => BlobError::Io { what, name: name.into(), cause },
    }
}

/// A file of the blob directory, as the orphan sweep sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFile {
    /// Its name.
    pub id: BlobId,
    /// Bytes.
    pub size: u64,
    /// When it was last written, Unix milliseconds.
    pub modified_ms: u64,
}

/// An upload that waits for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// What the caller gave to [`Blobs::create`]: whose it is.
    pub owner: String,
    /// Bytes received so far.
    pub offset: u64,
}

/// The blob files of one data directory; cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: Dir,
    uploads: Dir,
    claimed: Mutex<HashSet<BlobId>>,
    watermark_bytes: u64,
    /// What all writers hold in memory.
    gathered_bytes: AtomicUsize,
    boot: String,
}

/// Holds an id against everybody else in this process until it is dropped.
#[derive(Debug)]
struct Claim {
    blobs: Blobs,
    id: BlobId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.blobs.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Blobs {
    /// Opens or makes `blobs/` and `uploads/` below `data`. Blocks; call it at start, after [`Store::open`](crate::Store::open),
    /// whose lock keeps other processes out.
    pub fn open_dir(data: &Path, watermark_bytes: u64) -> Result<Blobs, BlobError> {
        let name = data.display().to_string();
        std::fs::create_dir_all(data).map_err(failed("create", &name))?;
        let data = Dir::open_ambient_dir(data, ambient_authority()).map_err(failed("open", &name))?;
        // Images are private: whoever else has an account on this machine sees none of it.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        for dir in ["blobs", "uploads"] {
            data.create_dir_with(dir, &private).map_err(failed("create", dir))?;
        }
        let blobs = data.open_dir("blobs").map_err(failed("open", "blobs"))?;
        let uploads = data.open_dir("uploads").map_err(failed("open", "uploads"))?;
        let mut made = false;
        for bucket in buckets() {
            if !blobs.is_dir(&bucket) {
                blobs.create_dir_all(&bucket).map_err(failed("create", &bucket))?;
                made = true;
            }
        }
        if made {
            sync_dir(&blobs, ".").map_err(failed("sync", "blobs"))?;
            sync_dir(&data, ".").map_err(failed("sync", "."))?;
        }
        remove_unfinished(&uploads).map_err(failed("clean", "uploads"))?;
        let inner = Inner {
            blobs,
            uploads,
            claimed: Mutex::default(),
            watermark_bytes,
            gathered_bytes: AtomicUsize::default(),
            boot: sidecar::boot(),
        };
        Ok(Blobs(Arc::new(inner)))
    }

    /// Starts a blob. `owner` is kept with the upload (see [`Blobs::upload`]); `sha512` also computes that digest
    /// while the bytes arrive. Nothing is written before there is more than [`INLINE_MAX`].
    pub async fn create(&self, owner: &str, sha512: bool) -> Result<BlobWriter, BlobError> {
        self.check_space()?;
        let id = BlobId::random();
        let claim = self.claim(&id).ok_or(BlobError::InUse(id))?;
        Ok(BlobWriter::new(claim, owner.to_string(), sha512))
    }

    /// Goes on with an upload where [`BlobWriter::suspend`] left it, also after a restart. After a power loss the
    /// offset may be lower than what was written.
    pub async fn resume(&self, id: &BlobId) -> Result<BlobWriter, BlobError> {
        let claim = self.claim(id).ok_or_else(|| BlobError::InUse(id.clone()))?;
        blocking(move || BlobWriter::resume(claim)).await
    }

    /// Where an upload stands; it may be in use.
    pub async fn upload(&self, id: &BlobId) -> Result<Upload, BlobError> {
        let (blobs, id) = (self.clone(), id.clone());
        blocking(move || {
            let sidecar = Sidecar::read(&blobs, &id)?;
            let offset = sidecar.trusted_offset(&blobs, &id)?;
            Ok(Upload { owner: sidecar.owner, offset })
        })
        .await
    }

    /// Uploads that wait for more: what was given as each one's owner, and when it was last written to (Unix
    /// milliseconds). Blocks; call it at start.
    pub fn waiting(&self) -> Result<Vec<(BlobId, String, u64)>, BlobError> {
        let mut files = Vec::new();
        list_dir(&self.0.uploads, None, &mut files).map_err(failed("list", "uploads"))?;
        let waiting = |file: BlobFile| {
            let sidecar = Sidecar::read(self, &file.id).ok()?;
            Some((file.id, sidecar.owner, file.modified_ms))
        };
        // What is no state of an upload, nobody can go on with.
        Ok(files.into_iter().filter_map(waiting).collect())
    }

    /// Opens a complete blob for reading.
    pub async fn open(&self, id: &BlobId) -> Result<BlobReader, BlobError> {
        let (blobs, id) = (self.clone(), id.clone());
        blocking(move || {
            let file = blobs.0.blobs.open(id.file()).map_err(|e| missing(e, "open", &id))?.into_std();
            let size = file.metadata().map_err(failed("stat", id.file()))?.len();
            Ok(BlobReader::new(file, size))
        })
        .await
    }

    /// Reads a complete blob again: `sha256:<hex>` and, if asked for, `sha512:<hex>` of what is on the disk now. A file is
    /// read past what the system has cached of it, and leaves nothing there for which something in use would have to go.
    pub async fn digests(
        &self,
        stored: &Stored,
        sha512: bool,
    ) -> Result<(String, Option<String>), BlobError> {
        let mut hashes = Hashes::new(sha512);
        let id = match stored {
            Stored::Inline(bytes) => {
                hashes.update(bytes);
                return Ok(hashes.finish());
            }
            Stored::File(id) => id.clone(),
        };
        let blobs = self.clone();
        blocking(move || {
            let mut file = blobs.0.blobs.open(id.file()).map_err(|e| missing(e, "open", &id))?.into_std();
            let uncache = |file: &std::fs::File| rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
            uncache(&file).map_err(|e| failed("read", id.file())(e.into()))?;
            hash_file(&mut file, &mut hashes).map_err(failed("read", id.file()))?;
            let _ = uncache(&file);
            Ok(hashes.finish())
        })
        .await
    }

    /// Removes a blob or an upload for good; nothing happens if there is none. A blob must not be named by any row.
    pub async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        let (blobs, id) = (self.clone(), id.clone());
        blocking(move || blobs.unlink(&id)).await
    }

    fn unlink(&self, id: &BlobId) -> Result<(), BlobError> {
        for (dir, name) in [(&self.0.blobs, id.file()), (&self.0.uploads, id.as_str().to_string())] {
            match dir.remove_file(&name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", name)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Files of the blob directory whose id begins with this hexadecimal digit (0 to 15), uploads of which nothing
    /// but the state is there yet included.
    pub async fn list(&self, digit: u8) -> Result<Vec<BlobFile>, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let mut found = Vec::new();
            for bucket in buckets().skip(usize::from(digit) * 16).take(16) {
                let dir = blobs.0.blobs.open_dir(&bucket).map_err(failed("open", &bucket))?;
                list_dir(&dir, None, &mut found).map_err(failed("list", &bucket))?;
            }
            list_dir(&blobs.0.uploads, Some(digit), &mut found).map_err(failed("list", "uploads"))?;
            Ok(found)
        })
        .await
    }

    /// Removes a file that no row names, if it was not written to since `before_ms` and nobody holds it now.
    pub(crate) async fn remove_orphan(&self, id: &BlobId, before_ms: u64) -> Result<bool, BlobError> {
        let Some(claim) = self.claim(id) else { return Ok(false) };
        blocking(move || {
            let (blobs, id) = (&claim.blobs, &claim.id);
            for (dir, name) in [(&blobs.0.blobs, id.file()), (&blobs.0.uploads, id.as_str().to_string())] {
                let modified_ms =
                    dir.metadata(&name).and_then(|m| m.modified()).map(|t| unix_ms(t.into_std()));
                if modified_ms.is_ok_and(|ms| ms >= before_ms) {
                    return Ok(false);
                }
            }
            blobs.unlink(id)?;
            Ok(true)
        })
        .await
    }

    /// Refuses when less is left on the disk than the watermark. A cheap system call.
    pub fn check_space(&self) -> Result<(), BlobError> {
        let watermark = self.0.watermark_bytes;
        let free = self.free_bytes()?;
        if free < watermark { Err(BlobError::Full { free, watermark }) } else { Ok(()) }
    }

    /// Bytes left on the disk for this process.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        let stat = rustix::fs::fstatvfs(&self.0.blobs).map_err(|e| failed("stat", "blobs")(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn claim(&self, id: &BlobId) -> Option<Claim> {
        let new = self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        new.then(|| Claim { blobs: self.clone(), id: id.clone() })
    }
}

fn buckets() -> impl Iterator<Item = String> {
    (0..=255u8).map(|b| format!("{b:02x}"))
}

fn missing(error: io::Error, what: &'static str, id: &BlobId) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => BlobError::NotFound(id.clone()),
        _ => failed(what, id.file())(error),
    }
}

fn list_dir(dir: &Dir, digit: Option<u8>, found: &mut Vec<BlobFile>) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(BlobId::parse) else { continue };
        if digit.is_some_and(|digit| !id.as_str().starts_with(&format!("{digit:x}"))) {
            continue;
        }
        // A file that went away meanwhile is no orphan either.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified_ms = unix_ms(metadata.modified()?.into_std());
        found.push(BlobFile { id, size: metadata.len(), modified_ms });
    }
    Ok(())
}

/// States that a crash left half-written.
fn remove_unfinished(uploads: &Dir) -> io::Result<()> {
    for entry in uploads.entries()? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(sidecar::NEXT)) {
            uploads.remove_file(name)?;
        }
    }
    Ok(())
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A directory handle is opened for its path alone; syncing takes one opened for reading.
fn sync_dir(dir: &Dir, name: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true);
    dir.open_with(name, &options)?.sync_all()
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let gone = |_| failed("run", "blob work")(io::Error::other("the runtime is shutting down"));
    tokio::task::spawn_blocking(f).await.map_err(gone)?
}
