//! A report against a database: which packages are affected by what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::db::{Db, DbError};
use super::release::Release;
use super::row::{Coverage, Row, Severity};
use super::version::Scheme;
use crate::report::{Knowledge, Package, Report};

/// Version of [`Findings`]'s form.
pub const FINDINGS_VERSION: u32 = 1;

/// Whether there is a version without the vulnerability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixState {
    Unknown,
    /// [`Finding::fixed_in`] names the version.
    Fixed,
    NotFixed,
    WontFix,
    /// The release or package is no longer cared for.
    EndOfLife,
}

/// One vulnerability of one installed package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The CVE name where there is one.
    pub id: String,
    pub aliases: Vec<String>,
    pub severity: Severity,
    /// Base score, 0.0 to 10.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvss: Option<f32>,
    pub package: String,
    pub version: String,
    pub arch: String,
    /// The source package and its version, which is what was compared.
    pub source: String,
    pub source_version: String,
    pub fix: FixState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_in: Option<String>,
    /// In CISA's list of exploited vulnerabilities.
    pub known_exploited: bool,
    /// A record names the package and does not say whether this version is affected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub possible_only: bool,
    /// Index of the layer that brought the package.
    pub layer: u32,
}

/// What is wrong with an image, as far as the data tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// [`FINDINGS_VERSION`] of the writer.
    pub version: u32,
    /// How far an empty list can be trusted. `None`: no source covers this image's release, or what says which it is could not be
    /// read; what is listed is true all the same.
    pub knowledge: Knowledge,
    /// Why knowledge is not `complete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The release that was matched, such as `Debian:12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// When the release's security support ends or ended, in ms since 1970; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_life_ms: Option<u64>,
    /// Digest of the data; absent without a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_version: Option<String>,
    /// The sources that cover this release, and how old what they have of it is.
    pub coverage: Vec<Coverage>,
    /// Sorted by severity (worst first), id, package.
    pub findings: Vec<Finding>,
}

impl Findings {
    /// For a scan without a database: nothing is known, and that is what it says.
    pub fn without_data(report: &Report) -> Self {
        let release = report.distro.as_ref().and_then(Release::of_distro);
        Self {
            version: FINDINGS_VERSION,
            knowledge: Knowledge::None,
            why: Some("there is no vulnerability database; hint: `wharf db import`".to_owned()),
            end_of_life_ms: release.as_ref().and_then(Release::end_of_life_ms),
            release,
            data_version: None,
            coverage: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Findings of each severity, in the order unknown, negligible, low, medium, high, critical.
    pub fn counts(&self) -> [u64; 6] {
        let mut counts = [0; 6];
        for finding in &self.findings {
            counts[finding.severity as usize] += 1;
        }
        counts
    }
}

/// Compares every package of `report` with `db`.
///
/// # Errors
/// [`DbError`] if the database cannot be read.
pub fn match_report(report: &Report, db: &Db) -> Result<Findings, DbError> {
    let mut findings =
        Findings { data_version: Some(db.version().to_owned()), ..Findings::without_data(report) };
    let Some(release) = findings.release.clone() else {
        (findings.knowledge, findings.why) = unmatched(report);
        return Ok(findings);
    };
    findings.coverage = db.coverage_of(&release);
    (findings.knowledge, findings.why) = match findings.coverage.is_empty() {
        true => (Knowledge::None, Some(uncovered(db, &release))),
        false => matched(report, &release),
    };
    let mut rows_of: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for package in report.packages.iter().filter(|p| p.kind == release.kind()) {
        let rows = match rows_of.entry(&package.source) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(db.rows(&release, &package.source)?)
            }
        };
        let merged = merge(package, rows, release.scheme());
        findings.findings.extend(merged.into_iter().map(|mut finding| {
            let names = std::iter::once(&finding.id).chain(&finding.aliases);
            finding.known_exploited = names.into_iter().any(|n| db.meta.exploited.contains(n));
            finding
        }));
    }
    findings.findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| {
            let key = |f: &Finding| (f.id.clone(), f.package.clone(), f.version.clone(), f.arch.clone());
            key(a).cmp(&key(b))
        })
    });
    Ok(findings)
}

