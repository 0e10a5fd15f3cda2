//! What a decision stands on is kept as long as it is.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;
use wharf_oci::{Digest, MediaType};
use wharf_plugin::archive::{Archive, LOADING_MAX};
use wharf_plugin::facts::{ImageFacts, PlatformFacts, sha256};
use wharf_plugin::{CallStats, Evaluation};
use wharf_store::{Rev, Space, StoreError, Tx, key};

use super::case::{Case, binding, does, no_criticals, stage_of};
use super::guests::marked;
use crate::access::Principal;
use crate::facts::{Kind, Pending};
use crate::flow;
use crate::flow::promote::gather::Gathered;
use crate::flow::promote::replay::{self, Instead, Replay};
use crate::flow::promote::{PromoteError, ask, bind, dry_run, explain};
use crate::flow::retention::{Idle, Named};
use crate::plugin::{Asked, state};
use crate::promote::{Policy, Verdict};
use crate::registry::row::TagRow;

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_come_back_are_the_facts_that_were_kept() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    case.push("dev/app:1", "x", &[("openssl", "3.0.1"), ("zlib", "1")]).await;
    case.until_idle().await;
    let decision = case.newest(&stage_of("dev/app:1"), "to-qa").await.unwrap();
    let digest = decision.facts.clone().unwrap();
    let sealed = crate::facts::stored::read(&case.app.store, &digest).await.unwrap();
    assert_eq!(sealed.digest(), digest);
    assert_eq!(sealed.facts().platforms[0].findings.len(), 1);
    assert_eq!(sealed.facts().platforms[0].labels["team"], "dev");
    // The config, too, is kept once for all that were judged by it.
    let explained =
        explain::decision(&case.app, &decision.repository, &decision.tag, decision.number).await.unwrap();
    assert_eq!(explained.configs.len(), 1);
    assert_eq!(explained.configs[&decision.policies[0].config], no_criticals()["config"].to_string());
    case.stop().await;
}

/// A text of six bits of noise in each byte, another one for each seed: packing leaves three quarters of it.
fn noise(mut seed: u64, bytes: usize) -> String {
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(seed >> 58).unwrap())
    };
    (0..bytes).map(next).collect()
}

/// More than can be kept, however it is packed.
const TOO_MUCH: usize = 8 << 20;

/// Regression: facts that no row takes failed the job until it was dead, after the policies had been asked.
#[test]
fn facts_that_cannot_be_kept_are_a_reason_to_ask_nobody() {
    let label = noise(1, TOO_MUCH);
    let facts = |label: String| {
        let annotations = [("label".to_owned(), label)].into();
        ImageFacts { index: true, annotations, ..ImageFacts::default() }.seal().unwrap()
    };
    let gathered = |label: String| Gathered {
        stage: stage_of("dev/app:1"),
        row: TagRow {
            digest: Digest::sha256(b"index"),
            media_type: MediaType::OCI_INDEX.parse().unwrap(),
            at_ms: 1,
            by: "admin".to_owned(),
            lineage: Vec::new(),
        },
        revision: Rev(1),
        at_ms: 2,
        facts: Ok(facts(label)),
        scans: Vec::new(),
    };
    let mut short = gathered(label[..4096].to_owned());
    short.keep().unwrap();
    assert!(short.facts.is_ok());
    let mut long = gathered(label);
    long.keep().unwrap();
    let reason = long.facts.unwrap_err();
    assert_eq!(reason.code, "facts-too-large");
    assert!(reason.text.contains("is more than can be kept; hint: push it with"), "{}", reason.text);
}

