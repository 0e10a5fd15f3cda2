//! Writing a blob: bytes come in, are written and hashed behind the client's back, and end as a row or a file.
//!
//! Invariant: a finished file is marked read-only before it is synced, and what is read-only is never resumed.

use std::fs::File;
use std::io::{self, IoSlice, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use rustix::fs::Advice;
use tokio::task::JoinHandle;

use super::hash::Hashes;
use super::sidecar::{Sidecar, hash_file};
use super::{BlobError, BlobId, Blobs, Claim, INLINE_MAX, blocking, failed, missing, sync_dir};

/// Bytes gathered before a blocking thread writes and hashes them; while it does, as many may gather again.
const PIECE_BYTES: usize = 512 * 1024;
/// Nor more chunks than this, whoever sends them byte by byte.
const PIECE_CHUNKS: usize = 1024;
/// Bytes that all uploads together hold so, those under way to the disk included. Over it, each writes what it gets as it comes,
/// which is slower: clients that send a part of a piece and stall cost no more memory than this, however many they are.
pub(super) const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes written before the disk begins with them, so that the sync at the end finds little left to do.
const WRITEBACK_BYTES: u64 = 1 << 20;

/// Where a finished blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In a file.
    File(BlobId),
    /// Few enough for the row itself.
    Inline(Bytes),
}

/// A finished blob: complete and verified by the caller's comparison of digests, and on the disk.
///
/// Keep it until the commit that names it is done: as long as it lives, no sweep takes the file for an orphan.
#[derive(Debug)]
pub struct Finished {
    /// The upload's id, which is the file's if there is one.
    pub id: BlobId,
    /// Where the bytes are.
    pub stored: Stored,
    /// Bytes.
    pub size: u64,
    /// `sha256:<hex>`.
    pub sha256: String,
    /// `sha512:<hex>`, when it was asked for.
    pub sha512: Option<String>,
    claim: Arc<Claim>,
}

impl Finished {
    /// Removes the file, for a digest that is not what the client promised, or a blob that was there already.
    pub async fn discard(self) -> Result<(), BlobError> {
        let claim = self.claim;
        blocking(move || claim.blobs.unlink(&claim.id)).await
    }
}

/// A blob that is being written; also an upload that is being continued.
///
/// Dropped without `finish` or `suspend`, a new blob's file is removed and a continued upload stays as it was
/// before; what was written to it since is cut off when it is resumed.
#[derive(Debug)]
pub struct BlobWriter {
    claim: Arc<Claim>,
    owner: String,
    offset: u64,
    gathered: Piece,
    /// None while a piece is under way, and for good once one has failed.
    sink: Option<Sink>,
    running: Option<JoinHandle<Result<Sink, BlobError>>>,
    has_sidecar: bool,
    done: bool,
}

