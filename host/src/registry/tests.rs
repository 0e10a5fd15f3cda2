//! The concepts over the in-memory engine: what a push holds, what it costs, what goes when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wharf_oci::{Descriptor, Digest, MediaType, RepoName, Tag, Target};
use wharf_store::links::{self, FRESH_MS};
use wharf_store::{BlobId, KeyRange, ManualClock, Model, Space, Store, StoreError, Tx};

use super::cache::ManifestCache;
use super::collect::Swept;
use super::manifest::{Checked, Sparse};
use super::setting::RepoSetting;
use super::tag::Pointed;
use super::{RegistryError, blob, collect, copy, manifest, quota, referrer, row, setting, tag};

const T: u64 = FRESH_MS;

struct World {
    store: Store,
}

fn world() -> World {
    World { store: Store::new(Arc::new(Model::new(Arc::new(ManualClock::new(1))))) }
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn descriptor(bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::sha256(bytes), "size": bytes.len() })
}

fn image(config: &[u8], layers: &[&[u8]]) -> serde_json::Value {
    json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor(config),
        "layers": layers.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
    })
}

fn index(children: &[&Checked]) -> serde_json::Value {
    let children: Vec<Descriptor> = children.iter().map(|child| child.descriptor()).collect();
    json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": children })
}

fn with_subject(mut manifest: serde_json::Value, subject: &Checked) -> serde_json::Value {
    manifest["subject"] = serde_json::to_value(subject.descriptor()).unwrap();
    manifest
}

fn checked(manifest: &serde_json::Value) -> Checked {
    let bytes = manifest.to_string().into_bytes();
    let target = Target::Digest(Digest::sha256(&bytes));
    Checked::new(bytes.into(), None, &target).unwrap()
}

impl World {
    async fn act<T, F: Future<Output = Result<T, RegistryError>>>(
        &self,
        f: impl FnMut(Tx) -> F,
    ) -> Result<T, RegistryError> {
        self.store.act(f).await.map(|(value, _)| value)
    }

    async fn blob(&self, name: &RepoName, bytes: &[u8], now_ms: u64) -> Result<(), RegistryError> {
        self.act(|mut tx| async move {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            Ok(blob::put_inline(&mut tx, name, &Digest::sha256(&bytes), &bytes, now_ms).await?)
        })
        .await
    }

    async fn put(&self, name: &RepoName, checked: &Checked, now_ms: u64) -> Result<bool, RegistryError> {
        self.act(|mut tx| async move {
            manifest::put(&mut tx, name, checked, "alice", now_ms, Sparse::Indexes).await
        })
        .await
    }

    /// An image of one config and one layer, with its blobs.
    async fn push(&self, name: &RepoName, fill: &str, now_ms: u64) -> Checked {
        let (config, layer) = (format!("config {fill}"), format!("layer {fill}"));
        self.blob(name, config.as_bytes(), now_ms).await.unwrap();
        self.blob(name, layer.as_bytes(), now_ms).await.unwrap();
        let checked = checked(&image(config.as_bytes(), &[layer.as_bytes()]));
        assert!(self.put(name, &checked, now_ms).await.unwrap());
        checked
    }

    async fn point(&self, name: &RepoName, tag: &str, to: &Checked) -> Result<Pointed, RegistryError> {
        let tag: &Tag = &tag.parse().unwrap();
        self.act(
            |mut tx| async move { tag::point(&mut tx, name, tag, &to.descriptor(), "alice", 1, &[]).await },
        )
        .await
    }

    async fn remove(&self, name: &RepoName, digest: &Digest, now_ms: u64) -> Result<(), RegistryError> {
        self.act(|mut tx| async move { manifest::remove(&mut tx, name, digest, now_ms).await.map(drop) })
            .await
    }

    async fn copy(
        &self,
        from: &RepoName,
        to: &RepoName,
        root: &Digest,
        now_ms: u64,
    ) -> Result<(), RegistryError> {
        let plan = &copy::plan(&self.store, from, root).await?;
        for chunk in plan.chunks() {
            self.act(|mut tx| async move { copy::steps(&mut tx, from, to, chunk, "bot", now_ms).await })
                .await?;
        }
        self.act(|mut tx| async move { copy::root(&mut tx, from, to, plan, "bot", now_ms).await.map(drop) })
            .await
    }

