//! Databases in files: no server is asked, and a running one takes up what is new by itself.

use std::fs::File;

use anyhow::Context as _;
use wharf_scan::vuln::{Db as Data, DbError, Import, ImportError, ImportStats, SourceName};

use super::{Files, Offline, remark, show_import, show_status};
use crate::api::admin::{DatabaseEntry, ImportEntry};
use crate::cli::exit::Stop;
use crate::cli::output::{Output, part};
use crate::cli::progress::{Progress, Told};
use crate::scan::Database;

impl Offline {
    /// The database that is named; none: the server's.
    pub(super) fn database(&self) -> Option<Database> {
        match (&self.db, &self.data) {
            (Some(file), _) => Some(Database::at(file.clone())),
            (None, Some(data)) => Some(Database::of_data(data)),
            (None, None) => None,
        }
    }
}

/// Imports files, each in place of what was imported under its name before.
///
/// # Errors
/// Where a file cannot be read or holds nothing that can be matched, and where something else than a database is in its place;
/// what was there stays as it was.
pub(super) fn import(database: &Database, files: &Files, sources: &[SourceName]) -> anyhow::Result<()> {
    // Only a database is replaced, a damaged one too: any other file has nothing to do with this.
    if let Err(DbError::NotADatabase) = database.current() {
        let path = database.path().display();
        let why = format!("`{path}` is there and is not a vulnerability database");
        return Err(Stop::refused(format!("{why}; hint: name another file, or remove this one")).into());
    }
    let mut import = Import::new().accept_fewer(files.force);
    let names: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
    if let Some(old) = database.usable().with_context(|| database.path().display().to_string())? {
        import.carry(&old, &names)?;
    }
    for (file, name) in files.files.iter().zip(names) {
        let shown = || format!("cannot import `{}`", file.display());
        let open = File::open(file).with_context(shown)?;
        let size = open.metadata().with_context(shown)?.len();
        let mut line = Progress::new();
        let far = |at| line.show(|| format!("reading `{}`: {}", file.display(), part(at, size)));
        let added = import.add(name, Told::new(open, far));
        if added.is_err() {
            remark(&import.stats().others, &import.stats().described);
        }
        added.map_err(ended).with_context(shown)?;
        for release in &files.covers {
            import.covers(name, release).map_err(ended)?;
        }
    }
    let stats = import.stats().clone();
    let bytes = import.finish().map_err(ended)?;
    let done = entry(Data::from_bytes(bytes.clone())?.version().to_owned(), stats);
    database.replace(&bytes).with_context(|| format!("cannot write `{}`", database.path().display()))?;
    show_import(files.remote.output, sources, &done)
}

/// Shows what data there is.
///
/// # Errors
/// Where there is no database or it is damaged.
pub(super) fn status(database: &Database, output: Output) -> anyhow::Result<()> {
    let Some(data) = database.current()? else {
        let path = database.path().display();
        return Err(Stop::not_found(format!("there is no `{path}`; hint: `wharf db import`")).into());
    };
    show_status(output, &DatabaseEntry::from(&*data))
}

/// Tells what is refused, with the status of that, from what fails.
fn ended(error: ImportError) -> anyhow::Error {
    match error {
        ImportError::Nothing { .. } | ImportError::NotCovered { .. } => Stop::usage(error).into(),
        error if error.is_forced() => Stop::refused(error).into(),
        error => error.into(),
    }
}

fn entry(version: String, stats: ImportStats) -> ImportEntry {
    ImportEntry {
        version,
        records: stats.records,
        kept: stats.kept,
        undecided: stats.undecided,
        withdrawn: stats.withdrawn,
        malformed: stats.malformed,
        described: stats.described,
        others: stats.others,
        exploited: stats.exploited,
        removed: stats.removed,
    }
}
