//! Vulnerability data and matching: a report and a database in, findings out. No image is read again.
//!
//! What an operator sees: `wharf db import FILE…`, and the findings of `wharf scan`. Entries: [`Import`] makes a database of
//! OSV exports, [`Db`] opens it, [`match_report`] compares.
//!
//! Ecosystems without a matcher are counted at import and not stored: rows that nothing can compare would only look like
//! knowledge. The counts are in [`ImportStats::others`].
//!
//! Invariant: no data is shown as no data. A release that no source covers gives [`Knowledge::None`], never an empty `complete`,
//! and single records that name it are not coverage: [`Import::add`] says what is.
//! Invariant: an import is whole or refused. What was imported before then stays.
//! Invariant: matching is a function of report and database; the clock is not asked.

mod archive;
mod cvss;
mod db;
mod import;
mod json;
mod matching;
mod osv;
mod record;
mod release;
mod row;
mod source;
pub mod version;

pub use db::{DB_VERSION, Db, DbError};
pub use import::{Import, ImportError, ImportStats};
pub use matching::{FINDINGS_VERSION, Finding, Findings, FixState, match_report};
pub use release::{Release, ReleaseError};
pub use row::{Coverage, ReleaseData, Severity};
pub use source::{SourceName, SourceNameError};

#[cfg(doc)]
use crate::Knowledge;

#[cfg(test)]
mod tests;
