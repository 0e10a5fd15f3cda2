//! Files that are no plugin, and plugins that mean harm: each fails in its own way, while another goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wharf_plugin::trace::Subject;
use wharf_plugin::{
    CallLimits, Cause, GrantError, Grants, InspectError, Inspected, MAX_PLUGIN_BYTES, Verdict, grant, inspect,
};

use crate::guests::{guest, patient, plugin, replaced, sealed};

/// For calls that have no other end.
fn quick() -> CallLimits {
    CallLimits { time_ms: 200, ..CallLimits::default() }
}

/// What becomes of the call, while other calls go on undisturbed.
fn fails(action: &str) -> Cause {
    fails_within(&patient(), action)
}

fn fails_within(limits: &CallLimits, action: &str) -> Cause {
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let other = std::thread::spawn({
        let (stop, calls, facts) = (Arc::clone(&stop), Arc::clone(&calls), sealed());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let done =
                    plugin().evaluate(r#"{"do":"mark"}"#, &facts, Subject::Image, &[], &patient()).unwrap();
                assert_eq!(done.verdict, Verdict::Approve);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let before = calls.load(Ordering::Relaxed);
    let config = format!(r#"{{"do":"{action}"}}"#);
    let error = plugin().evaluate(&config, &sealed(), Subject::Image, &[], limits).unwrap_err();
    while calls.load(Ordering::Relaxed) <= before && !other.is_finished() {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    other.join().expect("no call of the other failed");
    assert!(error.to_string().starts_with("plugin `guest` 1.0.0: "), "{error}");
    error.cause
}

#[test]
fn an_endless_loop_runs_into_the_time_limit() {
    assert_eq!(fails_within(&quick(), "loop"), Cause::Timeout);
    assert_eq!(fails("clock-flood"), Cause::HostCallLimit, "a host call is counted, whatever it is");
}

#[test]
fn sleep_does_not_block_a_thread() {
    // What it waits for is always ready.
    let done = plugin().evaluate(r#"{"do":"sleep"}"#, &sealed(), Subject::Image, &[], &patient()).unwrap();
    assert_eq!(done.verdict, Verdict::Approve);
}

#[test]
fn memory_has_a_limit() {
    assert_eq!(fails("grow"), Cause::MemoryLimit);
}

#[test]
fn recursion_has_a_limit() {
    assert_eq!(fails("recurse"), Cause::StackOverflow);
}

#[test]
fn a_panic_is_a_trap_with_its_words() {
    let Cause::Trap { message } = fails("panic") else { panic!("a trap") };
    assert!(message.contains("told to panic"), "{message}");
    let Cause::Trap { message } = fails("exit") else { panic!("a trap") };
    assert!(message.contains("called `exit`"), "{message}");
}

#[test]
fn host_calls_have_a_limit() {
    assert!(matches!(fails("host-call-flood"), Cause::HostCallLimit | Cause::TraceLimit));
    let limits = CallLimits { trace_bytes: 10_000, ..patient() };
    let error = plugin()
        .evaluate(r#"{"do":"host-call-flood"}"#, &sealed(), Subject::Image, &[], &limits)
        .unwrap_err();
    assert_eq!(error.cause, Cause::TraceLimit);
    assert!(!error.partial.trace.questions().is_empty(), "what was asked until then is kept");
}

#[test]
fn output_has_a_limit() {
    for action in ["reason-flood", "huge-error", "big-error", "huge-reason", "huge-list", "criteria-flood"] {
        assert_eq!(fails(action), Cause::OutputLimit, "{action}");
    }
    // They say that they give 1 GB, and have no such memory.
    for action in ["lying-error", "lying-reason"] {
        let cause = fails(action);
        let lie = matches!(&cause, Cause::Trap { message } if message.contains("out of bounds"))
            || cause == Cause::OutputLimit;
        assert!(lie, "{action}: {cause}");
    }
    let error = plugin().validate(r#"{"do":"problem-flood"}"#, &patient()).unwrap_err();
    assert_eq!(error.cause, Cause::OutputLimit);
}

#[test]
fn a_question_has_bounds() {
    for (action, why) in [
        ("too-many-criteria", "64 criteria of one case"),
        ("too-long-criterion", "1024 bytes"),
        ("bad-range", "`3`"),
    ] {
        let Cause::Trap { message } = fails(action) else { panic!("{action}: a trap") };
        assert!(message.contains(why), "{action}: {message}");
    }
}

#[test]
fn a_log_flood_is_dropped_and_counted() {
    let done =
        plugin().evaluate(r#"{"do":"log-flood"}"#, &sealed(), Subject::Image, &[], &patient()).unwrap();
    let kept: usize = done.logs.iter().map(|line| line.message.len()).sum();
    assert!(kept <= patient().log_bytes, "{kept}");
    assert!(done.stats.log_bytes_dropped > 1_000_000, "{:?}", done.stats);
}

#[test]
fn an_error_of_its_own_is_not_a_fault() {
    let cause = fails("error");
    assert_eq!(cause, Cause::Guest { message: "no verdict today".into() });
    assert!(!cause.is_fault());
}

/// No epoch reaches a host function, so it looks at the clock itself: here one question would take minutes.
#[test]
fn a_question_has_the_time_limit_too() {
    let mut facts = crate::guests::facts();
    facts.platforms[0].components = crate::guests::platform("sha256:aa", 10_000).components;
    for component in &mut facts.platforms[0].components {
        component.path = Some("a".repeat(2_000));
    }
    let facts = facts.seal().unwrap();
    let call = |config: &str, limits| plugin().evaluate(config, &facts, Subject::Image, &[], &limits);
    assert_eq!(call(r#"{"do":"slow-question"}"#, quick()).unwrap_err().cause, Cause::Timeout);
    assert_eq!(call(r#"{"do":"mark"}"#, patient()).unwrap().verdict, Verdict::Approve);
}

fn refused(bytes: &[u8]) -> InspectError {
    inspect(bytes).expect_err("it is refused")
}

#[test]
fn files_that_are_no_plugin() {
    assert_eq!(refused(b""), InspectError::Truncated { at: 0 }, "a copy that has only begun");
    assert_eq!(refused(b"#!/bin/sh\n"), InspectError::NotWasm);
    assert_eq!(refused(b"\0asm\x01\0\0\0"), InspectError::CoreModule);
    assert!(matches!(refused(b"\0asm"), InspectError::Truncated { .. }));
    assert_eq!(refused(&vec![0; MAX_PLUGIN_BYTES + 1]), InspectError::TooLarge);
    for part in [9, 1_000, guest().len() / 2, guest().len() - 1] {
        let error = refused(&guest()[..part]);
        assert!(matches!(error, InspectError::Truncated { .. }), "{part}: {error:?}");
    }
    let empty = wat::parse_str("(component)").unwrap();
    let error = refused(&empty);
    assert!(matches!(error, InspectError::WrongKind { .. }));
    says(
        &error,
        "the component exports nothing, which is no kind of plugin; supported: `promotion-policy` (exports \
         `wharf:plugin/policy` 0.1); hint: `wharf_sdk::policy!` exports it",
    );
}

fn says(error: &InspectError, expected: &str) {
    assert_eq!(error.to_string(), expected);
}

#[test]
fn another_version_is_refused_and_says_what_is_supported() {
    for version in ["0.2.0", "0.9.0"] {
        let bytes = replaced(guest(), b"policy@0.1.0", format!("policy@{version}").as_bytes());
        says(
            &refused(&bytes),
            &format!("the component needs `wharf:plugin/policy` {version}; supported: 0.1"),
        );
    }
    let bytes = replaced(guest(), b"wharf:plugin/facts@0.1.0", b"wharf:plugin/facts@0.2.0");
    says(&refused(&bytes), "the component needs `wharf:plugin/facts` 0.2.0; supported: 0.1");
    let newer = replaced(guest(), b"policy@0.1.0", b"policy@0.1.7");
    inspect(&newer).expect("a later 0.1 is the same interface");
}

#[test]
fn greedy_imports_are_refused() {
    let importing = |import: &str| {
        let text = format!(
            r#"(component (import "{import}" (instance $i)) (export "wharf:plugin/policy@0.1.0" (instance $i)))"#
        );
        refused(&wat::parse_str(text).unwrap())
    };
    let check = |import: &str, word: &str| {
        let error = importing(import).to_string();
        assert!(error.contains(import) && error.contains(word), "{error}");
    };
    check("wasi:sockets/tcp@0.2.6", "network");
    check("wasi:http/outgoing-handler@0.2.6", "network");
    check("wasi:nn/tensor@0.2.0", "nothing else");
    check("acme:secrets/vault@1.0.0", "nothing else");
    check("wharf:plugin/kv@0.1.0", "a newer one may");
    says(
        &importing("wasi:cli/environment@0.3.0"),
        "the component needs `wasi:cli/environment` 0.3.0; supported: 0.2",
    );
    let lone = wat::parse_str(
        r#"(component (import "run" (func $f)) (import "x:y/z@1.0.0" (instance $i))
            (export "wharf:plugin/policy@0.1.0" (instance $i)))"#,
    );
    assert!(matches!(refused(&lone.unwrap()), InspectError::UnknownImport { name, .. } if name == "run"));
}

#[test]
fn wrong_exports_fail_to_load_with_a_reason() {
    // The interface's name is right, what is behind it is not.
    let text = format!(
        r#"(component
            (component $c (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func (export "evaluate") (canon lift (core func $i "f"))))
            (instance $c (instantiate $c))
            (export "wharf:plugin/policy@0.1.0" (instance $c))
            (@custom "wharf:manifest" {:?}))"#,
        r#"{"name":"hollow","version":"1.0.0","kind":"promotion-policy"}"#
    );
    let bytes = wat::parse_str(text).unwrap();
    let inspected = inspect(&bytes).unwrap();
    let granted = grant(&inspected, &Grants::default()).unwrap();
    let error = crate::guests::engine().load(inspected, granted, &bytes).unwrap_err();
    assert!(matches!(error, wharf_plugin::CompileError::Link(_)), "{error}");
    assert!(error.to_string().contains("validate"), "{error}");
}

#[test]
fn manifests_that_cannot_be_used() {
    let with = |sections: &[&str]| {
        let sections: String =
            sections.iter().map(|json| format!(r#"(@custom "wharf:manifest" {json:?})"#)).collect();
        let text = format!(
            r#"(component (instance $i) (export "wharf:plugin/policy@0.1.0" (instance $i)) {sections})"#
        );
        inspect(&wat::parse_str(text).unwrap())
    };
    let check = |json: &str, word: &str| {
        let error = with(&[json]).expect_err(json).to_string();
        assert!(error.starts_with("the plugin's manifest: ") && error.contains(word), "{json}: {error}");
    };
    assert_eq!(with(&[]).unwrap_err(), InspectError::NoManifest);
    let good = r#"{"name":"a-b2","version":"1.2.3","kind":"promotion-policy","new_field":1}"#;
    assert_eq!(with(&[good]).unwrap().manifest.name, "a-b2");
    assert!(with(&[good, good]).unwrap_err().to_string().contains("there are 2"));
    check("{", "no JSON");
    check("[]", "");
    check(r#"{"version":"1.2.3","kind":"promotion-policy"}"#, "name");
    check(r#"{"name":"a","version":"one","kind":"promotion-policy"}"#, "version");
    check(r#"{"name":"../a","version":"1.2.3","kind":"promotion-policy"}"#, "`name` is `../a`");
    check(r#"{"name":"a","version":"1.2.3","kind":"notifier"}"#, "`kind` is `notifier`");
    check(
        r#"{"name":"a","version":"1.2.3","kind":"promotion-policy","config_schema":{"type":7}}"#,
        "config_schema",
    );
    check(
        r#"{"name":"a","version":"1.2.3","kind":"promotion-policy","config_schema":{"$ref":"http://127.0.0.1/x"}}"#,
        "config_schema",
    );
}

#[test]
fn a_plugin_has_what_it_asks_for_or_is_refused() {
    let inspected = inspect(guest()).unwrap();
    let try_grant =
        |toml: &str| Grants::parse(toml.as_bytes()).and_then(|allowed| grant(&inspected, &allowed));
    assert!(try_grant("").is_ok());
    let granted = try_grant("capabilities = [\"image-facts\", \"log\"]\n[limits]\ntime_ms = 5").unwrap();
    assert_eq!(granted.limits.over(&CallLimits::default()).time_ms, 5);
    let error = try_grant("capabilities = [\"image-facts\"]").unwrap_err();
    assert_eq!(error, GrantError::NotAllowed { capability: "log".into() });
    assert!(matches!(try_grant("capabilities = [\"http\"]"), Err(GrantError::Unknown { .. })));
    assert!(matches!(try_grant("capabilites = []"), Err(GrantError::BadFile { .. })));
    assert!(matches!(try_grant("[limits]\ntime = 5"), Err(GrantError::BadFile { .. })));
    let mut greedy = Inspected { ..inspected.clone() };
    greedy.manifest.capabilities.insert("http".into());
    assert!(matches!(grant(&greedy, &Grants::default()), Err(GrantError::Unknown { .. })));
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// A changed file is inspected or refused; it never panics.
        #[test]
        fn of_a_plugin(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
                       end in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let mut bytes = guest().to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(guest().len()));
            }
            let _ = inspect(&bytes);
        }

        #[test]
        fn after_the_header(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            bytes.extend(tail);
            let _ = inspect(&bytes);
        }

        #[test]
        fn of_a_grants_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Grants::parse(&bytes);
        }
    }
}

/// An engine of its own, so that no other test keeps its clock going.
fn small(max_calls: u32) -> (Arc<wharf_plugin::Engine>, Arc<wharf_plugin::Plugin>) {
    let config = wharf_plugin::EngineConfig {
        max_calls,
        wait_ms: 20,
        ..wharf_plugin::EngineConfig::new(crate::guests::order)
    };
    let engine = wharf_plugin::Engine::new(config).unwrap();
    let inspected = inspect(guest()).unwrap();
    let granted = grant(&inspected, &Grants::default()).unwrap();
    let plugin = engine.load(inspected, granted, guest()).unwrap();
    (engine, Arc::new(plugin))
}

#[test]
fn the_clock_wakes_after_a_rest() {
    let (_engine, plugin) = small(2);
    for _ in 0..3 {
        // Long enough for it to have gone to sleep.
        std::thread::sleep(std::time::Duration::from_millis(150));
        let error =
            plugin.evaluate(r#"{"do":"loop"}"#, &sealed(), Subject::Image, &[], &quick()).unwrap_err();
        assert_eq!(error.cause, Cause::Timeout);
    }
}

#[test]
fn calls_beyond_the_slots_are_told_so() {
    let (_engine, plugin) = small(1);
    let stop = Arc::new(AtomicBool::new(false));
    // Call after call: either side may be told that the other has the slot.
    let looping = std::thread::spawn({
        let (plugin, stop) = (Arc::clone(&plugin), Arc::clone(&stop));
        move || {
            let mut causes = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let call = plugin.evaluate(r#"{"do":"loop"}"#, &sealed(), Subject::Image, &[], &quick());
                causes.push(call.unwrap_err().cause);
            }
            causes
        }
    });
    let call = || plugin.evaluate(r#"{"do":"mark"}"#, &sealed(), Subject::Image, &[], &patient());
    let busy = std::iter::repeat_with(call).find_map(Result::err).expect("the slot is taken at some time");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(busy.cause, Cause::Busy);
    assert!(!busy.cause.is_fault(), "it is not the plugin's fault");
    let causes = looping.join().unwrap();
    assert!(causes.contains(&Cause::Timeout), "{causes:?}");
    assert!(causes.iter().all(|cause| matches!(cause, Cause::Timeout | Cause::Busy)), "{causes:?}");
    assert!(call().is_ok(), "the slot is free again");
}

/// Some of these pass wasmtime's own check of types when the component is linked, and show only when it is instantiated.
#[test]
fn types_that_differ_never_come_into_force() {
    let other: [(&[u8], &[u8]); 3] =
        [(b"abstain", b"abstaim"), (b"wont-fix", b"wont-fox"), (b"cvss-tenths", b"cvss-tenthz")];
    for (from, to) in other {
        let bytes = replaced(guest(), from, to);
        let inspected = inspect(&bytes).unwrap();
        let granted = grant(&inspected, &Grants::default()).unwrap();
        let tested = crate::guests::engine()
            .load(inspected, granted, &bytes)
            .map_err(|error| error.to_string())
            .and_then(|plugin| plugin.self_test([], &patient()).map_err(|error| error.to_string()));
        let reason = tested.expect_err("another type");
        println!("{}: {reason}", String::from_utf8_lossy(from));
    }
}
