//! Every field with every operator it takes, over one image; then what is not known, what time changes, and bad configurations.

mod table;

use crate::check::Criteria;
use crate::field::{FIELDS, Operator};
use crate::value::{DAY_MS, HOUR_MS};
use crate::wharf_policy::Plugin;
use proptest::prelude::*;
use serde_json::{Value, json};
use table::{MET, Row, UNMET};
use wharf_sdk::Config;
use wharf_sdk::prelude::*;
use wharf_sdk::testing::{Facts, component, finding, fixed_in, judge};

/// `dev/app:v1.4-rc1`, 600 MB, pushed by `ci` three days ago at 2025-12-29T00:00:00Z.
fn image() -> Facts {
    let mut facts = Facts::scanned("dev/app", "v1.4-rc1");
    facts.size_bytes = 600_000_000;
    facts.distribution = Some("debian:12".to_owned());
    facts.pushed_at_ms = facts.evaluated_at_ms - 3 * DAY_MS;
    if let Some(platform) = &mut facts.platform {
        platform.variant = Some("v3".to_owned());
    }
    let mut libssl = component("libssl3", "3.0.8-1");
    libssl.source_name = Some("openssl".to_owned());
    libssl.licences = vec!["Apache-2.0".to_owned()];
    facts.add_component(libssl);
    let mut bash = component("bash", "5.2");
    bash.licences = vec!["GPL-3.0-or-later".to_owned()];
    facts.add_component(bash);
    let mut odd = component("odd", "");
    odd.version = None;
    odd.licences = vec!["MIT OR GPL-2.0-only".to_owned()];
    facts.add_component(odd);
    facts.add_finding(finding("CVE-2024-0001", Severity::Critical, "libssl3", "3.0.8-1"));
    facts.add_finding(fixed_in(finding("CVE-2024-0002", Severity::High, "libssl3", "3.0.8-1"), "3.0.9-1"));
    facts.add_finding(fixed_in(finding("CVE-2024-0003", Severity::Medium, "bash", "5.2"), "5.3"));
    facts.add_finding(finding("CVE-2024-0004", Severity::Low, "bash", "5.2"));
    facts.add_finding(finding("CVE-2024-0005", Severity::Negligible, "bash", "5.2"));
    facts.add_finding(finding("CVE-2024-0006", Severity::Unknown, "bash", "5.2"));
    facts
}

fn one(field: &str, operator: &str, values: &[&str]) -> Value {
    json!({ "criteria": [{ "field": field, "operator": operator, "values": values }] })
}

fn verdict(config: &Value, facts: &Facts) -> Verdict {
    judge::<Plugin>(config, facts).unwrap_or_else(|why| panic!("{config}: {why}")).verdict
}

/// The reason of an unmet criterion.
fn reason(field: &str, operator: &str, values: &[&str]) -> String {
    let outcome = judge::<Plugin>(&one(field, operator, values), &image()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Hold);
    assert_eq!(outcome.reasons[0].code, field);
    outcome.reasons[0].text.clone()
}

#[test]
fn criteria_are_met() {
    for (field, operator, values) in MET {
        assert_eq!(
            verdict(&one(field, operator, values), &image()),
            Verdict::Approve,
            "{field} {operator} {values:?}"
        );
    }
}

#[test]
fn criteria_are_unmet() {
    for (field, operator, values) in UNMET {
        assert_eq!(
            verdict(&one(field, operator, values), &image()),
            Verdict::Hold,
            "{field} {operator} {values:?}"
        );
    }
}

/// Fields share the operators of their kind, so each field is tried once, and each operator of each kind.
#[test]
fn every_field_and_every_operator_of_its_kind_is_tried() {
    for (name, _, operators) in FIELDS {
        let tried: Vec<&str> =
            MET.iter().filter(|(field, ..)| field == name).map(|(_, operator, _)| *operator).collect();
        assert!(!tried.is_empty(), "`{name}` is not tried");
        assert!(UNMET.iter().any(|(field, ..)| field == name), "`{name}` is not tried unmet");
        for operator in *operators {
            let of_kind = |(field, word, _): &&Row| {
                *word == operator.word()
                    && FIELDS.iter().any(|(other, _, takes)| other == field && takes == operators)
            };
            assert!(
                MET.iter().any(|row| of_kind(&row)),
                "no field of the kind of `{name}` tries `{}`",
                operator.word()
            );
            assert!(UNMET.iter().any(|row| of_kind(&row)), "none tries `{}` unmet", operator.word());
        }
    }
}

