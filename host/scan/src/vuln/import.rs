//! OSV exports in, database out: `all.zip` files, single records, arrays or lines of them, and CISA's list of exploited ones.
//!
//! Invariant: a record that cannot be read is counted and shown, never silently left out; it does not stop the import. The count
//! stays with its source.
//! Invariant: a file that is not whole, or has markedly fewer records than the one it would replace, stops the import.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Seek};

use serde::Deserialize;
use zip::result::ZipError;

use super::archive;
use super::db::{self, Db, DbError, Group, Meta};
use super::json::{self, Stopped};
use super::osv;
use super::record::{TEXT_BYTES, check, instant_ms, names, row_of, short};
use super::release::Release;
use super::row::{Coverage, ReleaseData, Row};

/// Records, copies left aside, by which a whole export covers a release: one that is cared for has hundreds, a few are a mention
/// of it.
const COVERING_RECORDS: u64 = 100;
/// Bytes of one record, and of the list of exploited vulnerabilities; the largest real records list every version of the kernel.
const RECORD_BYTES: u64 = 32 << 20;
/// Uncompressed bytes of one export.
const EXPORT_BYTES: u64 = 32 << 30;
/// Bytes of the list of a zip file's entries, enough for twice the records that OSV has in all.
const ZIP_LIST_BYTES: u64 = 128 << 20;
/// Rows of one database.
const ROWS: u64 = 16_000_000;
/// Malformed records described; further ones are counted.
const DESCRIBED: usize = 20;
/// A whole export of which more than one record in so many cannot be read is not one.
const MALFORMED_SHARE: u64 = 100;
/// How much of a file is looked at to tell what it is.
const PEEK_BYTES: usize = 4096;

