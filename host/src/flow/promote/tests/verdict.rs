//! What an image is judged by, and when it is judged again.

use serde_json::json;
use wharf_oci::{Digest, MediaType, Target};
use wharf_plugin::facts::Knowledge;

use super::case::{Case, binding, does, no_criticals, stage_of};
use crate::access::{self, Grant, Principal, Role, Subject};
use crate::event::{Event, Kind};
use crate::facts::scanned;
use crate::flow::promote::gather::PLATFORMS_MAX;
use crate::flow::promote::{PromoteError, bind, by_hand, dry_run, explain};
use crate::flow::scan_image;
use crate::jobs::{self, Queue};
use crate::promote::standing::{self, Place};
use crate::promote::{Outcome, Verdict};
use crate::registry;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_held_until_it_is_scanned_and_goes_all_the_way() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("to-prod", "qa/**", "prod/{name}", no_criticals()).await;
    let digest = case.push_unscanned("dev/app:1.4", "clean").await;
    let held = case.until_judged("dev/app:1.4", "to-qa", Verdict::Hold).await;
    assert!(held.facts.is_some() && held.cause.is_some());
    assert_eq!(case.digest_at("qa/app:1.4").await, None);
    case.scanned("dev/app:1.4", &digest, &[("openssl", "3.0.9")]).await;
    case.until_at("qa/app:1.4", &digest).await;
    case.until_at("prod/app:1.4", &digest).await;
    case.until_idle().await;
    let approved = case.until_judged("dev/app:1.4", "to-qa", Verdict::Approve).await;
    assert_eq!(approved.effects[0].outcome, Outcome::Promoted);
    let prod = stage_of("prod/app:1.4");
    let row = registry::tag::find(&case.app.store, &prod.repository, &prod.tag).await.unwrap().unwrap();
    assert_eq!(row.lineage, [stage_of("dev/app:1.4"), stage_of("qa/app:1.4")]);
    let facts = explain::facts(&case.app, &prod.repository, &prod.tag).await.unwrap();
    let stages: Vec<&str> = facts.approvals.iter().map(|approval| approval.stage.as_str()).collect();
    assert_eq!(stages, ["qa/app", "prod/app"]);
    assert_eq!(facts.approvals[0].by, "policy:to-qa");
    let (admin, dev) = (&Principal::user("admin"), stage_of("dev/app:1.4"));
    let explanation = explain::tag(&case.app, admin, &dev.repository, &dev.tag).await.unwrap();
    assert_eq!((&explanation.came_by, &explanation.by_hand), (&None, &None));
    let explained = explanation.stands[0].explained.as_ref().unwrap();
    assert!(!explained.traces[0].is_empty(), "the verdict is explained by its questions");
    let at_prod = explain::tag(&case.app, admin, &prod.repository, &prod.tag).await.unwrap();
    let came_by = at_prod.came_by.unwrap();
    assert_eq!((came_by.stage(), came_by.authority.binding()), (stage_of("qa/app:1.4"), Some("to-prod")));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaw_holds_it_back_and_new_data_lets_it_go_without_another_scan() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let digest = case.push("dev/app:1", "bad", &[("openssl", "3.0.1")]).await;
    case.until_idle().await;
    assert_eq!(case.digest_at("qa/app:1").await, None);
    case.scans.lock().unwrap().clear();
    case.import(&[("CVE-2026-1", "openssl", "3.0.1")]).await;
    case.until_at("qa/app:1", &digest).await;
    // And the other way: what was promoted would not be today.
    case.import(&[("CVE-2026-2", "openssl", "4.0")]).await;
    let changed = |kind: &Kind| matches!(kind, Kind::VerdictChanged { was, .. } if was == "approve");
    case.until("a changed verdict", async |case| case.events(changed).await.pop()).await;
    assert_eq!(case.digest_at("qa/app:1").await, Some(digest), "what was promoted stays");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vulnerability_data_nothing_is_clean() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    case.push("dev/app:1", "x", &[("openssl", "3")]).await;
    let held = case.until("a hold for want of data", async |case| {
        let newest = case.newest(&stage_of("dev/app:1"), "to-qa").await?;
        let because = newest.policies[0].held_because.clone()?;
        (because.code == "no-vulnerability-data").then_some(newest)
    });
    let held = held.await;
    assert_eq!((held.policies[0].said, held.verdict), (Some(Verdict::Approve), Verdict::Hold));
    assert_eq!(case.digest_at("qa/app:1").await, None);
    // Regression: the event said that there are 0 findings.
    let told = case.events(|kind| matches!(kind, Kind::ImageScanned { .. })).await;
    let [Event { kind: Kind::ImageScanned { matched, findings, .. }, .. }] = told.as_slice() else {
        panic!("{told:#?}")
    };
    assert_eq!((matched.as_str(), *findings), ("none", None));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_platform_of_an_index_has_to_pass() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let mut entries = Vec::new();
    for (architecture, version) in [("amd64", "3.1"), ("arm64", "3.0.1")] {
        let at = format!("dev/app:{architecture}");
        let digest = case.push(&at, architecture, &[("openssl", version)]).await;
        entries.push(
            json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size(&case, &at).await,
            "platform": {"os": "linux", "architecture": architecture}}),
        );
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
    let digest = case.push_manifest(&stage_of("dev/app:1"), MediaType::OCI_INDEX, index).await;
    let all = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    case.until_idle().await;
    assert_eq!(all.policies.len(), 2);
    assert_eq!(case.digest_at("qa/app:1").await, None);
    let mut one = binding("to-qa", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    one.platforms = vec!["linux/amd64".to_owned()];
    bind::bind(&case.app, &Principal::user("admin"), one, None).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

/// Regression: a binding for one platform passed over an entry that a runtime takes for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_named_unclearly_counts_for_all() {
    let mut case = Case::new().await;
    let mut amd = binding("to-qa", "dev/**", &[("qa/{name}", "%n")], does("mark"));
    amd.platforms = vec!["linux/amd64".to_owned()];
    bind::bind(&case.app, &Principal::user("admin"), amd, None).await.unwrap();
    let names = [
        ("linux", "amd64"),
        ("linux", "x86_64"),
        ("Linux", "AMD64"),
        ("", "amd64"),
        ("linux", "arm64"),
        ("unknown", "unknown"),
    ];
    let entry = |(os, architecture): (&str, &str)| {
        let digest = Digest::sha256(format!("{os}/{architecture}").as_bytes());
        json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": 7,
            "platform": {"os": os, "architecture": architecture}})
    };
    let mut entries: Vec<_> = names.into_iter().map(entry).collect();
    // Skopeo takes the first that has no platform, whatever its configuration says.
    let config = json!({"os": "linux", "architecture": "s390x"}).to_string();
    let unnamed = case.push_configured("dev/app:unnamed", config, &["x".to_owned()]).await;
    let size = size(&case, "dev/app:unnamed").await;
    entries.push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": unnamed, "size": size}));
    let index =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
    case.push_manifest(&stage_of("dev/app:1"), MediaType::OCI_INDEX, index).await;
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    assert_eq!(held.policies.len(), 5, "neither linux/arm64 nor unknown/unknown: {held:#?}");
    case.stop().await;
}

