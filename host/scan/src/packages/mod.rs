//! Package databases: what a distribution says is installed.
//!
//! Each parser takes the bytes of one file and gives plain records; nothing here knows of layers or archives.
//!
//! Invariant: no parser panics, and what it keeps is never larger than a small multiple of what it was given.

pub(crate) mod apk;
pub(crate) mod copyright;
pub(crate) mod dpkg;
pub(crate) mod release;

use crate::report::PackageKind;

/// Longest name, version or architecture that is taken for one.
pub(crate) const FIELD_BYTES: usize = 256;

/// A package as its database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: PackageKind,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    pub(crate) source: Option<String>,
    pub(crate) source_version: Option<String>,
    pub(crate) licences: Vec<String>,
}

/// What a database file held.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) records: Vec<Record>,
    /// Stanzas that name no package or no version, or whose fields are over their bound.
    pub(crate) malformed: u64,
    /// Records whose licence is over its bound or not printable: they are without it.
    pub(crate) unlicensed: u64,
    /// There were more records than were asked for.
    pub(crate) cut: bool,
}

impl Parsed {
    fn push(&mut self, record: Option<Record>, max: usize) {
        match record {
            Some(_) if self.records.len() >= max => self.cut = true,
            Some(record) => self.records.push(record),
            None => self.malformed += 1,
        }
    }
}

/// A field that is short enough and made of printable characters.
pub(crate) fn field(value: &[u8]) -> Option<String> {
    text(value, FIELD_BYTES)
}

/// The same of at most `max` bytes.
fn text(value: &[u8], max: usize) -> Option<String> {
    let value = value.trim_ascii();
    if value.is_empty() || value.len() > max || value.iter().any(u8::is_ascii_control) {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::to_owned)
}
