//! The redb file: opening it, its bookkeeping rows, and opening it again behind everybody's back.
//!
//! Invariant: nothing is written to a file before its schema version is known and understood.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadableDatabase as _, TableDefinition, TableError, WriteTransaction};
use tokio::sync::watch;

use super::{Compacted, OpenError, read};
use crate::key::Space;

/// The file's name in the data directory.
pub(super) const NAME: &str = "meta.redb";
/// The layout that this program writes (`docs/store.md`).
const SCHEMA: u32 = 1;
/// The engine's own rows: `schema` → u32; `batch` → head (u64) and the last batch's id (u128), big-endian.
const ENGINE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("engine");
const SCHEMA_ROW: &str = "schema";
const BATCH_ROW: &str = "batch";
/// How long readers may take to let go of a file that is to be opened again.
const CLOSE_WAIT: Duration = Duration::from_millis(1);
const CLOSE_TRIES: u32 = 2000;
/// How long a start waits for the file's lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A space's table.
pub(super) fn table(space: Space) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(space.name())
}

/// The flag asks to sync and then to read from the disk itself, since what the system has cached of the file may never
/// reach it.
type OpenFn = Box<dyn Fn(&Builder, bool) -> Result<Database, redb::DatabaseError> + Send + Sync>;

/// Knows how to open the file; tests open something else.
pub(crate) struct Opener {
    path: PathBuf,
    cache_bytes: usize,
    open: OpenFn,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Opener {
    pub(crate) fn new(path: PathBuf, cache_bytes: usize, open: OpenFn) -> Opener {
        Opener { path, cache_bytes, open }
    }

    pub(super) fn file(path: PathBuf, cache_bytes: usize) -> Opener {
        let at = path.clone();
        Opener::new(path, cache_bytes, Box::new(move |builder, again| open_private(builder, &at, again)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, again: bool) -> Result<Database, OpenError> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        let path = self.path.clone();
        (self.open)(&builder, again).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
            redb::DatabaseError::Storage(redb::StorageError::Io(cause)) => OpenError::Io { path, cause },
            error => OpenError::Redb { path, cause: Box::new(error.into()) },
        })
    }

    /// Opens the file at a start. A process that was killed while it started another leaves the lock to that one for the
    /// moment until it runs its own program, so a held lock is waited for a little.
    fn open_first(&self) -> Result<Database, OpenError> {
        let since = Instant::now();
        loop {
            match self.open(false) {
                Err(OpenError::InUse { .. }) if since.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_RETRY),
                opened => return opened,
            }
        }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> OpenError {
        OpenError::Redb { path: self.path.clone(), cause: Box::new(error.into()) }
    }
}

/// Rows hold password hashes: nobody else may read the file.
fn open_private(builder: &Builder, path: &Path, again: bool) -> Result<Database, redb::DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = !path.exists();
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if again {
        // After a failed sync Linux takes pages for clean that never reached the disk: what is still to be written is, and
        // then all is read from the disk.
        file.sync_data()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(std::io::Error::from)?;
    }
    let database = builder.create_with_backend(redb::backends::FileBackend::new(file)?)?;
    if let (true, Some(dir)) = (new, path.parent()) {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(database)
}

/// What the bookkeeping row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) head: u64,
    pub(super) id: u128,
}

/// The file behind a swap.
#[derive(Debug)]
pub(super) struct File {
    opener: Opener,
    database: RwLock<Option<Arc<Database>>>,
    /// How often it was opened.
    opened: watch::Sender<u64>,
}

impl File {
    /// Opens the file and returns the head's number with it.
    pub(super) fn open(opener: Opener) -> Result<(File, u64), OpenError> {
        let database = opener.open_first()?;
        prepare(&opener, &database)?;
        let batch = read_batch(&database).map_err(|e| opener.failed(e))?;
        let database = RwLock::new(Some(Arc::new(database)));
        Ok((File { opener, database, opened: watch::Sender::new(1) }, batch.head))
    }

    pub(super) fn opened(&self) -> watch::Receiver<u64> {
        self.opened.subscribe()
    }