#[test]
fn reasons_give_the_numbers() {
    for ((field, operator, values), expected) in [
        (
            ("vulnerability_critical", "lte", &["0"][..]),
            "`vulnerability_critical` is 2, the rule wants lte 0: CVE-2024-0001 in libssl3 3.0.8-1, CVE-2024-0002 in libssl3 \
             3.0.8-1 (fixed in 3.0.9-1)",
        ),
        (
            ("vulnerability_all", "lt", &["2"]),
            "`vulnerability_all` is 6, the rule wants lt 2: CVE-2024-0001 in libssl3 3.0.8-1, CVE-2024-0002 in libssl3 \
             3.0.8-1 (fixed in 3.0.9-1), CVE-2024-0003 in bash 5.2 (fixed in 5.3) and 3 more",
        ),
        (("severity_fixable_low", "gt", &["0"]), "`severity_fixable_low` is 0, the rule wants gt 0"),
        (("tag", "sw", &["release-", "1."]), "`tag` is `v1.4-rc1`, the rule wants sw release- or 1."),
        (
            ("component.version", "noo", &["openssl <3.0.9"]),
            "`component.version` finds libssl3 3.0.8-1 (of openssl), the rule wants noo openssl <3.0.9",
        ),
        (("component.name", "oo", &["tini"]), "`component.name` finds nothing, the rule wants oo tini"),
        (
            ("license.name", "noo", &["GPL-2.0*"]),
            "`license.name` finds odd of an unknown version (MIT OR GPL-2.0-only), the rule wants noo GPL-2.0*",
        ),
        (("cvss", "lt", &["7"]), "`cvss` is 9.5 (CVE-2024-0001 in libssl3 3.0.8-1), the rule wants lt 7"),
        (
            ("cve", "noo", &["CVE-2024-0004"]),
            "`cve` finds CVE-2024-0004 in bash 5.2, the rule wants noo CVE-2024-0004",
        ),
        (("image.size", "lte", &["500MB"]), "`image.size` is 600.0 MB, the rule wants lte 500MB"),
        (
            ("platform", "eq", &["windows/amd64"]),
            "`platform` is `linux/amd64/v3`, the rule wants eq windows/amd64",
        ),
        (
            ("updated_at", "af", &["2026-01-01"]),
            "`updated_at` is 2025-12-29T00:00:00Z, the rule wants af 2026-01-01",
        ),
        (
            ("age", "gte", &["1w"]),
            "`age` is 3d, the rule wants gte 1w: it will be met at 2026-01-05T00:00:00Z",
        ),
    ] {
        assert_eq!(reason(field, operator, values), expected);
    }
}

#[test]
fn all_criteria_must_be_met_and_each_unmet_one_gives_its_reason() {
    let config = json!({ "verdict_when_unmet": "reject", "criteria": [
        { "field": "tag", "operator": "sw", "values": ["v"] },
        { "field": "vulnerability_critical", "operator": "lte", "values": [0] },
        { "field": "image.size", "operator": "lt", "values": ["1MB"] },
    ]});
    let outcome = judge::<Plugin>(&config, &image()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Reject);
    let codes: Vec<&str> = outcome.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["vulnerability_critical", "image.size"]);

    let met = judge::<Plugin>(&one("tag", "sw", &["v"]), &image()).unwrap();
    assert_eq!(met.reasons[0].text, "the criterion is met");
}

