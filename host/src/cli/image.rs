use clap::Subcommand;
use serde::Serialize;
use wharf_plugin::facts::Knowledge;

use super::client::{Client, Remote, rows};
use super::exit::Stop;
use super::output::{self, Output, Table, ago, bytes, count, note, now_ms, pairs, print_json, short, time};
use super::visible::plain;
use crate::api::admin::{
    FactsEntry, FindingEntry, FindingsPage, ImageEntry, Page, ScanEntry, SeverityCounts, StandingEntry,
};
use crate::promote::Mode;

/// What is in the registry: tags, what is in their images, what is wrong with that
#[derive(Debug, clap::Args)]
pub(super) struct Image {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List tags with scan and decisions
    #[command(after_help = "Examples:
  wharf image ls
  wharf image ls dev/app
  wharf image ls 'qa/**' --output json")]
    Ls {
        /// Only repositories of this pattern
        #[arg(value_name = "PATTERN")]
        repositories: Option<String>,
        /// Rows at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = rows())]
        limit: usize,
    },
    /// Show all that a policy would be told of an image
    #[command(after_help = "Examples:
  wharf image facts dev/app:1.4")]
    Facts {
        /// Image, as REPOSITORY:TAG
        image: String,
    },
    /// Print the bill of materials (CycloneDX, JSON)
    #[command(after_help = "Examples:
  wharf image bom dev/app:1.4 > bom.json
  wharf image bom dev/app:1.4 --platform sha256:4f53…")]
    Bom {
        /// Image, as REPOSITORY:TAG or REPOSITORY@DIGEST
        image: String,
        /// Manifest digest of one platform, or its beginning; needed where there are several
        #[arg(long, value_name = "DIGEST")]
        platform: Option<String>,
    },
    /// List known vulnerabilities, the worst first
    #[command(after_help = "Examples:
  wharf image findings dev/app:1.4
  wharf image findings dev/app:1.4 --limit 1000 --output json")]
    Findings {
        /// Image, as REPOSITORY:TAG or REPOSITORY@DIGEST
        image: String,
        /// Rows at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = rows())]
        limit: usize,
    },
}

#[derive(Debug, Serialize)]
struct OfRepositories<'a> {
    repository: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct OfImage<'a> {
    image: &'a str,
}

impl Image {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Ls { repositories, limit } => {
                if let Some((repository, _)) = repositories.as_ref().and_then(|given| given.split_once(':')) {
                    let message = format!(
                        "a pattern has no tag; hint: `wharf image ls {repository}` lists all tags there"
                    );
                    return Err(Stop::usage(message).into());
                }
                let query = OfRepositories { repository: repositories.as_deref() };
                let (images, more): (Vec<ImageEntry>, bool) = client.list(&["images"], &query, limit).await?;
                output.show(&images, |images| table(images, now_ms()))?;
                if more {
                    note("there are more; hint: --limit N");
                }
                Ok(())
            }
            Verb::Facts { image } => {
                let facts: FactsEntry =
                    client.query(&["images", "facts"], &OfImage { image: &image }).await?;
                output.show(&facts, |entry| facts_text(entry, now_ms()))
            }
            Verb::Bom { image, platform } => bom(&client, &image, platform.as_deref()).await,
            Verb::Findings { image, limit } => findings(&client, output, &image, limit).await,
        }
    }
}

fn table(images: &[ImageEntry], now_ms: u64) -> String {
    let empty = "no images; hint: `skopeo copy SOURCE docker://HOST/dev/app:1.0` pushes one";
    let head = ["~IMAGE", "?DIGEST", ">SIZE", "PUSHED", "?BY", "~FINDINGS", "~DECISIONS"];
    let mut table = Table::new(&head, empty);
    for image in images {
        let decisions: Vec<String> = image.standings.iter().map(stands).collect();
        table.row([
            format!("{}:{}", image.repository, image.tag),
            short(&image.digest),
            bytes(image.size_bytes),
            ago(image.pushed_at_ms, now_ms),
            image.pushed_by.clone(),
            found(&image.scan),
            decisions.join(", "),
        ]);
    }
    table.text()
}

