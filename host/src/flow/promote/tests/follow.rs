//! What is said of an image after it was promoted.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_oci::{Digest, MediaType, RepoName, Target};
use wharf_store::StoreError;

use super::case::{Case, binding, does, no_criticals, stage_of};
use crate::access::{self, Grant, Principal, Role, Subject};
use crate::event::{Event, Kind};
use crate::flow;
use crate::flow::promote::{PromoteError, bind, by_hand, follow};
use crate::jobs::{self, Listed, Queue};
use crate::promote::Verdict;
use crate::registry::{manifest, quota, tag};

async fn followed(case: &Case) -> usize {
    case.events(|kind| matches!(kind, Kind::ReferrerPromoted { .. })).await.len()
}

/// What did not follow, and why.
async fn held(case: &Case) -> Vec<String> {
    let events = case.events(|kind| matches!(kind, Kind::ReferrerHeld { .. })).await;
    let of = |event: Event| match event.kind {
        Kind::ReferrerHeld { digest, reason, .. } => format!("{digest}: {reason}"),
        _ => unreachable!(),
    };
    events.into_iter().map(of).collect()
}

async fn dead_follows(case: &Case) -> Vec<Listed> {
    jobs::ls(&case.app.store, Queue::Follow, true, None, 10).await.unwrap().jobs
}

async fn follow_now(case: &Case, repository: &str, digest: &Digest) -> Result<(), PromoteError> {
    follow::manifest(&case.app, &repository.parse().unwrap(), digest, &CancellationToken::new()).await
}

/// Regression: an image was promoted within a second of its push, and its signature stayed behind for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_follows_down_the_chain_once_and_moves_no_tag() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("to-prod", "qa/**", "prod/{name}", no_criticals()).await;
    let image = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("prod/app:1", &image).await;
    case.until_idle().await;
    let prod = stage_of("prod/app:1");
    let before = tag::find(&case.app.store, &prod.repository, &prod.tag).await.unwrap();

    let signature = case.refer("dev/app", &image, "signed").await;
    case.until_referred("prod/app", &image, &signature).await;
    assert_eq!(case.referrers("qa/app", &image).await, std::slice::from_ref(&signature));
    // What is said of the signature follows it, and so does what is said where the chain has begun already.
    let countersigned = case.refer("dev/app", &signature, "countersigned").await;
    case.until_referred("prod/app", &signature, &countersigned).await;
    let seen = case.refer("qa/app", &image, "seen in qa").await;
    case.until_referred("prod/app", &image, &seen).await;
    case.until_idle().await;
    assert_eq!(case.referrers("dev/app", &image).await, std::slice::from_ref(&signature));
    assert_eq!(followed(&case).await, 2 + 2 + 1);
    assert_eq!(tag::find(&case.app.store, &prod.repository, &prod.tag).await.unwrap(), before);

    follow_now(&case, "dev/app", &signature).await.unwrap();
    follow_now(&case, "dev/app", &image).await.unwrap();
    assert_eq!(followed(&case).await, 5, "what is there already is no news");
    assert_eq!(case.promotions().await.len(), 2);
    // It lives as long as the image that it is about.
    let (admin, qa) = (Principal::user("admin"), "qa/app".parse::<RepoName>().unwrap());
    flow::delete::target(&case.app, &admin, &qa, &Target::Digest(image.clone())).await.unwrap();
    let late = case.refer("dev/app", &image, "late").await;
    case.until_idle().await;
    assert!(!case.referrers("qa/app", &image).await.contains(&late));
    let now_ms = case.app.now_ms();
    let trimmed = flow::retention::run(&case.app, now_ms, &CancellationToken::new()).await.unwrap();
    assert_eq!(trimmed.destinations, 1, "nothing follows where the image is no more");
    case.stop().await;
}