#[test]
fn what_was_not_scanned_is_held_and_never_rejected() {
    for scan in
        [Knowledge::None, Knowledge::Pending, Knowledge::Partial, Knowledge::Failed, Knowledge::Unsupported]
    {
        for field in ["vulnerability_all", "vulnerability_fixable_critical", "severity_unknown"] {
            let mut facts = image();
            facts.scan = scan;
            let mut config = one(field, "lte", &["100"]);
            config["verdict_when_unmet"] = json!("reject");
            let outcome = judge::<Plugin>(&config, &facts).unwrap();
            assert_eq!(outcome.verdict, Verdict::Hold, "{field} of an image that is {scan:?}");
            assert_eq!(outcome.reasons[0].code, "no-data");
            config["unscanned"] = json!("ignore");
            assert_eq!(
                verdict(&config, &facts),
                Verdict::Approve,
                "{field} of an image that is {scan:?}, ignored"
            );
        }
    }
    let mut facts = image();
    facts.scan = Knowledge::Pending;
    for (field, values) in
        [("component.name", "log4j"), ("license.name", "ISC"), ("component.version", "bash <1")]
    {
        assert_eq!(verdict(&one(field, "noo", &[values]), &facts), Verdict::Hold, "{field}");
    }
    assert_eq!(verdict(&one("tag", "sw", &["v"]), &facts), Verdict::Approve, "a tag is known without a scan");
}

#[test]
fn no_vulnerability_data_is_never_clean() {
    let mut facts = image();
    facts.vulnerability_data.clear();
    facts.findings.clear();
    let outcome = judge::<Plugin>(&one("vulnerability_all", "lte", &["0"]), &facts).unwrap();
    assert_eq!(outcome.verdict, Verdict::Hold);
    assert_eq!(
        outcome.reasons[0].text,
        "`vulnerability_all` cannot be judged: the image was compared with no vulnerability data"
    );
    assert_eq!(verdict(&one("component.name", "noo", &["log4j"]), &facts), Verdict::Approve);
}

#[test]
fn a_forbidden_component_of_an_unknown_version_does_not_pass() {
    assert_eq!(verdict(&one("component.version", "noo", &["odd <2"]), &image()), Verdict::Hold);
    assert_eq!(verdict(&one("component.version", "oo", &["odd <2"]), &image()), Verdict::Hold);
}

#[test]
fn an_unknown_licence_does_not_pass_where_licences_are_forbidden() {
    let mut facts = image();
    facts.add_component(component("mystery", "1"));
    let mut config = one("license.name", "noo", &["AGPL-3.0-only"]);
    let outcome = judge::<Plugin>(&config, &facts).unwrap();
    assert_eq!(outcome.verdict, Verdict::Hold);
    assert_eq!(
        outcome.reasons[0].text,
        "`license.name` cannot be judged: of 1 components no licence is known: mystery 1"
    );
    config["unlicensed"] = json!("ignore");
    assert_eq!(verdict(&config, &facts), Verdict::Approve);
}

#[test]
fn findings_without_a_rating_are_told_or_counted() {
    let mut config = one("vulnerability_major", "lte", &["1"]);
    let outcome = judge::<Plugin>(&config, &image()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Approve);
    assert_eq!(outcome.reasons[0].text, "1 findings have no rating and count in no class");
    config["unrated"] = json!("count");
    assert_eq!(verdict(&config, &image()), Verdict::Hold);

    let mut low = image();
    low.findings.retain(|f| f.severity == Severity::Unknown);
    let mut config = one("cvss", "lt", &["7"]);
    assert_eq!(verdict(&config, &low), Verdict::Approve);
    config["unrated"] = json!("count");
    assert_eq!(
        judge::<Plugin>(&config, &low).unwrap().reasons[0].text,
        "`cvss` is not known of 1 findings (CVE-2024-0006 in bash 5.2), the rule wants lt 7"
    );
}

#[test]
fn age_says_when_to_look_again() {
    let facts = image();
    let pushed = facts.pushed_at_ms;
    for (operator, values, expected) in [
        ("gte", "4d", Some(pushed + 4 * DAY_MS)),
        ("gt", "4d", Some(pushed + 4 * DAY_MS + 1)),
        ("lt", "4d", Some(pushed + 4 * DAY_MS)),
        ("lte", "4d", Some(pushed + 4 * DAY_MS + 1)),
        ("gte", "2d", None),
        ("lt", "2d", None),
    ] {
        let outcome = judge::<Plugin>(&one("age", operator, &[values]), &facts).unwrap();
        assert_eq!(outcome.recheck_at_ms, expected, "age {operator} {values}");
    }
    // Looked at again then, it is met; and a soak that is not over is a hold even where unmet criteria reject.
    let mut config = one("age", "gte", &["4d"]);
    config["verdict_when_unmet"] = json!("reject");
    assert_eq!(verdict(&config, &facts), Verdict::Hold);
    let mut later = facts;
    later.evaluated_at_ms = pushed + 4 * DAY_MS;
    assert_eq!(verdict(&config, &later), Verdict::Approve);
    assert_eq!(verdict(&one("updated_at_duration", "af", &["4d"]), &later), Verdict::Hold);
    later.evaluated_at_ms = pushed - HOUR_MS;
    assert_eq!(
        verdict(&one("age", "lt", &["1h"]), &later),
        Verdict::Approve,
        "a push from the future has age 0"
    );
}

