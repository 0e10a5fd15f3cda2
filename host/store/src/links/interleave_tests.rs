//! Random interleavings of pushes, mounts, manifests, deletes, sweeps, reaps and crashes.
//!
//! The engine gives way a random number of times before each call, so that acts which run together meet at every point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, join_all};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::seam::{Commit, CommitError, Committed, Direction, Engine, Page, ReadError};
use crate::{Blobs, Clock as _, Model, SystemClock};

const T: u64 = FRESH_MS;

/// An engine that lets others go first.
#[derive(Debug)]
struct GivesWay {
    model: Model,
    random: AtomicU64,
}

impl GivesWay {
    async fn give_way(&self) {
        let random =
            |n: u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let n = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, random).unwrap();
        for _ in 0..(n >> 60) {
            tokio::task::yield_now().await;
        }
    }
}

impl Engine for GivesWay {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        Box::pin(async move {
            self.give_way().await;
            self.model.get(keys).await
        })
    }
    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            self.give_way().await;
            self.model.scan(range, limit, direction).await
        })
    }
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            self.give_way().await;
            self.model.commit(commit).await
        })
    }
    fn head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.model.head()
    }
    fn now_ms(&self) -> u64 {
        self.model.now_ms()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Push { content: u8, sha512: bool, repo: u8, crash: bool },
    Mount { content: u8, sha512: bool, from: u8, repo: u8 },
    Hold { content: u8, sha512: bool, repo: u8, manifest: u8 },
    Release { content: u8, sha512: bool, repo: u8, manifest: u8 },
    Damage { content: u8, sha512: bool },
    Sweep,
    Reap,
    Orphans,
}

fn an_act() -> impl Strategy<Value = Act> {
    let (n, b) = (|| 0..2u8, any::<bool>);
    prop_oneof![
        4 => (n(), b(), n(), proptest::bool::weighted(0.2))
            .prop_map(|(content, sha512, repo, crash)| Act::Push { content, sha512, repo, crash }),
        2 => (n(), b(), n(), n()).prop_map(|(content, sha512, from, repo)| Act::Mount { content, sha512, from, repo }),
        4 => (n(), b(), n(), n())
            .prop_map(|(content, sha512, repo, manifest)| Act::Hold { content, sha512, repo, manifest }),
        3 => (n(), b(), n(), n())
            .prop_map(|(content, sha512, repo, manifest)| Act::Release { content, sha512, repo, manifest }),
        1 => (n(), b()).prop_map(|(content, sha512)| Act::Damage { content, sha512 }),
        3 => Just(Act::Sweep),
        2 => Just(Act::Reap),
        1 => Just(Act::Orphans),
    ]
}

struct World {
    store: Store,
    blobs: Blobs,
    /// Real time when the history began: files have real times.
    began_ms: u64,
    /// The digests of the contents, sha256 and sha512.
    digests: Vec<[String; 2]>,
}

/// More than fits a row.
fn bytes(content: u8) -> bytes::Bytes {
    vec![content; 5000].into()
}

impl World {
    /// Where a case before it failed, its files are still there.
    async fn new(blobs: Blobs, seed: u64) -> World {
        for digit in 0..16 {
            for file in blobs.list(digit).await.unwrap() {
                blobs.delete(&file.id).await.unwrap();
            }
        }
        let store = Store::new(Arc::new(GivesWay { model: Model::default(), random: AtomicU64::new(seed) }));
        let mut digests = Vec::new();
        for content in 0..2 {
            let mut writer = blobs.create("x", true).await.unwrap();
            writer.write(bytes(content)).await.unwrap();
            let done = writer.finish(true).await.unwrap();
            digests.push([done.sha256.clone(), done.sha512.clone().unwrap()]);
            done.discard().await.unwrap();
        }
        World { store, blobs, began_ms: SystemClock.now_ms(), digests }
    }

    fn digest(&self, content: u8, sha512: bool) -> &str {
        &self.digests[usize::from(content)][usize::from(sha512)]
    }

