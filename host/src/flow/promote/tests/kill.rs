//! Killed at any instant. `tests/src/crash` does the same to the real process over the real store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use wharf_oci::{Digest, RepoName};
use wharf_store::{Model, Store};

use super::case::{Case, PATIENCE, Scans, binding, no_criticals, stage_of};
use super::guests::criteria;
use crate::access::Principal;
use crate::flow;
use crate::flow::promote::bind;
use crate::registry;

/// Runs `what` over the same data in a runtime of its own, which is then dropped whole: nothing of it runs on, as after a
/// kill.
fn until_killed<F: Future<Output = ()>>(
    data: &Arc<TempDir>,
    store: &Store,
    scans: &Scans,
    what: impl FnOnce(Case) -> F + Send + 'static,
) {
    let (data, store, scans) = (data.clone(), store.clone(), scans.clone());
    let run = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move { what(Case::over(data, store, scans)).await });
        // Returns when its threads have ended: a task that ran on could claim jobs that the next life has just taken back.
        runtime.shutdown_timeout(PATIENCE);
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn killed_at_any_instant_each_push_is_promoted_exactly_once() {
    const KILLS: u64 = 25;
    let (data, store, scans) =
        (Arc::new(TempDir::new().unwrap()), Store::new(Arc::new(Model::default())), Scans::default());
    let acknowledged: Arc<Mutex<Vec<(String, Digest)>>> = Arc::default();
    until_killed(&data, &store, &scans, async |mut case| {
        flow::account::first_start(&case.app).await.unwrap().unwrap();
        case.drop_in("criteria.wasm", criteria());
        case.start().await;
        case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
        let targets = [("qa/{name}", "%n"), ("archive/{name}", "%n-%Y%m%d-%H%M%S%f")];
        let both = binding("both", "dev/**", &targets, no_criticals());
        bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
        case.stop().await;
    });
    for kill in 0..KILLS {
        let acknowledged = acknowledged.clone();
        until_killed(&data, &store, &scans, async move |mut case| {
            case.start().await;
            let end = tokio::time::Instant::now() + Duration::from_millis(10 + kill * 41 % 170);
            let mut n = 0;
            // On a slow machine one push takes longer than that.
            while n == 0 || tokio::time::Instant::now() < end {
                let at = format!("dev/app{}:k{kill}-{n}", n % 3);
                let digest = case.push(&at, &format!("{kill} {n}"), &[("openssl", "3.0.9")]).await;
                acknowledged.lock().unwrap().push((at, digest));
                n += 1;
            }
            let (folder, runner) = (case.folder.take(), case.runner.take());
            std::mem::forget(runner);
            tokio::task::spawn_blocking(move || drop(folder)).await.unwrap();
        });
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= KILLS as usize, "this tested nothing");
    until_killed(&data, &store, &scans, async move |mut case| {
        case.start().await;
        case.until_idle().await;
        for (at, digest) in &acknowledged {
            let found = case.digest_at(&at.replacen("dev/", "qa/", 1)).await;
            let why =
                case.newest(&stage_of(at), "both").await.map(|newest| (newest.policies, newest.effects));
            assert_eq!(found.as_ref(), Some(digest), "{at}: {why:#?}");
        }
        let promoted = case.promotions().await;
        let mut once = std::collections::BTreeSet::new();
        for (from, to) in &promoted {
            let place = (from.clone(), to.split(':').next().unwrap().to_owned());
            assert!(once.insert(place), "{from} was promoted to {to} once more");
        }
        assert_eq!(promoted.len(), acknowledged.len() * 2);
        let mut archived = 0;
        for app in 0..3 {
            let archive: RepoName = format!("archive/app{app}").parse().unwrap();
            let tags = registry::list::tags(&case.app.store, &archive, None, 1000).await.unwrap();
            archived += tags.map_or(0, |tags| tags.names.len());
        }
        assert_eq!(archived, acknowledged.len(), "a dated tag for each push, and no more");
        case.stop().await;
    });
}