/// Regression: a dry run asked the policies, and told of a promotion that a judgement holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_holds_what_cannot_be_kept() {
    let mut case = Case::new().await;
    let mut all = binding("all", "dev/**", &[("qa/{name}", "%n")], does("mark"));
    all.tags = "all".parse().unwrap();
    let (admin, stage) = (Principal::user("admin"), stage_of("dev/app:all"));
    bind::bind(&case.app, &admin, all.clone(), None).await.unwrap();
    let config = case.blob(&stage.repository, "{}").await;
    let config = json!({"mediaType": MediaType::OCI_CONFIG, "digest": config, "size": 2});
    // About as many annotations as one manifest takes.
    let (count, length) = (500, 4092);
    let mut entries = Vec::new();
    for part in 0..TOO_MUCH.div_ceil(count * length) {
        let text = noise(part as u64, count * length);
        let annotation = |n: usize| (format!("{n:03}"), text[n * length..][..length].to_owned());
        let annotations: BTreeMap<String, String> = (0..count).map(annotation).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config,
            "layers": [], "annotations": annotations})
        .to_string();
        let (at, size) = (stage_of(&format!("dev/app:part{part}")), manifest.len());
        let digest = case.push_manifest(&at, MediaType::OCI_MANIFEST, manifest).await;
        entries.push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": format!("a{part}")}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    case.push_manifest(&stage, MediaType::OCI_INDEX, index.to_string()).await;
    let held = case.until_judged("dev/app:all", "all", Verdict::Hold).await;
    assert_eq!((held.reasons[0].code.as_str(), held.policies.len()), ("facts-too-large", 0), "{held:#?}");
    let would = dry_run::dry_run(&case.app, &admin, &all, None, 10).await.unwrap();
    let [would] = would.tags.as_slice() else { panic!("{would:#?}") };
    assert_eq!((would.verdict, would.reasons[0].code.as_str()), (Verdict::Hold, "facts-too-large"));
    assert!(would.policies.is_empty(), "{would:#?}");
    case.stop().await;
}

/// Regression: what a call asked was more than one row takes, and its job failed until it was dead.
#[test]
fn a_call_that_asked_more_than_can_be_kept_is_a_hold() {
    let policy: Policy = serde_json::from_value(does("mark")).unwrap();
    let judge = |repository: String| {
        let trace = json!([{"question": "repository", "answer": repository}]);
        let said = Evaluation {
            verdict: wharf_plugin::Verdict::Approve,
            reasons: Vec::new(),
            targets: vec!["t0".to_owned()],
            recheck_at_ms: None,
            trace: serde_json::from_value(trace).unwrap(),
            logs: Vec::new(),
            stats: CallStats::default(),
        };
        let asked = Asked { version: "1.0.0".to_owned(), digest: sha256(b"guest"), answer: Ok(said) };
        let facts = PlatformFacts::default();
        ask::judge(&policy, "{}", (0, None), &facts, asked, &mut Pending::default()).unwrap()
    };
    let short = judge("dev/app".to_owned());
    assert!(short.trace.is_some() && short.said == Some(Verdict::Approve), "{short:#?}");
    let long = judge(noise(1, TOO_MUCH));
    assert_eq!((long.verdict, long.said, &long.trace), (Verdict::Hold, None, &None));
    assert!(long.targets.is_empty(), "{long:#?}");
    let because = long.held_because.unwrap();
    assert_eq!(because.code, "trace-too-large");
    assert!(because.text.contains("is more than can be kept; hint: a plugin or"), "{}", because.text);
}

/// Regression: what many policies gave as their reasons was more than one row takes, and the decision was never stored.
#[tokio::test(flavor = "multi_thread")]
async fn long_reasons_are_cut_and_the_decision_is_kept_and_replayed() {
    let mut case = Case::new().await;
    let policies: Vec<_> = (0..16).map(|_| does("long-reason")).collect();
    case.bind("wordy", "dev/**", "qa/{name}", json!(policies)).await;
    case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_idle().await;
    let decision = case.newest(&stage_of("dev/app:1"), "wordy").await.unwrap();
    assert!(serde_json::to_vec(&decision).unwrap().len() < 1 << 20);
    for judged in &decision.policies {
        let codes: Vec<&str> = judged.reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert_eq!(codes, ["long", "truncated"]);
    }
    let replayed = replay::replay(&case.app, &Replay::default()).await.unwrap();
    assert_eq!((replayed.same, &replayed.differences), (replayed.decisions, &Vec::new()));
    assert!(replayed.decisions > 0);
    case.stop().await;
}

