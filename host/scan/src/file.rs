//! Files of this machine, opened so that whatever bears the name cannot make a command wait.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The regular file at `path`. A pipe of that name has perhaps no other end, and would be waited for without an end.
///
/// # Errors
/// Where it cannot be opened, and [`io::ErrorKind::InvalidInput`] for a pipe, a folder or a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}