/// Why an import stops.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read `{source_name}`: {cause}")]
    Io { source_name: String, cause: io::Error },
    #[error("`{source_name}` is not a zip file that can be read: {why}")]
    Zip { source_name: String, why: String },
    #[error("`{source_name}` is not JSON of OSV records: {why}")]
    Json { source_name: String, why: String },
    #[error(
        "`{source_name}` has nothing to keep ({seen}); hint: Debian's and Alpine's exports can be matched, an empty file is a download \
         that failed"
    )]
    Nothing { source_name: String, seen: String },
    #[error(
        "`{source_name}` has nothing to keep ({seen}), and what was imported under that name stays; hint: an empty file may be a \
         download that failed, `--force` removes the source"
    )]
    Removes { source_name: String, seen: String },
    #[error(
        "`{source_name}` has {records} records of {what}, less than half of the {before} that were imported under that name before, \
         and these stay; hint: download it again, or `--force` if it is right"
    )]
    Fewer { source_name: String, what: String, records: u64, before: u64 },
    #[error(
        "`{source_name}` covered {release} before and would not now, and what was imported stays; hint: `--covers {release}` if these \
         are all records of it, else `--force`"
    )]
    Uncovered { source_name: String, release: Release },
    #[error(
        "`{source_name}` has {malformed} records of {records} that cannot be read, too many for a whole export, and what was imported \
         stays; hint: download it again, or `--force` to import the rest"
    )]
    Malformed { source_name: String, malformed: u64, records: u64 },
    #[error("`{source_name}` has no records of {release}, which it is said to cover")]
    NotCovered { source_name: String, release: Release },
    #[error("`{source_name}` is beyond a bound: {what}")]
    TooLarge { source_name: String, what: &'static str },
    #[error("the database cannot be written: {0}")]
    Write(postcard::Error),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What an import saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportStats {
    /// Records read, of whatever kind.
    pub records: u64,
    /// Records that were withdrawn by their source; they are left out.
    pub withdrawn: u64,
    /// Records that are kept for at least one release.
    pub kept: u64,
    /// Those among them that do not say of every version whether it is affected, or not in a form that can be evaluated.
    pub undecided: u64,
    /// Vulnerabilities × packages × releases.
    pub rows: u64,
    /// Records that speak only of ecosystems without a matcher, by ecosystem; they are not stored.
    pub others: BTreeMap<String, u64>,
    /// Records that could not be read, and the first of them described.
    pub malformed: u64,
    pub described: Vec<String>,
    /// Entries of the list of exploited vulnerabilities.
    pub exploited: u64,
    /// Sources that were there before, of which nothing was kept.
    pub removed: Vec<String>,
}

impl ImportStats {
    /// What came since `before` of which nothing was kept, in words: `records: 1, malformed: 1 (`CVE-1`: it has too many names)`.
    fn since(&self, before: &ImportStats) -> String {
        let others = |stats: &ImportStats| stats.others.values().sum::<u64>();
        let mut seen = format!("records: {}", self.records - before.records);
        for (what, n) in [
            ("withdrawn", self.withdrawn - before.withdrawn),
            ("of ecosystems that are not matched", others(self) - others(before)),
            ("malformed", self.malformed - before.malformed),
        ] {
            if n > 0 {
                seen.push_str(&format!(", {what}: {n}"));
            }
        }
        if let Some(first) = self.described.get(before.described.len()) {
            seen.push_str(&format!(" ({first})"));
        }
        seen
    }
}

impl ImportError {
    /// Whether [`Import::accept_fewer`] lets it through.
    pub fn is_forced(&self) -> bool {
        use ImportError::{Fewer, Malformed, Removes, Uncovered};
        matches!(self, Fewer { .. } | Uncovered { .. } | Malformed { .. } | Removes { .. })
    }
}

/// Collects records of any number of files, then writes one database.
#[derive(Debug, Default)]
pub struct Import {
    meta: Meta,
    groups: BTreeMap<(Release, String), Vec<Row>>,
    stats: ImportStats,
    /// Identifiers of the records that a source has of a release: copies of one are no more knowledge than it is.
    counted: BTreeMap<(Release, u16), HashSet<String>>,
    /// What the sources to be replaced had of each release.
    before: BTreeMap<(String, Release), ReleaseData>,
    accepts_fewer: bool,
}

impl Import {
    /// An empty database to be.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts a file with less than half the records of the one that it replaces, even none of them, one that covers less, and a
    /// whole export of which much cannot be read: see [`ImportError::is_forced`].
    #[must_use]
    pub fn accept_fewer(self, accepts_fewer: bool) -> Self {
        Self { accepts_fewer, ..self }
    }

    /// Takes over what `db` has of other sources than `replaced`.
    ///
    /// # Errors
    /// [`ImportError::Db`]
    pub fn carry(&mut self, db: &Db, replaced: &[&str]) -> Result<(), ImportError> {
        let mut places = BTreeMap::new();
        for (old, source) in (0u16..).zip(&db.meta.sources) {
            if !replaced.contains(&source.source.as_str()) {
                places.insert(old, self.place(&source.source));
                let own = &mut self.meta.sources[usize::from(places[&old])];
                own.as_of_ms = own.as_of_ms.max(source.as_of_ms);
                own.records += source.records;
            }
        }
        for (release, by) in &db.meta.releases {
            for (old, data) in by {
                match (places.get(old), db.meta.sources.get(usize::from(*old))) {
                    (Some(new), _) => self.of_release(release, *new).join(*data),
                    (None, Some(source)) => {
                        self.before.insert((source.source.clone(), release.clone()), *data);
                    }
                    (None, None) => {}
                }
            }
        }
        for group in db.groups() {
            let Group { release, package, rows } = group?;
            for mut row in rows {
                let Some(new) = places.get(&row.source) else { continue };
                row.source = *new;
                self.groups.entry((release.clone(), package.clone())).or_default().push(row);
            }
        }
        let others = db.meta.malformed.iter().filter(|(source, _)| !replaced.contains(&source.as_str()));
        self.meta.malformed.extend(others.map(|(source, malformed)| (source.clone(), *malformed)));
        self.meta.exploited.clone_from(&db.meta.exploited);
        self.meta.exploited_from.clone_from(&db.meta.exploited_from);
        Ok(())
    }

    /// Reads one file under the name `source`, telling its form by its first bytes.
    ///
    /// A zip file is a whole export, as OSV publishes one for each ecosystem, and covers the releases that it has at least
    /// `COVERING_RECORDS` records of. Other files are single records, which cover what [`Import::covers`] is told.
    ///
    /// # Errors
    /// [`ImportError`] if the file is not whole, or brings nothing: in place of what there was it would make images look clean,
    /// so that it is for [`Import::accept_fewer`] to say that the source is to go. Single records are counted in [`Import::stats`].
    pub fn add(&mut self, source: &str, reader: impl Read + Seek) -> Result<(), ImportError> {
        let (before, replaces) = (self.stats.clone(), self.replaces(source));
        self.read(source, reader)?;
        if self.stats.kept > before.kept || self.stats.exploited != before.exploited {
            let malformed = self.stats.malformed - before.malformed;
            if malformed > 0 {
                *self.meta.malformed.entry(source.to_owned()).or_default() += malformed;
            }
            return Ok(());
        }
        let (source_name, seen) = (source.to_owned(), self.stats.since(&before));
        match replaces {
            false => Err(ImportError::Nothing { source_name, seen }),
            true if !self.accepts_fewer => Err(ImportError::Removes { source_name, seen }),
            true => {
                if self.meta.exploited_from.take_if(|list| list.source == source).is_some() {
                    self.meta.exploited.clear();
                }
                self.stats.removed.push(source_name);
                Ok(())
            }
        }
    }

    /// Whether there was something under the name `source` before.
    fn replaces(&self, source: &str) -> bool {
        self.before.keys().any(|(name, _)| name == source)
            || self.meta.exploited_from.as_ref().is_some_and(|list| list.source == source)
    }

    /// Takes the caller's word that what was read under the name `source` is all that there is to know about `release`.
    ///
    /// # Errors
    /// [`ImportError::NotCovered`] if there are no records of it.
    pub fn covers(&mut self, source: &str, release: &Release) -> Result<(), ImportError> {
        let place = self.find(source);
        let by = self.meta.releases.get_mut(release).zip(place);
        let Some(data) = by.and_then(|(by, place)| by.get_mut(&place)) else {
            let (source_name, release) = (source.to_owned(), release.clone());
            return Err(ImportError::NotCovered { source_name, release });
        };
        data.covered = true;
        Ok(())
    }

    fn read(&mut self, source: &str, reader: impl Read + Seek) -> Result<(), ImportError> {
        let io = |e| ImportError::Io { source_name: source.to_owned(), cause: e };
        let mut reader = BufReader::with_capacity(1 << 17, reader);
        let mut head = Vec::new();
        reader.by_ref().take(PEEK_BYTES as u64).read_to_end(&mut head).map_err(io)?;
        reader.rewind().map_err(io)?;
        if head.starts_with(b"PK") {
            return self.zip(source, reader);
        }
        let text = String::from_utf8_lossy(&head);
        if text.contains("\"catalogVersion\"") {
            return self.exploited(source, reader.take(RECORD_BYTES));
        }
        self.json(source, reader)
    }

    /// What was read so far.
    pub fn stats(&self) -> &ImportStats {
        &self.stats
    }

    /// The database's bytes. The same records in the same order give the same bytes.
    ///
    /// # Errors
    /// [`ImportError::Fewer`] if a source has less than half the records of a release that it had before,
    /// [`ImportError::Uncovered`] if it covered one that it does not now, and [`ImportError::Write`] if one package has more rows than the form allows.
    pub fn finish(self) -> Result<Vec<u8>, ImportError> {
        for ((source, release), before) in &self.before {
            let by = self.meta.releases.get(release).zip(self.find(source));
            let now = by.and_then(|(by, place)| by.get(&place)).copied().unwrap_or_default();
            self.refuse_fewer(source, release.as_str(), now.records, before.records)?;
            if before.covered && !now.covered && !self.accepts_fewer {
                let (source_name, release) = (source.clone(), release.clone());
                return Err(ImportError::Uncovered { source_name, release });
            }
        }
        let groups =
            self.groups.into_iter().map(|((release, package), rows)| Group { release, package, rows });
        db::write(&self.meta, &groups.collect::<Vec<_>>()).map_err(ImportError::Write)
    }

    fn zip(&mut self, source: &str, reader: impl Read + Seek) -> Result<(), ImportError> {
        let bad = |e: ZipError| ImportError::Zip { source_name: source.to_owned(), why: e.to_string() };
        let left = Cell::new(0);
        let mut archive = match archive::open(reader, ZIP_LIST_BYTES, &left) {
            Err(ZipError::Io(e)) if e.kind() == io::ErrorKind::FileTooLarge => {
                return Err(self.too_large(source, "entries of the zip file"));
            }
            opened => opened.map_err(bad)?,
        };
        let mut left = EXPORT_BYTES;
        let mut text = Vec::new();
        let (malformed_before, mut records) = (self.stats.malformed, 0);
        // The directory at its end was read, so no entry is missing; each entry's checksum is compared at its own end.
        for i in 0..archive.len() {
            let entry = archive.by_index(i).map_err(bad)?;
            let name = entry.name().map(|n| n.chars().take(TEXT_BYTES).collect::<String>()).map_err(bad)?;
            if !name.ends_with(".json") {
                continue;
            }
            records += 1;
            text.clear();
            // The declared size is a claim; what comes out is what counts.
            match entry.take(RECORD_BYTES + 1).read_to_end(&mut text) {
                Ok(n) if n as u64 > RECORD_BYTES => {
                    self.malformed(&name, "it is larger than a record may be")
                }
                Ok(_) => match serde_json::from_slice(&text) {
                    Ok(record) => self.record(source, record, &name)?,
                    Err(error) => self.malformed(&name, &error.to_string()),
                },
                Err(error) => {
                    let why = format!("its entry `{name}` is damaged: {error}; hint: download it again");
                    return Err(ImportError::Zip { source_name: source.to_owned(), why });
                }
            }
            left = left.saturating_sub(text.len() as u64);
            if left == 0 {
                return Err(self.too_large(source, "uncompressed bytes of the export"));
            }
        }
        let malformed = self.stats.malformed - malformed_before;
        if records >= COVERING_RECORDS && malformed > records / MALFORMED_SHARE && !self.accepts_fewer {
            return Err(ImportError::Malformed { source_name: source.to_owned(), malformed, records });
        }
        self.settle(source);
        self.cover(source);
        Ok(())
    }

    /// A whole export covers the releases that it is about.
    fn cover(&mut self, source: &str) {
        let Some(place) = self.find(source) else { return };
        let of_source = self.meta.releases.values_mut().filter_map(|by| by.get_mut(&place));
        of_source.filter(|data| data.records >= COVERING_RECORDS).for_each(|data| data.covered = true);
    }

    /// One record, one after the other, or an array of them.
    fn json(&mut self, source: &str, reader: impl BufRead) -> Result<(), ImportError> {
        let read = json::each(reader.take(EXPORT_BYTES), RECORD_BYTES, |value| self.value(source, value));
        let source_name = || source.to_owned();
        read.map_err(|stopped| match stopped {
            Stopped::Io(cause) => ImportError::Io { source_name: source_name(), cause },
            Stopped::Json(error) => ImportError::Json { source_name: source_name(), why: error.to_string() },
            Stopped::TooLarge => self.too_large(source, "bytes of one record"),
            Stopped::Taker(error) => error,
        })?;
        self.settle(source);
        Ok(())
    }

    fn value(&mut self, source: &str, value: serde_json::Value) -> Result<(), ImportError> {
        let id = value.get("id").and_then(|v| v.as_str()).unwrap_or("a record without an id").to_owned();
        match serde_json::from_value(value) {
            Ok(record) => self.record(source, record, &id),
            Err(error) => {
                self.malformed(&id, &error.to_string());
                Ok(())
            }
        }
    }

    fn exploited(&mut self, source: &str, reader: impl Read) -> Result<(), ImportError> {
        let bad = |why: String| ImportError::Json { source_name: source.to_owned(), why };
        let list: Exploited = serde_json::from_reader(reader).map_err(|e| bad(e.to_string()))?;
        let records = list.vulnerabilities.len() as u64;
        let as_of_ms =
            instant_ms(&list.released).ok_or_else(|| bad("`dateReleased` is no time".to_owned()))?;
        let before = self.meta.exploited_from.as_ref().map_or(0, |before| before.records);
        self.refuse_fewer(source, "exploited vulnerabilities", records, before)?;
        self.meta.exploited = list.vulnerabilities.into_iter().map(|v| v.id).filter(|id| short(id)).collect();
        self.meta.exploited_from = Some(Coverage { source: source.to_owned(), as_of_ms, records });
        self.stats.exploited = records;
        Ok(())
    }

    /// Takes one record apart: a row for each vulnerability, package and release that it names.
    fn record(&mut self, source: &str, record: osv::Record, name: &str) -> Result<(), ImportError> {
        self.stats.records += 1;
        if record.withdrawn.is_some() {
            self.stats.withdrawn += 1;
            return Ok(());
        }
        if let Err(why) = check(&record) {
            self.malformed(name, why);
            return Ok(());
        }
        let Some(modified_ms) = instant_ms(&record.modified) else {
            self.malformed(name, "`modified` is no time");
            return Ok(());
        };
        let place = self.place(source);
        let vulnerabilities = names(&record);
        // Each with whether the record leaves something about it undecided.
        let mut releases: BTreeMap<Release, bool> = BTreeMap::new();
        let mut other = None;
        for affected in &record.affected {
            let Some(package) = &affected.package else { continue };
            let Some(release) = Release::of_ecosystem(&package.ecosystem) else {
                other = Some(package.ecosystem.as_str());
                continue;
            };
            let base = row_of(&record, affected, &release, place);
            let rows = self.groups.entry((release.clone(), package.name.clone())).or_default();
            for (id, aliases) in &vulnerabilities {
                rows.push(Row { id: id.clone(), aliases: aliases.clone(), ..base.clone() });
            }
            self.stats.rows += vulnerabilities.len() as u64;
            *releases.entry(release).or_default() |= base.undecided;
        }
        if self.stats.rows > ROWS {
            return Err(self.too_large(source, "rows of the database"));
        }
        if releases.is_empty() {
            let ecosystem = other.unwrap_or("without a package");
            let family = ecosystem.split(':').next().unwrap_or_default();
            *self.stats.others.entry(family.chars().take(TEXT_BYTES).collect()).or_default() += 1;
            return Ok(());
        }
        self.stats.kept += 1;
        self.stats.undecided += u64::from(releases.values().any(|undecided| *undecided));
        let coverage = &mut self.meta.sources[usize::from(place)];
        coverage.records += 1;
        coverage.as_of_ms = coverage.as_of_ms.max(modified_ms);
        for (release, undecided) in &releases {
            let is_new = self.counted.entry((release.clone(), place)).or_default().insert(record.id.clone());
            let one = ReleaseData {
                records: u64::from(is_new),
                undecided: u64::from(is_new && *undecided),
                as_of_ms: modified_ms,
                covered: false,
            };
            self.of_release(release, place).join(one);
        }
        Ok(())
    }

    fn of_release(&mut self, release: &Release, place: u16) -> &mut ReleaseData {
        self.meta.releases.entry(release.clone()).or_default().entry(place).or_default()
    }

    /// An export that broke off where nobody notices, or came from a server in trouble, is worse than an old one.
    fn refuse_fewer(&self, source: &str, what: &str, records: u64, before: u64) -> Result<(), ImportError> {
        if self.accepts_fewer || records.saturating_mul(2) >= before {
            return Ok(());
        }
        let (source_name, what) = (source.to_owned(), what.to_owned());
        Err(ImportError::Fewer { source_name, what, records, before })
    }

    /// Index of `source`, made if it is new.
    fn place(&mut self, source: &str) -> u16 {
        self.find(source).unwrap_or_else(|| {
            self.meta.sources.push(Coverage { source: source.to_owned(), as_of_ms: 0, records: 0 });
            u16::try_from(self.meta.sources.len() - 1).unwrap_or(u16::MAX)
        })
    }

    fn find(&self, source: &str) -> Option<u16> {
        (0u16..).zip(&self.meta.sources).find(|(_, s)| s.source == source).map(|(at, _)| at)
    }

    /// A source that gave nothing is not coverage.
    fn settle(&mut self, source: &str) {
        if self.meta.sources.last().is_some_and(|s| s.source == source && s.records == 0) {
            self.meta.sources.pop();
        }
    }

    fn malformed(&mut self, name: &str, why: &str) {
        self.stats.malformed += 1;
        if self.stats.described.len() < DESCRIBED {
            let why: String = why.chars().take(TEXT_BYTES).collect();
            self.stats.described.push(format!("`{name}`: {why}"));
        }
    }

    fn too_large(&self, source: &str, what: &'static str) -> ImportError {
        ImportError::TooLarge { source_name: source.to_owned(), what }
    }
}

/// CISA's catalog, <https://www.cisa.gov/known-exploited-vulnerabilities-catalog>.
#[derive(Deserialize)]
struct Exploited {
    #[serde(rename = "dateReleased")]
    released: String,
    vulnerabilities: Vec<ExploitedOne>,
}

#[derive(Deserialize)]
struct ExploitedOne {
    #[serde(rename = "cveID")]
    id: String,
}
