//! What a report and a database give.

use super::*;
use crate::Knowledge;

#[test]
fn matches_by_source_package_and_source_version() {
    let status = "Package: libssl3\nArchitecture: amd64\nSource: openssl (3.0.11-1)\nVersion: 3.0.11-1+b9\n";
    let image = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status.d/x", status.as_bytes()),
    ]);
    let report = scan_tars(&[&image]);
    // The binary's own version would be after the fix: `+b9` sorts after nothing.
    let db = db(&[record(
        "CVE-2026-1",
        serde_json::json!({ "affected": [fixed("Debian:12", "openssl", "3.0.11-1+a")] }),
    )]);
    let findings = match_report(&report, &db).unwrap();
    assert_eq!((findings.knowledge, ids(&findings)), (Knowledge::Complete, vec!["CVE-2026-1"]));
    let finding = &findings.findings[0];
    assert_eq!((finding.package.as_str(), finding.version.as_str()), ("libssl3", "3.0.11-1+b9"));
    assert_eq!((finding.fix, finding.fixed_in.as_deref()), (FixState::Fixed, Some("3.0.11-1+a")));
    assert_eq!((finding.severity, finding.cvss), (Severity::Unknown, None));
}

#[test]
fn no_data_is_never_clean() {
    let report = debian(&[("a", "1")]);
    let other =
        db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:11", "a", "2")] }))]);
    let findings = match_report(&report, &other).unwrap();
    assert_eq!((findings.knowledge, ids(&findings)), (Knowledge::None, vec![]));
    assert!(findings.why.unwrap().contains("Debian:12"));
    assert_eq!(Findings::without_data(&report).knowledge, Knowledge::None);
    // A list of exploited vulnerabilities alone is no data about a release.
    let mut import = Import::new();
    let list = br#"{"catalogVersion":"1","dateReleased":"2026-01-01T00:00:00Z","vulnerabilities":[{"cveID":"CVE-2026-1"}]}"#;
    import.add("kev", Cursor::new(list)).unwrap();
    let only = Db::from_bytes(import.finish().unwrap()).unwrap();
    assert_eq!(match_report(&report, &only).unwrap().knowledge, Knowledge::None);
}

#[test]
fn distributions_without_a_matcher_or_release_are_said_to_be() {
    let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    let of = |os_release: &[u8]| {
        let status = stanza("a", "1");
        let image = tar(&[
            Put::File("etc/os-release", os_release),
            Put::File("var/lib/dpkg/status", status.as_bytes()),
        ]);
        match_report(&scan_tars(&[&image]), &db).unwrap().knowledge
    };
    assert_eq!(of(b"ID=ubuntu\nVERSION_ID=24.04\n"), Knowledge::Unsupported);
    assert_eq!(of(b"ID=debian\nVERSION_CODENAME=sid\n"), Knowledge::None);
    assert_eq!(of(b"NAME=x\n"), Knowledge::Unsupported);
    assert_eq!(of(OS_RELEASE), Knowledge::Complete);
}

/// Regression: a damaged layer or a tar bomb was called `unsupported`, which says nothing of the damage.
#[test]
fn a_damaged_image_of_no_known_system_is_not_called_unsupported() {
    let mut image = tar(&[Put::File("tmp/x", b"x")]);
    let end = image.len();
    image[end - 1024..end - 512].fill(7);
    let report = scan_tars(&[&image]);
    let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    let findings = match_report(&report, &db).unwrap();
    assert_eq!((report.knowledge, findings.knowledge), (Knowledge::Partial, Knowledge::None));
    assert_eq!((findings.coverage, findings.findings), (vec![], vec![]));
    assert_eq!(findings.why, report.why());
}

#[test]
fn a_partial_scan_gives_partial_findings() {
    let mut image = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let end = image.len();
    image[end - 1024..end - 512].fill(7);
    let report = scan_tars(&[&image]);
    let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    let findings = match_report(&report, &db).unwrap();
    assert_eq!((findings.knowledge, ids(&findings)), (Knowledge::Partial, vec!["CVE-2026-1"]));
}