    /// Runs a read. The handle is gone when this returns, so that the file can be closed.
    pub(super) fn with<T>(
        &self,
        read: impl Fn(&Database) -> Result<T, read::Failed>,
    ) -> Result<T, read::Failed> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        read(&*database.ok_or(read::Failed::Engine(redb::Error::DatabaseClosed))?)
    }

    /// A write transaction with the safest settings; none while the file is closed.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        begin(&*database.ok_or(redb::Error::DatabaseClosed)?)
    }

    /// Closes the file, opens it again and says which batch it holds, which is durable. Only the committer calls this.
    pub(super) fn reopen(&self) -> Result<Batch, OpenError> {
        self.close();
        let database = self.opener.open(true)?;
        let batch = read_batch(&database).map_err(|e| self.opener.failed(e))?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        self.opened.send_modify(|times| *times += 1);
        Ok(batch)
    }

    /// Closes the file once the last reader is through; readers never hold it longer than one call.
    pub(super) fn close(&self) {
        let Some(mut shared) = self.database.write().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        for _ in 0..CLOSE_TRIES {
            match Arc::try_unwrap(shared) {
                Ok(database) => return drop(database),
                Err(still_read) => shared = still_read,
            }
            std::thread::sleep(CLOSE_WAIT);
        }
    }
}

pub(super) fn is_out_of_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Checks a file that is there, or lays out a new one.
fn prepare(opener: &Opener, database: &Database) -> Result<(), OpenError> {
    let path = || opener.path.clone();
    match read_schema(database).map_err(|e| opener.failed(e))? {
        // Spaces that are younger than the file.
        Some(SCHEMA) if lacks_tables(database).map_err(|e| opener.failed(e))? => {
            lay_out(database).map_err(|e| opener.failed(e))
        }
        Some(SCHEMA) => Ok(()),
        Some(found) if found > SCHEMA => Err(OpenError::Newer { path: path(), found, known: SCHEMA }),
        Some(_) => Err(OpenError::Foreign { path: path(), reason: "its schema version was never released" }),
        None if has_tables(database).map_err(|e| opener.failed(e))? => {
            Err(OpenError::Foreign { path: path(), reason: "it has tables but no schema version" })
        }
        None => lay_out(database).map_err(|e| opener.failed(e)),
    }
}

fn lay_out(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    for space in Space::ALL {
        transaction.open_table(table(space))?;
    }
    transaction.open_table(ENGINE)?.insert(SCHEMA_ROW, SCHEMA.to_be_bytes().as_slice())?;
    transaction.commit()?;
    Ok(())
}

fn has_tables(database: &Database) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.list_tables()?.next().is_some())
}

/// Whether a space has no table yet; the engine's own is one more.
fn lacks_tables(database: &Database) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.list_tables()?.count() <= Space::ALL.len())
}

fn read_engine(database: &Database, row: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    match database.begin_read()?.open_table(ENGINE) {
        Ok(table) => Ok(redb::ReadableTable::get(&table, row)?.map(|bytes| bytes.value().to_vec())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_schema(database: &Database) -> Result<Option<u32>, redb::Error> {
    let row = read_engine(database, SCHEMA_ROW)?;
    let version = |bytes: Vec<u8>| bytes.try_into().map(u32::from_be_bytes);
    row.map(version)
        .transpose()
        .map_err(|_| redb::Error::Corrupted("the schema version is not a number".into()))
}

fn read_batch(database: &Database) -> Result<Batch, redb::Error> {
    let Some(bytes) = read_engine(database, BATCH_ROW)? else { return Ok(Batch::default()) };
    let parts =
        bytes.split_first_chunk().and_then(|(head, id)| Some((*head, <[u8; 16]>::try_from(id).ok()?)));
    let (head, id) =
        parts.ok_or_else(|| redb::Error::Corrupted("the batch row has a wrong length".into()))?;
    Ok(Batch { head: u64::from_be_bytes(head), id: u128::from_be_bytes(id) })
}

pub(super) fn write_batch(transaction: &WriteTransaction, batch: Batch) -> Result<(), redb::Error> {
    let mut bytes = batch.head.to_be_bytes().to_vec();
    bytes.extend_from_slice(&batch.id.to_be_bytes());
    transaction.open_table(ENGINE)?.insert(BATCH_ROW, bytes.as_slice())?;
    Ok(())
}

pub(super) fn compact(path: &Path, cache_bytes: usize) -> Result<Compacted, OpenError> {
    let size = || {
        std::fs::metadata(path).map(|m| m.len()).map_err(|cause| OpenError::Io { path: path.into(), cause })
    };
    let opener = Opener::file(path.into(), cache_bytes);
    let before = size()?;
    let mut database = opener.open_first()?;
    prepare(&opener, &database)?;
    while database.compact().map_err(|e| opener.failed(e))? {}
    drop(database);
    Ok(Compacted { before, after: size()? })
}
