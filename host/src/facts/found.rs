//! The scanner's words in those of the plugin interface.

use std::collections::HashMap;

use wharf_plugin::facts::{Component, Confidence, Coverage, Finding, FixState, Knowledge, Severity};
use wharf_scan::vuln;
use wharf_scan::{PackageKind, Report};

pub fn knowledge(of: wharf_scan::Knowledge) -> Knowledge {
    match of {
        wharf_scan::Knowledge::None => Knowledge::None,
        wharf_scan::Knowledge::Partial => Knowledge::Partial,
        wharf_scan::Knowledge::Complete => Knowledge::Complete,
        wharf_scan::Knowledge::Failed => Knowledge::Failed,
        wharf_scan::Knowledge::Unsupported => Knowledge::Unsupported,
    }
}

/// One component for each package, in the report's order: findings name components by place.
pub fn components(report: &Report) -> Vec<Component> {
    let component = |package: &wharf_scan::Package| {
        let ecosystem = match package.kind {
            PackageKind::Deb => "deb",
            PackageKind::Apk => "apk",
        };
        Component {
            name: package.name.clone(),
            version: Some(package.version.clone()),
            ecosystem: ecosystem.to_owned(),
            purl: package.purl.clone(),
            source_name: Some(package.source.clone()),
            licences: package.licences.clone(),
            layer: Some(package.layer),
            path: Some(package.path.clone()),
            confidence: Confidence::Exact,
            evidence: format!("{ecosystem} package database"),
            facts: [
                ("architecture".to_owned(), package.arch.clone()),
                ("source-version".to_owned(), package.source_version.clone()),
            ]
            .into(),
            ..Component::default()
        }
    };
    report.packages.iter().map(component).collect()
}

/// Findings in their order; one whose package is not in the report is left out, since it cannot be shown.
pub fn findings(report: &Report, findings: &vuln::Findings) -> Vec<Finding> {
    let places: HashMap<(&str, &str, &str), u32> = report
        .packages
        .iter()
        .zip(0u32..)
        .map(|(package, at)| ((package.name.as_str(), package.version.as_str(), package.arch.as_str()), at))
        .collect();
    let source = findings.release.as_ref().map_or("osv", |release| release_source(release.as_str()));
    let finding = |found: &vuln::Finding| {
        let place = (found.package.as_str(), found.version.as_str(), found.arch.as_str());
        Some(Finding {
            id: found.id.clone(),
            aliases: found.aliases.clone(),
            source: source.to_owned(),
            severity: severity(found.severity),
            cvss_tenths: found.cvss.map(|score| (score * 10.0).round().clamp(0.0, 100.0) as u8),
            component: *places.get(&place)?,
            fix: fix(found.fix),
            fixed_in: found.fixed_in.clone(),
            known_exploited: found.known_exploited,
            possible_only: found.possible_only,
            ..Finding::default()
        })
    };
    findings.findings.iter().filter_map(finding).collect()
}

fn release_source(release: &str) -> &'static str {
    if release.starts_with("Debian") { "debian" } else { "alpine" }
}

pub fn coverage(findings: &vuln::Findings) -> Vec<Coverage> {
    let of = |c: &vuln::Coverage| Coverage { source: c.source.clone(), as_of_ms: c.as_of_ms };
    findings.coverage.iter().map(of).collect()
}

fn severity(of: vuln::Severity) -> Severity {
    match of {
        vuln::Severity::Unknown => Severity::Unknown,
        vuln::Severity::Negligible => Severity::Negligible,
        vuln::Severity::Low => Severity::Low,
        vuln::Severity::Medium => Severity::Medium,
        vuln::Severity::High => Severity::High,
        vuln::Severity::Critical => Severity::Critical,
    }
}

fn fix(of: vuln::FixState) -> FixState {
    match of {
        vuln::FixState::Unknown => FixState::Unknown,
        vuln::FixState::Fixed => FixState::Fixed,
        vuln::FixState::NotFixed => FixState::NotFixed,
        vuln::FixState::WontFix => FixState::WontFix,
        vuln::FixState::EndOfLife => FixState::EndOfLife,
    }
}

/// `ID:VERSION_ID` of the distribution.
pub fn distribution(report: &Report) -> Option<String> {
    let distro = report.distro.as_ref()?;
    Some(match &distro.version_id {
        Some(version) => format!("{}:{version}", distro.id),
        None => distro.id.clone(),
    })
}
