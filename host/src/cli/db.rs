//! `wharf db`: vulnerability data. Works on files, without a server; a running one takes up a new database by itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use wharf_scan::vuln::{Coverage, Db as Data, Import, ImportStats};

use super::exit::Stop;
use super::output::{self, Output, Table};
use crate::scan::Database;

/// Vulnerability data
#[derive(Debug, clap::Args)]
pub(super) struct Db {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Files),
    Show(Show),
}

/// Which database.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Database in a file of its own
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Database of a server's data folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn database(self) -> anyhow::Result<Database> {
        match (self.db, self.data) {
            (Some(file), _) => Ok(Database::at(file)),
            (None, Some(data)) => Ok(Database::of_data(&data)),
            (None, None) => Err(Stop::usage("say which database; hint: `--db FILE` or `--data DIR`").into()),
        }
    }
}

/// Import OSV exports, single records, or CISA's list of exploited vulnerabilities
///
/// What was imported before under the same name is replaced, everything else stays. Records of distributions that
/// cannot be matched yet are counted and not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf db import --data /var/lib/wharf Debian/all.zip Alpine/all.zip known_exploited_vulnerabilities.json
  wharf db import --db own.db --source own advisories.json")]
struct Files {
    /// `all.zip` of an ecosystem, or JSON: one record, an array, or a record a line
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Name to keep the records under, instead of the file's own (`Debian/all.zip` is `Debian`)
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Show what data there is and how old it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf db show --data /var/lib/wharf")]
struct Show {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

/// What the commands answer.
#[derive(Debug, Serialize)]
struct About {
    /// Digest of the data.
    version: String,
    sources: Vec<Coverage>,
    /// Records of each release.
    releases: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<Imported>,
}

#[derive(Debug, Serialize)]
struct Imported {
    records: u64,
    kept: u64,
    withdrawn: u64,
    malformed: u64,
    exploited: u64,
    /// Records of ecosystems that cannot be matched; they are not kept.
    not_kept: BTreeMap<String, u64>,
}

impl Db {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Import(files) => files.run(),
            Command::Show(show) => show.run(),
        }
    }
}

impl Files {
    fn run(self) -> anyhow::Result<()> {
        let database = self.place.database()?;
        let names: Vec<String> =
            self.files.iter().map(|file| self.source.clone().unwrap_or_else(|| name(file))).collect();
        let mut import = Import::new();
        if let Some(old) = database.current().with_context(|| database.path().display().to_string())? {
            let replaced: Vec<&str> = names.iter().map(String::as_str).collect();
            import.carry(&old, &replaced)?;
        }
        for (file, name) in self.files.iter().zip(&names) {
            let shown = || format!("cannot import `{}`", file.display());
            import.add(name, File::open(file).with_context(shown)?).with_context(shown)?;
        }
        let stats = import.stats().clone();
        tell(&stats);
        if stats.kept == 0 && stats.exploited == 0 {
            let hint = "hint: Debian's and Alpine's exports can be matched";
            return Err(Stop::usage(format!("nothing to keep in {} records; {hint}", stats.records)).into());
        }
        let bytes = import.finish()?;
        let about = About { imported: Some(imported(stats)), ..about(&Data::from_bytes(bytes.clone())?) };
        database.replace(&bytes).with_context(|| format!("cannot write `{}`", database.path().display()))?;
        self.output.show(&about, table)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let database = self.place.database()?;
        let Some(data) = database.current()? else {
            let path = database.path().display();
            return Err(Stop::not_found(format!("there is no `{path}`; hint: `wharf db import`")).into());
        };
        self.output.show(&about(&data), table)
    }
}

/// `Debian/all.zip`, as OSV lays its exports out, is `Debian`.
fn name(file: &Path) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|text| text.to_string_lossy().into_owned());
    let stem = part(file.file_stem()).unwrap_or_default();
    let folder = part(file.parent().and_then(Path::file_name));
    if stem == "all" { folder.unwrap_or(stem) } else { stem }
}

/// Remarks on what was left out.
fn tell(stats: &ImportStats) {
    for (ecosystem, records) in &stats.others {
        output::note(format!("{records} records of `{ecosystem}` were not kept: there is no matcher for it"));
    }
    for record in &stats.described {
        output::note(format!("malformed: {record}"));
    }
    if stats.malformed > stats.described.len() as u64 {
        output::note(format!("{} malformed records in all", stats.malformed));
    }
}

fn imported(stats: ImportStats) -> Imported {
    Imported {
        records: stats.records,
        kept: stats.kept,
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
        releases: data.releases().map(|(release, records)| (release.to_string(), records)).collect(),
        imported: None,
    }
}

fn table(about: &About) -> String {
    let mut sources = Table::new(&["~SOURCE", ">RECORDS", "NEWEST"], "no sources");
    for source in &about.sources {
        sources.row([source.source.clone(), source.records.to_string(), output::time(source.as_of_ms)]);
    }
    let mut releases = Table::new(&["RELEASE", ">RECORDS"], "no releases");
    for (release, records) in &about.releases {
        releases.row([release.clone(), records.to_string()]);
    }
    format!("{}\n{}", sources.text(), releases.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_named_like_its_folder() {
        assert_eq!(name(Path::new("osv/Debian/all.zip")), "Debian");
        assert_eq!(name(Path::new("own/advisories.json")), "advisories");
        assert_eq!(name(Path::new("all.zip")), "all");
    }
}
