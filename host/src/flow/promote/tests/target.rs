//! Where approved images go, by policy and by hand, and what keeps them from it.

use serde_json::json;
use wharf_oci::{Digest, MediaType, RepoName};
use wharf_store::StoreError;

use super::case::{Case, binding, no_criticals, stage_of};
use crate::access::{Principal, Role};
use crate::event::Stage;
use crate::flow::promote::{PromoteError, bind, by_hand, explain, settle};
use crate::promote::standing::{self, Place};
use crate::promote::{Authority, Effect, Outcome, Verdict, decision};
use crate::registry::{self, blob, quota};

#[tokio::test(flavor = "multi_thread")]
async fn it_branches_and_a_dated_tag_is_made_once_for_each_push() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let targets = [("qa/{name}", "%n"), ("archive/{repository}", "%n-%Y%m%d-%H%M%S%f")];
    let both = binding("both", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
    let first = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &first).await;
    let stage = stage_of("dev/app:1");
    for _ in 0..3 {
        case.until_idle().await;
        explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
    }
    case.until_idle().await;
    assert_eq!(case.promotions().await.len(), 2);
    let second = case.push("dev/app:1", "y", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &second).await;
    case.until_idle().await;
    let promoted = case.promotions().await;
    assert_eq!(promoted.len(), 4, "{promoted:?}");
    let archive: RepoName = "archive/dev/app".parse().unwrap();
    let tags = registry::list::tags(&case.app.store, &archive, None, 10).await.unwrap().unwrap();
    assert_eq!(tags.names.len(), 2);
    // Back to the first image: that is another push, and goes on again.
    case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &first).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_is_a_hold_with_its_reason() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let targets = [("full/{name}", "%n"), ("qa/{name}", "%n")];
    let both = binding("both", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
    let limit = async |mut tx| {
        quota::limit(&mut tx, "full", Some(10));
        Ok::<_, StoreError>(())
    };
    case.app.store.act(limit).await.unwrap();
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &digest).await;
    let decision = case.until_judged("dev/app:1", "both", Verdict::Approve).await;
    let Outcome::Held { reason } = &decision.effects[0].outcome else { panic!("{decision:#?}") };
    assert_eq!(reason.code, "quota");
    assert_eq!(decision.effects[1].outcome, Outcome::Promoted);
    let place = Place {
        binding: "both".to_owned(),
        repository: decision.repository.clone(),
        tag: decision.tag.clone(),
    };
    let standing = standing::find(&case.app.store, &place).await.unwrap().unwrap();
    assert!(standing.at_ms.is_some(), "it is tried again");
    let lift = async |mut tx| {
        quota::limit(&mut tx, "full", None);
        Ok::<_, StoreError>(())
    };
    case.app.store.act(lift).await.unwrap();
    explain::ask_again(&case.app, "admin", &decision.repository, &decision.tag).await.unwrap();
    case.until_at("full/app:1", &digest).await;
    assert_eq!(case.promotions().await.len(), 2);
    case.stop().await;
}

/// Regression: what one commit could not take along waited for the next retry.
#[tokio::test(flavor = "multi_thread")]
async fn more_targets_than_one_commit_takes_follow_at_once() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let names: Vec<String> = (0..16).map(|n| format!("t{n}/{{name}}")).collect();
    let targets: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "%n")).collect();
    let many = binding("many", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), many, None).await.unwrap();
    let layers: Vec<String> = (0..100).map(|n| format!("layer {n}")).collect();
    let digest = case.push_layers("dev/app:1", &layers).await;
    case.scanned("dev/app:1", &digest, &[("zlib", "1")]).await;
    for n in 0..16 {
        case.until_at(&format!("t{n}/app:1"), &digest).await;
    }
    case.until_idle().await;
    let stage = stage_of("dev/app:1");
    let history = decision::history(&case.app.store, &stage.repository, &stage.tag, None, 100).await.unwrap();
    let waits =
        |effect: &Effect| matches!(&effect.outcome, Outcome::Held { reason } if reason.code == "too-large");
    assert!(history.iter().any(|decision| decision.effects.iter().any(waits)), "this tested nothing");
    assert!(!history[0].effects.iter().any(waits));
    assert_eq!(case.promotions().await.len(), 16);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_by_hand_leaves_its_note_and_the_way_back_is_closed() {
    let mut case = Case::new().await;
    let digest = case.push_unscanned("dev/app:1", "x").await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:stable"));
    let admin = Principal::user("admin");
    let nobody = by_hand::promote(&case.app, &Principal::user("eve"), &dev, &qa, "").await;
    assert!(matches!(nobody, Err(PromoteError::Refused { .. })));
    let done = by_hand::promote(&case.app, &admin, &dev, &qa, "ticket 7").await.unwrap();
    assert_eq!(case.digest_at("qa/app:stable").await, Some(digest));
    let decision = decision::find(&case.app.store, &dev.repository, &dev.tag, done.decision).await.unwrap();
    let note = json!({"authority": "hand", "by": "admin", "note": "ticket 7"});
    assert_eq!(serde_json::to_value(decision.unwrap().authority).unwrap(), note);
    let back = by_hand::promote(&case.app, &admin, &qa, &dev, "").await;
    assert!(matches!(back, Err(PromoteError::Held(..))), "{back:?}");
    // Regression: what is wrong with the request was told as what the target refuses.
    let long = by_hand::promote(&case.app, &admin, &dev, &qa, &"x".repeat(by_hand::NOTE_BYTES_MAX + 1)).await;
    assert!(matches!(long, Err(PromoteError::Note(_))), "{long:?}");
    let absent = by_hand::promote(&case.app, &admin, &stage_of("dev/app:none"), &qa, "").await;
    assert!(matches!(absent, Err(PromoteError::NoTag(_))));
    case.stop().await;
}