/// Regression: one call that ran out of time made every replay fail for as long as its decision was kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ran_out_of_time_is_no_difference() {
    let mut case = Case::new().await;
    // Of two images: the breaker that the one opens is not in the way of the other.
    for (what, does_what) in [("slow", "loop"), ("quick", "mark")] {
        case.bind(what, &format!("{what}/**"), "qa/{name}", does(does_what)).await;
        case.push(&format!("{what}/app:1"), what, &[("zlib", "1")]).await;
        case.until_judged(&format!("{what}/app:1"), what, Verdict::Hold).await;
    }
    case.until_idle().await;
    let replayed = async |binding: &str, instead| {
        let what = Replay { binding: Some(binding.to_owned()), instead, ..Replay::default() };
        let found = replay::replay(&case.app, &what).await.unwrap();
        assert_eq!(found.same, found.decisions, "{found:#?}");
        (found.decisions > 0, found.skipped > 0)
    };
    assert_eq!(replayed("slow", None).await, (false, true), "it ran out of time then");
    assert_eq!(replayed("quick", None).await, (true, false));
    let instead = Instead { plugin: "guest".to_owned(), config: Some(json!({"do": "loop"})) };
    assert_eq!(replayed("quick", Some(instead)).await, (false, true), "it runs out of time now");
    case.stop().await;
}

/// Puts a document's row in place of what is there, or takes it away. Returns what was there.
async fn replace_document(case: &Case, kind: Kind, digest: &str, new: Option<Vec<u8>>) -> Vec<u8> {
    let (key, new) = (&key(Space::Facts, &[kind.name(), digest]), &new);
    let old = case.app.store.get(key).await.unwrap().map(|row| row.val.to_vec()).unwrap_or_default();
    let put = async |mut tx: Tx| {
        match new {
            Some(new) => tx.put(key, new.clone()),
            None => tx.delete(key),
        }
        Ok::<_, StoreError>(())
    };
    case.app.store.act(put).await.unwrap();
    old
}

/// Regression: a replay passed over decisions whose facts, config or plugin were gone as over those that had run out of time,
/// and ended at the first one whose trace was.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_decision_stood_on_and_is_lost_is_no_skip() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_idle().await;
    let decision = case.newest(&stage_of("dev/app:1"), "to-qa").await.unwrap();
    let judged = &decision.policies[0];
    let replayed = async |case: &Case| {
        let found = replay::replay(&case.app, &Replay::default()).await.unwrap();
        assert_eq!((found.same, found.skipped), (found.decisions, 0), "{found:#?}");
        assert_eq!(found.lost, found.differences.len() as u64, "{found:#?}");
        let of_decision = found.differences.into_iter().find(|d| d.decision == decision.number);
        of_decision.map(|lost| {
            assert!(lost.lost && lost.verdict.is_none(), "{lost:#?}");
            lost.why
        })
    };
    assert_eq!(replayed(&case).await, None);
    let documents = [
        (Kind::Facts, decision.facts.as_ref().unwrap()),
        (Kind::Config, &judged.config),
        (Kind::Trace, judged.trace.as_ref().unwrap()),
    ];
    for (kind, digest) in documents {
        for (left, says) in [(None, "is not here"), (Some(b"not packed".to_vec()), "is damaged")] {
            let kept = replace_document(&case, kind, digest, left).await;
            let why = replayed(&case).await.unwrap();
            assert!(why.contains(kind.name()) && why.contains(says), "{why}");
            replace_document(&case, kind, digest, Some(kept)).await;
        }
    }
    assert_eq!(replayed(&case).await, None);

    case.put_in_force("guest", &marked(2)).await;
    case.until_idle().await;
    let archive = case.app.plugins.archive();
    assert!(archive.remove(&judged.plugin_digest, Instant::now() + LOADING_MAX).unwrap());
    let why = replayed(&case).await.unwrap();
    assert!(why.contains("its bytes are no longer kept"), "{why}");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_that_is_not_there_is_told() {
    let mut case = Case::new().await;
    let instead = Some(Instead { plugin: "gone".to_owned(), config: None });
    let refused = replay::replay(&case.app, &Replay { instead, ..Replay::default() }).await.unwrap_err();
    assert!(matches!(&refused, PromoteError::NoPlugin(name) if name == "gone"), "{refused}");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_and_what_a_decision_stands_on_stays() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", json!([no_criticals(), does("list")])).await;
    for content in ["x", "y", "z"] {
        let digest = case.push("dev/app:1", content, &[("openssl", "3.0.9"), (content, "1")]).await;
        case.until_at("qa/app:1", &digest).await;
    }
    case.until_idle().await;
    case.drop_in("guest.wasm", &marked(2));
    let new = sha256(&marked(2));
    case.until("a decision by the new plugin", async |case| {
        let newest = case.newest(&stage_of("dev/app:1"), "to-qa").await?;
        newest.policies.iter().any(|judged| judged.plugin_digest == new).then_some(())
    })
    .await;
    case.until_idle().await;
    let (stop, day_ms) = (tokio_util::sync::CancellationToken::new(), 24 * 3600 * 1000);
    let now_ms = case.app.now_ms();
    let none = flow::retention::run(&case.app, now_ms, &stop).await.unwrap();
    assert_eq!((none.events, none.decisions, none.documents, none.plugins), (0, 0, 0, 0));
    assert_eq!(none.promotions, 2, "keys of the first two pushes");
    let later = flow::retention::run(&case.app, now_ms + 400 * day_ms, &stop).await.unwrap();
    assert!(later.decisions >= 2 && later.documents >= 2 && later.events > 4, "{later:?}");
    // What stands can still be explained, and replayed to the byte.
    let stage = stage_of("dev/app:1");
    let admin = Principal::user("admin");
    let explained = explain::tag(&case.app, &admin, &stage.repository, &stage.tag).await.unwrap();
    assert!(!explained.stands[0].explained.as_ref().unwrap().traces[0].is_empty());
    let replayed = replay::replay(&case.app, &Replay::default()).await.unwrap();
    assert_eq!((replayed.decisions, replayed.same), (1, 1), "{replayed:#?}");
    let again = flow::retention::run(&case.app, now_ms + 400 * day_ms, &stop).await.unwrap();
    assert_eq!((again.decisions, again.documents), (0, 0));
    case.stop().await;
}

