//! Random interleavings of pushes, mounts, manifests, deletes, sweeps, reaps, scrubs and crashes, over the model and over
//! redb on a disk that tears, fails, fills and loses power under them.
//!
//! The engine gives way a random number of times before each call, so that acts which run together meet at every point.
//! After each round redb holds what the model holds, and what the state machine promises is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, join_all};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::redb::beside::Beside;
use crate::seam::{Commit, CommitError, Committed, Direction, Engine, Page, ReadError};
use crate::{Blobs, Clock as _, Model, SystemClock};

const T: u64 = FRESH_MS;

/// An engine that lets others go first.
#[derive(Debug)]
struct GivesWay<E> {
    engine: Arc<E>,
    random: AtomicU64,
}

impl<E: Engine + 'static> GivesWay<E> {
    fn store(engine: Arc<E>, seed: u64) -> Store {
        Store::new(Arc::new(GivesWay { engine, random: AtomicU64::new(seed) }))
    }

    async fn give_way(&self) {
        let random =
            |n: u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let n = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, random).unwrap();
        for _ in 0..(n >> 60) {
            tokio::task::yield_now().await;
        }
    }
}

impl<E: Engine + 'static> Engine for GivesWay<E> {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        Box::pin(async move {
            self.give_way().await;
            self.engine.get(keys).await
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
            self.engine.scan(range, limit, direction).await
        })
    }
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            self.give_way().await;
            self.engine.commit(commit).await
        })
    }
    fn head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.engine.head()
    }
    fn now_ms(&self) -> u64 {
        self.engine.now_ms()
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
    Scrub,
}

/// What goes wrong below the rows during a round, and whether the machine restarts after it.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    kind: Kind,
    after: u64,
    restart: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    None,
    FailOne,
    LosePower,
    LeavePages,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let kind = prop_oneof![
        2 => Just(Kind::None),
        2 => Just(Kind::FailOne),
        2 => Just(Kind::LosePower),
        1 => Just(Kind::LeavePages),
    ];
    (kind, 0..80u64, any::<bool>()).prop_map(|(kind, after, restart)| Trouble { kind, after, restart })
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
        1 => Just(Act::Scrub),
    ]
}

struct World {
    store: Store,
    /// Where the rows are on a disk that can be troubled.
    beside: Option<Arc<Beside>>,
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
    async fn new(blobs: Blobs, seed: u64, on_disk: bool) -> World {
        for digit in 0..16 {
            for file in blobs.list(digit).await.unwrap() {
                blobs.delete(&file.id).await.unwrap();
            }
        }
        let beside = on_disk.then(|| Arc::new(Beside::new(seed)));
        let store = match &beside {
            Some(beside) => GivesWay::store(beside.clone(), seed),
            None => GivesWay::store(Arc::new(Model::default()), seed),
        };
        let mut digests = Vec::new();
        for content in 0..2 {
            let mut writer = blobs.create("x", true).await.unwrap();
            writer.write(bytes(content)).await.unwrap();
            let done = writer.finish(true).await.unwrap();
            digests.push([done.sha256.clone(), done.sha512.clone().unwrap()]);
            done.discard().await.unwrap();
        }
        World { store, beside, blobs, began_ms: SystemClock.now_ms(), digests }
    }

    fn trouble(&self, trouble: Trouble) {
        let Some(beside) = &self.beside else { return };
        match trouble.kind {
            Kind::None => {}
            Kind::FailOne => beside.fail_one(trouble.after),
            Kind::LosePower => beside.lose_power(trouble.after),
            Kind::LeavePages => beside.leave_pages(trouble.after as usize),
        }
    }

    /// Whether an act may end so: others were faster, or the disk was troubled.
    fn may_end(&self, done: &Result<(), StoreError>) -> bool {
        match done {
            Ok(()) | Err(StoreError::Conflict(_)) => true,
            Err(StoreError::Down | StoreError::Full | StoreError::Unknown) => self.beside.is_some(),
            Err(_) => false,
        }
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
            Ok((Added::Stored, _)) => {}
            // A row may name the file; if none does, it is an orphan.
            Err(StoreError::Unknown) => {}
            Ok((Added::Known, _)) => done.discard().await.unwrap(),
            Err(error) => {
                assert!(self.may_end(&Err(error.clone())), "{error}");
                done.discard().await.unwrap();
            }
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
            Act::Reap => rows_only(reap(store, &self.blobs).await),
            Act::Orphans => self.orphans(now_ms).await,
            Act::Scrub => rows_only(scrub_page(store, &self.blobs, None).await.map(|scrubbed| {
                assert_eq!(
                    scrubbed.damaged,
                    Vec::<String>::new(),
                    "files are sound as long as rows name them"
                );
            })),
        };
        assert!(self.may_end(&done), "{act:?}: {done:?}");
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

    async fn orphans(&self, now_ms: u64) -> Result<(), StoreError> {
        for digit in 0..16 {
            rows_only(orphans(&self.store, &self.blobs, digit, now_ms, T).await)?;
        }
        Ok(())
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
        self.orphans(now_ms + T + 600_000).await.unwrap();
        for space in [Space::Blob, Space::Link, Space::Mref, Space::Reap] {
            assert_eq!(self.rows(space).await, [], "nothing is left of {space}");
        }
        for digit in 0..16 {
            assert_eq!(self.blobs.list(digit).await.unwrap(), [], "no file is left");
        }
    }
}

/// The files are on a disk that is well.
fn rows_only<N>(done: Result<N, CollectError>) -> Result<(), StoreError> {
    match done {
        Ok(_) => Ok(()),
        Err(CollectError::Store(error)) => Err(error),
        Err(CollectError::Blob(error)) => panic!("{error}"),
    }
}

type Round = (Vec<Act>, Trouble, u64);

async fn history(w: &World, rounds: Vec<Round>) {
    let mut now_ms = w.began_ms;
    for (acts, trouble, sleep_ms) in rounds {
        // Files have real times while the history's clock leaps days ahead: an upload under way would look like an orphan.
        let (orphans, others): (Vec<&Act>, Vec<&Act>) =
            acts.iter().partition(|act| matches!(act, Act::Orphans));
        w.trouble(trouble);
        join_all(others.into_iter().map(|act| w.run(act, now_ms))).await;
        join_all(orphans.into_iter().map(|act| w.run(act, now_ms))).await;
        if let Some(beside) = &w.beside {
            beside.settle(trouble.restart).await;
        }
        w.check().await;
        now_ms += sleep_ms;
    }
    w.end(now_ms).await;
    if let Some(beside) = &w.beside {
        beside.settle(true).await;
    }
}

/// Few, since each syncs dozens of files.
const CASES: u32 = 100;

fn histories(on_disk: bool) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), 0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sleep_ms = prop_oneof![Just(0), Just(T / 2), Just(T)];
    let round = (proptest::collection::vec(an_act(), 1..6), trouble(), sleep_ms);
    let rounds = proptest::collection::vec(round, 1..10);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let mut runner = TestRunner::new(config);
    let run = runner.run(&(any::<u64>(), rounds), |(seed, rounds)| {
        runtime.block_on(async { history(&World::new(blobs.clone(), seed, on_disk).await, rounds).await });
        Ok(())
    });
    run.unwrap();
}

#[test]
fn interleavings_keep_what_is_needed_and_leave_nothing_else() {
    histories(false);
}

#[test]
fn interleavings_on_a_bad_disk_do_so_too() {
    histories(true);
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
        let store = GivesWay::store(Arc::new(Model::default()), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let w = World { store, beside: None, blobs: blobs.clone(), began_ms: 0, digests: Vec::new() };
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
