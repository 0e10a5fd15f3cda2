//! How far a scan is, on the terminal while it runs.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use wharf_scan::Progress;

use crate::cli::output::bytes;

/// Time between two looks, so that a fast scan does not flicker.
const EVERY: Duration = Duration::from_millis(100);
/// To the line's start, and the rest of it away.
const CLEAR: &str = "\r\x1b[K";

/// One line on standard error, written over and over and gone at the end; nothing where that is not a terminal.
#[derive(Debug)]
pub(super) struct Meter {
    is_shown: bool,
    next: Instant,
}

impl Meter {
    pub(super) fn new() -> Self {
        Meter { is_shown: io::stderr().is_terminal(), next: Instant::now() + EVERY }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let now = Instant::now();
        if !self.is_shown || now < self.next {
            return;
        }
        self.next = now + EVERY;
        // A remark that cannot be written is lost.
        let _ = write!(io::stderr(), "{CLEAR}{}", line(progress));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

fn line(progress: Progress) -> String {
    let Progress { layer, of, uncompressed, .. } = progress;
    format!("scanning layer {} of {of}, {}", layer + 1, bytes(uncompressed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_one() {
        let progress = Progress { layer: 1, of: 3, stored: 1, uncompressed: 3 << 20 };
        assert_eq!(line(progress), "scanning layer 2 of 3, 3.0 MiB");
    }
}