/// A plugin that was dropped in once more while nothing seemed to use it lost its bytes, and with them its replay; and of more
/// than a thousand only those that came first were ever looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_goes_only_if_it_did_not_come_back() {
    let mut case = Case::new().await;
    let (guest, other) = (marked(2), marked(3));
    let recorded = async |case: &Case| {
        let active = state::active(&case.app.store).await.unwrap();
        active.into_iter().find(|row| row.name == "guest").map(|row| row.digest)
    };
    for bytes in [&guest, &other] {
        case.drop_in("guest.wasm", bytes);
        let is = Some(sha256(bytes));
        case.until("it is in force", async |case| (recorded(case).await == is).then_some(())).await;
    }
    case.take_out("guest.wasm");
    case.until("none is in force", async |case| recorded(case).await.is_none().then_some(())).await;
    let archived = async |case: &Case| state::archived(&case.app.store).await.unwrap().len();
    let before = archived(&case).await;
    for from in [0, 600] {
        let digest = |n: usize| key(Space::Plugin, &["archived", &format!("sha256:{n:064}")]);
        let many = async |mut tx: Tx| {
            (from..from + 600).for_each(|n| tx.put(&digest(n), Vec::new()));
            Ok::<_, StoreError>(())
        };
        case.app.store.act(many).await.unwrap();
    }
    assert_eq!(archived(&case).await, before + 1200);
    // Just put, both may not be in force yet.
    let idle = Idle::find(&case.app, Instant::now()).await.unwrap();
    assert_eq!(idle.remove(&case.app, &Named::default()).await.unwrap(), 1200, "those that were never put");
    let idle = Idle::find(&case.app, Instant::now() + LOADING_MAX).await.unwrap();
    case.put_in_force("guest", &guest).await;
    assert_eq!(idle.remove(&case.app, &Named::default()).await.unwrap(), 2, "all but what came back");
    assert_eq!(archived(&case).await, before - 2);
    let bytes = |bytes: &[u8]| case.app.plugins.archive().get(&sha256(bytes)).unwrap();
    assert_eq!((bytes(&guest), bytes(&other)), (Some(guest.clone()), None));
    case.stop().await;
}

/// Regression: bytes that were put just before a kill, of a plugin that was gone at the next start, stayed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_no_row_names_goes() {
    let mut case = Case::new().await;
    case.until_idle().await;
    // As another process, of whose puts this one knows nothing.
    let archive = Archive::open(&case.data.path().join("plugin-archive")).unwrap();
    let in_force = archive.digests().unwrap();
    let left = archive.put(b"left").unwrap();
    let (now_ms, stop) = (case.app.now_ms(), tokio_util::sync::CancellationToken::new());
    let trimmed = flow::retention::run(&case.app, now_ms, &stop).await.unwrap();
    assert_eq!(trimmed.plugins, 1, "{left}");
    assert_eq!((in_force.len(), archive.digests().unwrap()), (2, in_force));
    case.stop().await;
}
