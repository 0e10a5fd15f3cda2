//! The plugins that ship, the example of an outsider, and what the SDK makes of failures: built as their authors build them, and
//! run in the host over facts as the host fills them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use wharf_plugin::facts::{
    Component, Coverage, Finding, FixState, ImageFacts, Knowledge, Platform, PlatformFacts, SealedFacts,
    Severity,
};
use wharf_plugin::trace::{Ask, Subject};
use wharf_plugin::{CallError, Cause, Evaluation, LogLevel, Plugin, Verdict};

use crate::guests::{load, patient};
use table::{MET, Row, UNMET};

#[path = "../../../plugins/criteria/src/tests/table.rs"]
mod table;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const EVALUATED_AT_MS: u64 = 1_767_225_600_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the shipped plugins are built for: components without WASI.
const SHIPPED: &str = "wasm32-unknown-unknown";

/// What others build for: components with all of WASI that the standard library wants.
const WASI: &str = "wasm32-wasip2";

/// Builds for WebAssembly in `folder`, and gives the folder of the results.
fn build(folder: &Path, target: &str, triple: &str, profile: &str, arguments: &[&str]) -> PathBuf {
    let target = root().join(target);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target", triple, "--profile", profile, "--target-dir"])
        .arg(&target)
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "the plugins build; hint: `rustup target add {triple}`");
    target.join(triple).join(profile)
}

fn load_file(path: &Path) -> Plugin {
    load(&std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display())))
}

/// The plugins of this repository.
struct Shipped {
    criteria: Plugin,
    licence_gate: Plugin,
    panics: Plugin,
}

fn shipped() -> &'static Shipped {
    static PLUGINS: OnceLock<Shipped> = OnceLock::new();
    PLUGINS.get_or_init(|| {
        let built = build(&root(), "target", SHIPPED, "plugin", &["-p", "criteria", "-p", "licence-gate"]);
        build(&root(), "target", SHIPPED, "plugin", &["-p", "wharf-sdk", "--example", "panics"]);
        Shipped {
            criteria: load_file(&built.join("criteria.wasm")),
            licence_gate: load_file(&built.join("licence_gate.wasm")),
            panics: load_file(&built.join("examples/panics.wasm")),
        }
    })
}

/// The example of an outsider, and its next version.
fn example() -> &'static (Plugin, Plugin) {
    static EXAMPLE: OnceLock<(Plugin, Plugin)> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let folder = root().join("examples/policy-rust");
        let built = build(&folder, "target/policy-rust", WASI, "release", &["--workspace"]);
        (load_file(&built.join("no_criticals.wasm")), load_file(&built.join("no_criticals_strict.wasm")))
    })
}

fn component(name: &str, version: Option<&str>, source: Option<&str>, licence: &str) -> Component {
    Component {
        name: name.into(),
        version: version.map(Into::into),
        ecosystem: "deb".into(),
        source_name: source.map(Into::into),
        licences: [licence].into_iter().filter(|text| !text.is_empty()).map(Into::into).collect(),
        layer: Some(0),
        ..Component::default()
    }
}

fn finding(
    number: u32,
    severity: Severity,
    cvss_tenths: Option<u8>,
    component: u32,
    fixed_in: Option<&str>,
) -> Finding {
    Finding {
        id: format!("CVE-2024-{number:04}"),
        source: "debian".into(),
        severity,
        cvss_tenths,
        component,
        fix: if fixed_in.is_some() { FixState::Fixed } else { FixState::NotFixed },
        fixed_in: fixed_in.map(Into::into),
        ..Finding::default()
    }
}