/// Regression: a runtime takes `user` for `User`, too, and of both the last one; policies were told of the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_another_to_its_runtime_is_held() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (tag, before, code, why) in [
        ("plain", "0", "ambiguous-config", "`user` is `User`"),
        // Regression: what stood behind a value that is not looked at was not looked at either.
        ("number", "1e999", "unreadable-config", "out of range"),
        ("deep", &deep, "unreadable-config", "recursion limit"),
        ("surrogate", r#""\ud800""#, "unreadable-config", "escape"),
    ] {
        let run = format!(r#"{{"User":"1000","rootfs":{before},"user":"root"}}"#);
        let config = format!(r#"{{"os":"linux","architecture":"amd64","config":{run}}}"#);
        let at = format!("dev/app:{tag}");
        case.push_configured(&at, config, &["x".to_owned()]).await;
        let held = case.until_judged(&at, "to-qa", Verdict::Hold).await;
        assert_eq!((held.reasons[0].code.as_str(), held.policies.len()), (code, 0));
        assert!(held.first_reason().contains(why), "{held:#?}");
    }
    case.stop().await;
}

/// Regression: of a configuration that could not be read, policies were told that it says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_configuration_cannot_be_read_is_held() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let large = json!({"os": "linux", "architecture": "amd64", "history": ["x".repeat(4 << 20)]}).to_string();
    for (tag, config, why) in [
        ("text", "no JSON".to_owned(), "expected ident"),
        ("type", r#"{"config":{"User":7}}"#.to_owned(), "invalid type"),
        // Regression: all of it stood in the decision, which was more than one commit takes.
        ("long", json!({"config": "x".repeat(3 << 20)}).to_string(), "invalid type"),
        ("large", large, "bytes, more than 4194304"),
    ] {
        let at = format!("dev/app:{tag}");
        case.push_configured(&at, config, &["x".to_owned()]).await;
        let held = case.until_judged(&at, "to-qa", Verdict::Hold).await;
        assert_eq!((held.reasons[0].code.as_str(), held.policies.len()), ("unreadable-config", 0));
        assert!(held.first_reason().contains(why) && held.first_reason().len() < 1000, "{held:#?}");
    }
    case.stop().await;
}

/// Regression: the job failed eight times and died, and no decision said why the image stayed where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_too_many_platforms_is_held_and_says_so() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("list")).await;
    let entry = |n: usize| {
        json!({"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::sha256(n.to_string().as_bytes()), "size": 7,
            "platform": {"os": "linux", "architecture": format!("a{n}")}})
    };
    let entries: Vec<_> = (0..=PLATFORMS_MAX).map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    let stage = stage_of("dev/app:1");
    let digest = case.push_manifest(&stage, MediaType::OCI_INDEX, index.to_string()).await;
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    case.until_idle().await;
    let text = format!("the index has {} platforms, more than the {PLATFORMS_MAX} that", PLATFORMS_MAX + 1);
    assert!(held.first_reason().starts_with(&text), "{held:#?}");
    assert_eq!((held.reasons[0].code.as_str(), held.policies.len()), ("too-many-platforms", 0));
    assert_eq!((held.facts, held.effects.len()), (None, 0));
    assert!(jobs::ls(&case.app.store, Queue::Judge, true, None, 10).await.unwrap().jobs.is_empty());
    let (admin, binding) =
        (Principal::user("admin"), binding("to-qa", "dev/**", &[("qa/{name}", "%n")], does("list")));
    let would = dry_run::dry_run(&case.app, &admin, &binding, None, 10).await.unwrap();
    assert_eq!((would.tags[0].verdict, &would.tags[0].reasons), (Verdict::Hold, &held.reasons));
    let facts = explain::facts(&case.app, &stage.repository, &stage.tag).await;
    assert!(matches!(facts, Err(PromoteError::Facts(_))), "{facts:?}");
    // Who promotes by hand needs no policy's word.
    by_hand::promote(&case.app, &admin, &stage, &stage_of("qa/app:1"), "").await.unwrap();
    assert_eq!(case.digest_at("qa/app:1").await, Some(digest));
    case.stop().await;
}

