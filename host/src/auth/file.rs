//! Files that hold a secret: readable by their owner alone.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rand::TryRngCore as _;

/// Writes a file that only its owner can read (0600), whole or not at all: under another name first, then in place.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

/// A key of 256 random bits: the file's, or a new one that is written to it.
pub(super) fn key_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match fs::File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            Ok(key)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            rand::rngs::OsRng.try_fill_bytes(&mut key).map_err(io::Error::other)?;
            write_private(path, &key)?;
            Ok(key)
        }
        Err(e) => Err(e),
    }
}