#[test]
fn what_has_no_tag_or_platform() {
    let mut facts = image();
    facts.tag = None;
    facts.platform = None;
    assert_eq!(verdict(&one("tag", "noo", &["latest"]), &facts), Verdict::Approve);
    assert_eq!(verdict(&one("tag", "sw", &["v"]), &facts), Verdict::Hold);
    assert_eq!(verdict(&one("platform", "noo", &["windows/amd64"]), &facts), Verdict::Hold);
}

#[test]
fn each_mistake_is_a_problem_with_its_pointer() {
    let bad = json!({
        "verdict_when_unmet": "maybe",
        "extra": 1,
        "criteria": [
            { "field": "colour", "operator": "eq", "values": ["red"] },
            { "field": "vulnerability_critical", "operator": "sw", "values": ["0"] },
            { "field": "vulnerability_critical", "operator": "lte", "values": ["none"] },
            { "field": "vulnerability_critical", "operator": "lte", "values": ["0", "1"] },
            { "field": "tag", "operator": "matches", "values": ["v", "("] },
            { "field": "tag", "operator": "like", "values": [] },
            { "field": "component.version", "operator": "noo", "values": ["openssl <3", "openssl", "bash <<5"] },
            { "field": "updated_at", "operator": "bf", "values": ["yesterday"] },
            { "field": "age", "operator": "gte", "values": ["3"] },
            { "field": "image.size", "operator": "lte", "values": ["big"], "note": "" },
            { "field": "cvss", "operator": "gte", "values": ["11"] },
            { "field": "cve", "operator": "oo", "values": ["CVE-1", "", null] },
            7,
            {},
        ],
    });
    let problems = Criteria::read(&bad.to_string()).unwrap_err();
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/extra",
            "/verdict_when_unmet",
            "/criteria/0/field",
            "/criteria/1/operator",
            "/criteria/2/values/0",
            "/criteria/3/values",
            "/criteria/4/values/1",
            "/criteria/5/operator",
            "/criteria/5/values",
            "/criteria/6/values/1",
            "/criteria/7/values/0",
            "/criteria/8/values/0",
            "/criteria/9/note",
            "/criteria/9/values/0",
            "/criteria/10/values/0",
            "/criteria/11/values/1",
            "/criteria/11/values/2",
            "/criteria/12",
            "/criteria/13/field",
            "/criteria/13/operator",
            "/criteria/13/values",
        ]
    );
    assert!(problems.iter().all(|problem| !problem.message.is_empty()));
    for (bad, told) in [("bash <<5", "is no version"), ("bash >=5, <4", "`>=5` and `<4`")] {
        let range = one("component.version", "noo", &["zlib1g <1", bad]);
        let why = judge::<Plugin>(&range, &image()).unwrap_err();
        assert!(why.contains("`/criteria/0/values/1`") && why.contains(told), "{why}");
    }
    for (text, pointer) in [
        ("", ""),
        ("[]", ""),
        ("{}", ""),
        (r#"{"criteria": []}"#, "/criteria"),
        (r#"{"criteria": 1}"#, "/criteria"),
    ] {
        assert_eq!(Criteria::read(text).unwrap_err()[0].pointer, pointer, "`{text}`");
    }
}

#[test]
fn the_schema_lists_the_fields_and_operators() {
    let schema: Value = serde_json::from_str(Criteria::SCHEMA).unwrap();
    let criterion = &schema["properties"]["criteria"]["items"]["properties"];
    let fields: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(criterion["field"]["enum"], json!(fields));
    let words = criterion["operator"]["enum"].as_array().unwrap();
    for operator in FIELDS.iter().flat_map(|(.., operators)| *operators) {
        assert!(words.contains(&json!(operator.word())), "`{}`", operator.word());
        assert_eq!(Operator::of(operator.word()), Some(*operator));
    }
}

#[test]
fn the_page_lists_the_fields() {
    let page = include_str!("../README.md");
    for (name, ..) in FIELDS {
        // `severity_critical` `_high` … in one row.
        let last = name.rfind('_').map(|at| format!("`{}`", &name[at..]));
        let named = page.contains(&format!("| `{name}`")) || last.is_some_and(|last| page.contains(&last));
        assert!(named, "`{name}` is not on the page");
    }
}

#[test]
fn the_page_shows_a_configuration_that_is_taken() {
    let page = include_str!("../README.md");
    let json = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config: Value = serde_json::from_str(json).unwrap();
    let outcome = judge::<Plugin>(&config, &image()).unwrap();
    let unmet: Vec<&str> = outcome.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(unmet, ["vulnerability_critical", "component.version"]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in "\\PC{0,60}", field in 0..FIELDS.len(), word in "[a-z]{1,7}", value in "\\PC{0,20}") {
        let _ = Criteria::read(&text);
        let (name, _, operators) = FIELDS[field];
        for word in operators.iter().map(|operator| operator.word()).chain([word.as_str()]) {
            // What is taken can be carried out.
            if let Ok(outcome) = judge::<Plugin>(&one(name, word, &[&value]), &image()) {
                prop_assert!(outcome.verdict == Verdict::Approve || outcome.verdict == Verdict::Hold);
                prop_assert!(!outcome.reasons.is_empty());
            }
        }
    }
}

/// Regression: JSON reads `1.10` as `1.1`, so a rule against the tag `1.10` that was written without quotes let it through.
#[test]
fn a_number_is_no_text() {
    for field in ["tag", "component.name", "component.version", "license.name", "cve"] {
        let config = json!({"criteria": [{"field": field, "operator": "noo", "values": ["1.2", 1.10]}]});
        let problems = Criteria::read(&config.to_string()).unwrap_err();
        assert_eq!(problems[0].pointer, "/criteria/0/values/1", "{field}");
        assert!(problems[0].message.contains("in quotes"), "{field}: {}", problems[0].message);
    }
    for (value, is_read) in [(json!(5), true), (json!("5"), true), (json!(5.0), false)] {
        let config =
            json!({"criteria": [{"field": "vulnerability_all", "operator": "lte", "values": [value]}]});
        assert_eq!(Criteria::read(&config.to_string()).is_ok(), is_read, "{value}: a count is whole");
    }
}

/// Regression: such a value was taken by a binding, and then ended each of its calls.
#[test]
fn a_value_that_no_question_takes_is_refused() {
    let longest = wharf_sdk::image::MAX_PATTERN_BYTES;
    for (field, operator, around) in [
        ("component.name", "oo", 0),
        ("component.name", "sw", 1),
        ("license.name", "c", 2),
        ("cve", "noo", 0),
        ("component.version", "noo", 0),
    ] {
        let value = |bytes: usize| match field {
            "component.version" => format!("{} <2", "x".repeat(bytes)),
            _ => "x".repeat(bytes),
        };
        let judged = |bytes| judge::<Plugin>(&one(field, operator, &["short <1", &value(bytes)]), &image());
        assert!(judged(longest - around).is_ok(), "{field} {operator}");
        let why = judged(longest - around + 1).unwrap_err();
        let told = "at `/criteria/0/values/1`: as a pattern this has 1025 bytes, at most 1024 are taken";
        assert!(why.contains(told), "{field} {operator}: {why}");
    }
    let range = format!("openssl <{}", "1".repeat(longest));
    let why = judge::<Plugin>(&one("component.version", "noo", &[&range]), &image()).unwrap_err();
    assert!(why.contains("a version range may have 1024 bytes, this has 1025"), "{why}");
    // What the plugin compares by itself has no such bound.
    assert!(judge::<Plugin>(&one("tag", "eq", &[&"x".repeat(2 * longest)]), &image()).is_ok());
}