async fn size(case: &Case, at: &str) -> u64 {
    let stage = stage_of(at);
    let found = registry::manifest::read(&case.app.store, &stage.repository, &Target::Tag(stage.tag)).await;
    found.unwrap().unwrap().0.row.size
}

/// Regression: each signature had a job look for what waits for its scan, of which there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn only_an_artifact_that_is_judged_has_its_scan_told() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let image = case.push_unscanned("dev/app:1", "x").await;
    let signature = case.refer("dev/app", &image, "signed").await;
    let judged = case.push_statement("dev/app:statement").await;
    case.until_idle().await;
    let repository = &stage_of("dev/app:1").repository;
    for artifact in [&signature, &judged] {
        scan_image::image(&case.app, repository, artifact, false).await.unwrap();
        let known = scanned::find(&case.app.store, artifact).await.unwrap().unwrap();
        assert_eq!(known.scan, Knowledge::Unsupported);
    }
    case.until("a judgement that knows of it", async |case| {
        let newest = case.newest(&stage_of("dev/app:statement"), "to-qa").await?;
        newest.first_reason().contains("is `unsupported`").then_some(())
    })
    .await;
    let told = case.events(|kind| matches!(kind, Kind::ImageScanned { .. })).await;
    let [Event { kind: Kind::ImageScanned { digest, .. }, .. }] = told.as_slice() else {
        panic!("{told:#?}")
    };
    assert_eq!(*digest, judged);
    case.stop().await;
}