/// Regression: whoever pushes to dev could have any image in prod, unjudged, by naming as its subject one that went there.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_a_subject_is_nothing_said_of_it() {
    let mut case = Case::new().await;
    let image = case.push_unscanned("dev/app:1", "x").await;
    let stowaway = case.refer_with("dev/app", &image, (MediaType::OCI_CONFIG, "{}"), &[]).await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:1"));
    by_hand::promote(&case.app, &Principal::user("admin"), &dev, &qa, "").await.unwrap();
    follow_now(&case, "dev/app", &stowaway).await.unwrap();
    follow_now(&case, "dev/app", &image).await.unwrap();
    case.until_idle().await;
    assert_eq!(case.referrers("dev/app", &image).await, [stowaway]);
    assert!(case.referrers("qa/app", &image).await.is_empty());
    case.stop().await;
}

/// Regression: an image whose config was of another type followed as a signature does, and containerd runs it; so did one whose
/// layers were, too, and dockerd runs that.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_layers_of_an_image_is_nothing_said_of_one() {
    let mut case = Case::new().await;
    let image = case.push_unscanned("dev/app:1", "x").await;
    let (layer, config) = ("application/vnd.oci.image.layer.v1.tar", r#"{"os": "linux"}"#);
    let (empty, any) = ("application/vnd.oci.empty.v1+json", "application/octet-stream");
    for (of, layer) in [("application/vnd.example.said", layer), (empty, layer), (any, any)] {
        case.refer_with("dev/app", &image, (of, config), &[layer]).await;
    }
    let attached = case.refer_with("dev/app", &image, (empty, "{}"), &[layer]).await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:1"));
    by_hand::promote(&case.app, &Principal::user("admin"), &dev, &qa, "").await.unwrap();
    for referrer in case.referrers("dev/app", &image).await {
        follow_now(&case, "dev/app", &referrer).await.unwrap();
    }
    case.until_idle().await;
    assert_eq!(case.referrers("dev/app", &image).await.len(), 4);
    assert_eq!(case.referrers("qa/app", &image).await, [attached]);
    case.stop().await;
}

/// Of an index in `dev/app`.
async fn entry(case: &Case, digest: &Digest, os: &str, architecture: &str) -> Value {
    let (repository, target) = ("dev/app".parse().unwrap(), Target::Digest(digest.clone()));
    let (found, _) = manifest::read(&case.app.store, &repository, &target).await.unwrap().unwrap();
    json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": found.row.size,
        "platform": {"os": os, "architecture": architecture}})
}

/// Regression: a container image came unjudged in an index that named the promoted image as its subject, before a promotion and after.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_images_is_nothing_said_of_an_image() {
    let mut case = Case::new().await;
    let image = case.push_unscanned("dev/app:1", "x").await;
    let stowaway = case.push_unscanned("dev/app:stowaway", "worse").await;
    let entry = entry(&case, &stowaway, "linux", "arm64").await;
    let index = |note: &str| {
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "annotations": {"note": note},
            "subject": {"mediaType": MediaType::OCI_MANIFEST, "digest": image, "size": 1},
            "manifests": [entry]})
        .to_string()
    };
    case.push_manifest(&stage_of("dev/app:before"), MediaType::OCI_INDEX, index("before")).await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:1"));
    by_hand::promote(&case.app, &Principal::user("admin"), &dev, &qa, "").await.unwrap();
    let after = case.push_manifest(&stage_of("dev/app:after"), MediaType::OCI_INDEX, index("after")).await;
    follow_now(&case, "dev/app", &after).await.unwrap();
    follow_now(&case, "dev/app", &stowaway).await.unwrap();
    case.until_idle().await;
    let find = |repository: &'static str, digest: Digest| {
        let store = case.app.store.clone();
        async move { manifest::read(&store, &repository.parse().unwrap(), &Target::Digest(digest)).await.unwrap() }
    };
    assert!(find("qa/app", image.clone()).await.is_some());
    assert!(find("dev/app", stowaway.clone()).await.is_some());
    assert!(find("qa/app", stowaway.clone()).await.is_none(), "it was never judged");
    case.stop().await;
}

