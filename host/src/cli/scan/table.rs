//! A scan for people.

use wharf_scan::vuln::{Finding, Findings, FixState, Severity};
use wharf_scan::{Knowledge, Report};

use super::Scanned;
use crate::cli::output::{self, Table, pairs};

/// Findings shown; the others are counted. `--output json` has them all.
const FINDINGS: usize = 200;
const SEVERITIES: [Severity; 6] = [
    Severity::Critical,
    Severity::High,
    Severity::Medium,
    Severity::Low,
    Severity::Negligible,
    Severity::Unknown,
];

/// What was scanned and how far it is known, the findings, and what could not be read.
pub(super) fn text(scanned: &Scanned) -> String {
    text_at(scanned, output::now_ms())
}

fn text_at(scanned: &Scanned, now_ms: u64) -> String {
    let (report, findings) = (&scanned.report, &scanned.findings);
    let mut out = pairs(&[
        ("Image", scanned.digest.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("System", system(report, findings, now_ms)),
        (
            "Packages",
            format!(
                "{} in {}, {}",
                report.packages.len(),
                output::count(report.layers.len() as u64, "layer"),
                known(report.knowledge)
            ),
        ),
        ("Data", data(findings, now_ms)),
        ("Findings", counts(findings)),
    ]);
    if !findings.findings.is_empty() {
        out.push('\n');
        out.push_str(&table(&findings.findings));
    }
    if !report.problems.is_empty() {
        let mut problems = Table::new(&["LAYER", "~PATH", "~PROBLEM"], "");
        for problem in &report.problems {
            let layer = problem.layer.map(|layer| layer.to_string()).unwrap_or_default();
            problems.row([layer, problem.path.clone().unwrap_or_default(), problem.message.clone()]);
        }
        out.push('\n');
        out.push_str(&problems.text());
        if report.problems_dropped > 0 {
            out.push_str(&format!("and {}\n", output::count(report.problems_dropped, "more problem")));
        }
    }
    out
}

fn system(report: &Report, findings: &Findings, now_ms: u64) -> String {
    let distro =
        report.distro.as_ref().map_or("unknown", |distro| distro.name.as_deref().unwrap_or(&distro.id));
    let platform = match report.image.os.as_str() {
        "" => String::new(),
        os => format!(", {os}/{}", report.image.architecture),
    };
    let end = match findings.end_of_life_ms {
        Some(end) if end <= now_ms => format!(", no longer supported since {}", day(end)),
        Some(end) => format!(", supported until {}", day(end)),
        None => String::new(),
    };
    format!("{distro}{platform}{end}")
}

fn day(ms: u64) -> String {
    output::time(ms).chars().take(10).collect()
}

fn known(knowledge: Knowledge) -> &'static str {
    match knowledge {
        Knowledge::Complete => "all of them read",
        Knowledge::Partial => "some could not be read",
        Knowledge::None | Knowledge::Failed => "nothing is known",
        Knowledge::Unsupported => "of a kind that is not read yet",
    }
}

fn data(findings: &Findings, now_ms: u64) -> String {
    let sources: Vec<String> = findings
        .coverage
        .iter()
        .map(|c| {
            let records = output::count(c.records, "record");
            format!("{}: {records}, newest {}", c.source, output::ago(c.as_of_ms, now_ms))
        })
        .collect();
    if sources.is_empty() { "none".to_owned() } else { sources.join("\n") }
}

