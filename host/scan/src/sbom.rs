//! The bill of materials in a form that other tools read: CycloneDX 1.6, <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Value, json};

use crate::report::{Distro, Knowledge, Package, PackageKind, Report};
use crate::vuln::{Finding, Findings, FixState, Severity};

/// A CycloneDX 1.6 document of `report`, with vulnerabilities if `findings` are given.
///
/// It has no time and no serial number: the same report gives the same document. How complete the list is stands in
/// `compositions`, since a bill of materials of a scan that failed half-way is not a whole one. How far the vulnerabilities
/// are known stands in the property `wharf:findings`; without data there is no list of them, since an empty one says "none".
pub fn cyclonedx(report: &Report, findings: Option<&Findings>) -> Value {
    let components: Vec<Value> = report
        .distro
        .iter()
        .map(distro)
        .chain(report.packages.iter().map(|p| component(report, p)))
        .collect();
    let refs: Vec<&Value> = components.iter().map(|c| &c["bom-ref"]).collect();
    let aggregate = match report.knowledge {
        Knowledge::Complete => "complete",
        Knowledge::Partial => "incomplete",
        _ => "unknown",
    };
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "wharf-scan", "version": env!("CARGO_PKG_VERSION") }] },
            "component": image(report),
            "properties": knowledge(report, findings),
        },
        "components": components,
        "compositions": [{ "aggregate": aggregate, "assemblies": ["image"] }],
        "dependencies": [{ "ref": "image", "dependsOn": refs }],
    });
    let known = |findings: &&Findings| matches!(findings.knowledge, Knowledge::Complete | Knowledge::Partial);
    if let Some(findings) = findings.filter(known) {
        document["vulnerabilities"] = vulnerabilities(report, findings).into();
    }
    document
}

/// How far packages and vulnerabilities are known.
fn knowledge(report: &Report, findings: Option<&Findings>) -> Vec<Value> {
    let mut known = vec![property("wharf:knowledge", &report.knowledge.to_string())];
    if let Some(findings) = findings {
        known.push(property("wharf:findings", &findings.knowledge.to_string()));
        known.extend(findings.why.as_deref().map(|why| property("wharf:findings:why", why)));
        known.extend(findings.data_version.as_deref().map(|v| property("wharf:findings:data-version", v)));
    }
    known
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn image(report: &Report) -> Value {
    let mut image = json!({ "type": "container", "bom-ref": "image", "name": "image" });
    if !report.image.os.is_empty() {
        let platform = format!("{}/{}", report.image.os, report.image.architecture);
        image["properties"] = json!([property("wharf:platform", &platform)]);
    }
    image
}

fn distro(distro: &Distro) -> Value {
    let mut component = json!({ "type": "operating-system", "bom-ref": "os", "name": distro.id });
    if let Some(version) = &distro.version_id {
        component["version"] = version.as_str().into();
    }
    if let Some(name) = &distro.name {
        component["description"] = name.as_str().into();
    }
    component
}

fn component(report: &Report, package: &Package) -> Value {
    let kind = match package.kind {
        PackageKind::Deb => "deb",
        PackageKind::Apk => "apk",
    };
    let mut properties = vec![
        property("wharf:package:kind", kind),
        property("wharf:package:source", &package.source),
        property("wharf:package:source-version", &package.source_version),
        property("wharf:layer:index", &package.layer.to_string()),
    ];
    if let Some(digest) = report.layers.get(package.layer as usize).and_then(|l| l.digest.as_ref()) {
        properties.push(property("wharf:layer:digest", digest));
    }
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "properties": properties,
        "evidence": { "occurrences": [{ "location": package.path }] },
    });
    if let [only] = package.licences.as_slice() {
        component["licenses"] = json!([{ "expression": only }]);
    } else if !package.licences.is_empty() {
        // The schema allows one expression or many licences; many expressions hold at once.
        let all: Vec<String> = package.licences.iter().map(|l| group(l)).collect();
        component["licenses"] = json!([{ "expression": all.join(" AND ") }]);
    }
    component
}

fn group(expression: &str) -> String {
    if expression.contains(" OR ") { format!("({expression})") } else { expression.to_owned() }
}