/// Regression: an image that an index marked `unknown/unknown`, as builders mark attestations, was promoted with the others unjudged.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_marked_as_none_is_judged() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let good = case.push("dev/app:good", "x", &[("zlib", "1")]).await;
    let bad = case.push("dev/app:bad", "y", &[("openssl", "3.0.8")]).await;
    let statement = case.push_statement("dev/app:statement").await;
    let good = entry(&case, &good, "linux", "amd64").await;
    let index = async |marked: &Digest| {
        let marked = entry(&case, marked, "unknown", "unknown").await;
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [good, marked]})
            .to_string()
    };
    let (built, worse) = (index(&statement).await, index(&bad).await);
    let built = case.push_manifest(&stage_of("dev/app:1"), MediaType::OCI_INDEX, built).await;
    case.until_at("qa/app:1", &built).await;
    case.push_manifest(&stage_of("dev/app:2"), MediaType::OCI_INDEX, worse).await;
    let held = case.until_judged("dev/app:2", "to-qa", Verdict::Hold).await;
    assert_eq!(held.policies.len(), 2, "both are judged: {held:#?}");
    assert!(held.first_reason().contains("CVE-2026-1"), "{held:#?}");
    case.until_idle().await;
    assert_eq!(case.digest_at("qa/app:2").await, None);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_one_platform_follows_the_index() {
    let mut case = Case::new().await;
    let platform = case.push_unscanned("dev/app:amd64", "x").await;
    let entry = entry(&case, &platform, "linux", "amd64").await;
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry]});
    let dev = stage_of("dev/app:1");
    let index = case.push_manifest(&dev, MediaType::OCI_INDEX, index.to_string()).await;
    let admin = Principal::user("admin");
    by_hand::promote(&case.app, &admin, &dev, &stage_of("qa/app:1"), "").await.unwrap();
    let signature = case.refer("dev/app", &platform, "of the platform").await;
    case.until_referred("qa/app", &platform, &signature).await;
    let signature = case.refer("dev/app", &index, "of the index").await;
    case.until_referred("qa/app", &index, &signature).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_by_the_rights_of_who_promoted_as_they_are_now() {
    let mut case = Case::new().await;
    let grant = |role, pattern: &str| Grant {
        subject: Subject::User("ben".to_owned()),
        role,
        pattern: pattern.parse().unwrap(),
    };
    let (read, maintain) = (&grant(Role::Read, "dev/**"), &grant(Role::Maintain, "qa/**"));
    for grant in [read, maintain] {
        case.app.store.act(async |mut tx| access::add(&mut tx, grant, "admin").await).await.unwrap();
    }
    let image = case.push_unscanned("dev/app:1", "x").await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:1"));
    by_hand::promote(&case.app, &Principal::user("ben"), &dev, &qa, "").await.unwrap();
    case.until_idle().await;
    case.app.store.act(async |mut tx| access::remove(&mut tx, maintain).await).await.unwrap();
    let signature = case.refer("dev/app", &image, "signed").await;
    // Regression: the job failed, was tried eight times and died, for each signature of an image that who had left promoted.
    case.until_idle().await;
    assert_eq!(held(&case).await, [format!("{signature}: `ben` may not promote into `qa/app`")]);
    assert!(dead_follows(&case).await.is_empty());
    follow_now(&case, "dev/app", &image).await.unwrap();
    assert_eq!(held(&case).await.len(), 2, "it is said of the image, too, which is there");
    assert!(case.referrers("qa/app", &image).await.is_empty());
    // Where somebody else answers for it, too, that is enough.
    let stable = stage_of("qa/app:stable");
    by_hand::promote(&case.app, &Principal::user("admin"), &dev, &stable, "").await.unwrap();
    follow_now(&case, "dev/app", &signature).await.unwrap();
    assert_eq!(case.referrers("qa/app", &image).await, [signature]);
    case.until_idle().await;
    assert_eq!(held(&case).await.len(), 2);
    case.stop().await;
}