/// Regression: the approvals of an image were those of whatever had passed the stage last.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_the_image_and_not_of_the_tag() {
    let mut case = Case::new().await;
    let (dev, qa, prod) = (stage_of("dev/app:1"), stage_of("qa/app:1"), stage_of("prod/app:1"));
    let (ann, ben) = (Principal::user("admin"), Principal::user("ben"));
    let all = Grant {
        subject: Subject::User("ben".to_owned()),
        role: Role::Maintain,
        pattern: "**".parse().unwrap(),
    };
    let all = &all;
    case.app.store.act(async |mut tx| access::add(&mut tx, all, "admin").await).await.unwrap();
    case.push_unscanned("dev/app:1", "first").await;
    by_hand::promote(&case.app, &ann, &dev, &qa, "").await.unwrap();
    by_hand::promote(&case.app, &ann, &qa, &prod, "").await.unwrap();
    case.push_unscanned("dev/app:1", "second").await;
    by_hand::promote(&case.app, &ben, &dev, &qa, "").await.unwrap();
    let facts = explain::facts(&case.app, &prod.repository, &prod.tag).await.unwrap();
    let by: Vec<&str> = facts.approvals.iter().map(|approval| approval.by.as_str()).collect();
    assert_eq!(by, ["admin", "admin"]);
    case.stop().await;
}

/// Regression: nothing asked again when the answer to `end-of-life` changed, as no event tells of that.
#[tokio::test(flavor = "multi_thread")]
async fn what_asked_about_the_end_of_life_is_judged_again_when_it_comes() {
    let mut case = Case::new().await;
    case.bind("asks", "dev/**", "qa/{name}", does("ask")).await;
    case.bind("asks-not", "dev/**", "lab/{name}", does("mark")).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_idle().await;
    let ends_ms = case.app.now_ms() + 1_000_000;
    let (digest, known) = (&digest, scanned::find(&case.app.store, &digest).await.unwrap().unwrap());
    let known = &scanned::Scanned { end_of_life_ms: Some(ends_ms), ..known };
    let put = async |mut tx| scanned::put(&mut tx, digest, known);
    case.app.store.act(put).await.unwrap();
    let stage = stage_of("dev/app:1");
    explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
    let at = async |case: &Case, binding: &str| {
        let (repository, tag) = (stage.repository.clone(), stage.tag.clone());
        let place = Place { binding: binding.to_owned(), repository, tag };
        standing::find(&case.app.store, &place).await.unwrap().unwrap().at_ms
    };
    case.until("the time to ask again", async |case| (at(case, "asks").await == Some(ends_ms)).then_some(()))
        .await;
    case.until_idle().await;
    assert_eq!(at(&case, "asks-not").await, None);
    case.stop().await;
}
