//! What a policy is told, what of it is on record, and that a replay gives the same.

use wharf_plugin::facts::{ImageFacts, SealedFacts, Severity};
use wharf_plugin::trace::{Answer, Ask, Subject};
use wharf_plugin::{Evaluation, Verdict};

use crate::guests::{facts, order, patient, platform, plugin, sealed};

fn run(action: &str, facts: ImageFacts, subject: Subject) -> Evaluation {
    let config = format!(r#"{{"do":"{action}"}}"#);
    let targets = ["qa/app".to_owned(), "eu/app".to_owned()];
    let sealed = facts.seal().unwrap();
    plugin().evaluate(&config, &sealed, subject, &targets, &patient()).unwrap()
}

fn said(evaluation: &Evaluation) -> Vec<&str> {
    evaluation.reasons.iter().map(|reason| reason.text.as_str()).collect()
}

#[test]
fn a_policy_is_told_the_facts() {
    let evaluation = run("ask", facts(), Subject::Image);
    same(&said(&evaluation).join("\n"), ASKED);
    assert_eq!(evaluation.verdict, Verdict::Hold);
}

const ASKED: &str = r#"dev/app Some("1.4") 3
sha256:aa None application/vnd.oci.image.manifest.v1+json
None 30000000 4
Some(Platform { os: "linux", architecture: "amd64", variant: None, os-version: None })
1700000000000 ci None
Some("payments") None
1700000100000 Knowledge::Complete
true [Coverage { source: "osv/debian:12", as-of-ms: 1699000000000 }]
Some("debian:12")
Some(false) Knowledge::Complete
[] []
findings [10, 2, 4, 1, 5, 10]
components [12, 7]
Ok(()) true
Some("0.5") None
["GPL-3.0-only", "MIT OR Apache-2.0"] Some("root")"#;

fn same(found: &str, expected: &str) {
    assert_eq!(found, expected, "\n--- found\n{found}\n---");
}

#[test]
fn a_list_is_given_in_pages() {
    let evaluation = run("list", facts(), Subject::Image);
    assert_eq!(said(&evaluation), ["20", "10", "CVE-2023-0000 lib0 None"]);
    let first = &evaluation.trace.questions()[0];
    assert!(matches!(first.ask, Ask::Components { start: 0, max: 7, .. }), "{first:?}");
    assert!(matches!(&first.answer, Answer::Page { count: 7, .. }), "{first:?}");
}

#[test]
fn an_index_answers_as_its_worst_platform() {
    let mut image = facts();
    image.index = true;
    image.digest = "sha256:ff".into();
    image.platforms = vec![platform("sha256:aa", 20), platform("sha256:bb", 40), platform("sha256:cc", 30)];
    let evaluation = run("list", image.clone(), Subject::Image);
    assert_eq!(said(&evaluation)[..2], ["40", "20"]);
    let evaluation = run("list", image.clone(), Subject::Platform(2));
    assert_eq!(said(&evaluation)[..2], ["30", "15"]);
    let evaluation = run("platforms", image.clone(), Subject::Image);
    assert_eq!(said(&evaluation), ["sha256:aa 20", "sha256:bb 40", "sha256:cc 30"]);
    let platforms: Vec<_> = evaluation.trace.questions().iter().map(|question| question.platform).collect();
    assert_eq!(platforms, [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]);
}

#[test]
fn a_policy_sees_nothing_else() {
    let (one, two) = (run("random", facts(), Subject::Image), run("random", facts(), Subject::Image));
    assert_eq!(one.reasons, two.reasons, "equal facts, equal random numbers");
    assert!(said(&one)[1].contains("1700000100"), "the clock is that of the facts: {:?}", one.reasons);
    assert_eq!(said(&one)[2], "0 0", "no arguments, no environment");
    assert_ne!(said(&one)[3], "None", "no files");
    let mut other = facts();
    other.tag_revision = 4;
    let other = run("random", other, Subject::Image);
    assert_ne!(one.reasons[0], other.reasons[0], "other facts, other random numbers");
}

#[test]
fn targets_and_the_time_of_the_next_look() {
    let evaluation = run("target", facts(), Subject::Image);
    assert_eq!(evaluation.targets, ["qa/app"]);
    assert_eq!(said(&evaluation), ["the binding has no target `elsewhere/app`"]);
    assert_eq!(evaluation.recheck_at_ms, Some(1_700_000_101_000));
}

#[test]
fn a_replay_is_the_same_byte_for_byte() {
    for action in ["ask", "list", "mark", "random", "target"] {
        let one = run(action, facts(), Subject::Image);
        let stored = sealed();
        let again = SealedFacts::from_bytes(stored.bytes()).unwrap();
        assert_eq!(stored.digest(), again.digest());
        let two = run(action, again.facts().clone(), Subject::Image);
        assert_eq!((one.verdict, &one.reasons, &one.targets), (two.verdict, &two.reasons, &two.targets));
        assert_eq!(one.trace.to_canonical_bytes().unwrap(), two.trace.to_canonical_bytes().unwrap());
    }
}

#[test]
fn a_stored_trace_reads_back() {
    let trace = run("ask", facts(), Subject::Image).trace;
    let bytes = trace.to_canonical_bytes().unwrap();
    let read: wharf_plugin::trace::Trace = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read, trace);
    assert_eq!(read.to_canonical_bytes().unwrap(), bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.contains(r#"{"question":"count-findings","arguments":{"at-least":"critical"},"answer":2}"#),
        "{text}"
    );
    assert!(text.contains(r#"{"question":"repository","answer":"dev/app"}"#), "{text}");
}

#[test]
fn a_trace_says_which_change_matters() {
    let trace = run("ask", facts(), Subject::Image).trace;
    let changed = |change: fn(&mut ImageFacts)| {
        let mut facts = facts();
        change(&mut facts);
        let facts = facts.seal().unwrap();
        trace.first_changed(&facts, Subject::Image, order).map(|question| question.ask.clone())
    };
    assert_eq!(changed(|_| {}), None);
    assert_eq!(changed(|f| f.evaluated_at_ms += 1), None, "time alone is no change");
    assert_eq!(changed(|f| f.platforms[0].findings[1].severity = Severity::Unknown), None, "nobody asked");
    assert!(matches!(
        changed(|f| f.platforms[0].findings[1].severity = Severity::Critical),
        Some(Ask::CountFindings(_))
    ));
    assert_eq!(changed(|f| f.pushed_by = "eve".into()), Some(Ask::PushedBy));
}

#[test]
fn a_config_is_checked_by_schema_and_by_the_plugin() {
    let check = |config: &str| plugin().validate(config, &patient()).unwrap();
    assert_eq!(check(r#"{"do":"mark"}"#), Ok(()));
    let pointers = |config: &str| -> Vec<String> {
        check(config).unwrap_err().into_iter().map(|problem| problem.pointer).collect()
    };
    assert_eq!(pointers(r#"{"do":1}"#), ["/do"]);
    assert_eq!(pointers("{}"), [""]);
    assert_eq!(pointers("{"), [""]);
    assert_eq!(check(r#"{"do":"refuse-config"}"#).unwrap_err()[0].to_string(), "`/do`: this one is refused");
}

#[test]
fn compiled_code_is_cached_and_never_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let config = wharf_plugin::EngineConfig {
        cache_dir: Some(dir.path().join("cache")),
        max_calls: 2,
        ..wharf_plugin::EngineConfig::new(order)
    };
    let engine = wharf_plugin::Engine::new(config).unwrap();
    let bytes = crate::guests::guest();
    let load = || {
        let inspected = wharf_plugin::inspect(bytes).unwrap();
        let granted = wharf_plugin::grant(&inspected, &wharf_plugin::Grants::default()).unwrap();
        let plugin = engine.load(inspected, granted, bytes).unwrap();
        plugin.self_test(["{\"do\":\"mark\"}"], &patient()).unwrap();
    };
    load();
    let file =
        walk(dir.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "cwasm")).unwrap();
    let good = std::fs::read(&file).unwrap();
    load();
    assert_eq!(std::fs::read(&file).unwrap(), good, "a hit leaves the file alone");
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        load();
        assert_eq!(std::fs::read(&file).unwrap().len(), good.len(), "compiled again");
        assert_ne!(std::fs::read(&file).unwrap(), bad, "and written again");
    }
    std::fs::write(&file, b"short").unwrap();
    load();
    use std::os::unix::fs::PermissionsExt as _;
    for path in walk(dir.path()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

/// The test plugin as it was compiled when interface 0.1.0 was released. It must load and answer for as long as 0.1 is
/// supported: if this fails, a plugin in somebody's folder has stopped working. Never replace the file.
#[test]
fn a_plugin_of_every_released_version_still_runs() {
    let released = crate::guests::load(include_bytes!("fixtures/promotion-policy-0.1.0.wasm"));
    for action in ["ask", "list", "mark", "random", "target", "platforms"] {
        let config = format!(r#"{{"do":"{action}"}}"#);
        let call = |plugin: &wharf_plugin::Plugin| {
            let targets = ["qa/app".to_owned()];
            let done = plugin.evaluate(&config, &sealed(), Subject::Image, &targets, &patient());
            done.map(|done| (done.verdict, done.reasons, done.targets, done.trace)).unwrap()
        };
        assert_eq!(call(&released), call(plugin()), "{action}");
    }
}