/// The image that the rows of the table are about.
fn image() -> ImageFacts {
    let platform = PlatformFacts {
        digest: "sha256:aa".into(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        platform: Some(Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: Some("v3".into()),
            os_version: None,
        }),
        size_bytes: 600_000_000,
        layers: vec!["sha256:01".into()],
        scan: Knowledge::Complete,
        coverage: vec![Coverage { source: "osv/debian:12".into(), as_of_ms: EVALUATED_AT_MS - DAY_MS }],
        distribution: Some("debian:12".into()),
        components: vec![
            component("libssl3", Some("3.0.8-1"), Some("openssl"), "Apache-2.0"),
            component("bash", Some("5.2"), None, "GPL-3.0-or-later"),
            component("odd", None, None, "MIT OR GPL-2.0-only"),
        ],
        findings: vec![
            finding(1, Severity::Critical, Some(95), 0, None),
            finding(2, Severity::High, Some(80), 0, Some("3.0.9-1")),
            finding(3, Severity::Medium, Some(55), 1, Some("5.3")),
            finding(4, Severity::Low, Some(20), 1, None),
            finding(5, Severity::Negligible, Some(0), 1, None),
            finding(6, Severity::Unknown, None, 1, None),
        ],
        ..PlatformFacts::default()
    };
    ImageFacts {
        repository: "dev/app".into(),
        tag: Some("v1.4-rc1".into()),
        tag_revision: 1,
        digest: "sha256:aa".into(),
        media_type: platform.media_type.clone(),
        size_bytes: platform.size_bytes,
        pushed_at_ms: EVALUATED_AT_MS - 3 * DAY_MS,
        pushed_by: "ci".into(),
        evaluated_at_ms: EVALUATED_AT_MS,
        platforms: vec![platform],
        ..ImageFacts::default()
    }
}

fn sealed(facts: ImageFacts) -> Arc<SealedFacts> {
    facts.seal().expect("they are in order")
}

fn try_judge(
    plugin: &Plugin,
    config: &Value,
    facts: &Arc<SealedFacts>,
) -> Result<Evaluation, Box<CallError>> {
    let limits = patient();
    let config = config.to_string();
    let checked = plugin.validate(&config, &limits).expect("it says whether the config is right");
    assert_eq!(checked, Ok(()), "{config}");
    plugin.evaluate(&config, facts, Subject::Platform(0), &["qa".to_owned()], &limits).map_err(Box::new)
}

fn judge(plugin: &Plugin, config: &Value, facts: ImageFacts) -> Evaluation {
    try_judge(plugin, config, &sealed(facts))
        .unwrap_or_else(|why| panic!("{config}: {why}\n{:?}", why.partial.logs))
}

fn one((field, operator, values): Row) -> Value {
    json!({ "criteria": [{ "field": field, "operator": operator, "values": values }] })
}

fn texts(evaluation: &Evaluation) -> Vec<&str> {
    evaluation.reasons.iter().map(|reason| reason.text.as_str()).collect()
}

