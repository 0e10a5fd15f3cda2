//! How far long work is: one line on standard error that is written over, where that is a terminal, and nothing elsewhere.

use std::io::{self, IsTerminal as _, Read, Seek, SeekFrom, Write as _};
use std::time::{Duration, Instant};

/// Between two writings of the line.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Returns to the line's beginning and clears it (ECMA-48, "EL").
const CLEAR: &str = "\r\x1b[K";

/// The line. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    is_seen: bool,
    drawn: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress { is_seen: io::stderr().is_terminal(), drawn: None }
    }

    /// Shows `text`, unless the line was written a moment ago.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.is_seen && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW_EVERY) {
            self.drawn = Some(Instant::now());
            // Lost where it cannot be written.
            let _ = write!(io::stderr(), "{CLEAR}{}", text());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

/// Tells of each read how far it came, in bytes.
pub(super) struct Told<R, F> {
    inner: R,
    at: u64,
    tell: F,
}

impl<R, F: FnMut(u64)> Told<R, F> {
    pub(super) fn new(inner: R, tell: F) -> Self {
        Told { inner, at: 0, tell }
    }
}

impl<R: Read, F: FnMut(u64)> Read for Told<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.at += n as u64;
        (self.tell)(self.at);
        Ok(n)
    }
}

impl<R: Seek, F> Seek for Told<R, F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.inner.seek(to)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_tells_where_it_is() {
        let mut told = Vec::new();
        let mut reader = Told::new(io::Cursor::new([0; 10]), |at| told.push(at));
        reader.read_exact(&mut [0; 4]).unwrap();
        reader.seek(SeekFrom::Start(8)).unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(told, [4, 10]);
    }
}
