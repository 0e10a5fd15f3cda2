use std::cmp::Ordering;
use std::sync::Arc;

use super::*;
use crate::facts::{FixState, ImageFacts};

fn order(ecosystem: &str, left: &str, right: &str) -> Option<Ordering> {
    (ecosystem == "deb").then(|| left.cmp(right))
}

/// Six components that differ in everything a query can ask, and five findings.
fn facts() -> Arc<SealedFacts> {
    let component = |name: &str, version: Option<&str>, licences: &[&str]| Component {
        name: name.into(),
        version: version.map(Into::into),
        ecosystem: "deb".into(),
        licences: licences.iter().map(|text| (*text).to_owned()).collect(),
        ..Component::default()
    };
    let components = vec![
        Component {
            source_name: Some("openssl".into()),
            layer: Some(0),
            path: Some("/var/lib/dpkg/status".into()),
            ..component("libssl3", Some("3.0.9"), &["Apache-2.0"])
        },
        Component {
            layer: Some(1),
            facts: BTreeMap::from([("maintainer".to_owned(), "doko".to_owned())]),
            ..component("bash", Some("5.2"), &["GPL-3.0-or-later"])
        },
        component("dual", Some("1.0"), &["MIT OR GPL-2.0-only"]),
        component("odd", None, &["see the file COPYING"]),
        Component { confidence: Confidence::Hint, ..component("maybe", Some("1.0"), &[]) },
        Component {
            ecosystem: "npm".into(),
            confidence: Confidence::Probable,
            ..component("left-pad", Some("1.3.0"), &["GPL-2.0-only WITH Classpath-exception-2.0"])
        },
    ];
    let finding = |id: &str, severity, cvss_tenths, component| Finding {
        id: id.into(),
        source: "osv".into(),
        severity,
        cvss_tenths,
        component,
        ..Finding::default()
    };
    let findings = vec![
        Finding {
            aliases: vec!["GHSA-aaaa".into()],
            fix: FixState::Fixed,
            known_exploited: true,
            published_at_ms: Some(100),
            facts: BTreeMap::from([("epss".to_owned(), "0.97".to_owned())]),
            ..finding("CVE-2024-1", Severity::Critical, Some(98), 0)
        },
        Finding { waived: true, ..finding("CVE-2024-2", Severity::High, Some(70), 1) },
        Finding { possible_only: true, ..finding("CVE-2024-3", Severity::Medium, Some(69), 2) },
        finding("CVE-2024-4", Severity::Unknown, None, 3),
        finding("CVE-2024-5", Severity::Low, Some(39), 4),
    ];
    let platform =
        PlatformFacts { digest: "sha256:aa".into(), components, findings, ..PlatformFacts::default() };
    ImageFacts { platforms: vec![platform], ..ImageFacts::default() }.seal().unwrap()
}

fn components(query: ComponentQuery) -> Vec<u32> {
    let facts = facts();
    let found = ComponentMatcher::new(&query, &facts, order, None).select(0);
    found.into_iter().map(|(index, _)| index).collect()
}