fn codes(evaluation: &Evaluation) -> Vec<&str> {
    evaluation.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn the_manifests_say_what_the_crates_say() {
    let Shipped { criteria, licence_gate, panics } = shipped();
    for (plugin, name, version) in [
        (criteria, "criteria", "0.1.0"),
        (licence_gate, "licence-gate", "0.1.0"),
        (panics, "panics", "1.2.3-rc.1"),
    ] {
        assert_eq!((plugin.name(), plugin.version().to_string().as_str()), (name, version));
        let manifest = &plugin.inspected().manifest;
        assert!(!manifest.description.is_empty());
        assert_eq!(manifest.config_schema["type"], "object");
        assert!(manifest.capabilities.is_empty(), "a policy needs none");
    }
}

#[test]
fn criteria_judge_every_field_and_operator_as_natively() {
    let facts = sealed(image());
    for (rows, expected) in [(MET, Verdict::Approve), (UNMET, Verdict::Hold)] {
        for row in rows {
            let evaluation = try_judge(&shipped().criteria, &one(*row), &facts).unwrap();
            assert_eq!(evaluation.verdict, expected, "{row:?}: {:?}", evaluation.reasons);
            let last = evaluation.reasons.last().map(|reason| reason.code.as_str());
            assert_eq!(last, Some(if expected == Verdict::Hold { row.0 } else { "criteria-met" }), "{row:?}");
        }
    }
}

#[test]
fn criteria_give_the_numbers() {
    for (row, expected) in [
        (
            ("vulnerability_critical", "lte", &["0"][..]),
            "`vulnerability_critical` is 2, the rule wants lte 0: CVE-2024-0001 in libssl3 3.0.8-1, CVE-2024-0002 in libssl3 \
             3.0.8-1 (fixed in 3.0.9-1)",
        ),
        (
            ("component.version", "noo", &["openssl <3.0.9"]),
            "`component.version` finds libssl3 3.0.8-1 (of openssl), the rule wants noo openssl <3.0.9",
        ),
        (
            ("age", "gte", &["1w"]),
            "`age` is 3d, the rule wants gte 1w: it will be met at 2026-01-05T00:00:00Z",
        ),
    ] {
        let evaluation = judge(&shipped().criteria, &one(row), image());
        assert_eq!(texts(&evaluation), [expected]);
    }
}

#[test]
fn criteria_hold_what_was_not_scanned_and_say_when_to_look_again() {
    let criteria = &shipped().criteria;
    let mut config = one(("vulnerability_all", "lte", &["100"]));
    config["verdict_when_unmet"] = json!("reject");
    for scan in
        [Knowledge::None, Knowledge::Pending, Knowledge::Partial, Knowledge::Failed, Knowledge::Unsupported]
    {
        let mut facts = image();
        facts.platforms[0].scan = scan;
        let evaluation = judge(criteria, &config, facts);
        assert_eq!((evaluation.verdict, codes(&evaluation)), (Verdict::Hold, vec!["no-data"]), "{scan:?}");
        assert!(evaluation.trace.questions().iter().any(|question| question.ask == Ask::Scan));
    }
    let mut facts = image();
    facts.platforms[0].coverage.clear();
    assert_eq!(judge(criteria, &config, facts).verdict, Verdict::Hold);

    let evaluation = judge(criteria, &one(("age", "gte", &["4d"])), image());
    assert_eq!(evaluation.recheck_at_ms, Some(EVALUATED_AT_MS + DAY_MS));
}

#[test]
fn criteria_tell_each_mistake_of_a_configuration() {
    let config = json!({ "criteria": [
        { "field": "vulnerability_critical", "operator": "sw", "values": ["0"] },
        { "field": "component.version", "operator": "noo", "values": ["zlib1g <1", "bash <<5"] },
        { "field": "tag", "operator": "matches", "values": ["("] },
    ]});
    let limits = patient();
    let told = |config: &Value| {
        let problems = shipped().criteria.validate(&config.to_string(), &limits).unwrap().unwrap_err();
        problems.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    assert_eq!(told(&config), ["/criteria/0/operator", "/criteria/2/values/0"]);
    // Ranges are read by the host, once the rest is in order.
    assert_eq!(
        told(&one(("component.version", "noo", &["zlib1g <1", "bash <<5"]))),
        ["/criteria/0/values/1"]
    );
    // The schema comes first.
    let config = json!({ "criteria": [{ "field": "colour", "operator": "eq", "values": [] }], "more": 1 });
    assert_eq!(told(&config).len(), 3);
}

#[test]
fn the_licence_gate_names_the_components() {
    let gate = &shipped().licence_gate;
    let evaluation = judge(gate, &json!({ "deny": ["GPL-*"] }), image());
    assert_eq!(evaluation.verdict, Verdict::Reject);
    assert_eq!(texts(&evaluation), ["`GPL-3.0-or-later` is denied: bash 5.2"], "MIT can be chosen for `odd`");
    assert_eq!(judge(gate, &json!({ "deny": ["AGPL-*"] }), image()).verdict, Verdict::Approve);

    let mut facts = image();
    facts.platforms[0].components[0].licences = vec!["ask the author".into()];
    facts.platforms[0].components[1].licences.clear();
    let evaluation = judge(gate, &json!({ "allow": ["MIT"] }), facts.clone());
    assert_eq!(evaluation.verdict, Verdict::Hold);
    assert_eq!(codes(&evaluation), ["unknown-licence", "missing-licence"]);
    let lenient = json!({ "allow": ["MIT"], "unknown": "ignore", "missing": "ignore" });
    assert_eq!(judge(gate, &lenient, facts.clone()).verdict, Verdict::Approve);
    facts.platforms[0].scan = Knowledge::Pending;
    assert_eq!(judge(gate, &lenient, facts).verdict, Verdict::Hold);
}

#[test]
fn the_example_and_its_next_version_disagree_where_an_update_exists() {
    let (first, strict) = example();
    assert_eq!(first.name(), strict.name());
    assert!(first.version() < strict.version());
    let mut facts = image();
    assert_eq!(judge(first, &json!({}), facts.clone()).verdict, Verdict::Reject);
    facts.platforms[0].findings.remove(0);
    assert_eq!(judge(first, &json!({}), facts.clone()).verdict, Verdict::Approve);
    let evaluation = judge(strict, &json!({}), facts.clone());
    assert_eq!(evaluation.verdict, Verdict::Hold);
    assert_eq!(texts(&evaluation), ["CVE-2024-0002 in libssl3 is high and fixed in 3.0.9-1: update it"]);
    facts.pushed_by = "mallory".into();
    assert_eq!(codes(&judge(first, &json!({}), facts)), ["pushed-by"]);
}

#[test]
fn the_same_facts_give_the_same_trace() {
    let facts = sealed(image());
    let config = one(("component.name", "noo", &["log4j*"]));
    let bytes = || {
        let evaluation = try_judge(&shipped().criteria, &config, &facts).unwrap();
        evaluation.trace.to_canonical_bytes().unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_panic_is_a_trap_that_says_why() {
    let facts = sealed(image());
    let error = try_judge(&shipped().panics, &json!({ "how": "panic" }), &facts).unwrap_err();
    let said = "no idea what `dev/app` is";
    assert!(matches!(&error.cause, Cause::Trap { message } if message.contains(said)), "{error}");
    let logged = |line: &wharf_plugin::LogLine| line.level == LogLevel::Error && line.message.contains(said);
    assert!(error.partial.logs.iter().any(logged), "{:?}", error.partial.logs);
}

#[test]
fn what_the_sdk_makes_of_the_rest() {
    let facts = sealed(image());
    let panics = &shipped().panics;
    let error = try_judge(panics, &json!({ "how": "error" }), &facts).unwrap_err();
    assert_eq!(error.cause, Cause::Guest { message: "the moon is in the wrong phase".into() });

    let evaluation = try_judge(panics, &json!({ "how": "target" }), &facts).unwrap();
    assert_eq!((evaluation.verdict, codes(&evaluation)), (Verdict::Hold, vec!["target"]));

    let evaluation = try_judge(panics, &json!({ "how": "log" }), &facts).unwrap();
    assert_eq!((evaluation.verdict, &evaluation.targets[..]), (Verdict::Approve, &["qa".to_owned()][..]));
    let lines: Vec<_> = evaluation.logs.iter().map(|line| (line.level, line.message.as_str())).collect();
    assert_eq!(lines, [(LogLevel::Debug, "looked"), (LogLevel::Warn, "frowned")]);

    let evaluation = try_judge(panics, &json!({ "how": "?" }), &facts).unwrap();
    assert_eq!(evaluation.verdict, Verdict::Abstain);

    let limits = patient();
    let problems = panics.validate(r#"{"how": ""}"#, &limits).unwrap().unwrap_err();
    assert_eq!((problems[0].pointer.as_str(), problems[0].message.as_str()), ("/how", "say how"));
}