/// One entry for each vulnerability, naming every package that it affects.
fn vulnerabilities(report: &Report, findings: &Findings) -> Vec<Value> {
    let mut entries: Vec<(&Finding, Vec<Value>)> = Vec::new();
    for finding in &findings.findings {
        let of = |p: &&Package| {
            p.name == finding.package && p.version == finding.version && p.arch == finding.arch
        };
        let status = if finding.possible_only { "unknown" } else { "affected" };
        let affects = report
            .packages
            .iter()
            .find(of)
            .map(|p| json!({ "ref": p.purl, "versions": [{ "version": p.version, "status": status }] }));
        match entries.iter_mut().rev().find(|(f, _)| f.id == finding.id) {
            Some((_, all)) => all.extend(affects),
            None => entries.push((finding, affects.into_iter().collect())),
        }
    }
    entries.into_iter().map(|(finding, affects)| vulnerability(finding, affects)).collect()
}

fn vulnerability(finding: &Finding, affects: Vec<Value>) -> Value {
    let severity = match finding.severity {
        Severity::Negligible => "info".to_owned(),
        other => other.to_string(),
    };
    let mut rating = json!({ "severity": severity });
    if let Some(score) = finding.cvss {
        // Through text, so that 9.8 stays 9.8.
        rating["score"] = format!("{score:.1}").parse::<f64>().unwrap_or_default().into();
    }
    let references: Vec<Value> =
        finding.aliases.iter().map(|alias| json!({ "id": alias, "source": { "name": "OSV" } })).collect();
    let mut entry =
        json!({ "id": finding.id, "ratings": [rating], "references": references, "affects": affects });
    match (finding.fix, &finding.fixed_in) {
        (FixState::Fixed, Some(version)) => {
            entry["recommendation"] = format!("upgrade `{}` to {version}", finding.source).into();
        }
        (FixState::WontFix, _) => entry["analysis"] = json!({ "response": ["will_not_fix"] }),
        _ => {}
    }
    if finding.known_exploited {
        entry["properties"] = json!([property("wharf:known-exploited", "true")]);
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Cursor;

    use super::*;
    use crate::testing::{OS_RELEASE, Put, scan_tars, stanza, tar};
    use crate::vuln::{Db, Import, match_report};

    #[test]
    fn names_every_package_once_and_every_reference_exists() {
        let status = stanza("a", "1") + &stanza("b", "2");
        let copyright = b"Format: x\nLicense: Expat or GPL-2\nLicense: Zlib\n";
        let image = tar(&[
            Put::File("etc/os-release", OS_RELEASE),
            Put::File("var/lib/dpkg/status", status.as_bytes()),
            Put::File("usr/share/doc/a/copyright", copyright),
        ]);
        let report = scan_tars(&[&image]);
        let record = r#"{"id":"CVE-1","modified":"2026-01-01T00:00:00Z","affected":[
            {"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"9"}]}]},
            {"package":{"ecosystem":"Debian:12","name":"b"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}"#;
        let mut import = Import::new();
        import.add("osv", Cursor::new(record)).unwrap();
        import.covers("osv", &"Debian:12".parse().unwrap()).unwrap();
        let db = Db::from_bytes(import.finish().unwrap()).unwrap();
        let findings = match_report(&report, &db).unwrap();
        let document = cyclonedx(&report, Some(&findings));

        assert_eq!(document["specVersion"], "1.6");
        assert_eq!(document["compositions"][0]["aggregate"], "complete");
        let components = document["components"].as_array().unwrap();
        assert_eq!(components.len(), 3);
        assert_eq!(components[1]["licenses"][0]["expression"], "(MIT OR GPL-2.0-only) AND Zlib");
        let refs: BTreeSet<&str> = components.iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), 3);
        let [vulnerability] = document["vulnerabilities"].as_array().unwrap().as_slice() else {
            panic!("{document}")
        };
        let affects = vulnerability["affects"].as_array().unwrap();
        assert_eq!(affects.len(), 2);
        assert!(affects.iter().all(|a| refs.contains(a["ref"].as_str().unwrap())));
    }

    #[test]
    fn without_data_there_is_no_list_of_vulnerabilities() {
        let status = stanza("a", "1");
        let image = tar(&[
            Put::File("etc/os-release", OS_RELEASE),
            Put::File("var/lib/dpkg/status", status.as_bytes()),
        ]);
        let report = scan_tars(&[&image]);
        let document = cyclonedx(&report, Some(&Findings::without_data(&report)));
        assert_eq!(document.get("vulnerabilities"), None);
        let properties = document["metadata"]["properties"].as_array().unwrap();
        assert!(properties.contains(&property("wharf:findings", "none")), "{properties:?}");
        assert!(properties.iter().any(|p| p["name"] == "wharf:findings:why"));
    }

    #[test]
    fn an_incomplete_scan_says_so() {
        let report = scan_tars(&[b"not an archive"]);
        assert_eq!(cyclonedx(&report, None)["compositions"][0]["aggregate"], "incomplete");
    }
}
