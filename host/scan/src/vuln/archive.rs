//! The list of a zip file's entries, which the zip crate holds in memory whole, read within a bound.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::{ZipError, ZipResult};

/// Opens `inner`, whose list of entries may have `list_bytes` bytes; an entry takes about 100 of them. `left` is the allowance
/// of the reader, which is lifted once the list was read.
///
/// # Errors
/// [`ZipError`], for a list beyond the bound with [`io::ErrorKind::FileTooLarge`].
pub(super) fn open<R: Read + Seek>(
    inner: R,
    list_bytes: u64,
    left: &Cell<u64>,
) -> ZipResult<ZipArchive<Metered<'_, R>>> {
    left.set(list_bytes);
    let archive = ZipArchive::new(Metered::new(inner, left));
    if left.replace(u64::MAX) == 0 {
        return Err(ZipError::Io(io::ErrorKind::FileTooLarge.into()));
    }
    archive
}

/// A reader with an allowance.
#[derive(Debug)]
pub(super) struct Metered<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<'a, R> Metered<'a, R> {
    /// May give as many bytes as `left` says, which the caller may set anew meanwhile.
    pub(super) fn new(inner: R, left: &'a Cell<u64>) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.inner.read(&mut buf[..want])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;

    #[test]
    fn a_list_of_entries_is_bounded_and_entries_are_not() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for i in 0..100 {
            zip.start_file(format!("{i}.json"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&[b' '; 500]).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        let left = Cell::new(0);
        let error = open(Cursor::new(&bytes), 3000, &left).unwrap_err();
        assert!(matches!(error, ZipError::Io(e) if e.kind() == io::ErrorKind::FileTooLarge));
        let mut archive = open(Cursor::new(&bytes), 100_000, &left).unwrap();
        let read: u64 =
            (0..100).map(|i| io::copy(&mut archive.by_index(i).unwrap(), &mut io::sink()).unwrap()).sum();
        assert_eq!(read, 50_000);
    }
}
