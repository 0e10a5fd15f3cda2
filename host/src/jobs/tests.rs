use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_oci::{Digest, RepoName};
use wharf_store::{Engine, ManualClock, Model, Options, Space, Store, StoreError};

use super::*;
use crate::event::{self, Event, Kind, Recorded};

const LEASE: Duration = Duration::from_secs(30);

fn store() -> (Store, ManualClock) {
    let clock = ManualClock::new(1_000_000);
    (Store::new(Arc::new(Model::new(Arc::new(clock.clone())))), clock)
}

fn judge(repository: &str, tag: &str) -> Work {
    Work::Judge { repository: repository.parse().unwrap(), tag: tag.parse().unwrap() }
}

async fn ask(store: &Store, work: Work) {
    let work = &work;
    store.act(|mut tx| async move { enqueue(&mut tx, work.clone(), None).await }).await.unwrap();
}

async fn take(store: &Store, turn: Option<&str>) -> Option<Claimed> {
    match next(store, Queue::Judge, turn, &|_| false).await.unwrap() {
        Next::Ready(key) => claim(store, &key, LEASE, 3).await.unwrap(),
        Next::Nothing { .. } => None,
    }
}

async fn states(store: &Store, dead: bool) -> Vec<(String, String)> {
    let page = ls(store, Queue::Judge, dead, None, 100).await.unwrap();
    page.jobs.into_iter().map(|job| (job.subject, job.state)).collect()
}

