//! Orders of version numbers. Each distribution has its own; comparing by another's is a wrong verdict.

mod alpine;
mod debian;

use std::cmp::Ordering;

/// Whose order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// deb-version(7), as `dpkg --compare-versions` decides.
    Debian,
    /// apk-package(5), as `apk version -t` decides.
    Alpine,
}

impl Scheme {
    /// Compares two versions. Total over all texts: one that is no version still has its place.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Debian => debian::compare(a, b),
            Self::Alpine => alpine::compare(a, b),
        }
    }
}

/// Compares runs of decimal digits of any length by value.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests;
