use std::sync::Arc;

use super::*;
use crate::{Blobs, ManualClock, Model};

const T: u64 = FRESH_MS;

struct World {
    store: Store,
    blobs: Blobs,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), 0).unwrap();
    World { store: Store::new(Arc::new(Model::new(Arc::new(ManualClock::new(1))))), blobs, _dir: dir }
}

impl World {
    /// Pushes 5,000 bytes of `fill` under its sha256, or under its sha512.
    async fn push(&self, fill: u8, sha512: bool, repo: &str, now_ms: u64) -> (String, Added, BlobId) {
        let mut writer = self.blobs.create(repo, false).await.unwrap();
        writer.write(vec![fill; 5000].into()).await.unwrap();
        let done = writer.finish(sha512).await.unwrap();
        let digest = done.sha512.clone().unwrap_or_else(|| done.sha256.clone());
        let twin = sha512.then_some(done.sha256.as_str());
        let new = NewBlob { digest: &digest, twin, size: done.size, stored: &done.stored };
        let act = self.store.act(|mut tx| {
            let new = new.clone();
            async move { add_blob(&mut tx, new, repo, now_ms).await }
        });
        let added = act.await.unwrap().0;
        let id = done.id.clone();
        if added == Added::Known {
            done.discard().await.unwrap();
        }
        (digest, added, id)
    }

    async fn hold(&self, digest: &str, repo: &str, manifest: &str) -> bool {
        let act = self.store.act(|mut tx| async move { hold(&mut tx, digest, repo, manifest).await });
        act.await.unwrap().0
    }

    async fn release(&self, digest: &str, repo: &str, manifest: &str, now_ms: u64) {
        let act =
            self.store.act(|mut tx| async move { release(&mut tx, digest, repo, manifest, now_ms).await });
        act.await.unwrap();
    }

    async fn mount(&self, digest: &str, from: &str, repo: &str, now_ms: u64) -> bool {
        let act = self.store.act(|mut tx| async move { mount(&mut tx, digest, from, repo, now_ms).await });
        act.await.unwrap().0
    }

    async fn collect(&self, now_ms: u64) -> (usize, usize, usize) {
        let page = stale_page(&self.store, None, now_ms, T).await.unwrap();
        assert_eq!(page.next, None);
        let (mut links, mut blobs) = (0, 0);
        for (digest, repo) in &page.links {
            let act = self.store.act(|mut tx| async move {
                assert!(stale(&mut tx, digest, repo, now_ms, T).await?);
                unlink(&mut tx, digest, repo).await
            });
            assert!(act.await.unwrap().0.is_some());
            links += 1;
            blobs += usize::from(self.store.get(&blob_key(digest)).await.unwrap().is_none());
        }
        (links, blobs, reap(&self.store, &self.blobs).await.unwrap())
    }

    async fn files(&self) -> Vec<BlobId> {
        let mut files = Vec::new();
        for digit in 0..16 {
            files.extend(self.blobs.list(digit).await.unwrap().into_iter().map(|file| file.id));
        }
        files
    }

    async fn readable(&self, digest: &str, repo: &str, now_ms: u64) -> bool {
        match find(&self.store, digest, repo, now_ms, T).await.unwrap().map(|blob| blob.stored) {
            Some(Stored::File(id)) => self.blobs.open(&id).await.is_ok(),
            Some(Stored::Inline(_)) => true,
            None => false,
        }
    }
}

#[tokio::test]
async fn a_blob_lives_as_long_as_something_needs_it() {
    let w = world();
    let (digest, added, _) = w.push(1, false, "dev/app", 0).await;
    assert_eq!(added, Added::Stored);
    assert!(w.readable(&digest, "dev/app", T / 2 - 1).await);
    assert!(!w.readable(&digest, "dev/app", T / 2).await, "a promise of half of T cannot be kept any more");
    assert!(!w.readable(&digest, "dev/other", 0).await);
    assert!(w.hold(&digest, "dev/app", "m1").await);
    assert!(!w.hold(&digest, "dev/other", "m1").await);
    assert_eq!(state(&w.store, &digest, "dev/app").await, Ok(LinkState::Held));
    assert_eq!(w.collect(10 * T).await, (0, 0, 0));
    assert!(w.readable(&digest, "dev/app", 10 * T).await);

    assert!(w.mount(&digest, "dev/app", "qa/app", 10 * T).await);
    assert!(!w.mount(&digest, "nobody", "qa/app", 10 * T).await);
    w.release(&digest, "dev/app", "m1", 10 * T).await;
    assert_eq!(state(&w.store, &digest, "dev/app").await, Ok(LinkState::Fresh { since_ms: 10 * T }));
    assert_eq!(w.collect(11 * T - 1).await, (0, 0, 0));
    assert!(w.hold(&digest, "qa/app", "m1").await);
    assert_eq!(w.collect(11 * T).await, (1, 0, 0));
    assert!(w.readable(&digest, "qa/app", 11 * T).await);
    w.release(&digest, "qa/app", "m1", 11 * T).await;
    assert_eq!(w.collect(12 * T).await, (1, 1, 1));
    assert_eq!(w.files().await, []);
    assert!(!w.mount(&digest, "qa/app", "dev/app", 12 * T).await);
}