/// Regression: only the history of the source told of a promotion by hand; at the target it seemed that nobody had decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_by_hand_is_explained_at_both_ends_to_whoever_may_read_them() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let (dev, prod) = (stage_of("dev/app:1"), stage_of("prod/app:1"));
    let (admin, eve) = (Principal::user("admin"), Principal::user("eve"));
    case.push_unscanned("dev/app:1", "x").await;
    case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    let explained = async |case: &Case, who: &Principal, at: &Stage| {
        explain::tag(&case.app, who, &at.repository, &at.tag).await.unwrap()
    };
    assert_eq!(explained(&case, &admin, &dev).await.by_hand, None);
    for note in ["at first", "hot fix"] {
        by_hand::promote(&case.app, &admin, &dev, &prod, note).await.unwrap();
    }
    let at_dev = explained(&case, &admin, &dev).await;
    let hot_fix = Authority::Hand { by: "admin".to_owned(), note: "hot fix".to_owned() };
    assert_eq!(at_dev.by_hand.as_ref().map(|decision| &decision.authority), Some(&hot_fix));
    assert_eq!((at_dev.stands.len(), &at_dev.came_by), (1, &None));
    let at_prod = explained(&case, &admin, &prod).await;
    assert_eq!((at_prod.came_by, at_prod.by_hand, at_prod.stands), (at_dev.by_hand, None, Vec::new()));
    // Who may not read where it came from does not read what was decided there.
    case.add_user("eve").await;
    case.grant("eve", Role::Read, "prod/**").await;
    assert_eq!(explained(&case, &eve, &prod).await.came_by, None);
    // What was decided about an image is not told of the next.
    case.push_unscanned("dev/app:1", "y").await;
    assert_eq!(explained(&case, &admin, &dev).await.by_hand, None);
    assert!(explained(&case, &admin, &prod).await.came_by.is_some());
    case.stop().await;
}

/// Regression: a source that was deleted while it was promoted was an error of the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_is_a_change_and_no_error() {
    let mut case = Case::new().await;
    let gone = settle::plan(&case.app, &"dev/app".parse().unwrap(), &Digest::sha256(b"gone")).await;
    assert!(matches!(gone, Err(PromoteError::Stale)), "{gone:?}");
    case.stop().await;
}

/// Regression: an image that had been promoted by a target's name was never promoted to where that was moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_moved_is_another_one() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("next", "dev/**", "qaa/{name}", no_criticals()).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qaa/app:1", &digest).await;
    case.bind("next", "dev/**", "qa/{name}", no_criticals()).await;
    case.until_at("qa/app:1", &digest).await;
    let other_tag = binding("next", "dev/**", &[("qa/{name}", "%n-%Y")], no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), other_tag, None).await.unwrap();
    case.until_idle().await;
    let all = case.promotions().await;
    let to: Vec<&str> = all.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(to, ["qaa/app:1", "qa/app:1"], "a new tag alone makes no new target of it");
    case.stop().await;
}

/// Regression: an image with more manifests than one copy takes failed its jobs, with a text about one manifest.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_too_many_manifests_is_held_and_says_so() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let mut only = binding("only", "dev/**", &[("qa/{name}", "%n"), ("lab/{name}", "%n")], no_criticals());
    only.tags = "all".parse().unwrap();
    only.platforms = vec!["linux/amd64".parse().unwrap()];
    bind::bind(&case.app, &Principal::user("admin"), only, None).await.unwrap();
    let image = case.push("dev/app:one", "x", &[("zlib", "1")]).await;
    let stage = stage_of("dev/app:all");
    let size = blob::find(&case.app.store, &stage.repository, &image).await.unwrap().unwrap().size;
    let mut all = case.push_too_many("dev/app").await;
    all.push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": image, "size": size,
        "platform": {"os": "linux", "architecture": "amd64"}}));
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": all});
    case.push_manifest(&stage, MediaType::OCI_INDEX, index.to_string()).await;
    let decision = case.until_judged("dev/app:all", "only", Verdict::Approve).await;
    for effect in &decision.effects {
        let Outcome::Held { reason } = &effect.outcome else { panic!("{decision:#?}") };
        assert_eq!(reason.code, "too-many-manifests");
        assert!(reason.text.starts_with("more than 2048 manifests hang together with"), "{}", reason.text);
    }
    assert_eq!(decision.effects.len(), 2);
    let (admin, to) = (Principal::user("admin"), stage_of("qa/app:all"));
    let by_hand = by_hand::promote(&case.app, &admin, &stage, &to, "").await;
    assert!(matches!(by_hand, Err(PromoteError::Held(..))), "{by_hand:?}");
    case.stop().await;
}
