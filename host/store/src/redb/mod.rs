//! The embedded engine: one redb file, one committer thread, many commits an fsync.
//!
//! An operator sees `meta.redb` and `ballast` in the data directory. The entry is [`Store::open`](crate::Store::open).
//! Each commit is two-phase with quick-repair: opening after a kill takes under a millisecond instead of seconds,
//! and a torn commit cannot be mistaken for a whole one by values that an outsider chose.
//!
//! Invariant: only the committer thread writes; readers open a read transaction for one call and close it.
//! Invariant: after an I/O error redb answers nothing until it is opened again; the committer does that, readers wait.
//! Invariant: a batch's outcome is decided by reading back which batch the file holds, never by guessing.
//! Invariant: a file that was opened again is synced before anybody reads it, so what is read is durable.

mod ballast;
mod batch;
#[cfg(test)]
pub(crate) mod beside;
mod committer;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod disk;
mod file;
mod queue;
mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, SystemClock};
use crate::key::{Key, KeyRange};
use crate::seam::{
    Commit, CommitError, Committed, Direction, Engine, MAX_GET, MAX_PAGE, Page, ReadError, Row,
};
use crate::store::Store;
use ballast::Ballast;
use committer::Committer;
use file::{File, Opener};
use queue::Queue;

/// Rows that one call reads on the caller's thread; more are read on a blocking thread.
const INLINE_ROWS: usize = 100;
/// How long a reader waits for the file to be opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(2);

/// How the embedded engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the file; bytes.
    pub cache_bytes: usize,
    /// Size of the ballast file, which is freed when the disk is full; 0 for none.
    pub ballast_bytes: u64,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 16 << 20, ballast_bytes: 64 << 20, clock: Arc::new(SystemClock) }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, has it open.
    #[error("`{path}` is in use by another process; hint: stop the other `wharf` first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error(
        "`{path}` has schema version {found}, this program knows up to {known}; hint: use a newer `wharf`"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What is understood.
        known: u32,
    },
    /// It is a redb file, but not one of this program.
    #[error("`{path}` is not a store of this program: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The file system failed.
    #[error("cannot open `{path}`: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The file is damaged, or redb refuses it.
    #[error("cannot open `{path}`: {cause}")]
    Redb {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: Box<::redb::Error>,
    },
}

impl Store {
    /// Opens or makes the store of a data directory. Blocks for a few milliseconds; call it at start. The engine stops
    /// when the last clone is dropped.
    pub fn open(dir: &Path, options: &Options) -> Result<Store, OpenError> {
        std::fs::create_dir_all(dir).map_err(|cause| OpenError::Io { path: dir.into(), cause })?;
        let opener = Opener::file(dir.join(file::NAME), options.cache_bytes);
        let ballast = Ballast::new(dir.join("ballast"), options.ballast_bytes);
        Ok(Store::new(Arc::new(Redb::open(opener, ballast, options.clock.clone())?)))
    }
}

/// What [`compact`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The file's size before, bytes.
    pub before: u64,
    /// The file's size now, bytes.
    pub after: u64,
}

/// Gives back what the file has grown by and does not need; the store must not be open.
pub fn compact(dir: &Path, options: &Options) -> Result<Compacted, OpenError> {
    file::compact(&dir.join(file::NAME), options.cache_bytes)
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Redb {
    file: Arc<File>,
    queue: Arc<Queue>,
    head: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    full: Arc<AtomicBool>,
    committer: Option<std::thread::JoinHandle<()>>,
}

impl Redb {
    pub(crate) fn open(opener: Opener, ballast: Ballast, clock: Arc<dyn Clock>) -> Result<Redb, OpenError> {
        let path = opener.path().to_path_buf();
        let (file, newest) = File::open(opener)?;
        let (file, queue) = (Arc::new(file), Arc::new(Queue::default()));
        let head = watch::Sender::new(newest);
        let committer = Committer::new(file.clone(), queue.clone(), ballast, clock.clone(), head.clone());
        let full = committer.full();
        let thread = std::thread::Builder::new().name("store-committer".into());
        let committer =
            Some(thread.spawn(move || committer.run()).map_err(|cause| OpenError::Io { path, cause })?);
        Ok(Redb { file, queue, head, clock, full, committer })
    }

    /// Reads at most `rows` rows, and reads once more if the file had to be opened again meanwhile.
    async fn reading<T, F>(&self, rows: usize, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Fn(&::redb::Database) -> Result<T, read::Failed> + Clone + Send + 'static,
    {
        let read = async || {
            if rows <= INLINE_ROWS {
                return self.file.with(&read);
            }
            let (file, read) = (self.file.clone(), read.clone());
            let read = tokio::task::spawn_blocking(move || file.with(read));
            read.await.unwrap_or(Err(read::Failed::Final(ReadError::Down)))
        };
        let mut opened = self.file.opened();
        let before = *opened.borrow_and_update();
        match read().await {
            Ok(value) => return Ok(value),
            Err(read::Failed::Final(error)) => return Err(error),
            Err(read::Failed::Engine(error)) => {
                tracing::warn!(%error, "reading from the store failed, it is opened again");
            }
        }
        self.queue.ask_reopen(before);
        let again = opened.wait_for(|now| *now != before);
        if !matches!(tokio::time::timeout(REOPEN_WAIT, again).await, Ok(Ok(_))) {
            return Err(ReadError::Down);
        }
        read().await.map_err(|failed| match failed {
            read::Failed::Final(error) => error,
            read::Failed::Engine(_) => ReadError::Down,
        })
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(committer) = self.committer.take() {
            // What was accepted is committed first, then the file is closed.
            let _ = committer.join();
        }
    }
}

impl Engine for Redb {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        if keys.len() > MAX_GET {
            return Box::pin(ready(Err(ReadError::TooLarge)));
        }
        Box::pin(self.reading(keys.len(), move |db| read::get(db, &keys)))
    }

    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        let limit = limit.min(MAX_PAGE);
        Box::pin(self.reading(limit, move |db| read::scan(db, &range, limit, direction)))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            commit.check_size()?;
            let (reply, answer) = oneshot::channel();
            self.queue.push(commit, reply)?;
            answer.await.unwrap_or(Err(CommitError::Unknown))
        })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

/// A row's bytes in a table: revision and expiry, eight bytes each, big-endian, then the value.
const ROW_HEADER: usize = 16;
/// Why a row is damaged.
const SHORT_ROW: &str = "shorter than a row's header";

fn encode_row(rev: u64, until_ms: u64, val: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROW_HEADER + val.len());
    out.extend_from_slice(&rev.to_be_bytes());
    out.extend_from_slice(&until_ms.to_be_bytes());
    out.extend_from_slice(val);
    out
}

/// Revision and expiry; none if the bytes are no row.
fn decode_header(bytes: &[u8]) -> Option<(u64, u64)> {
    let (rev, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*rev), u64::from_be_bytes(*rest.first_chunk()?)))
}

/// Revision, expiry, value; none if the bytes are no row.
fn decode_row(bytes: &[u8]) -> Option<(u64, u64, Bytes)> {
    let (rev, until_ms) = decode_header(bytes)?;
    Some((rev, until_ms, Bytes::copy_from_slice(&bytes[ROW_HEADER..])))
}