/// `to-qa: hold`. What a binding that only watches says is told apart: nothing comes of it.
fn stands(standing: &StandingEntry) -> String {
    let StandingEntry { binding, mode, verdict, .. } = standing;
    match mode {
        Mode::Shadow => format!("{binding}: {verdict} (shadow)"),
        Mode::Enforce | Mode::Off => format!("{binding}: {verdict}"),
    }
}

/// The findings in one cell, or why there can be none.
fn found(scan: &ScanEntry) -> String {
    match (&*scan.state, &*scan.matched) {
        ("complete", "complete") => counts(scan.findings),
        ("complete" | "partial", "complete" | "partial") => format!("{} (partial)", counts(scan.findings)),
        ("complete" | "partial", "none") if scan.findings.total() > 0 => {
            format!("{} (no data beyond these)", counts(scan.findings))
        }
        ("complete", "none") => "no data".to_owned(),
        ("partial", "none") => "scan partial, no data".to_owned(),
        ("none", _) => "not scanned".to_owned(),
        ("pending", _) => "waits for scan".to_owned(),
        ("failed", _) => "scan failed".to_owned(),
        ("complete" | "partial", other) => other.to_owned(),
        (other, _) => other.to_owned(),
    }
}

/// `2 critical, 1 high, 4 more`. What has no severity may be as bad as any.
fn counts(counts: SeverityCounts) -> String {
    let mut parts: Vec<String> = [(counts.critical, "critical"), (counts.high, "high")]
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{n} {name}"))
        .collect();
    match (counts.medium + counts.low + counts.negligible, parts.is_empty()) {
        (0, _) => {}
        (rest, true) => parts.push(format!("{rest} lesser")),
        (rest, false) => parts.push(format!("{rest} more")),
    }
    if counts.unknown > 0 {
        parts.push(format!("{} unrated", counts.unknown));
    }
    match parts.is_empty() {
        true => "none known".to_owned(),
        false => parts.join(", "),
    }
}

fn all_counts(counts: SeverityCounts) -> String {
    let named = [
        (counts.critical, "critical"),
        (counts.high, "high"),
        (counts.medium, "medium"),
        (counts.low, "low"),
        (counts.negligible, "negligible"),
        (counts.unknown, "of unknown severity"),
    ];
    let parts: Vec<String> =
        named.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    if parts.is_empty() { "none known".to_owned() } else { parts.join(", ") }
}

/// How far somebody looked. `none` beside what was looked for would read as if there were none of it.
fn looked(knowledge: Knowledge) -> &'static str {
    match knowledge {
        Knowledge::None => "not looked at",
        other => other.as_str(),
    }
}

