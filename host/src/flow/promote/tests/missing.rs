//! What an index names that its repository does not have, and what happens when it comes.

use serde_json::{Value, json};
use wharf_oci::{Digest, MediaType, Target};

use super::case::{Case, binding, does, stage_of};
use crate::access::Principal;
use crate::flow::promote::ask::{self, Call};
use crate::flow::promote::settle::{self, Case as Settling};
use crate::flow::promote::{PromoteError, bind, gather};
use crate::flow::scan_image;
use crate::promote::Verdict;
use crate::registry::manifest::{Checked, Sparse};
use crate::registry::{self, blob};

/// Pushes an index of images that some repository holds.
async fn push_index(case: &Case, at: &str, images: &[(&str, &Digest, &str)]) -> Digest {
    let mut entries: Vec<Value> = Vec::new();
    for (held_at, digest, platform) in images {
        let (os, architecture) = platform.split_once('/').unwrap();
        let held = blob::find(&case.app.store, &stage_of(held_at).repository, digest).await.unwrap().unwrap();
        entries.push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": held.size,
            "platform": {"os": os, "architecture": architecture}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    case.push_manifest(&stage_of(at), MediaType::OCI_INDEX, index.to_string()).await
}

/// Pushes an index that is held by `binding`, and waits until nothing is left to do: whatever comes then is what asks again.
async fn push_held(case: &Case, at: &str, binding: &str, images: &[(&str, &Digest, &str)]) -> Digest {
    let digest = push_index(case, at, images).await;
    case.until_judged(at, binding, Verdict::Hold).await;
    case.until_idle().await;
    digest
}

async fn bind_for_amd64(case: &Case) {
    let mut amd = binding("to-qa", "dev/**", &[("qa/{name}", "%n")], does("mark"));
    amd.platforms = vec!["linux/amd64".to_owned()];
    bind::bind(&case.app, &Principal::user("admin"), amd, None).await.unwrap();
}

/// Regression: an image was approved by its scan in another repository, and could come to this one after it was judged.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_repository_holds_says_nothing_here() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "zlib", "9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let digest = case.push("scratch/x:1", "x", &[("openssl", "3")]).await;
    let index = push_index(&case, "dev/app:1", &[("scratch/x:1", &digest, "linux/amd64")]).await;
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    case.until_idle().await;
    assert_eq!(held.policies[0].held_because.as_ref().unwrap().code, "not-scanned", "{held:#?}");
    assert_eq!(case.digest_at("qa/app:1").await, None);
    // It comes, and its scan is known: nothing but its coming asks again.
    assert_eq!(case.push_unscanned("dev/app:child", "x").await, digest);
    case.until_at("qa/app:1", &index).await;
    case.stop().await;
}

/// Regression: what came between the judgement and its copy was linked in the target, where its digest could be pulled.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_here_to_be_judged_is_not_copied() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "zlib", "9")]).await;
    bind_for_amd64(&case).await;
    let good = case.push("dev/app:good", "good", &[("openssl", "3")]).await;
    let late = case.push("scratch/x:1", "x", &[("zlib", "8")]).await;
    case.until_idle().await;
    case.runner.take().unwrap().stop().await;
    let both = [("dev/app:good", &good, "linux/amd64"), ("scratch/x:1", &late, "unknown/unknown")];
    push_index(&case, "dev/app:1", &both).await;

    let stage = stage_of("dev/app:1");
    let bound = crate::promote::binding::find(&case.app.store, "to-qa").await.unwrap().unwrap();
    let mut gathered = gather::tag(&case.app, &stage.repository, &stage.tag).await.unwrap().unwrap();
    let mut pending = gathered.keep().unwrap();
    let asked = ask::binding(&case.app, &bound.binding, &gathered, Call::Judgement, &mut pending);
    let opinions = asked.await.unwrap();
    assert_eq!(opinions.composed.verdict, Verdict::Approve, "{opinions:#?}");
    case.push_unscanned("dev/app:late", "x").await;
    let settling = Settling { gathered: &gathered, bound: &bound, opinions, pending, cause: None };
    let settled = settle::binding(&case.app, settling).await;
    assert!(matches!(settled, Err(PromoteError::Stale)), "{settled:?}");
    let qa = "qa/app".parse().unwrap();
    assert!(registry::manifest::parsed(&case.app.store, &qa, &late).await.unwrap().is_none());
    case.stop().await;
}

