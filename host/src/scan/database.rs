//! The vulnerability database of a data folder: written whole by `wharf db import`, opened by whoever matches.
//!
//! A new one takes the old one's place by a rename, so a reader has one or the other, and the one it has open stays whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wharf_scan::vuln::{Db, DbError};

/// The file's name in a data folder.
const FILE: &str = "vulnerabilities.db";

/// Where the database is, and the last one that was opened there.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    /// Device, inode, and time and length in case an inode is used again.
    identity: (u64, u64, i64, i64, u64),
    db: Arc<Db>,
}

impl Database {
    /// The database of a data folder.
    pub fn of_data(data: &Path) -> Self {
        Self::at(data.join(FILE))
    }

    /// The database in a file of its own.
    pub fn at(path: PathBuf) -> Self {
        Database { path, opened: Mutex::new(None) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// [`Database::current`], but without data where the file is damaged or of another version: that is logged, and the next
    /// import puts another in its place.
    ///
    /// # Errors
    /// [`DbError::Io`] where the file cannot be read.
    pub fn usable(&self) -> Result<Option<Arc<Db>>, DbError> {
        match self.current() {
            Err(DbError::Io(error)) => Err(DbError::Io(error)),
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "there is no vulnerability data");
                Ok(None)
            }
            current => current,
        }
    }

    /// The database as it is now; `None` if there is none. Blocks for its digest when the file is a new one, 2 ms for 1 MB.
    ///
    /// # Errors
    /// [`DbError`] if there is one that cannot be used.
    pub fn current(&self) -> Result<Option<Arc<Db>>, DbError> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let identity = (about.dev(), about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.as_ref().filter(|known| known.identity == identity) {
            return Ok(Some(Arc::clone(&known.db)));
        }
        let db = Arc::new(Db::open(&self.path)?);
        *opened = Some(Opened { identity, db: Arc::clone(&db) });
        Ok(Some(db))
    }

    /// Puts `bytes` in the place of what is there, durably.
    ///
    /// # Errors
    /// Where the folder cannot be written; what was there then stays.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Nothing in it is secret, and others may scan with it; the umask takes away what is too much.
        let mode = fs::Permissions::from_mode(0o644);
        let mut file =
            tempfile::Builder::new().prefix(".vulnerabilities-").permissions(mode).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use wharf_scan::vuln::Import;

    use super::*;

    fn import(id: &str) -> Vec<u8> {
        let record = format!(
            r#"{{"id":"{id}","modified":"2026-01-01T00:00:00Z","affected":[{{"package":{{"ecosystem":"Debian:12","name":"a"}},"versions":["1"]}}]}}"#
        );
        let mut import = Import::new();
        import.add("own", io::Cursor::new(record)).unwrap();
        import.finish().unwrap()
    }

    #[test]
    fn a_new_database_takes_the_place_of_the_old_while_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::of_data(folder.path());
        assert!(database.current().unwrap().is_none());
        database.replace(&import("CVE-1")).unwrap();
        let first = database.current().unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &database.current().unwrap().unwrap()));
        database.replace(&import("CVE-2")).unwrap();
        let second = database.current().unwrap().unwrap();
        assert_ne!(first.version(), second.version());
        assert_eq!(first.coverage().len(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_database_is_an_error_and_not_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::of_data(folder.path());
        database.replace(b"nonsense").unwrap();
        assert!(matches!(database.current(), Err(DbError::NotADatabase)));
        assert!(database.usable().unwrap().is_none(), "and no data to whoever compares or imports");
    }
}