fn facts_text(entry: &FactsEntry, now_ms: u64) -> String {
    let facts = &entry.facts;
    let at = |ms: u64| format!("{} ({})", time(ms), ago(ms, now_ms));
    let tag = facts.tag.as_deref().unwrap_or_default();
    let approvals: Vec<String> = facts
        .approvals
        .iter()
        .map(|a| format!("into {} by {}, {}", a.stage, a.by, ago(a.at_ms, now_ms)))
        .collect();
    let mut out = pairs(&[
        ("image", format!("{}:{tag}", facts.repository)),
        ("digest", facts.digest.clone()),
        (
            "kind",
            if facts.index {
                format!("index of {}", count(facts.platforms.len() as u64, "platform"))
            } else {
                "image".into()
            },
        ),
        ("size", bytes(facts.size_bytes)),
        ("pushed", format!("{} by {}", at(facts.pushed_at_ms), facts.pushed_by)),
        (
            "signatures",
            if facts.signatures.is_empty() {
                looked(facts.signature_check).to_owned()
            } else {
                facts.signatures.len().to_string()
            },
        ),
        ("approved", approvals.join("\n")),
        ("data version", facts.vulnerability_data_version.clone().unwrap_or_default()),
    ]);
    for (platform, counts) in facts.platforms.iter().zip(&entry.counts) {
        let data: Vec<String> = platform
            .coverage
            .iter()
            .map(|c| format!("{} of {}", c.source, ago(c.as_of_ms, now_ms)))
            .collect();
        // Why stands with the scan; of an image of no known system, no import would tell more.
        let is_listed = matches!(platform.scan, Knowledge::Complete | Knowledge::Partial);
        let findings = if !is_listed || platform.distribution.is_none() {
            "not known".to_owned()
        } else if data.is_empty() {
            let none = "no data: nothing is known about vulnerabilities; hint: `wharf db import`";
            match counts.findings.total() {
                0 => none.to_owned(),
                // Of records that are not all there is to know about the distribution.
                _ => format!("{}; beyond these {none}", all_counts(counts.findings)),
            }
        } else {
            all_counts(counts.findings)
        };
        let labels: Vec<String> =
            platform.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let end_of_life = match platform.end_of_life {
            Some(true) => ", past its end of life",
            Some(false) => ", still maintained",
            None => "",
        };
        let why = counts.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let scan = format!("{}{why}", looked(platform.scan));
        let name = platform.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        out.push('\n');
        out.push_str(&pairs(&[
            ("platform", if name.is_empty() { "not named".to_owned() } else { name }),
            ("manifest", platform.digest.clone()),
            (
                "size",
                format!("{} in {}", bytes(platform.size_bytes), count(platform.layers.len() as u64, "layer")),
            ),
            ("built", platform.created_at_ms.map(at).unwrap_or_default()),
            ("distribution", platform.distribution.iter().map(|d| format!("{d}{end_of_life}")).collect()),
            ("scan", scan),
            ("packages", counts.packages.to_string()),
            ("findings", findings),
            ("data", data.join("\n")),
            ("labels", labels.join("\n")),
        ]));
    }
    out
}

async fn bom(client: &Client, image: &str, platform: Option<&str>) -> anyhow::Result<()> {
    let all: serde_json::Map<String, serde_json::Value> =
        client.query(&["images", "bom"], &OfImage { image }).await?;
    let wanted: Vec<_> =
        all.iter().filter(|(digest, _)| platform.is_none_or(|wanted| digest.starts_with(wanted))).collect();
    match wanted.as_slice() {
        [(_, bom)] => print_json(bom),
        [] => {
            let digests: Vec<&str> = all.keys().map(String::as_str).collect();
            let none = format!("`{image}` has no bill of materials for that platform");
            Err(Stop::not_found(format!("{none}; hint: --platform one of {}", digests.join(", "))).into())
        }
        several => {
            let digests: Vec<&str> = several.iter().map(|(digest, _)| digest.as_str()).collect();
            let message =
                format!("`{image}` has several platforms; hint: --platform one of {}", digests.join(", "));
            Err(Stop::usage(message).into())
        }
    }
}

/// Findings, and how far they can be trusted.
#[derive(Serialize)]
struct Findings {
    scan: ScanEntry,
    items: Vec<FindingEntry>,
}

async fn findings(client: &Client, output: Output, image: &str, limit: usize) -> anyhow::Result<()> {
    let mut scan = ScanEntry::default();
    let rows_of = |page: FindingsPage| {
        scan = page.scan;
        Page { items: page.items, next: page.next }
    };
    let (items, more) = client.list_of(&["images", "findings"], &OfImage { image }, limit, rows_of).await?;
    output.show(&Findings { scan, items }, findings_text)?;
    if more {
        note("there are more; hint: --limit N");
    }
    Ok(())
}