/// Chunks that are written and hashed in one go, and counted in [`GATHERED_BYTES_MAX`] until they are.
#[derive(Debug)]
struct Piece {
    blobs: Blobs,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Piece {
    fn new(blobs: Blobs) -> Piece {
        Piece { blobs, chunks: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.blobs.0.gathered_bytes.fetch_add(chunk.len(), Ordering::Relaxed);
        self.chunks.push(chunk);
    }

    /// Whether no more is gathered before it is written.
    fn is_due(&self) -> bool {
        self.bytes >= PIECE_BYTES
            || self.chunks.len() >= PIECE_CHUNKS
            || self.blobs.0.gathered_bytes.load(Ordering::Relaxed) > GATHERED_BYTES_MAX
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.blobs.0.gathered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a blocking thread works on, handed back and forth.
#[derive(Debug)]
struct Sink {
    hashes: Hashes,
    /// None while everything fits in memory.
    file: Option<File>,
    /// Of the file, in bytes: how much there is, and how much of it the disk was told to begin with.
    written: u64,
    begun: u64,
    small: Vec<u8>,
    dir_sync: Option<JoinHandle<io::Result<()>>>,
}

impl BlobWriter {
    pub(super) fn new(claim: Claim, owner: String, sha512: bool) -> BlobWriter {
        let sink = Sink::new(Hashes::new(sha512), None, 0, Vec::new());
        BlobWriter::with(claim, owner, 0, sink, false)
    }

    fn with(claim: Claim, owner: String, offset: u64, sink: Sink, has_sidecar: bool) -> BlobWriter {
        BlobWriter {
            gathered: Piece::new(claim.blobs.clone()),
            claim: Arc::new(claim),
            owner,
            offset,
            sink: Some(sink),
            running: None,
            has_sidecar,
            done: false,
        }
    }

    /// Blocks.
    pub(super) fn resume(claim: Claim) -> Result<BlobWriter, BlobError> {
        let (blobs, id) = (claim.blobs.clone(), claim.id.clone());
        let sidecar = Sidecar::read(&blobs, &id)?;
        let offset = sidecar.trusted_offset(&blobs, &id)?;
        let open = || -> io::Result<(Hashes, Option<File>)> {
            let there = match blobs.0.blobs.metadata(id.file()) {
                Ok(there) => Some(there),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
            if there.as_ref().is_some_and(|there| there.permissions().readonly()) {
                // Finished already; only the removal of its state did not survive a power loss.
                return Err(io::ErrorKind::NotFound.into());
            }
            if !sidecar.in_file {
                if there.is_some() {
                    // Of a request that a crash ended before it could say how far it was.
                    blobs.0.blobs.remove_file(id.file())?;
                }
                return Ok((sidecar.hashes(&blobs, &mut io::empty(), offset)?, None));
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let mut file = blobs.0.blobs.open_with(id.file(), &options)?.into_std();
            if file.metadata()?.len() < offset {
                // Cut by somebody else: what is left has no digest that anybody computed.
                return Err(io::ErrorKind::NotFound.into());
            }
            let hashes = sidecar.hashes(&blobs, &mut file, offset)?;
            file.set_len(offset)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok((hashes, Some(file)))
        };
        let (hashes, file) = open().map_err(|e| missing(e, "resume", &id))?;
        let sink = Sink::new(hashes, file, offset, sidecar.bytes);
        Ok(BlobWriter::with(claim, sidecar.owner, offset, sink, true))
    }

    /// The upload's id.
    pub fn id(&self) -> &BlobId {
        &self.claim.id
    }

    /// What was given to [`Blobs::create`](super::Blobs::create).
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Bytes taken so far; the next chunk goes here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes. Waits only when the disk is slower than the client. After an error the blob cannot be
    /// continued; an upload that was resumed can be resumed again where it was.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        self.offset += chunk.len() as u64;
        self.gathered.push(chunk);
        if self.gathered.is_due() {
            self.claim.blobs.check_space()?;
            self.settle().await?;
            self.start()?;
        }
        Ok(())
    }

    /// Waits for the piece under way.
    async fn settle(&mut self) -> Result<(), BlobError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let result = running.await;
        self.running = None;
        let lost =
            |_| failed("write", self.claim.id.file())(io::Error::other("the runtime is shutting down"));
        self.sink = Some(result.map_err(lost)??);
        Ok(())
    }

    /// Has a blocking thread write and hash what is gathered.
    fn start(&mut self) -> Result<(), BlobError> {
        let mut sink = self.take_sink()?;
        let claim = self.claim.clone();
        let piece = std::mem::replace(&mut self.gathered, Piece::new(claim.blobs.clone()));
        self.running = Some(tokio::task::spawn_blocking(move || {
            sink.write(&claim, &piece.chunks).map_err(failed("write", claim.id.file()))?;
            Ok(sink)
        }));
        Ok(())
    }

    fn take_sink(&mut self) -> Result<Sink, BlobError> {
        let broken = || failed("write", self.claim.id.file())(io::Error::other("an earlier write failed"));
        self.sink.take().ok_or_else(broken)
    }

    /// Everything taken is with the operating system afterwards, and hashed.
    pub(super) async fn flush(&mut self) -> Result<(), BlobError> {
        self.settle().await?;
        if self.gathered.bytes > 0 {
            self.start()?;
            self.settle().await?;
        }
        Ok(())
    }

    /// Leaves the upload to be resumed; returns its offset. Not synced: see [`Upload`](super::Upload).
    pub async fn suspend(mut self) -> Result<u64, BlobError> {
        self.flush().await?;
        let mut sink = self.take_sink()?;
        // A state names the file only once its directory entry is on the disk: whoever resumes does not sync that again.
        self.synced(sink.dir_sync.take()).await?;
        let (claim, offset) = (self.claim.clone(), self.offset);
        let small = sink.file.is_none().then_some(sink.small.as_slice());
        let sidecar = Sidecar::new(&self.owner, offset, &sink.hashes, small);
        blocking(move || sidecar.write(&claim.blobs, &claim.id)).await?;
        self.done = true;
        Ok(offset)
    }

    /// Ends the blob: afterwards it is on the disk. `sha512` asks for that digest as well; if it was not computed
    /// from the start, the file is read again.
    pub async fn finish(mut self, sha512: bool) -> Result<Finished, BlobError> {
        self.flush().await?;
        let mut sink = self.take_sink()?;
        let dir_sync = sink.dir_sync.take();
        let (claim, size) = (self.claim.clone(), self.offset);
        let (stored, hashes) = blocking(move || {
            let finished = sink.finish(&claim, sha512).map_err(failed("finish", claim.id.file()))?;
            // What a crash leaves of it is an orphan after a day; the file itself says that it is complete.
            let _ = claim.blobs.0.uploads.remove_file(claim.id.as_str());
            Ok(finished)
        })
        .await?;
        self.synced(dir_sync).await?;
        self.done = true;
        let (sha256, sha512) = hashes.finish();
        Ok(Finished { id: self.id().clone(), stored, size, sha256, sha512, claim: self.claim.clone() })
    }

    async fn synced(&self, dir_sync: Option<JoinHandle<io::Result<()>>>) -> Result<(), BlobError> {
        let Some(sync) = dir_sync else { return Ok(()) };
        sync.await.map_err(io::Error::other).flatten().map_err(failed("sync", self.claim.id.file()))
    }

    /// Gives the upload up and removes what there is of it.
    pub async fn cancel(mut self) -> Result<(), BlobError> {
        self.done = true;
        let settled = self.settle().await;
        let claim = self.claim.clone();
        blocking(move || claim.blobs.unlink(&claim.id)).await.and(settled)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.done || self.has_sidecar {
            return;
        }
        let (claim, running) = (self.claim.clone(), self.running.take());
        // Outside a runtime nobody can be writing; the orphan sweep takes the file.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Some(running) = running {
                let _ = running.await;
            }
            let _ = blocking(move || claim.blobs.unlink(&claim.id)).await;
        });
    }
}

impl Sink {
    fn new(hashes: Hashes, file: Option<File>, written: u64, small: Vec<u8>) -> Sink {
        Sink { hashes, file, written, begun: written, small, dir_sync: None }
    }