#[test]
fn ranges_follow_the_schema() {
    let events = |events| affected("Debian:12", "a", events);
    let cases = [
        (serde_json::json!([{"introduced": "0"}]), "1", Some(None)),
        (serde_json::json!([{"introduced": "0"}, {"fixed": "2"}]), "2", None),
        (serde_json::json!([{"introduced": "0"}, {"fixed": "2"}]), "2~rc1", Some(Some("2"))),
        (serde_json::json!([{"fixed": "2"}, {"introduced": "1"}]), "1.5", Some(Some("2"))),
        (serde_json::json!([{"introduced": "1"}, {"fixed": "2"}]), "0.9", None),
        (serde_json::json!([{"introduced": "0"}, {"last_affected": "2"}]), "2", Some(None)),
        (serde_json::json!([{"introduced": "0"}, {"last_affected": "2"}]), "2.1", None),
        (
            serde_json::json!([{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}]),
            "3.1",
            Some(Some("4")),
        ),
        (
            serde_json::json!([{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}]),
            "2.5",
            None,
        ),
        (serde_json::json!([{"introduced": "0"}, {"limit": "2"}]), "1", Some(None)),
        (serde_json::json!([{"introduced": "0"}, {"limit": "2"}]), "2", None),
        (serde_json::json!([{"introduced": "0"}, {"limit": "*"}]), "9", Some(None)),
    ];
    for (range, version, expected) in cases {
        let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [events(range.clone())] }))]);
        let findings = match_report(&debian(&[("a", version)]), &db).unwrap();
        let found = findings.findings.first().map(|f| f.fixed_in.as_deref());
        assert_eq!(found, expected, "{range} {version}");
    }
    let listed =
        serde_json::json!({ "package": { "ecosystem": "Debian:12", "name": "a" }, "versions": ["1", "3"] });
    let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [listed] }))]);
    for (version, expected) in [("1", 1), ("2", 0), ("3", 1)] {
        assert_eq!(
            match_report(&debian(&[("a", version)]), &db).unwrap().findings.len(),
            expected,
            "{version}"
        );
    }
}

/// Regression: a record whose versions cannot be evaluated was left out, and images with its package were shown clean.
#[test]
fn what_a_record_leaves_open_is_a_possible_finding() {
    let range = |kind: &str, events: serde_json::Value| serde_json::json!({ "type": kind, "events": events });
    let check = |ranges: &[serde_json::Value], versions: &[&str], version: &str, expected: Option<bool>| {
        let package = serde_json::json!({ "ecosystem": "Debian:12", "name": "a" });
        let about = serde_json::json!({ "package": package, "ranges": ranges, "versions": versions });
        let db = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [about] }))]);
        let findings = match_report(&debian(&[("a", version)]), &db).unwrap();
        let found = findings.findings.first().map(|f| f.possible_only);
        assert_eq!((found, findings.knowledge), (expected, Knowledge::Complete), "{about} {version}");
    };
    let until_2 = || serde_json::json!([{ "introduced": "0" }, { "fixed": "2" }]);
    check(&[], &[], "1", Some(true));
    check(&[range("SEMVER", until_2())], &[], "1", Some(true));
    check(&[range("ECOSYSTEM", serde_json::json!([]))], &[], "1", Some(true));
    check(&[range("ECOSYSTEM", serde_json::json!([{ "fixed": "2" }]))], &[], "1", Some(true));
    let odd =
        range("ECOSYSTEM", serde_json::json!([{ "introduced": "0" }, { "fixed": "2" }, { "back": "3" }]));
    check(std::slice::from_ref(&odd), &[], "1", Some(false));
    check(std::slice::from_ref(&odd), &[], "3", Some(true));
    // Versions named one by one decide, and so does one range beside others of a kind that is not compared.
    check(&[range("GIT", until_2())], &["1"], "1", Some(false));
    check(&[range("GIT", until_2())], &["1"], "2", None);
    check(&[range("GIT", until_2()), range("ECOSYSTEM", until_2())], &[], "2", None);
}

#[test]
fn a_record_that_says_affected_stands_above_one_that_leaves_it_open() {
    let open = serde_json::json!({ "package": { "ecosystem": "Debian:12", "name": "a" } });
    let db = db(&[
        record("DSA-1-1", serde_json::json!({ "upstream": ["CVE-2026-1"], "affected": [open] })),
        record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] })),
    ]);
    let of = |version| {
        let findings = match_report(&debian(&[("a", version)]), &db).unwrap().findings;
        let [only] = findings.as_slice() else { panic!("{findings:?}") };
        (only.possible_only, only.fix, only.fixed_in.clone())
    };
    assert_eq!(of("1"), (false, FixState::Fixed, Some("2".to_owned())));
    assert_eq!(of("2"), (true, FixState::Unknown, None));
}

#[test]
fn names_are_cves_where_there_are_some() {
    let affected = serde_json::json!([fixed("Debian:12", "a", "2")]);
    let db = db(&[
        record(
            "DSA-1-1",
            serde_json::json!({ "affected": affected, "upstream": ["CVE-2026-2", "CVE-2026-1"] }),
        ),
        record("DLA-2-1", serde_json::json!({ "affected": affected, "related": ["CVE-2026-3"] })),
        record(
            "DEBIAN-CVE-2026-2",
            serde_json::json!({ "affected": [fixed("Debian:12", "a", "3")], "upstream": ["CVE-2026-2"] }),
        ),
        record(
            "GHSA-x",
            serde_json::json!({ "affected": affected, "aliases": ["CVE-2026-4"], "related": ["CVE-2026-9"] }),
        ),
        record("DSA-5-1", serde_json::json!({ "affected": affected })),
    ]);
    let findings = match_report(&debian(&[("a", "1")]), &db).unwrap();
    assert_eq!(ids(&findings), ["CVE-2026-1", "CVE-2026-2", "CVE-2026-3", "CVE-2026-4", "DSA-5-1"]);
    let second = &findings.findings[1];
    assert_eq!(second.aliases, ["DEBIAN-CVE-2026-2", "DSA-1-1"]);
    assert_eq!(second.fixed_in.as_deref(), Some("3"));
    // Fixed by the first advisory, still open by the second.
    assert_eq!(ids(&match_report(&debian(&[("a", "2")]), &db).unwrap()), ["CVE-2026-2"]);
}