/// An empty list says nothing unless everything was compared.
fn findings_text(found: &Findings) -> String {
    let Findings { scan, items } = found;
    if (&*scan.state, &*scan.matched) == ("complete", "complete") {
        return findings_table(items, "no findings");
    }
    let why = scan.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let known = format!("not all is known, scan {}, comparison {}{why}\n", scan.state, scan.matched);
    if items.is_empty() { known } else { findings_table(items, "") + &known }
}

/// A table; one for each platform where there are several.
fn findings_table(findings: &[FindingEntry], empty: &'static str) -> String {
    let platforms: Vec<&[FindingEntry]> = findings.chunk_by(|a, b| a.platform == b.platform).collect();
    match platforms.as_slice() {
        [] => format!("{empty}\n"),
        [one] => platform_table(one),
        several => {
            let titled = |one: &&[FindingEntry]| {
                let title = one.first().map(|finding| short(&finding.platform)).unwrap_or_default();
                format!("manifest {}\n{}", plain(&title), platform_table(one))
            };
            several.iter().map(titled).collect::<Vec<_>>().join("\n")
        }
    }
}

fn platform_table(findings: &[FindingEntry]) -> String {
    let mut table = Table::new(&["SEVERITY", ">CVSS", "ID", "~PACKAGE", "~VERSION", "~FIXED IN"], "");
    for finding in findings {
        let fixed = match (&finding.fixed_in, &*finding.fix) {
            (Some(version), _) => version.clone(),
            (None, "unknown") => String::new(),
            (None, state) => state.replace('-', " "),
        };
        table.row([
            finding.severity.clone(),
            finding.cvss.map(|score| format!("{score:.1}")).unwrap_or_default(),
            output::finding(&finding.id, finding.known_exploited, finding.possible_only),
            finding.component.clone(),
            finding.version.clone().unwrap_or_default(),
            fixed,
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use wharf_plugin::facts::{ImageFacts, PlatformFacts};

    use super::*;
    use crate::api::admin::PlatformCounts;

    fn scan(state: &str, matched: &str, critical: u64, low: u64) -> ScanEntry {
        let findings = SeverityCounts { critical, low, ..SeverityCounts::default() };
        ScanEntry { state: state.into(), matched: matched.into(), findings, ..ScanEntry::default() }
    }

    #[test]
    fn what_is_not_known_is_never_shown_as_clean() {
        let cases = [
            (scan("complete", "complete", 0, 0), "none known"),
            (scan("complete", "complete", 2, 5), "2 critical, 5 more"),
            (scan("complete", "complete", 0, 5), "5 lesser"),
            (scan("partial", "complete", 0, 0), "none known (partial)"),
            (scan("complete", "none", 0, 0), "no data"),
            (scan("partial", "none", 0, 0), "scan partial, no data"),
            (scan("complete", "none", 1, 0), "1 critical (no data beyond these)"),
            (scan("none", "none", 0, 0), "not scanned"),
            (scan("pending", "pending", 0, 0), "waits for scan"),
            (scan("failed", "none", 0, 0), "scan failed"),
            (scan("unsupported", "none", 0, 0), "unsupported"),
        ];
        for (scan, expected) in cases {
            assert_eq!(found(&scan), expected, "{scan:?}");
        }
    }

    /// Regression: signatures that nobody had looked for were `none`.
    #[test]
    fn what_nobody_looked_at_is_said_to_be_so() {
        let mut facts = ImageFacts { platforms: vec![PlatformFacts::default()], ..ImageFacts::default() };
        let lines = |facts: &ImageFacts| {
            let counts =
                PlatformCounts { packages: 0, findings: SeverityCounts::default(), why: Some("gone".into()) };
            let text = facts_text(&FactsEntry { facts: facts.clone(), counts: vec![counts] }, 0);
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>()
        };
        let told = lines(&facts);
        for line in ["signatures not looked at", "scan not looked at: gone", "findings not known"] {
            assert!(told.contains(&line.to_owned()), "{told:#?}");
        }
        facts.signature_check = Knowledge::Pending;
        assert!(lines(&facts).contains(&"signatures pending".to_owned()));
    }

    /// A finding of unknown severity was `1 lesser`.
    #[test]
    fn what_has_no_severity_is_not_called_lesser() {
        let check = |critical, medium, unknown, expected| {
            let found = SeverityCounts { critical, medium, unknown, ..SeverityCounts::default() };
            assert_eq!(counts(found), expected);
        };
        check(0, 0, 1, "1 unrated");
        check(0, 3, 1, "3 lesser, 1 unrated");
        check(2, 3, 1, "2 critical, 3 more, 1 unrated");
    }

    #[test]
    fn an_empty_list_of_findings_says_none_only_where_all_was_compared() {
        let text =
            |state, matched| findings_text(&Findings { scan: scan(state, matched, 0, 0), items: vec![] });
        assert_eq!(text("complete", "complete"), "no findings\n");
        assert_eq!(text("complete", "none"), "not all is known, scan complete, comparison none\n");
        assert_eq!(text("failed", "none"), "not all is known, scan failed, comparison none\n");
    }

    #[test]
    fn findings_of_several_platforms_are_told_apart() {
        let finding = |platform: &str, id: &str| {
            serde_json::json!({"platform": platform, "id": id, "source": "own", "severity": "high", "cvss": 7.5,
                "component": "zlib", "version": "1.2", "fix": "not-fixed", "known_exploited": false})
        };
        let findings = serde_json::json!([
            finding("sha256:4f5312ab34cd4f53", "CVE-2026-1"),
            finding("sha256:99aa12ab34cd4f53", "CVE-2026-1"),
            finding("sha256:99aa12ab34cd4f53", "CVE-2026-2"),
        ]);
        let findings: Vec<FindingEntry> = serde_json::from_value(findings).unwrap();
        insta::assert_snapshot!(findings_table(&findings, ""), @r"
        manifest sha256:4f5312ab34cd
        SEVERITY  CVSS  ID          PACKAGE  VERSION  FIXED IN
        high       7.5  CVE-2026-1  zlib     1.2      not fixed

        manifest sha256:99aa12ab34cd
        SEVERITY  CVSS  ID          PACKAGE  VERSION  FIXED IN
        high       7.5  CVE-2026-1  zlib     1.2      not fixed
        high       7.5  CVE-2026-2  zlib     1.2      not fixed
        ");
        assert!(findings_table(&findings[..1], "").starts_with("SEVERITY"));
    }

    #[test]
    fn images_are_a_table() {
        let images = serde_json::json!([
            {"repository": "dev/app", "tag": "1.4", "digest": "sha256:4f5312ab34cd4f53", "media_type": "x",
             "size_bytes": 12_000_000, "platforms": [], "pushed_at_ms": 1_000, "pushed_by": "alice",
             "scan": scan("complete", "complete", 1, 2),
             "standings": [{"binding": "to-qa", "mode": "enforce", "verdict": "hold", "promoted": false, "decision": 7}]},
            {"repository": "qa/app", "tag": "1.3", "digest": "sha256:99aa12ab34cd4f53", "media_type": "x",
             "size_bytes": 812, "platforms": [], "pushed_at_ms": 61_000, "pushed_by": "system",
             "scan": scan("complete", "none", 0, 0)},
        ]);
        let images: Vec<ImageEntry> = serde_json::from_value(images).unwrap();
        insta::assert_snapshot!(table(&images, 121_000));
    }

    /// Regression: what a binding that only watches would do was shown as what an enforcing one did.
    #[test]
    fn what_only_watches_is_told_apart() {
        let check = |mode, expected| {
            let (binding, verdict) = ("to-qa".to_owned(), "approve".to_owned());
            let standing = StandingEntry { binding, mode, verdict, promoted: false, decision: 7 };
            assert_eq!(stands(&standing), expected);
        };
        check(Mode::Enforce, "to-qa: approve");
        check(Mode::Shadow, "to-qa: approve (shadow)");
    }
}