#[tokio::test]
async fn one_job_runs_and_what_comes_meanwhile_runs_once_more() {
    let (store, _) = store();
    ask(&store, judge("dev/app", "1")).await;
    ask(&store, judge("dev/app", "1")).await;
    let first = take(&store, None).await.unwrap();
    assert!(take(&store, None).await.is_none());
    ask(&store, judge("dev/app", "1")).await;
    ask(&store, judge("dev/app", "1")).await;
    complete(&store, &first).await.unwrap();
    let again = take(&store, None).await.unwrap();
    assert_eq!(again.attempt, 1);
    complete(&store, &again).await.unwrap();
    assert!(states(&store, false).await.is_empty());
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_and_the_first_run_cannot_end_it() {
    let (store, clock) = store();
    ask(&store, judge("dev/app", "1")).await;
    let first = take(&store, None).await.unwrap();
    clock.advance(29_000);
    assert!(!renew(&store, &first, LEASE, None).await.unwrap());
    clock.advance(29_000);
    assert!(take(&store, None).await.is_none());
    clock.advance(1_001);
    let second = take(&store, None).await.unwrap();
    assert_eq!(second.attempt, 2);
    assert!(matches!(complete(&store, &first).await, Err(ClaimError::Lost)));
    assert!(matches!(fail(&store, &first, "late", 3).await, Err(ClaimError::Lost)));
    complete(&store, &second).await.unwrap();
    assert!(states(&store, false).await.is_empty());
}

#[tokio::test]
async fn failures_back_off_and_end_as_a_dead_letter_that_can_be_retried() {
    let (store, clock) = store();
    ask(&store, judge("dev/app", "1")).await;
    for attempt in 1..=3 {
        let run = take(&store, None).await.unwrap();
        assert_eq!(run.attempt, attempt);
        fail(&store, &run, "the disk is full", 3).await.unwrap();
        assert!(take(&store, None).await.is_none(), "it waits after a failure");
        clock.advance(600_000);
    }
    assert_eq!(states(&store, true).await, [("dev/app:1".to_owned(), "dead".to_owned())]);
    let events = event::before(&store, None, 10).await.unwrap().events;
    assert!(
        matches!(&events[0].event.kind, Kind::JobDead { reason, attempts: 3, .. } if reason == "the disk is full")
    );
    assert!(retry(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
    assert!(states(&store, true).await.is_empty());
    assert_eq!(take(&store, None).await.unwrap().attempt, 1);
}

#[tokio::test]
async fn something_new_brings_a_dead_job_back() {
    let (store, _) = store();
    ask(&store, judge("dev/app", "1")).await;
    let run = take(&store, None).await.unwrap();
    fail(&store, &run, "no", 1).await.unwrap();
    ask(&store, judge("dev/app", "1")).await;
    assert!(states(&store, true).await.is_empty());
    assert_eq!(states(&store, false).await, [("dev/app:1".to_owned(), "queued".to_owned())]);
}

#[tokio::test]
async fn namespaces_take_turns() {
    let (store, _) = store();
    for n in 0..5 {
        ask(&store, judge("aaa/app", &n.to_string())).await;
    }
    ask(&store, judge("bbb/app", "0")).await;
    ask(&store, judge("ccc/app", "0")).await;
    let mut turn: Option<String> = None;
    let mut order = Vec::new();
    while let Some(run) = take(&store, turn.as_deref()).await {
        turn = Some(run.work.namespace().to_owned());
        order.push(run.work.namespace().to_owned());
    }
    assert_eq!(order, ["aaa", "bbb", "ccc", "aaa", "aaa", "aaa", "aaa"]);
}

#[tokio::test]
async fn a_restart_takes_running_jobs_back_at_once_and_counts() {
    let (store, _) = store();
    ask(&store, judge("dev/app", "1")).await;
    let first = take(&store, None).await.unwrap();
    assert_eq!(recover(&store, Queue::Judge).await.unwrap(), 1);
    assert!(matches!(renew(&store, &first, LEASE, None).await, Err(ClaimError::Lost)));
    let again = take(&store, None).await.unwrap();
    assert_eq!(again.attempt, 2);
    hand_back(&store, &again).await.unwrap();
    assert_eq!(take(&store, None).await.unwrap().attempt, 2, "a run that was handed back does not count");
}

#[tokio::test]
async fn a_job_that_ends_the_process_every_time_is_put_away() {
    let (store, clock) = store();
    ask(&store, judge("dev/app", "1")).await;
    for _ in 0..claim::INTERRUPTIONS_MAX {
        assert!(take(&store, None).await.is_some());
        recover(&store, Queue::Judge).await.unwrap();
        clock.advance(600_000);
    }
    assert!(take(&store, None).await.is_some());
    recover(&store, Queue::Judge).await.unwrap();
    assert_eq!(states(&store, true).await.len(), 1);
}

#[tokio::test]
async fn cancelling_removes_what_waits_and_tells_what_runs() {
    let (store, _) = store();
    ask(&store, judge("dev/app", "1")).await;
    assert!(cancel(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
    assert!(!cancel(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
    ask(&store, judge("dev/app", "1")).await;
    let run = take(&store, None).await.unwrap();
    assert!(cancel(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
    assert!(renew(&store, &run, LEASE, None).await.unwrap());
    complete(&store, &run).await.unwrap();
    assert!(states(&store, false).await.is_empty());
    let events = event::after(&store, None, 10).await.unwrap().events;
    let cancelled = |e: &&Recorded| matches!(e.event.kind, Kind::JobCancelled { .. });
    assert_eq!(events.iter().filter(cancelled).count(), 2);
}

/// Regression: the end of a cancelled run took away what a later event had asked for.
#[tokio::test]
async fn what_is_asked_for_after_a_cancellation_runs() {
    let (store, _) = store();
    let ends: [(&str, bool); 4] =
        [("completes", true), ("fails", true), ("restarts", true), ("restarts", false)];
    for (end, asked_again) in ends {
        ask(&store, judge("dev/app", "1")).await;
        let run = take(&store, None).await.unwrap();
        ask(&store, judge("dev/app", "1")).await;
        assert!(cancel(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
        if asked_again {
            ask(&store, judge("dev/app", "1")).await;
        }
        match end {
            "completes" => complete(&store, &run).await.unwrap(),
            "fails" => assert!(!fail(&store, &run, "stopped", 3).await.unwrap()),
            _ => assert_eq!(recover(&store, Queue::Judge).await.unwrap(), 1),
        }
        let next = take(&store, None).await;
        assert_eq!(next.is_some(), asked_again, "{end}");
        if let Some(next) = next {
            complete(&store, &next).await.unwrap();
        }
        assert!(states(&store, false).await.is_empty());
    }
}

/// Regression: a dead job went, and the answer was that there was none.
#[tokio::test]
async fn a_dead_job_can_be_cancelled() {
    let (store, _) = store();
    ask(&store, judge("dev/app", "1")).await;
    let run = take(&store, None).await.unwrap();
    assert!(fail(&store, &run, "no", 1).await.unwrap());
    assert!(cancel(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap());
    assert!(states(&store, true).await.is_empty());
    let newest = event::before(&store, None, 1).await.unwrap().events.remove(0).event.kind;
    assert!(matches!(newest, Kind::JobCancelled { .. }), "{newest:?}");
}

/// One job was once looked for in all pages of its queue.
#[tokio::test]
async fn one_job_is_found_by_its_key_whatever_its_state() {
    let (store, _) = store();
    let state = async || find(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap().map(|job| job.state);
    assert_eq!(state().await, None);
    ask(&store, judge("dev/app", "1")).await;
    ask(&store, judge("dev/app", "10")).await;
    assert_eq!(state().await.as_deref(), Some("queued"));
    let run = take(&store, None).await.unwrap();
    let found = find(&store, Queue::Judge, "dev", "dev/app:1").await.unwrap().unwrap();
    assert_eq!(vec![found.clone()], ls(&store, Queue::Judge, false, None, 1).await.unwrap().jobs);
    assert!(found.lease_left_ms.is_some());
    assert!(fail(&store, &run, "no", 1).await.unwrap());
    assert_eq!(state().await.as_deref(), Some("dead"));
}

async fn live_judgements(store: &Store) -> u64 {
    live(store).await.unwrap().into_iter().find(|(queue, _)| *queue == Queue::Judge).unwrap().1
}

/// Regression: a job that was buried at its claim, or cancelled, counted for ever, until no event made jobs any more.
#[tokio::test]
async fn live_jobs_are_counted_whatever_ends_them() {
    let (store, clock) = store();
    let mut claimed: Vec<Claimed> = Vec::new();
    for step in 0..2000 {
        let tag = rand::random_range(0..6).to_string();
        let subject = format!("dev/app:{tag}");
        match rand::random_range(0..9) {
            0..3 => ask(&store, judge("dev/app", &tag)).await,
            3 => claimed.extend(take(&store, None).await),
            4 => {
                cancel(&store, Queue::Judge, "dev", &subject).await.unwrap();
            }
            5 => {
                retry(&store, Queue::Judge, "dev", &subject).await.unwrap();
            }
            6 => clock.advance(rand::random_range(0..60_000)),
            7 if step % 40 == 0 => {
                recover(&store, Queue::Judge).await.unwrap();
            }
            _ if claimed.is_empty() => {}
            _ => {
                let run = claimed.swap_remove(rand::random_range(0..claimed.len()));
                // A lease may have run out meanwhile: then there is nothing to end.
                match rand::random_range(0..3) {
                    0 => drop(complete(&store, &run).await),
                    1 => drop(fail(&store, &run, "no", 2).await),
                    _ => drop(hand_back(&store, &run).await),
                }
            }
        }
        assert_eq!(live_judgements(&store).await, states(&store, false).await.len() as u64, "step {step}");
    }
}

#[tokio::test]
async fn a_store_without_a_count_is_counted_at_start() {
    let (store, _) = store();
    for tag in ["1", "2"] {
        ask(&store, judge("dev/app", tag)).await;
    }
    let forget = async |mut tx: wharf_store::Tx| {
        tx.delete(&row::count_key(Queue::Judge));
        Ok::<_, wharf_store::StoreError>(())
    };
    store.act(forget).await.unwrap();
    recover(&store, Queue::Judge).await.unwrap();
    assert_eq!(live_judgements(&store).await, 2);
}

/// A queue that is full leaves the events where they are, and what makes room lets them through.
#[tokio::test]
async fn events_wait_while_a_queue_is_full() {
    let store = Store::new(Arc::new(Model::default()));
    let settings = Settings { grace_s: 0, live_max: 2, ..Settings::default() };
    for tag in ["1", "2"] {
        ask(&store, judge("dev/app", tag)).await;
    }
    push(&store, 0).await;
    let start = async |handler: Handler| {
        Runner::start(store.clone(), settings.clone(), judge_pushed, Vec::new(), handler).await.unwrap()
    };
    let runner = start(Arc::new(|_| Box::pin(std::future::pending()))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(left(&store).await, 1);
    runner.stop().await;
    let runner = start(Arc::new(|_| Box::pin(async { Ok(()) }))).await;
    while left(&store).await > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    runner.stop().await;
}

#[tokio::test]
async fn progress_is_kept_and_something_new_starts_over() {
    let (store, _) = store();
    let from = |from: Option<&str>| Work::Rematch { from: from.map(str::to_owned) };
    ask(&store, from(None)).await;
    let Next::Ready(key) = next(&store, Queue::Rematch, None, &|_| false).await.unwrap() else { panic!() };
    let run = claim(&store, &key, LEASE, 3).await.unwrap().unwrap();
    renew(&store, &run, LEASE, Some(&from(Some("m")))).await.unwrap();
    recover(&store, Queue::Rematch).await.unwrap();
    let run = claim(&store, &key, LEASE, 3).await.unwrap().unwrap();
    assert_eq!(run.work, from(Some("m")));
    ask(&store, from(None)).await;
    complete(&store, &run).await.unwrap();
    assert_eq!(claim(&store, &key, LEASE, 3).await.unwrap().unwrap().work, from(None));
}

#[tokio::test]
async fn scheduled_work_is_made_once_a_period() {
    let (store, clock) = store();
    let every = [Every { work: Work::Trim, period: Duration::from_secs(3600) }];
    assert_eq!(tick(&store, &every).await.unwrap(), 1);
    assert_eq!(tick(&store, &every).await.unwrap(), 0);
    clock.advance(3_600_000);
    assert_eq!(tick(&store, &every).await.unwrap(), 1);
}

fn judge_pushed(event: &Recorded) -> Vec<Work> {
    match &event.event.kind {
        Kind::ImagePushed { repository, tag: Some(tag), .. } => {
            vec![Work::Judge { repository: repository.clone(), tag: tag.clone() }]
        }
        _ => Vec::new(),
    }
}

async fn push(store: &Store, n: usize) {
    let repository: RepoName = format!("ns{}/app", n % 3).parse().unwrap();
    let pushed = Kind::ImagePushed {
        repository,
        digest: Digest::sha256(b""),
        tag: Some(n.to_string().parse().unwrap()),
        lineage: Vec::new(),
        subject: None,
    };
    let event = &Event::system(0, pushed);
    store.act(|mut tx| async move { event::append(&mut tx, event) }).await.unwrap();
}

/// Whatever instant the process dies at: each event makes its job exactly once, and each job is done.
#[tokio::test]
async fn killed_at_any_instant_each_event_fans_out_exactly_once() {
    const EVENTS: usize = 300;
    let engine = Arc::new(Model::default());
    let store = Store::new(engine.clone() as Arc<dyn Engine>);
    let done: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let handler: Handler = {
        let done = done.clone();
        Arc::new(move |job| {
            let done = done.clone();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_micros(rand::random_range(0..500))).await;
                *done.lock().unwrap().entry(job.work().subject()).or_default() += 1;
                Ok(())
            })
        })
    };
    let settings = Settings { grace_s: 0, ..Settings::default() };
    for n in 0..EVENTS {
        push(&store, n).await;
    }
    let mut kills = 0;
    while ls(&store, Queue::Judge, false, None, 1).await.unwrap().jobs.len() + left(&store).await > 0 {
        // A runtime of its own that is dropped whole: nothing of it runs on, as after a kill.
        let (store, settings, handler) = (store.clone(), settings.clone(), handler.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let runner = Runner::start(store, settings, judge_pushed, Vec::new(), handler).await.unwrap();
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..25))).await;
                std::mem::forget(runner);
            });
            runtime.shutdown_background();
        })
        .join()
        .unwrap();
        // What the dropped runtime's threads were in the middle of may still end; a killed process' could not.
        std::thread::sleep(Duration::from_millis(5));
        kills += 1;
        assert!(kills < 2000, "no end in sight");
    }
    let done = done.lock().unwrap();
    assert_eq!(done.len(), EVENTS);
    // A job may run again only where a kill fell between its work and its end: far fewer than the jobs there are.
    let runs: usize = done.values().sum();
    assert!(runs < EVENTS + kills * 4, "{runs} runs of {EVENTS} jobs over {kills} kills");
    let jobs = engine.rows().into_iter().filter(|row| row.key.space == Space::Job).count();
    assert_eq!(jobs, 0, "nothing is left behind");
}

async fn left(store: &Store) -> usize {
    let at = cursor(store, ROUTER).await.unwrap();
    event::after(store, Some(at), 1).await.unwrap().events.len()
}

#[tokio::test]
async fn a_panic_fails_its_job_and_a_stop_hands_back_what_runs() {
    let store = Store::new(Arc::new(Model::default()));
    let runs = Arc::new(AtomicUsize::new(0));
    let handler: Handler = {
        let runs = runs.clone();
        Arc::new(move |job| {
            let runs = runs.clone();
            Box::pin(async move {
                runs.fetch_add(1, Ordering::SeqCst);
                if job.work() == &judge("bad/app", "1") {
                    panic!("a defect");
                }
                std::future::pending().await
            })
        })
    };
    ask(&store, judge("bad/app", "1")).await;
    ask(&store, judge("dev/app", "1")).await;
    let settings = Settings { grace_s: 0, ..Settings::default() };
    let runner = Runner::start(store.clone(), settings, |_| Vec::new(), Vec::new(), handler).await.unwrap();
    let bad = async || {
        let page = ls(&store, Queue::Judge, false, None, 10).await.unwrap();
        page.jobs.into_iter().find(|job| job.subject == "bad/app:1").and_then(|job| job.last_error)
    };
    while bad().await.is_none() || runs.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    runner.stop().await;
    let page = ls(&store, Queue::Judge, false, None, 10).await.unwrap();
    let dev = page.jobs.iter().find(|job| job.subject == "dev/app:1").unwrap();
    assert_eq!((dev.state.as_str(), dev.attempts), ("queued", 0));
    assert!(bad().await.unwrap().contains("the handler failed"));
}

/// Collection could once not begin while the disk was full: its job was claimed as clients' work is.
#[tokio::test]
async fn what_frees_space_runs_on_a_full_disk() {
    let data = tempfile::tempdir().unwrap();
    // No disk has room for such a ballast, so that the store is full from its opening on.
    let store = Store::open(data.path(), &Options { ballast_bytes: 1 << 60, ..Options::default() }).unwrap();
    let refused = store.act(|mut tx| async move { enqueue(&mut tx, judge("dev/app", "1"), None).await });
    assert_eq!(refused.await, Err(StoreError::Full));
    let (ran, mut run) = tokio::sync::mpsc::unbounded_channel();
    let handler: Handler = Arc::new(move |job| {
        let ran = ran.clone();
        Box::pin(async move {
            job.save(job.work()).await?;
            ran.send(job.work().clone()).unwrap();
            Ok(())
        })
    });
    let every = vec![Every { work: Work::Collect, period: Duration::from_secs(3600) }];
    let settings = Settings { grace_s: 3600, ..Settings::default() };
    let runner = Runner::start(store.clone(), settings, |_| Vec::new(), every, handler).await.unwrap();
    assert_eq!(run.recv().await, Some(Work::Collect));
    runner.stop().await;
    assert!(
        ls(&store, Queue::Housekeeping, false, None, 10).await.unwrap().jobs.is_empty(),
        "it has ended, too"
    );
}

#[tokio::test]
async fn a_conflict_makes_a_router_read_again() {
    let (store, _) = store();
    for n in 0..10 {
        push(&store, n).await;
    }
    let both = tokio::join!(route_once(&store, judge_pushed), route_once(&store, judge_pushed));
    let made = both.0.unwrap().1.len() + both.1.unwrap().1.len();
    assert_eq!(made, 1, "one of them made the jobs");
    assert_eq!(states(&store, false).await.len(), 10);
    assert_eq!(route_once(&store, judge_pushed).await.unwrap().0, 0);
}