    async fn push(&self, content: u8, sha512: bool, repo: &str, crash: bool, now_ms: u64) {
        let mut writer = self.blobs.create(repo, false).await.unwrap();
        writer.write(bytes(content)).await.unwrap();
        let done = writer.finish(sha512).await.unwrap();
        if crash {
            return;
        }
        let digest = self.digest(content, sha512);
        let twin = sha512.then_some(done.sha256.as_str());
        let new = NewBlob { digest, twin, size: done.size, stored: &done.stored };
        let act = self.store.act(|mut tx| {
            let new = new.clone();
            async move { add_blob(&mut tx, new, repo, now_ms).await }
        });
        match act.await {
            Ok((Added::Known, _)) | Err(StoreError::Conflict(_)) => done.discard().await.unwrap(),
            Ok((Added::Stored, _)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn run(&self, act: &Act, now_ms: u64) {
        let store = &self.store;
        let (repo, manifest) = (|n: u8| format!("r{n}"), |n: u8| format!("m{n}"));
        let done = match act.clone() {
            Act::Push { content, sha512, repo: r, crash } => {
                self.push(content, sha512, &repo(r), crash, now_ms).await;
                Ok(())
            }
            Act::Mount { content, sha512, from, repo: r } => {
                let (digest, from, repo) = (self.digest(content, sha512), &repo(from), &repo(r));
                store
                    .act(|mut tx| async move { mount(&mut tx, digest, from, repo, now_ms).await })
                    .await
                    .map(drop)
            }
            Act::Hold { content, sha512, repo: r, manifest: m } => {
                let (digest, repo, m) = (self.digest(content, sha512), &repo(r), &manifest(m));
                store.act(|mut tx| async move { hold(&mut tx, digest, repo, m).await }).await.map(drop)
            }
            Act::Release { content, sha512, repo: r, manifest: m } => {
                let (digest, repo, m) = (self.digest(content, sha512), &repo(r), &manifest(m));
                store
                    .act(|mut tx| async move { release(&mut tx, digest, repo, m, now_ms).await })
                    .await
                    .map(drop)
            }
            Act::Damage { content, sha512 } => {
                let digest = self.digest(content, sha512);
                store.act(|mut tx| async move { mark_damaged(&mut tx, digest).await }).await.map(drop)
            }
            Act::Sweep => self.sweep(now_ms).await,
            Act::Reap => {
                reap(store, &self.blobs).await.unwrap();
                Ok(())
            }
            Act::Orphans => {
                self.orphans(now_ms).await;
                Ok(())
            }
        };
        assert!(matches!(done, Ok(()) | Err(StoreError::Conflict(_))), "{act:?}: {done:?}");
    }

    async fn sweep(&self, now_ms: u64) -> Result<(), StoreError> {
        for (digest, repo) in &stale_page(&self.store, None, now_ms, T).await?.links {
            let act = self.store.act(|mut tx| async move {
                if stale(&mut tx, digest, repo, now_ms, T).await? {
                    unlink(&mut tx, digest, repo).await?;
                }
                Ok::<_, StoreError>(())
            });
            act.await?;
        }
        Ok(())
    }

    async fn orphans(&self, now_ms: u64) -> usize {
        let mut removed = 0;
        for digit in 0..16 {
            removed += orphans(&self.store, &self.blobs, digit, now_ms, T).await.unwrap();
        }
        removed
    }

    async fn rows(&self, space: Space) -> Vec<Row> {
        self.store.scan(KeyRange::all(space), 1000).await.unwrap().rows
    }

    /// What must hold at every moment.
    async fn check(&self) {
        self.check_rows().await;
        for row in self.rows(Space::Blob).await {
            let Stored::File(id) = Blob::decode(&row).unwrap().stored else { panic!("{row:?} is in a file") };
            let reader = self.blobs.open(&id).await;
            assert_eq!(reader.unwrap().size(), 5000, "{row:?} has its file");
        }
    }

    async fn check_rows(&self) {
        for mref in self.rows(Space::Mref).await {
            let (digest, repo) = (mref.key.part(0).unwrap(), mref.key.part(1).unwrap());
            assert!(
                self.store.get(&link_key(&digest, &repo)).await.unwrap().is_some(),
                "{mref:?} has a link"
            );
        }
        let mut linked = std::collections::BTreeSet::new();
        for link in self.rows(Space::Link).await {
            let digest = link.key.part(0).unwrap();
            assert!(self.store.get(&blob_key(&digest)).await.unwrap().is_some(), "{link:?} has a blob row");
            linked.insert(digest);
        }
        for row in self.rows(Space::Blob).await {
            assert!(linked.contains(&row.key.part(0).unwrap()), "{row:?} has a link");
        }
    }

    /// Lets everything go and waits long enough: nothing may be left.
    async fn end(&self, now_ms: u64) {
        for mref in self.rows(Space::Mref).await {
            let parts = mref.key.parts();
            let (digest, repo, manifest) = (&parts[0], &parts[1], &parts[2]);
            let act = self
                .store
                .act(|mut tx| async move { release(&mut tx, digest, repo, manifest, now_ms).await });
            act.await.unwrap();
        }
        self.sweep(now_ms + T).await.unwrap();
        while reap(&self.store, &self.blobs).await.unwrap() > 0 {}
        self.orphans(now_ms + T + 600_000).await;
        for space in [Space::Blob, Space::Link, Space::Mref, Space::Reap] {
            assert_eq!(self.rows(space).await, [], "nothing is left of {space}");
        }
        for digit in 0..16 {
            assert_eq!(self.blobs.list(digit).await.unwrap(), [], "no file is left");
        }
    }
}

async fn history(blobs: &Blobs, seed: u64, rounds: Vec<(Vec<Act>, u64)>) {
    let w = World::new(blobs.clone(), seed).await;
    let mut now_ms = w.began_ms;
    for (acts, sleep_ms) in rounds {
        // Files have real times while the history's clock leaps days ahead: an upload under way would look like an orphan.
        let (orphans, others): (Vec<&Act>, Vec<&Act>) =
            acts.iter().partition(|act| matches!(act, Act::Orphans));
        join_all(others.into_iter().map(|act| w.run(act, now_ms))).await;
        join_all(orphans.into_iter().map(|act| w.run(act, now_ms))).await;
        w.check().await;
        now_ms += sleep_ms;
    }
    w.end(now_ms).await;
}

/// Few, since each syncs dozens of files.
const CASES: u32 = 100;

#[test]
fn interleavings_keep_what_is_needed_and_leave_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), 0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sleep_ms = prop_oneof![Just(0), Just(T / 2), Just(T)];
    let rounds = proptest::collection::vec((proptest::collection::vec(an_act(), 1..6), sleep_ms), 1..10);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let mut runner = TestRunner::new(config);
    let run = runner.run(&(any::<u64>(), rounds), |(seed, rounds)| {
        runtime.block_on(history(&blobs, seed, rounds));
        Ok(())
    });
    run.unwrap();
}

/// A stale link is swept while something else is done with it: whoever comes first, rows stay sound.
#[tokio::test]
async fn a_sweep_meets_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), 0).unwrap();
    let stored = Stored::Inline("x".into());
    let new = NewBlob { digest: "d", twin: None, size: 1, stored: &stored };
    let add = async |w: &World, repo: &str, now_ms| {
        let act = w.store.act(|mut tx| {
            let new = new.clone();
            async move { add_blob(&mut tx, new, repo, now_ms).await }
        });
        act.await.unwrap();
    };
    for seed in 0..400u64 {
        let store = Store::new(Arc::new(GivesWay {
            model: Model::default(),
            random: AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }));
        let w = World { store, blobs: blobs.clone(), began_ms: 0, digests: Vec::new() };
        add(&w, "a", 0).await;
        let rival = async {
            let store = &w.store;
            // A sweep reads a lot before it commits; the rival comes at any point of that.
            for _ in 0..seed / 4 % 100 {
                tokio::task::yield_now().await;
            }
            match seed % 4 {
                0 => add(&w, "b", T).await,
                1 => add(&w, "a", T).await,
                2 => {
                    store.act(|mut tx| async move { hold(&mut tx, "d", "a", "m").await }).await.unwrap();
                }
                _ => {
                    store.act(|mut tx| async move { mount(&mut tx, "d", "a", "b", T).await }).await.unwrap();
                }
            }
        };
        let (swept, ()) = tokio::join!(w.sweep(T), rival);
        swept.unwrap();
        w.check_rows().await;
    }
}