#[test]
fn severity_comes_from_vectors_then_words_and_else_is_unknown() {
    let high = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
    let with = |specific: serde_json::Value| {
        let mut affected = fixed("Debian:12", "a", "2");
        affected["ecosystem_specific"] = specific;
        affected
    };
    let db = db(&[
        record(
            "CVE-1",
            serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")], "severity": [{ "type": "CVSS_V3", "score": high }] }),
        ),
        record(
            "CVE-2",
            serde_json::json!({ "affected": [with(serde_json::json!({ "urgency": "medium**" }))] }),
        ),
        record(
            "CVE-3",
            serde_json::json!({ "affected": [with(serde_json::json!({ "urgency": "unimportant" }))], "severity": [{ "type": "CVSS_V3", "score": high }] }),
        ),
        record(
            "CVE-4",
            serde_json::json!({ "affected": [with(serde_json::json!({ "urgency": "not yet assigned" }))] }),
        ),
        record(
            "CVE-5",
            serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")], "database_specific": { "severity": "MODERATE", "cwe_ids": [1] } }),
        ),
        record(
            "CVE-6",
            serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")], "severity": [{ "type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:N/I:N/A:C" }] }),
        ),
        record(
            "CVE-7",
            serde_json::json!({ "affected": [affected("Debian:12", "a", serde_json::json!([{ "introduced": "0" }]))], "database_specific": { "urgency": "end-of-life" } }),
        ),
    ]);
    let findings = match_report(&debian(&[("a", "1")]), &db).unwrap();
    let found: Vec<_> = findings.findings.iter().map(|f| (f.id.as_str(), f.severity, f.cvss)).collect();
    assert_eq!(
        found,
        [
            ("CVE-1", Severity::Critical, Some(9.8)),
            ("CVE-6", Severity::High, Some(7.8)),
            ("CVE-2", Severity::Medium, None),
            ("CVE-5", Severity::Medium, None),
            ("CVE-3", Severity::Negligible, Some(9.8)),
            ("CVE-4", Severity::Unknown, None),
            ("CVE-7", Severity::Unknown, None),
        ]
    );
    assert_eq!(findings.findings[6].fix, FixState::EndOfLife);
    assert_eq!(findings.counts(), [2, 1, 0, 2, 1, 1]);
}

#[test]
fn alpine_is_compared_in_its_own_order() {
    let installed =
        "P:libssl3\nV:3.3.2-r1\nA:x86_64\no:openssl\n\nP:musl\nV:1.2.5_git20240101-r0\nA:x86_64\n\n";
    let image = tar(&[
        Put::File("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.3\n"),
        Put::File("lib/apk/db/installed", installed.as_bytes()),
    ]);
    let db = db(&[
        record(
            "ALPINE-CVE-2026-1",
            serde_json::json!({ "upstream": ["CVE-2026-1"], "affected": [fixed("Alpine:v3.20", "openssl", "3.3.2-r2")] }),
        ),
        record("CVE-2026-2", serde_json::json!({ "affected": [fixed("Alpine:v3.20", "musl", "1.2.5-r9")] })),
        record("CVE-2026-3", serde_json::json!({ "affected": [fixed("Alpine:v3.19", "openssl", "9")] })),
    ]);
    let findings = match_report(&scan_tars(&[&image]), &db).unwrap();
    assert_eq!(ids(&findings), ["CVE-2026-1"]);
    assert_eq!(findings.end_of_life_ms, Release::of_ecosystem("Alpine:v3.20").unwrap().end_of_life_ms());
}

#[test]
fn what_cannot_be_compared_is_unsupported_and_says_what_is() {
    let data = db(&[record("CVE-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    let ubuntu = tar(&[
        Put::File("etc/os-release", b"ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n"),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let rpm = tar(&[
        Put::File("etc/os-release", b"ID=fedora\nVERSION_ID=42\n"),
        Put::File("usr/lib/sysimage/rpm/rpmdb.sqlite", b"SQLite format 3"),
    ]);
    for (image, packages, expected) in [
        (ubuntu, 1, "ubuntu 24.04 is not supported: its packages are listed and not compared"),
        (rpm, 0, "the image has an `rpm` database, which this version does not read"),
    ] {
        let report = scan_tars(&[&image]);
        let findings = match_report(&report, &data).unwrap();
        assert_eq!((report.packages.len(), findings.knowledge), (packages, Knowledge::Unsupported));
        assert_eq!((findings.coverage, findings.findings), (vec![], vec![]));
        let why = findings.why.unwrap();
        assert!(why.starts_with(expected) && why.contains("hint: Debian"), "{why}");
    }
}