/// For a release that no source covers. Records that name it nevertheless are matched: what they say is true.
fn uncovered(db: &Db, release: &Release) -> String {
    match db.release(release).records {
        0 => format!("the vulnerability database has no records for {release}"),
        some => format!(
            "of {release} the vulnerability database has no more than single records ({some}); hint: import the distribution's \
             whole export (`all.zip`), or say by `wharf db import --covers {release}` that they are all there are"
        ),
    }
}

/// For an image whose release has no matcher.
fn unmatched(report: &Report) -> (Knowledge, Option<String>) {
    let why = match &report.distro {
        _ if report.knowledge == Knowledge::Failed => {
            return (Knowledge::Failed, Some("the scan failed".to_owned()));
        }
        _ if report.knowledge == Knowledge::Unsupported && report.why().is_some() => {
            return (Knowledge::Unsupported, report.why());
        }
        // What could not be read may be what says so: that the image is of a kind that is not read would be a guess.
        None if report.knowledge == Knowledge::Partial => return (Knowledge::None, report.why()),
        None if report.packages.is_empty() => "the image has no package database that is read".to_owned(),
        None => "the image does not say which distribution it is (`os-release`)".to_owned(),
        Some(distro) => {
            let version = distro.version_id.as_deref().unwrap_or("of no release");
            // Sid and edge have matchers but no records of their own.
            if Release::knows(distro) {
                return (Knowledge::None, Some(format!("there is no data for {} {version}", distro.id)));
            }
            format!(
                "{} {version} is not supported: its packages are listed and not compared with anything, so no findings does not \
                 mean that there are none; hint: Debian and Alpine are supported",
                distro.id
            )
        }
    };
    (Knowledge::Unsupported, Some(why))
}

fn matched(report: &Report, release: &Release) -> (Knowledge, Option<String>) {
    let foreign = report.packages.iter().filter(|p| p.kind != release.kind()).count();
    match report.knowledge {
        Knowledge::Complete if foreign > 0 => (
            Knowledge::Partial,
            Some(format!("{foreign} packages are of another distribution than {release}")),
        ),
        Knowledge::Complete => (Knowledge::Complete, None),
        other => (other, report.why()),
    }
}

/// One finding for each vulnerability, of what several records say about it.
///
/// Records of one release may disagree on the fix (an advisory, then a second one for the first's mistake); affected by any is
/// affected, and the highest of the versions that fix it is the one that fixes all. Where none says so and one leaves it open, it is
/// possible, and said to be no more.
fn merge(package: &Package, rows: &[Row], scheme: Scheme) -> Vec<Finding> {
    let mut found: BTreeMap<&str, Finding> = BTreeMap::new();
    let mut unfixed: Vec<&str> = Vec::new();
    for row in rows {
        let hit = row.affects(&package.source_version, scheme);
        if hit.is_none() && !row.undecided {
            continue;
        }
        let finding = found.entry(&row.id).or_insert_with(|| blank(package, &row.id));
        finding.possible_only &= hit.is_none();
        finding.severity = finding.severity.max(row.severity);
        let tenths = row.cvss.map(|t| f32::from(t) / 10.0);
        finding.cvss = if tenths > finding.cvss { tenths } else { finding.cvss };
        finding.aliases.extend(row.aliases.iter().cloned());
        let Some(hit) = hit else { continue };
        match hit.fixed_in {
            None => {
                unfixed.push(&row.id);
                finding.fix = if row.end_of_life { FixState::EndOfLife } else { FixState::NotFixed };
                finding.fixed_in = None;
            }
            Some(fixed) if !unfixed.contains(&row.id.as_str()) => {
                let later = finding.fixed_in.as_deref().is_none_or(|f| scheme.compare(f, fixed).is_lt());
                finding.fix = FixState::Fixed;
                if later {
                    finding.fixed_in = Some(fixed.to_owned());
                }
            }
            Some(_) => {}
        }
    }
    let mut findings: Vec<Finding> = found.into_values().collect();
    for finding in &mut findings {
        finding.aliases.sort();
        finding.aliases.dedup();
    }
    findings
}

fn blank(package: &Package, id: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        aliases: Vec::new(),
        severity: Severity::Unknown,
        cvss: None,
        package: package.name.clone(),
        version: package.version.clone(),
        arch: package.arch.clone(),
        source: package.source.clone(),
        source_version: package.source_version.clone(),
        fix: FixState::Unknown,
        fixed_in: None,
        known_exploited: false,
        // Until a record says that it is affected.
        possible_only: true,
        layer: package.layer,
    }
}