/// By counting and by listing, which must agree.
fn findings(query: FindingQuery) -> Vec<u32> {
    let facts = facts();
    let matcher = FindingMatcher::new(&query, &facts, None);
    let found: Vec<u32> = matcher.select(0).map(|(index, _)| index).collect();
    assert_eq!(matcher.count(0) as usize, found.len());
    found
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn component_criteria() {
    let all = ComponentQuery::default;
    assert_eq!(components(all()), [0, 1, 2, 3, 5], "a hint is left out");
    assert_eq!(components(ComponentQuery { include_hints: true, ..all() }), [0, 1, 2, 3, 4, 5]);
    assert_eq!(components(ComponentQuery { name: texts(&["lib*", "*ssl*"]), ..all() }), [0]);
    assert_eq!(components(ComponentQuery { name: texts(&["*"]), ..all() }), [0, 1, 2, 3, 5]);
    assert_eq!(components(ComponentQuery { name: texts(&["bash"]), ..all() }), [1]);
    assert_eq!(components(ComponentQuery { name: texts(&["bas"]), ..all() }), [] as [u32; 0]);
    assert_eq!(components(ComponentQuery { source_name: texts(&["openssl"]), ..all() }), [0]);
    assert_eq!(
        components(ComponentQuery { source_name: texts(&["bash"]), ..all() }),
        [1],
        "its own where none"
    );
    assert_eq!(components(ComponentQuery { ecosystem: texts(&["npm"]), ..all() }), [5]);
    assert_eq!(components(ComponentQuery { layer: vec![1], ..all() }), [1]);
    assert_eq!(components(ComponentQuery { path: texts(&["/var/*"]), ..all() }), [0]);
    let least = Some(Confidence::Exact);
    assert_eq!(components(ComponentQuery { confidence_at_least: least, ..all() }), [0, 1, 2, 3]);
}

#[test]
fn versions_that_cannot_be_compared() {
    let below = || ComponentQuery { version: texts(&["<4"]), ..ComponentQuery::default() };
    assert_eq!(components(below()), [0, 2], "no version, and an ecosystem without an order, are out");
    assert_eq!(components(ComponentQuery { include_undecided: true, ..below() }), [0, 2, 3, 5]);
}

#[test]
fn licences_are_read_as_expressions() {
    let named =
        |glob: &str| components(ComponentQuery { licence: texts(&[glob]), ..ComponentQuery::default() });
    assert_eq!(named("MIT"), [2], "named, though another would do");
    assert_eq!(named("gpl-*"), [1, 2, 5]);
    assert_eq!(named("Classpath-*"), [5]);
    assert_eq!(named("*COPYING*"), [3]);
    let outside = |allowed: &[&str]| {
        let licence_outside = vec![texts(allowed).into_iter().collect()];
        components(ComponentQuery { licence_outside, ..ComponentQuery::default() })
    };
    assert_eq!(outside(&["MIT", "Apache-2.0"]), [1, 3, 5], "one side of an OR is enough");
    assert_eq!(outside(&["MIT", "Apache-2.0", "GPL-3.0-or-later"]), [3, 5]);
    assert_eq!(
        outside(&["MIT", "Apache-2.0", "GPL-3.0-only"]),
        [1, 3, 5],
        "`-or-later` is an identifier of its own"
    );
    assert_eq!(outside(&["GPL-2.0-only"]), [0, 1, 3, 5], "an exception is another licence");
    assert_eq!(outside(&["MIT", "see the file COPYING"]), [0, 1, 5], "a text counts as it stands");
    assert_eq!(
        components(ComponentQuery { unlicensed: true, include_hints: true, ..ComponentQuery::default() }),
        [4]
    );
}

#[test]
fn finding_criteria() {
    let all = FindingQuery::default;
    assert_eq!(findings(all()), [0, 2, 3], "waived ones and those of hints are left out");
    assert_eq!(
        findings(FindingQuery { include_waived: true, include_hints: true, ..all() }),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(findings(FindingQuery { at_least: Some(Severity::Medium), ..all() }), [0, 2]);
    assert_eq!(
        findings(FindingQuery { at_least: Some(Severity::Negligible), ..all() }),
        [0, 2],
        "unknown is not a rank"
    );
    assert_eq!(findings(FindingQuery { at_least: Some(Severity::Unknown), ..all() }), [0, 2, 3]);
    let severity = BTreeSet::from([Severity::Unknown, Severity::Critical]);
    assert_eq!(findings(FindingQuery { severity, ..all() }), [0, 3]);
    assert_eq!(findings(FindingQuery { cvss_at_least: Some(70), include_waived: true, ..all() }), [0, 1]);
    assert_eq!(findings(FindingQuery { cvss_below: Some(70), ..all() }), [2], "without a score, neither");
    assert_eq!(findings(FindingQuery { unscored: true, ..all() }), [3]);
    assert_eq!(findings(FindingQuery { certain: true, ..all() }), [0, 3]);
    assert_eq!(findings(FindingQuery { fixable: true, ..all() }), [0]);
    assert_eq!(findings(FindingQuery { known_exploited: true, ..all() }), [0]);
    assert_eq!(
        findings(FindingQuery { id: texts(&["GHSA-*", "*-4"]), ..all() }),
        [0, 3],
        "one of them, or an alias"
    );
    assert_eq!(findings(FindingQuery { source: texts(&["debian"]), ..all() }), [] as [u32; 0]);
    assert_eq!(findings(FindingQuery { published_before_ms: Some(101), ..all() }), [0]);
    assert_eq!(findings(FindingQuery { published_before_ms: Some(100), ..all() }), [] as [u32; 0]);
    assert_eq!(findings(FindingQuery { component_name: texts(&["openssl"]), ..all() }), [0]);
    assert_eq!(findings(FindingQuery { layer: vec![0], ..all() }), [0]);
}

#[test]
fn a_fact_must_be_known_and_match() {
    let fact = |name: &str, glob: &str| vec![FactGlob { name: name.into(), glob: glob.into() }];
    let by = |fact| findings(FindingQuery { fact, ..FindingQuery::default() });
    assert_eq!(by(fact("epss", "0.9*")), [0]);
    assert_eq!(by(fact("epss", "0.1*")), [] as [u32; 0]);
    assert_eq!(by(fact("cwe", "*")), [] as [u32; 0]);
    let by = |fact| components(ComponentQuery { fact, ..ComponentQuery::default() });
    assert_eq!(by(fact("maintainer", "d*")), [1]);
    assert_eq!(by([fact("maintainer", "d*"), fact("maintainer", "e*")].concat()), [] as [u32; 0]);
}