/// Regression: its job was tried eight times and died, and no event said what did not follow.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_to_be_taken_along_is_held_and_says_so() {
    let mut case = Case::new().await;
    let image = case.push_unscanned("dev/app:1", "x").await;
    for to in ["qa/app:1", "qa/app:stable", "lab/app:1"] {
        let (admin, dev) = (Principal::user("admin"), stage_of("dev/app:1"));
        by_hand::promote(&case.app, &admin, &dev, &stage_of(to), "").await.unwrap();
    }
    case.until_idle().await;
    let said = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
        "manifests": case.push_too_many("dev/app").await,
        "subject": {"mediaType": MediaType::OCI_MANIFEST, "digest": image, "size": 1}});
    let said = case.push_manifest(&stage_of("dev/app:said"), MediaType::OCI_INDEX, said.to_string()).await;
    case.until_idle().await;
    let expected = |of: &Digest| format!("{of}: more than 2048 manifests hang together with `{of}`");
    let all = held(&case).await;
    assert!(all.len() == 2 && all.iter().all(|held| held.starts_with(&expected(&said))), "{all:#?}");
    assert!(dead_follows(&case).await.is_empty());
    assert!(case.referrers("qa/app", &image).await.is_empty());
    follow_now(&case, "dev/app", &image).await.unwrap();
    assert_eq!(held(&case).await.len(), 2, "an index of indexes is nothing said of the image");
    case.stop().await;
}

async fn limit(case: &Case, max: Option<u64>) {
    let limit = async |mut tx| {
        quota::limit(&mut tx, "full", max);
        Ok::<_, StoreError>(())
    };
    case.app.store.act(limit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_refuses_it_and_the_others_have_it() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let targets = [("full/{name}", "%n"), ("qa/{name}", "%n")];
    let both = binding("both", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
    let image = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("full/app:1", &image).await;
    case.until_at("qa/app:1", &image).await;
    limit(&case, Some(10)).await;
    let signature = case.refer("dev/app", &image, "signed").await;
    case.until_referred("qa/app", &image, &signature).await;
    let refused = follow_now(&case, "dev/app", &signature).await.unwrap_err();
    assert!(refused.to_string().contains("namespace `full` uses"), "{refused}");
    assert!(case.referrers("full/app", &image).await.is_empty());
    limit(&case, None).await;
    follow_now(&case, "dev/app", &signature).await.unwrap();
    assert_eq!(case.referrers("full/app", &image).await, [signature]);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_leads_there_no_more_takes_nothing_along() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("next", "dev/**", "qa/{name}", no_criticals()).await;
    let image = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &image).await;
    case.bind("next", "dev/**", "lab/{name}", no_criticals()).await;
    case.until_at("lab/app:1", &image).await;
    let signature = case.refer("dev/app", &image, "signed").await;
    case.until_referred("lab/app", &image, &signature).await;
    case.until_idle().await;
    assert!(case.referrers("qa/app", &image).await.is_empty());
    case.stop().await;
}

/// Regression: nothing was judged again when an image was signed, and nothing of an index could be.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_judged_again_when_its_image_is_signed() {
    let mut case = Case::new().await;
    case.bind("waits", "dev/**", "qa/{name}", does("random")).await;
    let platform = case.push_unscanned("dev/app:amd64", "x").await;
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [
        {"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::sha256(b"elsewhere"), "size": 7,
            "platform": {"os": "linux", "architecture": "arm64"}}]});
    let stage = stage_of("dev/app:1");
    let index = case.push_manifest(&stage, MediaType::OCI_INDEX, index.to_string()).await;
    for (at, image) in [("dev/app:amd64", platform), ("dev/app:1", index)] {
        case.until_idle().await;
        let held = case.newest(&stage_of(at), "waits").await.unwrap();
        case.refer("dev/app", &image, "signed").await;
        case.until("another judgement", async |case| {
            let newest = case.newest(&stage_of(at), "waits").await?;
            (newest.number > held.number).then_some(())
        })
        .await;
    }
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_by_then_follows_nothing() {
    let mut case = Case::new().await;
    follow_now(&case, "dev/app", &Digest::sha256(b"gone")).await.unwrap();
    case.stop().await;
}
