//! `wharf scan`: what is in an image and what is known against it. Works without a server.
//!
//! An image is scanned by a worker process, as the server does it, so that a hostile one costs only its own scan. A plain
//! directory is read here, since a worker can open nothing.

mod auth_file;
mod registry;
mod table;
mod target;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use wharf_oci::{Digest, Platform};
use wharf_scan::target::{Choice, Local, Target, TargetError};
use wharf_scan::vuln::{Findings, Severity, match_report};
use wharf_scan::{Knowledge, Limits, Report};

use self::target::Place;
use super::exit::Stop;
use super::output;
use super::progress::Progress;
use crate::scan::{Database, Input, ScanFailure, Scanner, Settings};

/// Scan an image: an OCI layout, an archive, a root file system, or one in a registry
///
/// Needs no server. The table counts the packages and lists the findings; `--output json` and `cyclonedx` list the packages too.
/// Without vulnerability data (--db, --data) nothing is compared, and the findings are said to be not known: that is not clean.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf scan ./layout --db vulnerabilities.db
  wharf scan image.tar:app:1.4 --output cyclonedx
  wharf scan registry.example.com/dev/app:1.4 --db own.db --fail-on high
  wharf scan / --output json

With --fail-on the exit status is 3 if there is a finding of that severity or a worse one, and also if \
the image could not be scanned completely or there is no data about it: what is not known is not clean.")]
pub(super) struct Scan {
    /// Folder or archive, with `:TAG` where it holds several images, or `HOST/REPOSITORY:TAG`; skopeo's, syft's and trivy's
    /// prefixes may stand before it, such as `oci:` and `docker-archive:`
    target: String,
    /// Vulnerability database made by `wharf db import`
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Vulnerability database of a server's data folder
    #[arg(long, value_name = "DIR", conflicts_with = "db")]
    data: Option<PathBuf>,
    /// Platform to scan of an image for several, such as `linux/arm64`
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// In which form to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORM")]
    output: Form,
    /// End with status 3 if there is a finding of this severity or a worse one, or if that is not known
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<Severity>,
    /// Memory that the scan may use, in MiB
    #[arg(long, value_name = "MIB", default_value_t = Settings::default().memory_mib)]
    memory_mib: u64,
    #[command(flatten)]
    access: registry::Access,
}

/// In which form `wharf scan` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Table,
    /// The report and the findings.
    Json,
    /// CycloneDX 1.6, a bill of materials with vulnerabilities.
    Cyclonedx,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Scanned {
    /// Of the manifest that was scanned.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    report: Report,
    findings: Findings,
}

impl Scan {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        // What a worker remarks goes to the log, and that of a command to standard error.
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr);
        log.without_time().with_target(false).init();
        let database = match (&self.db, &self.data) {
            (Some(file), _) => Some(Database::at(file.clone())),
            (None, Some(data)) => Some(Database::of_data(data)),
            (None, None) => None,
        };
        let data = match &database {
            None => None,
            Some(database) => Some(database.current()?.with_context(|| {
                format!("there is no `{}`; hint: `wharf db import`", database.path().display())
            })?),
        };
        let (digest, report) = self.report().await?;
        let findings = match &data {
            Some(data) => match_report(&report, data)?,
            None => Findings::without_data(&report),
        };
        let scanned = Scanned { digest, report, findings };
        match self.output {
            Form::Table => output::print(&table::text(&scanned)),
            Form::Json => output::print_json(&scanned),
            Form::Cyclonedx => {
                output::print_json(&wharf_scan::cyclonedx(&scanned.report, Some(&scanned.findings)))
            }
        }?;
        match self.fail_on {
            Some(worst) => judge(&scanned.findings, worst),
            None => Ok(()),
        }
    }

    /// Scans what the target is: something on this machine if there is such a thing, else an image in a registry.
    async fn report(&self) -> anyhow::Result<(Option<Digest>, Report)> {
        let shown = || format!("cannot scan `{}`", self.target);
        let (path, tag) = match Place::of(&self.target)? {
            Place::Here { path, tag } => (path, tag),
            Place::Registry(name) => {
                let image = registry::find(&name, self.platform.as_ref(), &self.access).await?;
                let report = self.work(&image.config, image.layers).await.with_context(shown)?;
                return Ok((Some(image.digest), report));
            }
        };
        let choice = Choice { platform: self.platform.clone(), tag };
        let target = Target::open(&path)?;
        match target.image(&choice).map_err(ended)? {
            Some(Local { digest, config, layers }) => {
                let layers = layers.into_iter().map(Input::of_layer).collect();
                Ok((digest, self.work(&config, layers).await.with_context(shown)?))
            }
            None => {
                let mut line = Progress::new();
                let scan =
                    move || target.scan(&choice, &Limits::default(), &mut |far| line.show(|| words(far)));
                let report: Result<Report, TargetError> = tokio::task::spawn_blocking(scan).await?;
                Ok((None, report?))
            }
        }
    }

    async fn work(&self, config: &[u8], layers: Vec<Input>) -> Result<Report, ScanFailure> {
        let settings = Settings { memory_mib: self.memory_mib, ..Settings::default() };
        let mut line = Progress::new();
        Scanner::new(settings).scan(config, layers, |far| line.show(|| words(far))).await
    }
}

/// Tells an image that is not there from what fails.
fn ended(error: TargetError) -> anyhow::Error {
    match error {
        TargetError::NoMatch { .. } => Stop::not_found(error).into(),
        error => error.into(),
    }
}

/// How far a scan is.
fn words(far: wharf_scan::Progress) -> String {
    let read = output::bytes(far.uncompressed);
    format!("scanning layer {} of {}: {read} read", far.layer.saturating_add(1), far.of)
}

/// What `--fail-on` makes of it.
fn judge(findings: &Findings, worst: Severity) -> anyhow::Result<()> {
    let bad = findings.findings.iter().filter(|finding| finding.severity >= worst).count();
    if bad > 0 {
        let verb = if bad == 1 { "is" } else { "are" };
        let message = format!("{} {verb} {worst} or worse", output::count(bad as u64, "finding"));
        return Err(Stop::refused(message).into());
    }
    if findings.knowledge != Knowledge::Complete {
        let why = findings.why.as_deref().unwrap_or("it could not be scanned completely");
        return Err(Stop::refused(format!("the image is not known to be clean: {why}")).into());
    }
    let unknown = findings.counts()[Severity::Unknown as usize];
    if unknown > 0 {
        let (n, verb) = (output::count(unknown, "finding"), if unknown == 1 { "has" } else { "have" });
        output::note(format!("{n} {verb} no severity and passed; hint: `--fail-on unknown`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_does_not_pass() {
        let mut findings: Findings =
            serde_json::from_str(r#"{"version":1,"knowledge":"none","coverage":[],"findings":[]}"#).unwrap();
        assert!(judge(&findings, Severity::Critical).is_err());
        findings.knowledge = Knowledge::Complete;
        assert!(judge(&findings, Severity::Critical).is_ok());
    }
}
