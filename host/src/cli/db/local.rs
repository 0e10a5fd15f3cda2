//! Databases in files: no server is asked, and a running one takes up what is new by itself.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::Context as _;
use serde::Serialize;
use wharf_scan::vuln::{Coverage, Db as Data, Import, ImportError, ImportStats, ReleaseData};

use super::{Files, Offline, covered};
use crate::cli::exit::Stop;
use crate::cli::output::{self, Output, Table, count, part};
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

/// What the commands answer.
#[derive(Debug, Serialize)]
struct About {
    /// Digest of the data.
    version: String,
    sources: Vec<Coverage>,
    /// What there is of each release.
    releases: BTreeMap<String, ReleaseData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<Imported>,
}

#[derive(Debug, Serialize)]
struct Imported {
    records: u64,
    kept: u64,
    /// Records among the kept that do not say of every version whether it is affected.
    undecided: u64,
    withdrawn: u64,
    malformed: u64,
    exploited: u64,
    /// Records of ecosystems that cannot be matched; they are not kept.
    not_kept: BTreeMap<String, u64>,
}

/// Imports files, each in place of what was imported under its name before.
///
/// # Errors
/// Where a file cannot be read or holds nothing that can be matched; the database stays as it was.
pub(super) fn import(database: &Database, files: &Files) -> anyhow::Result<()> {
    let names: Vec<String> = files.files.iter().map(|file| files.source(file)).collect();
    let mut import = Import::new().accept_fewer(files.force);
    if let Some(old) = database.usable().with_context(|| database.path().display().to_string())? {
        let replaced: Vec<&str> = names.iter().map(String::as_str).collect();
        import.carry(&old, &replaced)?;
    }
    for (file, name) in files.files.iter().zip(&names) {
        let shown = || format!("cannot import `{}`", file.display());
        let open = File::open(file).with_context(shown)?;
        let size = open.metadata().with_context(shown)?.len();
        let mut line = Progress::new();
        let far = |at| line.show(|| format!("reading `{}`: {}", file.display(), part(at, size)));
        let added = import.add(name, Told::new(open, far));
        if let Err(nothing @ ImportError::Nothing { .. }) = added {
            tell(import.stats());
            return Err(Stop::usage(nothing.to_string()).into());
        }
        if let Err(forced) = &added
            && forced.is_forced()
        {
            return Err(Stop::refused(forced.to_string()).into());
        }
        added.with_context(shown)?;
        for release in &files.covers {
            import.covers(name, release).map_err(|error| Stop::usage(error.to_string()))?;
        }
    }
    let stats = import.stats().clone();
    tell(&stats);
    let bytes = import.finish().map_err(|error| match error.is_forced() {
        true => Stop::refused(error.to_string()).into(),
        false => anyhow::Error::from(error),
    })?;
    let about = About { imported: Some(imported(stats)), ..about(&Data::from_bytes(bytes.clone())?) };
    database.replace(&bytes).with_context(|| format!("cannot write `{}`", database.path().display()))?;
    files.remote.output.show(&about, table)
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
    output.show(&about(&data), table)
}

/// Remarks on what was left out.
fn tell(stats: &ImportStats) {
    for (ecosystem, records) in &stats.others {
        let records = count(*records, "record");
        output::note(format!("not kept: {records} of `{ecosystem}`, which cannot be matched"));
    }
    if stats.undecided > 0 {
        let records = count(stats.undecided, "record");
        output::note(format!(
            "{records} without versions that can be compared: their packages are shown as possibly affected"
        ));
    }
    for record in &stats.described {
        output::note(format!("malformed: {record}"));
    }
    if stats.malformed > stats.described.len() as u64 {
        output::note(format!("{} malformed in all", count(stats.malformed, "record")));
    }
}

fn imported(stats: ImportStats) -> Imported {
    Imported {
        records: stats.records,
        kept: stats.kept,
        undecided: stats.undecided,
        withdrawn: stats.withdrawn,
        malformed: stats.malformed,
        exploited: stats.exploited,
        not_kept: stats.others,
    }
}

fn about(data: &Data) -> About {
    About {
        version: data.version().to_owned(),
        sources: data.coverage(),
        releases: data.releases().map(|(release, data)| (release.to_string(), data)).collect(),
        imported: None,
    }
}

fn table(about: &About) -> String {
    let mut sources = Table::new(&["~SOURCE", ">RECORDS", "NEWEST"], "no sources");
    for source in &about.sources {
        sources.row([source.source.clone(), source.records.to_string(), output::time(source.as_of_ms)]);
    }
    let mut releases = super::releases();
    for (name, release) in &about.releases {
        let newest = output::time(release.as_of_ms);
        releases.row([
            name.clone(),
            release.records.to_string(),
            newest,
            covered(release.covered, release.undecided),
        ]);
    }
    format!("{}\n{}", sources.text(), releases.text())
}
