//! `wharf db`: vulnerability data, of a running server or, with `--db` or `--data`, of files without one.

mod local;
mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use wharf_scan::vuln::{Release, SourceName};

use super::client::Remote;
use super::exit::Stop;
use super::output::{Output, Table, ago, count, note, now_ms};
use crate::api::admin::{DatabaseEntry, ImportEntry};

/// Vulnerability data: what images are compared with
#[derive(Debug, clap::Args)]
pub(super) struct Db {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Files),
    Status(Status),
}

/// Which database; without one of them, the server's.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Offline {
    /// Database in a file of its own, without a server
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Database of a server's data folder, on its machine
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Import OSV exports, single records, or CISA's list of exploited vulnerabilities
///
/// They are sent to the server, which compares all images again; with --db or --data they are read here. What was
/// imported before under the same name is replaced, everything else stays. A zip file is a whole export and covers
/// the releases that it has at least 100 records of; other files are single records, and an image is shown as having no
/// data until a source covers its release. A file that is damaged, or has less than half the records of the one before,
/// is refused. Records of distributions that cannot be matched yet are counted and not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf db import Debian/all.zip Alpine/all.zip
  wharf db import known_exploited_vulnerabilities.json
  wharf db import --source own advisories.json
  wharf db import --source bookworm --covers Debian:12 records.jsonl
  echo '[]' > none.json && wharf db import --force --source own none.json
  wharf db import --db own.db --source own advisories.json")]
struct Files {
    /// `all.zip` of an ecosystem, or JSON: one record, an array, or a record a line
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    offline: Offline,
    /// Name to keep the records under, instead of the file's own (`Debian/all.zip` is `Debian`)
    #[arg(long, value_name = "NAME")]
    source: Option<SourceName>,
    /// Releases that the file has everything about, such as `Debian:12`; an image of any other has no data
    #[arg(long, value_name = "RELEASE", value_delimiter = ',')]
    covers: Vec<Release>,
    /// Also take a file with less than half the records of the one that it replaces, one that covers less, or one of which much
    /// cannot be read; one with nothing to keep removes what was imported under its name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Show what data there is and how old it is
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "show",
    after_help = "Examples:
  wharf db status
  wharf db status --data /var/lib/wharf"
)]
struct Status {
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    remote: Remote,
}

impl Db {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Import(files) => {
                let sources = files.sources()?;
                match files.offline.database() {
                    Some(database) => local::import(&database, &files, &sources),
                    None => super::block_on(remote::import(&files, &sources)),
                }
            }
            Command::Status(status) => match status.offline.database() {
                Some(database) => local::status(&database, status.remote.output),
                None => super::block_on(remote::status(&status.remote)),
            },
        }
    }
}

impl Files {
    /// The name that each file's records are kept under. Refuses two files under one name, of which the second would take the
    /// place of the first.
    fn sources(&self) -> Result<Vec<SourceName>, Stop> {
        let names: Vec<SourceName> =
            self.files.iter().map(|file| self.source(file)).collect::<Result<_, _>>()?;
        let mut sorted = names.clone();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(names),
            Some(pair) => Err(Stop::usage(format!(
                "two files would be kept under `{}`, one in place of the other; hint: import them one by one by `--source`",
                pair[0]
            ))),
        }
    }

    fn source(&self, file: &Path) -> Result<SourceName, Stop> {
        match &self.source {
            Some(name) => Ok(name.clone()),
            None => name(file).parse().map_err(|error| {
                Stop::usage(format!("`{}` gives no name: {error}; hint: `--source NAME`", file.display()))
            }),
        }
    }
}

/// Remarks on what an import left out.
fn remark(others: &BTreeMap<String, u64>, described: &[String]) {
    for (ecosystem, records) in others {
        let records = count(*records, "record");
        note(format!("not kept: {records} of `{ecosystem}`, which cannot be matched"));
    }
    for record in described {
        note(format!("malformed: {record}"));
    }
}

/// Shows what the import of all these sources together did.
fn show_import(output: Output, sources: &[SourceName], done: &ImportEntry) -> anyhow::Result<()> {
    remark(&done.others, &done.described);
    output.show(done, |done| {
        let mut parts = vec![format!("{} read, {} kept", count(done.records, "record"), done.kept)];
        let of_versions = "of them without versions that can be compared (their packages may be affected)";
        for (n, what) in [
            (done.undecided, of_versions),
            (done.withdrawn, "withdrawn"),
            (done.malformed, "malformed"),
            (done.others.values().sum(), "of ecosystems that are not matched"),
            (done.exploited, "known to be exploited"),
        ] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        let sources: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
        let removed = match done.removed.is_empty() {
            true => String::new(),
            false => format!("; removed: `{}`", done.removed.join("`, `")),
        };
        format!("imported `{}`: {}{removed}\n", sources.join("`, `"), parts.join(", "))
    })
}

fn show_status(output: Output, data: &DatabaseEntry) -> anyhow::Result<()> {
    output.show(data, |data| table(data, now_ms()))
}

fn table(data: &DatabaseEntry, now_ms: u64) -> String {
    let empty = "no vulnerability data: nothing is known of any image; hint: `wharf db import FILE`";
    let mut sources = Table::new(&["~SOURCE", ">RECORDS", ">MALFORMED", "NEWEST CHANGE"], empty);
    for source in &data.sources {
        let (records, malformed) = (source.records.to_string(), source.malformed.to_string());
        sources.row([source.source.clone(), records, malformed, ago(source.as_of_ms, now_ms)]);
    }
    let columns = ["RELEASE", ">RECORDS", "NEWEST CHANGE", "COVERED"];
    let mut releases = Table::new(&columns, "no release has records");
    for (name, release) in &data.releases {
        let newest = ago(release.as_of_ms, now_ms);
        let covered = covered(release.covered, release.undecided);
        releases.row([name.clone(), release.records.to_string(), newest, covered]);
    }
    match data.sources.is_empty() {
        true => sources.text(),
        false => format!("{}\n{}", sources.text(), releases.text()),
    }
}

/// What it means that a source covers a release, or that none does; and records that leave open which versions are affected.
fn covered(is_covered: bool, undecided: u64) -> String {
    let covered = if is_covered { "yes" } else { "no: its images have no data" };
    match undecided {
        0 => covered.to_owned(),
        some => format!("{covered}; {} without versions", count(some, "record")),
    }
}

/// `Debian/all.zip`, as OSV lays its exports out, is `Debian`.
fn name(file: &Path) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|text| text.to_string_lossy().into_owned());
    let stem = part(file.file_stem()).unwrap_or_default();
    let folder = part(file.parent().and_then(Path::file_name));
    if stem == "all" { folder.unwrap_or(stem) } else { stem }
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