#[tokio::test]
async fn the_last_of_two_manifests_starts_the_clock() {
    let w = world();
    let (digest, ..) = w.push(1, false, "dev/app", 0).await;
    assert!(w.hold(&digest, "dev/app", "m1").await);
    assert!(w.hold(&digest, "dev/app", "m2").await);
    w.release(&digest, "dev/app", "m1", 5).await;
    w.release(&digest, "dev/app", "m1", 6).await;
    w.release(&digest, "dev/app", "never", 7).await;
    assert_eq!(state(&w.store, &digest, "dev/app").await, Ok(LinkState::Held));
    w.release(&digest, "dev/app", "m2", 8).await;
    assert_eq!(state(&w.store, &digest, "dev/app").await, Ok(LinkState::Fresh { since_ms: 8 }));
}

#[tokio::test]
async fn pushing_again_keeps_one_file() {
    let w = world();
    let (digest, _, first) = w.push(1, false, "dev/app", 0).await;
    assert_eq!(w.push(1, false, "qa/app", 1).await.1, Added::Known);
    assert_eq!(w.files().await, [first]);
    assert!(w.readable(&digest, "qa/app", 1).await);
}

#[tokio::test]
async fn both_digests_name_one_file_until_both_are_gone() {
    let w = world();
    let (sha256, _, id) = w.push(1, false, "dev/app", 0).await;
    let (sha512, added, _) = w.push(1, true, "dev/app", T).await;
    assert_eq!(added, Added::Known);
    assert_eq!(w.collect(T).await, (1, 1, 0));
    assert!(!w.readable(&sha256, "dev/app", T).await);
    assert!(w.readable(&sha512, "dev/app", T).await);
    assert_eq!(w.files().await, [id]);
    assert_eq!(w.collect(2 * T).await, (1, 1, 1));
    assert_eq!(w.files().await, []);
}

#[tokio::test]
async fn a_push_replaces_a_damaged_file() {
    for twin_first in [false, true] {
        let w = world();
        let (sha512, ..) = w.push(1, true, "dev/app", 0).await;
        let (sha256, _, sha256_id) = w.push(1, false, "dev/app", 0).await;
        assert!(w.files().await.contains(&sha256_id), "sha512 was not computed, so nobody can know");
        // Pushed under sha512 again it is known; the rows stay as they are.
        assert_eq!(w.push(1, true, "dev/app", 0).await.1, Added::Known);
        let broken = if twin_first { &sha256 } else { &sha512 };
        let act = w.store.act(|mut tx| async move { mark_damaged(&mut tx, broken).await });
        assert!(act.await.unwrap().0);
        assert!(!w.readable(broken, "dev/app", 0).await);
        assert!(!w.mount(broken, "dev/app", "qa/app", 0).await);
        let (again, added, _) = w.push(1, !twin_first, "dev/app", 0).await;
        assert_eq!(&again, broken);
        // Under sha512 the healthy file of the sha256 row is found; under sha256 nothing else is known.
        assert_eq!(added, if twin_first { Added::Stored } else { Added::Known });
        assert!(w.readable(&sha256, "dev/app", 0).await);
        assert!(w.readable(&sha512, "dev/app", 0).await);
        assert_eq!(reap(&w.store, &w.blobs).await.unwrap(), 1);
        assert!(w.readable(&sha256, "dev/app", 0).await);
        assert!(w.readable(&sha512, "dev/app", 0).await);
        w.collect(T).await;
        assert_eq!(w.files().await, []);
    }
}