    /// Sweeps until nothing is stale any more; what went, in all.
    async fn sweep(&self, now_ms: u64) -> (usize, usize) {
        let (mut blobs, mut manifests, mut cursor, mut before) = (0, 0, None, 0);
        loop {
            let page = links::stale_page(&self.store, cursor.as_ref(), now_ms, T).await.unwrap();
            for (digest, name) in &page.links {
                let (digest, name): (&Digest, &RepoName) = (&digest.parse().unwrap(), &repo(name));
                let swept =
                    self.act(|mut tx| async move { collect::sweep(&mut tx, name, digest, now_ms, T).await });
                match swept.await.unwrap() {
                    Swept::Kept => {}
                    Swept::Blob => blobs += 1,
                    Swept::Manifest => manifests += 1,
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                if blobs + manifests == before {
                    return (blobs, manifests);
                }
                before = blobs + manifests;
            }
        }
    }

    async fn used(&self, namespace: &str) -> u64 {
        quota::usage(&self.store, namespace).await.unwrap().used
    }

    async fn rows(&self, space: Space) -> usize {
        self.store.scan(KeyRange::all(space), 1000).await.unwrap().rows.len()
    }

    async fn has(&self, name: &RepoName, checked: &Checked) -> bool {
        let target = Target::Digest(checked.digest.clone());
        manifest::read(&self.store, name, &target).await.unwrap().is_some_and(|(_, b)| b == checked.bytes)
    }
}

#[tokio::test]
async fn a_manifest_holds_what_it_names_and_lets_go_when_deleted() {
    let (w, app) = (world(), repo("dev/app"));
    let image = w.push(&app, "a", 0).await;
    assert_eq!(w.sweep(10 * T).await, (0, 0), "held");
    assert!(w.has(&app, &image).await);
    w.remove(&app, &image.digest, 10 * T).await.unwrap();
    assert!(!w.has(&app, &image).await);
    assert_eq!(w.sweep(11 * T - 1).await, (0, 0), "the blobs have just lost their manifest");
    assert_eq!(w.sweep(11 * T).await, (2, 0));
    for space in [Space::Blob, Space::Link, Space::Mref, Space::Manifest, Space::Edge] {
        assert_eq!(w.rows(space).await, 0, "{space}");
    }
    assert_eq!(w.used("dev").await, 0);
    let again = w.remove(&app, &image.digest, 0).await;
    assert!(matches!(again, Err(RegistryError::ManifestUnknown { .. })));
}

/// It could neither be deleted nor collected, nor could what it held.
#[tokio::test]
async fn a_manifest_that_today_s_parser_refuses_is_deleted_with_what_it_holds() {
    let (w, app) = (world(), repo("dev/app"));
    w.blob(&app, b"config", 0).await.unwrap();
    w.blob(&app, b"layer", 0).await.unwrap();
    let mut taken = image(b"config", &[b"layer"]);
    let manifest = checked(&taken).manifest;
    taken["schemaVersion"] = json!(1);
    let bytes = bytes::Bytes::from(taken.to_string());
    let old = Checked { manifest, digest: Digest::sha256(&bytes), bytes: bytes.clone() };
    assert!(Checked::new(bytes, None, &Target::Digest(old.digest.clone())).is_err());
    assert!(w.put(&app, &old, 0).await.unwrap());
    w.remove(&app, &old.digest, 0).await.unwrap();
    assert_eq!(w.sweep(T).await, (2, 0));
    for space in [Space::Blob, Space::Link, Space::Mref, Space::Manifest] {
        assert_eq!(w.rows(space).await, 0, "{space}");
    }
}

#[tokio::test]
async fn a_push_that_changes_nothing_commits_nothing() {
    let (w, app) = (world(), repo("dev/app"));
    let image = w.push(&app, "a", 0).await;
    w.point(&app, "1.0", &image).await.unwrap();
    let head = *w.store.head().borrow();
    assert!(!w.put(&app, &image, 5).await.unwrap());
    assert_eq!(w.point(&app, "1.0", &image).await.unwrap(), Pointed::Unchanged);
    assert_eq!(*w.store.head().borrow(), head);
}

#[tokio::test]
async fn what_is_missing_is_named_unless_it_may_be() {
    let (w, app) = (world(), repo("dev/app"));
    w.blob(&app, b"config", 0).await.unwrap();
    let image = checked(&image(b"config", &[b"missing"]));
    match w.put(&app, &image, 0).await {
        Err(RegistryError::ManifestBlobUnknown { missing, .. }) => {
            assert_eq!(missing, [Digest::sha256(b"missing")]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(w.rows(Space::Mref).await + w.rows(Space::Manifest).await, 0, "all or nothing");
    let (image, app) = (&image, &app);
    let sparse =
        w.act(|mut tx| async move { manifest::put(&mut tx, app, image, "alice", 0, Sparse::Images).await });
    assert!(sparse.await.unwrap());
    assert!(!w.put(app, image, 1).await.unwrap());
    // What comes later is held once the manifest is pushed again, and that is news.
    w.blob(app, b"missing", 1).await.unwrap();
    assert!(w.put(app, image, 2).await.unwrap());
    assert!(!w.put(app, image, 3).await.unwrap());
    assert_eq!(w.sweep(10 * T).await, (0, 0));
}

#[tokio::test]
async fn a_descriptor_must_not_lie_about_the_size() {
    let (w, app) = (world(), repo("dev/app"));
    w.blob(&app, b"config", 0).await.unwrap();
    let mut wrong = image(b"config", &[]);
    wrong["config"]["size"] = json!(7);
    let refused = w.put(&app, &checked(&wrong), 0).await;
    assert!(matches!(refused, Err(RegistryError::DescriptorSize { declared: 7, actual: 6, .. })));
}

#[tokio::test]
async fn an_index_keeps_its_manifests() {
    let (w, app) = (world(), repo("dev/app"));
    let (one, two) = (w.push(&app, "1", 0).await, w.push(&app, "2", 0).await);
    let both = checked(&index(&[&one, &two]));
    assert!(w.put(&app, &both, 0).await.unwrap());
    match w.remove(&app, &one.digest, 1).await {
        Err(RegistryError::InUse { by, .. }) => assert_eq!(by, both.digest),
        other => panic!("{other:?}"),
    }
    w.remove(&app, &both.digest, 1).await.unwrap();
    assert!(w.has(&app, &one).await, "a client pushed it, so a client deletes it");
    w.remove(&app, &one.digest, 1).await.unwrap();
}

#[tokio::test]
async fn a_blob_in_use_is_not_deleted() {
    let (w, app) = (world(), repo("dev/app"));
    let image = w.push(&app, "a", 0).await;
    let (app, layer) = (&app, &Digest::sha256(b"layer a"));
    let delete = || w.act(|mut tx| async move { blob::remove(&mut tx, app, layer).await });
    assert!(matches!(delete().await, Err(RegistryError::InUse { by, .. }) if by == image.digest));
    w.remove(app, &image.digest, 1).await.unwrap();
    delete().await.unwrap();
    assert!(matches!(delete().await, Err(RegistryError::BlobUnknown { .. })));
}

#[tokio::test]
async fn immutable_tags_stay() {
    let (w, app) = (world(), repo("dev/app"));
    let (one, two) = (w.push(&app, "1", 0).await, w.push(&app, "2", 0).await);
    let name = &app;
    let set = w.act(|mut tx| async move {
        setting::put(&mut tx, name, &RepoSetting { immutable_tags: vec!["v*".into()] })?;
        Ok(())
    });
    set.await.unwrap();
    assert_eq!(w.point(&app, "v1", &one).await.unwrap(), Pointed::Created);
    assert_eq!(w.point(&app, "v1", &one).await.unwrap(), Pointed::Unchanged);
    let moved = w.point(&app, "v1", &two).await;
    assert!(matches!(moved, Err(RegistryError::TagImmutable { pattern, .. }) if pattern == "v*"));
    assert_eq!(w.point(&app, "latest", &one).await.unwrap(), Pointed::Created);
    let from = one.digest.clone();
    assert_eq!(w.point(&app, "latest", &two).await.unwrap(), Pointed::Moved { from });
    let v1: &Tag = &"v1".parse().unwrap();
    let removed = w.act(|mut tx| async move { tag::remove(&mut tx, name, v1).await });
    assert!(matches!(removed.await, Err(RegistryError::TagImmutable { .. })));
    let nowhere = checked(&image(b"x", &[]));
    assert!(matches!(w.point(&app, "x", &nowhere).await, Err(RegistryError::ManifestUnknown { .. })));
}

#[tokio::test]
async fn a_quota_counts_each_blob_of_a_namespace_once() {
    let (w, app, web) = (world(), repo("dev/app"), repo("dev/web"));
    w.blob(&app, b"0123456789", 0).await.unwrap();
    w.blob(&app, b"0123456789", 0).await.unwrap();
    w.blob(&web, b"0123456789", 0).await.unwrap();
    assert_eq!((w.used("dev").await, w.used("qa").await), (10, 0));
    let limit = w.act(|mut tx| async move {
        quota::limit(&mut tx, "dev", Some(15));
        Ok(())
    });
    limit.await.unwrap();
    let refused = w.blob(&app, b"abcdef", 0).await.map_err(|error| quota::explain(error, &app));
    match refused {
        Err(RegistryError::Quota { used: 10, max: 15, asked: 6, namespace }) => assert_eq!(namespace, "dev"),
        other => panic!("{other:?}"),
    }
    let (new, known) = (&Digest::sha256(b"abcdef"), &Digest::sha256(b"0123456789"));
    let upload = &BlobId::parse("0123456789abcdef0123456789abcdef").unwrap();
    assert!(quota::must_reserve(&w.store, &app, upload, Some(new), 6).await.is_err());
    assert!(quota::must_reserve(&w.store, &app, upload, None, 6).await.is_err());
    assert!(!quota::must_reserve(&w.store, &app, upload, Some(new), 5).await.unwrap());
    assert!(!quota::must_reserve(&w.store, &app, upload, Some(known), 10).await.unwrap());
    w.blob(&app, b"abcde", 0).await.unwrap();
    let (web, qa, digest) = (&web, &repo("qa/app"), &Digest::sha256(b"0123456789"));
    let mounted = w.act(|mut tx| async move { Ok(blob::mount(&mut tx, web, qa, digest, 0).await?) });
    assert!(mounted.await.unwrap());
    assert_eq!((w.used("dev").await, w.used("qa").await), (15, 10));
    let (app, digest) = (&app, &Digest::sha256(b"0123456789"));
    w.act(|mut tx| async move { blob::remove(&mut tx, app, digest).await }).await.unwrap();
    assert_eq!(w.used("dev").await, 15, "dev/web still has it");
    w.act(|mut tx| async move { blob::remove(&mut tx, web, digest).await }).await.unwrap();
    assert_eq!((w.used("dev").await, w.used("qa").await), (5, 10));
}

#[tokio::test]
async fn what_an_upload_reserves_counts_until_it_ends() {
    const MB: u64 = 1 << 20;
    let (w, app) = (world(), &repo("dev/app"));
    let upload = &BlobId::parse("0123456789abcdef0123456789abcdef").unwrap();
    let (used, must) = (|| w.used("dev"), |bytes| quota::must_reserve(&w.store, app, upload, None, bytes));
    assert!(!must(1 << 40).await.unwrap(), "nothing is reserved where nothing is limited");
    let limit = w.act(|mut tx| async move {
        quota::limit(&mut tx, "dev", Some(100 * MB));
        Ok(())
    });
    limit.await.unwrap();
    let day = Duration::from_millis(T);
    let reserve = |bytes| {
        w.act(move |mut tx| async move { Ok(quota::reserve(&mut tx, app, upload, bytes, day).await?) })
    };
    let lower =
        |bytes| w.act(move |mut tx| async move { Ok(quota::lower(&mut tx, app, upload, bytes, day).await?) });
    assert!(must(60 * MB).await.unwrap());
    reserve(60 * MB).await.unwrap();
    reserve(50 * MB).await.unwrap();
    assert_eq!(used().await, 60 * MB, "what is reserved is enough for less");
    assert!(!must(60 * MB + 1).await.unwrap(), "a little more is the commit's to decide");
    assert!(must(101 * MB).await.is_err());
    let refused = reserve(101 * MB).await.map_err(|error| quota::explain(error, app));
    assert!(matches!(refused, Err(RegistryError::Quota { asked, .. }) if asked == 41 * MB), "{refused:?}");
    lower(70 * MB).await.unwrap();
    lower(20 * MB).await.unwrap();
    assert_eq!(used().await, 20 * MB);
    let (early, next) = quota::expired(&w.store, None, T).await.unwrap();
    assert!(early.is_empty() && next.is_none());
    let (late, _) = quota::expired(&w.store, None, T + 1).await.unwrap();
    let expire = |now_ms| {
        let row = &late[0];
        w.act(move |mut tx| async move { Ok(quota::expire(&mut tx, row, now_ms).await?) })
    };
    expire(T).await.unwrap();
    assert_eq!(used().await, 20 * MB);
    expire(T + 1).await.unwrap();
    lower(0).await.unwrap();
    assert_eq!((used().await, w.rows(Space::Upload).await), (0, 0));
}

#[tokio::test]
async fn referrers_are_listed_by_type_and_page() {
    let (w, app) = (world(), repo("dev/app"));
    let subject = checked(&image(b"not there", &[]));
    let mut expected = Vec::new();
    for i in 0..5 {
        let config = format!("c{i}");
        w.blob(&app, config.as_bytes(), 0).await.unwrap();
        let mut artifact = with_subject(image(config.as_bytes(), &[]), &subject);
        artifact["artifactType"] = json!(if i % 2 == 0 { "a/even" } else { "a/odd" });
        artifact["annotations"] = json!({ "i": i.to_string(), "big": "x".repeat(i * 5000) });
        let artifact = checked(&artifact);
        w.put(&app, &artifact, 0).await.unwrap();
        expected.push(artifact.digest);
    }
    expected.sort();
    let list = async |kind: Option<&str>, last: Option<&Digest>, n| {
        let kind: Option<MediaType> = kind.map(|kind| kind.parse().unwrap());
        referrer::list(&w.store, &app, &subject.digest, kind.as_ref(), last, n).await.unwrap()
    };
    let all = list(None, None, 100).await;
    assert_eq!(
        all.descriptors.iter().map(|d| &d.digest).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert_eq!(all.next, None);
    for entry in &all.descriptors {
        let i: usize = entry.annotations["i"].parse().unwrap();
        assert_eq!(entry.annotations["big"].len(), i * 5000, "large annotations are read from the manifest");
    }
    assert_eq!(list(Some("a/odd"), None, 100).await.descriptors.len(), 2);
    assert_eq!(list(Some("a/none"), None, 100).await.descriptors.len(), 0);
    let (mut seen, mut last) = (Vec::new(), None);
    loop {
        let page = list(None, last.as_ref(), 2).await;
        assert!(page.descriptors.len() <= 2);
        seen.extend(page.descriptors.into_iter().map(|d| d.digest));
        last = page.next;
        if last.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    w.remove(&app, &expected[0], 0).await.unwrap();
    assert_eq!(list(None, None, 100).await.descriptors.len(), 4);
}

#[tokio::test]
async fn a_copy_takes_children_and_referrers_along_and_no_bytes() {
    let (w, dev, qa) = (world(), repo("dev/app"), repo("qa/app"));
    let (one, two) = (w.push(&dev, "1", 0).await, w.push(&dev, "2", 0).await);
    let both = checked(&index(&[&one, &two]));
    w.put(&dev, &both, 0).await.unwrap();
    w.blob(&dev, b"sig", 0).await.unwrap();
    let signature = checked(&with_subject(image(b"sig", &[]), &both));
    w.put(&dev, &signature, 0).await.unwrap();
    w.blob(&dev, b"sbom", 0).await.unwrap();
    let sbom = checked(&with_subject(image(b"sbom", &[]), &one));
    w.put(&dev, &sbom, 0).await.unwrap();
    let blobs = w.rows(Space::Blob).await;

    w.copy(&dev, &qa, &both.digest, 5).await.unwrap();
    assert_eq!(w.rows(Space::Blob).await, blobs);
    assert_eq!(w.used("qa").await, w.used("dev").await);
    for part in [&both, &one, &two, &signature, &sbom] {
        assert!(w.has(&qa, part).await, "{}", part.digest);
    }
    assert_eq!(w.point(&qa, "1.0", &both).await.unwrap(), Pointed::Created);
    let head = *w.store.head().borrow();
    w.copy(&dev, &qa, &both.digest, 6).await.unwrap();
    assert_eq!(*w.store.head().borrow(), head, "a second copy changes nothing");

    // The source may go; the copy stays, all of it.
    for part in [&both, &one, &two, &signature, &sbom] {
        w.remove(&dev, &part.digest, 7).await.unwrap();
    }
    w.sweep(10 * T).await;
    assert_eq!(w.used("dev").await, 0);
    for part in [&both, &one, &two, &signature, &sbom] {
        assert!(w.has(&qa, part).await, "{}", part.digest);
    }
    // And goes with its index: nobody pushed the rest here for its own sake.
    w.remove(&qa, &both.digest, 10 * T).await.unwrap();
    let mut now_ms = 10 * T;
    for _ in 0..4 {
        now_ms += T;
        w.sweep(now_ms).await;
    }
    for space in [Space::Blob, Space::Link, Space::Mref, Space::Manifest, Space::Referrer, Space::Edge] {
        assert_eq!(w.rows(space).await, 0, "{space}");
    }
    assert_eq!(w.used("qa").await, 0);
}

#[tokio::test]
async fn a_copy_that_breaks_off_leaves_nothing_for_ever() {
    let (w, dev, qa) = (world(), repo("dev/app"), repo("qa/app"));
    let (one, two) = (w.push(&dev, "1", 0).await, w.push(&dev, "2", 0).await);
    let both = checked(&index(&[&one, &two]));
    w.put(&dev, &both, 0).await.unwrap();
    let plan = copy::plan(&w.store, &dev, &both.digest).await.unwrap();
    let (from, to) = (&dev, &qa);
    for chunk in plan.chunks() {
        w.act(|mut tx| async move { copy::steps(&mut tx, from, to, chunk, "bot", 5).await }).await.unwrap();
    }
    assert!(w.has(&qa, &one).await);
    w.sweep(5 + T).await;
    w.sweep(5 + 2 * T).await;
    assert!(!w.has(&qa, &one).await);
    assert_eq!(w.used("qa").await, 0);
    assert!(w.has(&dev, &one).await && w.has(&dev, &both).await);
}

#[tokio::test]
async fn a_copy_of_what_the_source_lost_is_not_made() {
    let (w, dev, qa) = (world(), repo("dev/app"), repo("qa/app"));
    let one = w.push(&dev, "1", 0).await;
    let plan = &copy::plan(&w.store, &dev, &one.digest).await.unwrap();
    // The blobs were never linked to the target, as if they had gone between the plan and the commit.
    let (from, to) = (&dev, &qa);
    let copied = w.act(|mut tx| async move { copy::root(&mut tx, from, to, plan, "bot", 5).await });
    assert!(matches!(copied.await, Err(RegistryError::ManifestBlobUnknown { .. })));
    assert!(!w.has(&qa, &one).await);
}

#[tokio::test]
async fn a_large_image_is_copied_in_portions() {
    let (w, dev, qa) = (world(), repo("dev/app"), repo("qa/app"));
    let layers: Vec<String> = (0..manifest::DESCRIPTORS_MAX - 1).map(|i| format!("layer {i}")).collect();
    w.blob(&dev, b"config", 0).await.unwrap();
    for layer in &layers {
        w.blob(&dev, layer.as_bytes(), 0).await.unwrap();
    }
    let layers: Vec<&[u8]> = layers.iter().map(String::as_bytes).collect();
    let image = checked(&image(b"config", &layers));
    w.put(&dev, &image, 0).await.unwrap();
    let plan = copy::plan(&w.store, &dev, &image.digest).await.unwrap();
    assert!(plan.chunks().len() > 1);
    w.copy(&dev, &qa, &image.digest, 1).await.unwrap();
    assert!(w.has(&qa, &image).await);
    assert_eq!(w.used("qa").await, w.used("dev").await);
    // As large as it may be, it can be deleted in one commit, too.
    w.remove(&qa, &image.digest, 2).await.unwrap();
    assert_eq!(w.sweep(10 * T).await, (manifest::DESCRIPTORS_MAX, 0));
}

#[tokio::test]
async fn what_a_client_pushes_again_is_its_own() {
    let (w, dev, qa) = (world(), repo("dev/app"), repo("qa/app"));
    let one = w.push(&dev, "1", 0).await;
    let both = checked(&index(&[&one]));
    w.put(&dev, &both, 0).await.unwrap();
    w.copy(&dev, &qa, &both.digest, 0).await.unwrap();
    assert!(!w.put(&qa, &one, 0).await.unwrap());
    w.remove(&qa, &both.digest, 1).await.unwrap();
    w.sweep(10 * T).await;
    assert!(w.has(&qa, &one).await);
}

#[tokio::test]
async fn a_manifest_with_more_descriptors_than_fit_is_refused() {
    let layers: Vec<String> = (0..manifest::DESCRIPTORS_MAX).map(|i| i.to_string()).collect();
    let layers: Vec<&[u8]> = layers.iter().map(String::as_bytes).collect();
    let bytes = image(b"config", &layers).to_string().into_bytes();
    let refused = Checked::new(bytes.into(), None, &Target::Tag("x".parse().unwrap()));
    assert!(matches!(refused, Err(RegistryError::TooManyDescriptors { .. })));
}

#[tokio::test]
async fn rows_of_a_push_are_few() {
    let (w, app) = (world(), repo("dev/app"));
    w.push(&app, "warm up", 0).await;
    w.blob(&app, b"config", 0).await.unwrap();
    w.blob(&app, b"layer", 0).await.unwrap();
    let before = total(&w).await;
    let (app, image) = (&app, &checked(&image(b"config", &[b"layer"])));
    let (tag, to) = (&"1.0".parse().unwrap(), &image.descriptor());
    let push = w.act(|mut tx| async move {
        manifest::put(&mut tx, app, image, "alice", 0, Sparse::Nothing).await?;
        tag::point(&mut tx, app, tag, to, "alice", 0, &[]).await
    });
    push.await.unwrap();
    // Bytes, link, its charge, manifest, three references, tag; the counter is there already.
    assert_eq!(total(&w).await - before, 8);
}

async fn total(w: &World) -> usize {
    let mut rows = 0;
    for space in Space::ALL {
        rows += w.rows(space).await;
    }
    rows
}

#[tokio::test]
async fn damaged_rows_are_an_error_and_no_panic() {
    let (w, app) = (world(), repo("dev/app"));
    let image = w.push(&app, "a", 0).await;
    let key = &row::manifest(&app, &image.digest);
    let write = w.act(|mut tx| async move {
        tx.put(key, "{");
        Ok(())
    });
    write.await.unwrap();
    let read = manifest::read(&w.store, &app, &Target::Digest(image.digest)).await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })));
}

/// A manifest whose bytes a scrub found damaged stayed so, since a push of what is there writes nothing.
#[tokio::test]
async fn pushing_a_damaged_manifest_again_repairs_it() {
    let (w, name) = (world(), repo("dev/app"));
    let pushed = w.push(&name, "a", 1).await;
    let digest = pushed.digest.as_str();
    let act = w.store.act(|mut tx| async move { links::mark_damaged(&mut tx, digest).await });
    assert!(act.await.unwrap().0);
    assert!(blob::find(&w.store, &name, &pushed.digest).await.unwrap().is_none());
    assert!(!w.put(&name, &pushed, 2).await.unwrap());
    let found = blob::find(&w.store, &name, &pushed.digest).await.unwrap().unwrap();
    assert_eq!(blob::inline(found), Some(pushed.bytes.clone()));
}

#[tokio::test]
async fn what_is_pulled_again_is_what_the_store_would_answer() {
    let (w, name, cache) = (world(), &repo("dev/app"), ManifestCache::default());
    let (a, b) = (w.push(name, "a", 1).await, w.push(name, "b", 1).await);
    let target = &Target::Tag("1".parse().unwrap());
    let pull = async || cache.read(&w.store, name, target).await.unwrap();
    let check = async |expected: Option<&Checked>| {
        let served = pull().await;
        assert_eq!(served.as_ref().map(|served| &served.0.digest), expected.map(|checked| &checked.digest));
        let again = pull().await;
        assert!(served.zip(again).is_none_or(|(served, again)| Arc::ptr_eq(&served, &again)), "it is held");
    };
    check(None).await;
    w.point(name, "1", &a).await.unwrap();
    check(Some(&a)).await;
    w.point(name, "1", &b).await.unwrap();
    check(Some(&b)).await;
    assert!(cache.read(&w.store, &repo("qa/app"), target).await.unwrap().is_none());
    w.remove(name, &b.digest, 2).await.unwrap();
    check(None).await;
}