/// Regression: an index was held for ever, since what came was no image, or did not count while it was not here, or came by a
/// promotion.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_asks_again() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "zlib", "9")]).await;

    case.bind("to-lab", "pre/**", "lab/{name}", does("mark")).await;
    let image = case.push("pre/app:amd64", "a", &[("openssl", "3")]).await;
    let statement = case.push_statement("scratch/x:statement").await;
    let scratch = stage_of("scratch/x:statement").repository;
    scan_image::image(&case.app, &scratch, &statement, false).await.unwrap();
    case.until_at("lab/app:amd64", &image).await;
    case.until_idle().await;
    let both =
        [("pre/app:amd64", &image, "linux/amd64"), ("scratch/x:statement", &statement, "unknown/unknown")];
    let index = push_held(&case, "pre/app:attested", "to-lab", &both).await;
    case.push_statement("pre/app:statement").await;
    case.until_at("lab/app:attested", &index).await;

    bind_for_amd64(&case).await;
    let late = case.push("scratch/x:2", "b", &[("openssl", "3")]).await;
    case.until_idle().await;
    let index = push_held(&case, "dev/app:1", "to-qa", &[("scratch/x:2", &late, "unknown/unknown")]).await;
    case.push_unscanned("dev/app:late", "b").await;
    case.until_at("qa/app:1", &index).await;

    case.bind("to-prod", "qa/**", "prod/{name}", does("mark")).await;
    let image = case.push("scratch/x:3", "c", &[("openssl", "3")]).await;
    let index = push_held(&case, "qa/app:multi", "to-prod", &[("scratch/x:3", &image, "linux/amd64")]).await;
    case.push_unscanned("dev/app:promoted", "c").await;
    case.until_at("qa/app:promoted", &image).await;
    case.until_at("prod/app:multi", &index).await;

    let both =
        [("scratch/x:3", &image, "linux/amd64"), ("scratch/x:statement", &statement, "unknown/unknown")];
    let waits = push_held(&case, "qa/app:attested", "to-prod", &both).await;
    case.push_statement("dev/app:statement").await;
    let along = [both[0], both[1], ("scratch/x:2", &late, "linux/arm64")];
    let brings = push_index(&case, "dev/app:along", &along).await;
    case.until_at("qa/app:along", &brings).await;
    case.until_at("prod/app:attested", &waits).await;
    case.stop().await;
}

/// Regression: an image whose configuration came after its manifest was held for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_comes_asks_again() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "zlib", "9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let image = case.push("scratch/x:1", "x", &[("openssl", "3")]).await;
    case.until_idle().await;
    let (scratch, dev) = (stage_of("scratch/x:1").repository, stage_of("dev/app:1").repository);
    let target = Target::Digest(image.clone());
    let (_, bytes) = registry::manifest::read(&case.app.store, &scratch, &target).await.unwrap().unwrap();
    let (dev, checked) = (&dev, &Checked::new(bytes, None, &target).unwrap());
    let put = async |mut tx| registry::manifest::put(&mut tx, dev, checked, "ann", 0, Sparse::Images).await;
    case.app.store.act(put).await.unwrap();
    let index = push_index(&case, "dev/app:1", &[("scratch/x:1", &image, "linux/amd64")]).await;
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    assert_eq!(held.reasons[0].code, "unreadable-config", "{held:#?}");
    case.until_idle().await;
    assert_eq!(case.push_unscanned("dev/app:whole", "x").await, image);
    case.until_at("qa/app:1", &index).await;
    case.stop().await;
}

/// Regression: declared sizes that add up to more than there is room for wrapped around, to a small image.
#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_a_client_declares_do_not_wrap() {
    let mut case = Case::new().await;
    let stage = stage_of("dev/app:1");
    let config = case.blob(&stage.repository, "{}").await;
    let foreign = |name: &str| {
        json!({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": Digest::sha256(name.as_bytes()), "size": 1_u64 << 63})
    };
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [foreign("a"), foreign("b")],
        "config": {"mediaType": MediaType::OCI_CONFIG, "digest": config, "size": 2}});
    case.push_manifest(&stage, MediaType::OCI_MANIFEST, manifest.to_string()).await;
    let gathered = gather::tag(&case.app, &stage.repository, &stage.tag).await.unwrap().unwrap();
    let facts = gathered.facts.unwrap();
    assert_eq!((facts.facts().size_bytes, facts.facts().platforms[0].size_bytes), (u64::MAX, u64::MAX));
    case.stop().await;
}