/// Never "0" where nothing was compared.
fn counts(findings: &Findings) -> String {
    let counts = findings.counts();
    let some: Vec<String> = SEVERITIES
        .iter()
        .map(|severity| (counts[*severity as usize], severity))
        .filter(|(n, _)| *n > 0)
        .map(|(n, severity)| format!("{n} {severity}"))
        .collect();
    let listed = if some.is_empty() { "none".to_owned() } else { some.join(", ") };
    let because = |otherwise| findings.why.as_deref().unwrap_or(otherwise);
    match findings.knowledge {
        Knowledge::Complete => listed,
        Knowledge::Partial => {
            format!("{listed}, but there may be more: {}", because("not all could be read"))
        }
        _ if findings.findings.is_empty() => format!("not known: {}", because("there is no data")),
        _ => format!("{listed}, and what else there is is not known: {}", because("there is no data")),
    }
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(&["SEVERITY", "ID", "~PACKAGE", "~INSTALLED", "~FIXED IN", ">LAYER"], "");
    for finding in findings.iter().take(FINDINGS) {
        let severity = match finding.cvss {
            Some(score) => format!("{} {score:.1}", finding.severity),
            None => finding.severity.to_string(),
        };
        let id = output::finding(&finding.id, finding.known_exploited, finding.possible_only);
        let fix = match (finding.fix, &finding.fixed_in) {
            (FixState::Fixed, Some(version)) => version.clone(),
            (FixState::Fixed | FixState::Unknown, _) => String::new(),
            (FixState::NotFixed, _) => "not fixed".to_owned(),
            (FixState::WontFix, _) => "will not be fixed".to_owned(),
            (FixState::EndOfLife, _) => "end of life".to_owned(),
        };
        let installed = finding.version.clone();
        table.row([severity, id, finding.package.clone(), installed, fix, finding.layer.to_string()]);
    }
    let more = findings.len().saturating_sub(FINDINGS);
    let rest = if more > 0 { format!("and {more} more; hint: `--output json`\n") } else { String::new() };
    table.text() + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(findings: &str) -> Scanned {
        let report = r#"{"version":1,"scanner":"x","image":{"os":"linux","architecture":"amd64"},
            "distro":{"id":"debian","version_id":"12","name":"Debian GNU/Linux 12"},"knowledge":"complete",
            "layers":[{"size":1,"uncompressed":1,"files":1,"whiteouts":0}],"packages":[],"problems":[],"problems_dropped":0}"#;
        Scanned {
            digest: None,
            report: serde_json::from_str(report).unwrap(),
            findings: serde_json::from_str(findings).unwrap(),
        }
    }

    #[test]
    fn no_data_is_not_shown_as_no_findings() {
        let findings = r#"{"version":1,"knowledge":"none","why":"there is no vulnerability database","coverage":[],"findings":[]}"#;
        insta::assert_snapshot!(text_at(&scanned(findings), 0), @r"
        System    Debian GNU/Linux 12, linux/amd64
        Packages  0 in 1 layer, all of them read
        Data      none
        Findings  not known: there is no vulnerability database
        ");
    }

    #[test]
    fn findings_are_listed_with_their_fix() {
        let findings = r#"{"version":1,"knowledge":"complete","release":"Debian:12","end_of_life_ms":1000,
            "coverage":[{"source":"Debian","as_of_ms":0,"records":7}],"findings":[
            {"id":"CVE-1","aliases":[],"severity":"high","cvss":7.5,"package":"libssl3","version":"3.0.11-1","arch":"amd64",
             "source":"openssl","source_version":"3.0.11-1","fix":"fixed","fixed_in":"3.0.11-2","known_exploited":true,"layer":0},
            {"id":"CVE-2","aliases":[],"severity":"unknown","package":"bash","version":"5","arch":"amd64",
             "source":"bash","source_version":"5","fix":"not-fixed","known_exploited":false,"layer":0},
            {"id":"CVE-3","aliases":[],"severity":"unknown","package":"zlib1g","version":"1","arch":"amd64",
             "source":"zlib","source_version":"1","fix":"unknown","known_exploited":false,"possible_only":true,"layer":0}]}"#;
        insta::assert_snapshot!(text_at(&scanned(findings), 3_600_000), @r"
        System    Debian GNU/Linux 12, linux/amd64, no longer supported since 1970-01-01
        Packages  0 in 1 layer, all of them read
        Data      Debian: 7 records, newest 1 h ago
        Findings  1 high, 2 unknown

        SEVERITY  ID                 PACKAGE  INSTALLED  FIXED IN   LAYER
        high 7.5  CVE-1 (exploited)  libssl3  3.0.11-1   3.0.11-2       0
        unknown   CVE-2              bash     5          not fixed      0
        unknown   CVE-3 (possible)   zlib1g   1          -              0
        ");
    }
}