#[tokio::test]
async fn a_damaged_file_of_two_digests_is_replaced_for_both() {
    let w = world();
    let (sha256, _, old) = w.push(1, false, "dev/app", 0).await;
    let (sha512, ..) = w.push(1, true, "dev/app", 0).await;
    let act = w.store.act(|mut tx| {
        let sha256 = &sha256;
        async move { mark_damaged(&mut tx, sha256).await }
    });
    act.await.unwrap();
    assert!(!w.readable(&sha512, "dev/app", 0).await);
    let (_, added, new) = w.push(1, false, "dev/app", 0).await;
    assert_eq!(added, Added::Stored);
    assert_eq!(reap(&w.store, &w.blobs).await.unwrap(), 1);
    assert!(w.readable(&sha256, "dev/app", 0).await && w.readable(&sha512, "dev/app", 0).await);
    assert!(w.files().await.contains(&new) && !w.files().await.contains(&old));
}

#[tokio::test]
async fn a_scrub_finds_what_the_disk_has_lost() {
    let w = world();
    let path = |id: &BlobId| w._dir.path().join("blobs").join(&id.as_str()[..2]).join(id.as_str());
    let (sound, ..) = w.push(1, false, "dev/app", 0).await;
    let (flipped, _, flipped_id) = w.push(2, true, "dev/app", 0).await;
    let (gone, _, gone_id) = w.push(3, false, "dev/app", 0).await;
    let clean = scrub_page(&w.store, &w.blobs, None).await.unwrap();
    assert_eq!((clean.seen, clean.bytes, clean.damaged, clean.next), (3, 15_000, Vec::new(), None));

    std::fs::remove_file(path(&flipped_id)).unwrap();
    std::fs::write(path(&flipped_id), vec![4; 5000]).unwrap();
    std::fs::remove_file(path(&gone_id)).unwrap();
    let mut found = scrub_page(&w.store, &w.blobs, None).await.unwrap().damaged;
    found.sort();
    let mut lost = vec![flipped.clone(), gone.clone()];
    lost.sort();
    assert_eq!(found, lost);
    assert!(w.readable(&sound, "dev/app", 0).await && !w.readable(&gone, "dev/app", 0).await);
    assert_eq!(scrub_page(&w.store, &w.blobs, None).await.unwrap().seen, 1, "what is marked is known");

    assert_eq!(w.push(3, false, "dev/app", 0).await.1, Added::Stored);
    assert_eq!(w.push(2, true, "dev/app", 0).await.1, Added::Stored);
    assert!(w.readable(&gone, "dev/app", 0).await && w.readable(&flipped, "dev/app", 0).await);
    assert_eq!(scrub_page(&w.store, &w.blobs, None).await.unwrap().damaged, Vec::<String>::new());
}

#[tokio::test]
async fn only_what_no_row_names_is_an_orphan() {
    let w = world();
    let (_, _, named) = w.push(1, false, "dev/app", 0).await;
    let mut writer = w.blobs.create("dev/app", false).await.unwrap();
    writer.write(vec![2; 5000].into()).await.unwrap();
    let finished = writer.finish(false).await.unwrap();
    let mut writer = w.blobs.create("dev/app", false).await.unwrap();
    writer.write(vec![3; 5000].into()).await.unwrap();
    writer.suspend().await.unwrap();
    let writer = w.blobs.create("dev/app", false).await.unwrap();
    writer.suspend().await.unwrap();

    let now_ms = crate::Clock::now_ms(&crate::SystemClock);
    let sweep = async |now_ms| {
        let mut removed = 0;
        for digit in 0..16 {
            removed += orphans(&w.store, &w.blobs, digit, now_ms, T).await.unwrap();
        }
        removed
    };
    assert_eq!(sweep(now_ms).await, 0, "too young");
    assert_eq!(sweep(now_ms + T + 60_000).await, 2, "one is being committed");
    drop(finished);
    assert_eq!(sweep(now_ms + T + 60_000).await, 1);
    assert_eq!(w.files().await, [named]);
}

#[test]
fn rows_of_later_versions_are_read() {
    let val = "{\"size\":2,\"new\":[1]}\nhi";
    let row = Row { key: blob_key("sha256:1"), rev: crate::Rev(1), until_ms: 0, val: val.into() };
    let blob = Blob::decode(&row).unwrap();
    assert_eq!((blob.stored, blob.damaged), (Stored::Inline("hi".into()), false));
    let row = Row { val: "hi".into(), ..row };
    assert!(matches!(Blob::decode(&row), Err(StoreError::Damaged { .. })));
}