    fn write(&mut self, claim: &Claim, chunks: &[Bytes]) -> io::Result<()> {
        let more: usize = chunks.iter().map(Bytes::len).sum();
        match &mut self.file {
            Some(file) => write_all(file, chunks)?,
            None if self.small.len() + more <= INLINE_MAX => {
                chunks.iter().for_each(|chunk| self.small.extend_from_slice(chunk));
            }
            None => {
                let file = self.file.insert(create(claim)?);
                self.dir_sync = Some(start_dir_sync(claim)?);
                self.written = self.small.len() as u64;
                file.write_all(&std::mem::take(&mut self.small))?;
                write_all(file, chunks)?;
            }
        }
        if self.file.is_some() {
            self.written += more as u64;
            self.begin_writeback();
        }
        chunks.iter().for_each(|chunk| self.hashes.update(chunk));
        Ok(())
    }

    /// Has the disk begin with what was written, once it is enough. The kernel writes out a range that nobody will need, and
    /// keeps in memory what it is still writing, so whoever reads the blob next finds it there. It does nothing that the sync
    /// at the end does not do, so it may fail.
    fn begin_writeback(&mut self) {
        if let (Some(file), Some(length)) = (&self.file, NonZeroU64::new(self.written - self.begun))
            && length.get() >= WRITEBACK_BYTES
        {
            let _ = rustix::fs::fadvise(file, self.begun, Some(length), Advice::DontNeed);
            self.begun = self.written;
        }
    }

    fn finish(mut self, claim: &Claim, sha512: bool) -> io::Result<(Stored, Hashes)> {
        let rehash = sha512 && !self.hashes.has_sha512();
        let Some(mut file) = self.file else {
            if rehash {
                self.hashes = Hashes::new(true);
                self.hashes.update(&self.small);
            }
            return Ok((Stored::Inline(self.small.into()), self.hashes));
        };
        if rehash {
            self.hashes = Hashes::new(true);
            file.seek(SeekFrom::Start(0))?;
            hash_file(&mut file, &mut self.hashes)?;
        }
        // An upload that waited for a day must not look like an orphan between here and its commit, and one that
        // is finished must never be continued, even if its state comes back after a power loss.
        file.set_modified(SystemTime::now())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o400))?;
        file.sync_all()?;
        Ok((Stored::File(claim.id.clone()), self.hashes))
    }
}

fn create(claim: &Claim) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    Ok(claim.blobs.0.blobs.open_with(claim.id.file(), &options)?.into_std())
}

/// Syncs the directory entry while the bytes still arrive.
fn start_dir_sync(claim: &Claim) -> io::Result<JoinHandle<io::Result<()>>> {
    let (blobs, bucket) = (claim.blobs.clone(), claim.id.as_str()[..2].to_string());
    let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    Ok(runtime.spawn_blocking(move || sync_dir(&blobs.0.blobs, &bucket)))
}

fn write_all(file: &mut File, chunks: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut slices = slices.as_mut_slice();
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
