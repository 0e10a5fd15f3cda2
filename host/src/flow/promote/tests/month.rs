//! A month of decisions, made through the real store by real plugins and asked again by a process that made none of them.
//!
//! In that month vulnerability data is imported, plugins are replaced, one is taken away and comes back, tags move, and what
//! is held is judged again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use wharf_store::{Key, ManualClock, Options, Space, Store};

use super::case::{Case, PATIENCE, Scans, binding, does, no_criticals};
use super::guests::{criteria, guest, marked};
use crate::access::Principal;
use crate::flow;
use crate::flow::promote::bind;
use crate::flow::promote::replay::{self, Instead, Known, Replay, Replayed};
use crate::jobs;
use crate::plugin::PASSING_CODES;
use crate::promote::{Decision, Reason, Verdict, decision};

/// 2026-11-01T00:00:00Z.
const BEGINS_MS: u64 = 1_793_491_200_000;
const DAY_MS: u64 = 24 * 3600 * 1000;
const DAYS: u64 = 30;
const PUSHES_A_DAY: u64 = 6;
/// How far the simulated clock moves on at each look whether a day's work is done: pauses after failures pass.
const TICK_MS: u64 = 20;

struct Month {
    case: Case,
    clock: ManualClock,
}

impl Month {
    async fn begin(data: Arc<TempDir>) -> Month {
        let clock = ManualClock::new(BEGINS_MS);
        let case = Case::over(data.clone(), open(&data, &clock).await, Scans::default());
        flow::account::first_start(&case.app).await.unwrap().unwrap();
        let mut month = Month { case, clock };
        month.case.drop_in("criteria.wasm", criteria());
        month.case.drop_in("guest.wasm", guest());
        month.case.start().await;
        for binding in bindings() {
            bind::bind(&month.case.app, &Principal::user("admin"), binding, None).await.unwrap();
        }
        month
    }

    async fn day(&self, day: u64) {
        let case = &self.case;
        self.clock.set(BEGINS_MS + day * DAY_MS);
        match day {
            0 => case.import(&[("CVE-1", "openssl", "3.0.9")]).await,
            5 => case.import(&[("CVE-1", "openssl", "3.0.9"), ("CVE-2", "zlib", "1.3")]).await,
            12 => case.import(&[("CVE-1", "openssl", "3.0.9"), ("CVE-2", "zlib", "1.1")]).await,
            19 => case.import(&[("CVE-1", "openssl", "3.0.1"), ("CVE-3", "curl", "8.2")]).await,
            26 => case.import(&[("CVE-1", "openssl", "3.0.9"), ("CVE-3", "curl", "8.1")]).await,
            8 => case.put_in_force("guest", &marked(2)).await,
            16 => case.put_in_force("guest", &marked(3)).await,
            24 => case.put_in_force("guest", &marked(4)).await,
            27 => case.take_out_of_force("criteria").await,
            28 => case.put_in_force("criteria", criteria()).await,
            _ => {}
        }
        for push in 0..PUSHES_A_DAY {
            let n = day * PUSHES_A_DAY + push;
            let openssl = if n.is_multiple_of(3) { "3.0.1" } else { "3.0.9" };
            let (zlib, curl) = (format!("1.{}", n % 5), format!("8.{}", n % 4));
            let tag = if push == 0 { "latest".to_owned() } else { format!("v{day}-{push}") };
            let (at, content) = (format!("dev/app{}:{tag}", n % 4), format!("image {n}"));
            let packages = [("openssl", openssl), ("zlib", zlib.as_str()), ("curl", curl.as_str())];
            let digest = case.push_unscanned(&at, &content).await;
            if push == 1 {
                // Judged before its scan has ended, whatever else is faster.
                self.work().await;
            }
            case.scanned(&at, &digest, &packages).await;
        }
        self.work().await;
        jobs::ask_due(&case.app, &mut None).await.unwrap();
        self.work().await;
    }

    /// Until nothing is left to do but what waits for another day. A slow disk takes long, and goes on.
    async fn work(&self) {
        let (mut head, mut since) = (0, Instant::now());
        while !self.case.is_idle().await {
            let now = *self.case.app.store.head().borrow();
            if now != head {
                (head, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "a day's work does not go on");
            self.clock.advance(TICK_MS);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The process ends, and another begins over what is on the disk.
    async fn restart(mut self) -> Month {
        self.case.stop().await;
        let Month { case: Case { app, data, scans, .. }, clock } = self;
        drop(app);
        let mut case = Case::over(data.clone(), open(&data, &clock).await, scans);
        case.start().await;
        Month { case, clock }
    }
}

/// The last handle of a store that was open ends on a thread of its own.
async fn open(data: &TempDir, clock: &ManualClock) -> Store {
    let options = Options { ballast_bytes: 0, clock: Arc::new(clock.clone()), ..Options::default() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Store::open(data.path(), &options) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn bindings() -> Vec<crate::promote::Binding> {
    let aged = json!({"plugin": "criteria", "config": {"criteria": [
        {"field": "age", "operator": "gte", "values": ["3d"]}]}});
    let mut traps = binding("traps", "dev/app0", &[("pit/{name}", "%n")], does("panic"));
    traps.tags = "v*-2".parse().unwrap();
    let mut shadow = binding("shadow", "dev/**", &[("dark/{name}", "%n")], does("list"));
    shadow.mode = crate::promote::Mode::Shadow;
    vec![
        binding(
            "to-qa",
            "dev/**",
            &[("qa/{name}", "%n"), ("archive/{name}", "%n-%Y%m%d-%f")],
            no_criticals(),
        ),
        binding("to-prod", "qa/**", &[("prod/{name}", "%n")], json!([aged, does("ask")])),
        binding("marked", "dev/**", &[("lab/{name}", "%n")], json!([does("mark"), no_criticals()])),
        traps,
        shadow,
    ]
}

async fn every_decision(case: &Case) -> Vec<Decision> {
    let (mut all, mut after): (Vec<Decision>, Option<Key>) = (Vec::new(), None);
    loop {
        let (page, next) = decision::page(&case.app.store, after.as_ref(), 200).await.unwrap();
        all.extend(page);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

/// Replays to the end, portion by portion.
async fn replay_all(case: &Case, mut what: Replay) -> Replayed {
    let mut all = Replayed::default();
    loop {
        let portion = replay::replay(&case.app, &what).await.unwrap();
        all.add(portion);
        what.after = all.next.clone();
        if what.after.is_none() {
            return all;
        }
    }
}

fn of_binding(name: &str) -> Replay {
    Replay { binding: Some(name.to_owned()), ..Replay::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_decisions_replays_byte_for_byte() {
    let month = Month::begin(Arc::new(TempDir::new().unwrap())).await;
    for day in 0..DAYS {
        month.day(day).await;
    }
    let mut month = month.restart().await;
    // What the process before had not written down of its plugins.
    month.work().await;
    let case = &month.case;
    let decisions = every_decision(case).await;
    it_was_a_month(&decisions);

    let then = replay_all(case, Replay::default()).await;
    // A loaded machine may have ended a call, or left a breaker open.
    let is_passing = |reason: &Reason| PASSING_CODES.contains(&reason.code.as_str());
    let passing = |decision: &&Decision| {
        decision.policies.iter().filter_map(|judged| judged.held_because.as_ref()).any(is_passing)
    };
    let skipped = decisions.iter().filter(passing).count() as u64;
    let all = decisions.len() as u64;
    let found = (then.decisions, then.skipped, then.lost);
    assert_eq!(found, (all - skipped, skipped, 0), "{:#?}", then.differences);
    assert_eq!(then.same, then.decisions, "{:#?}", then.differences);

    as_known_now_it_says_what_was_said_last(case, &decisions).await;

    case.put_in_force("guest", &marked(5)).await;
    let config = Some(json!({"do": "mark"}));
    let instead = Some(Instead { plugin: "guest".to_owned(), config });
    let other = replay_all(case, Replay { instead, ..of_binding("to-qa") }).await;
    let asked = decisions.iter().filter(|decision| decision.authority.binding() == Some("to-qa")).count();
    assert_eq!((other.decisions, other.same), (asked as u64, 0));
    assert!(other.differences.iter().all(|d| d.verdict == Some(Verdict::Reject)), "{:#?}", other.differences);

    a_changed_byte_is_found(case, &decisions).await;
    month.case.stop().await;
}

/// What this test is about was there: thousands of decisions, of every kind.
fn it_was_a_month(decisions: &[Decision]) {
    let first = decisions.iter().map(|decision| decision.at_ms).min().unwrap();
    let last = decisions.iter().map(|decision| decision.at_ms).max().unwrap();
    assert!(last - first >= (DAYS - 1) * DAY_MS);
    assert!(decisions.len() > replay::DECISIONS_MAX, "{} decisions", decisions.len());
    let judged = || decisions.iter().flat_map(|decision| &decision.policies);
    let plugins: BTreeSet<&str> = judged().map(|judged| judged.plugin_digest.as_str()).collect();
    assert_eq!(plugins.len(), 6, "criteria, four of the guest, and none: {plugins:?}");
    let held: BTreeSet<&str> =
        judged().filter_map(|judged| Some(judged.held_because.as_ref()?.code.as_str())).collect();
    for code in ["plugin-gone", "trap", "not-scanned"] {
        assert!(held.contains(code), "{code} is not among {held:?}");
    }
    let verdicts = |binding: &str| -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for decision in decisions.iter().filter(|decision| decision.authority.binding() == Some(binding)) {
            *counts.entry(decision.verdict.name()).or_default() += 1;
        }
        counts
    };
    assert!(verdicts("to-qa").len() >= 2 && verdicts("to-prod").len() >= 2, "{:?}", verdicts("to-prod"));
    assert!(verdicts("marked").len() >= 3, "{:?}", verdicts("marked"));
}

/// On what is known now, every earlier decision about what a tag still points at becomes the newest one.
async fn as_known_now_it_says_what_was_said_last(case: &Case, decisions: &[Decision]) {
    let mine = |decision: &&Decision| decision.authority.binding() == Some("to-qa");
    let mut newest: BTreeMap<(String, u64), Verdict> = BTreeMap::new();
    // In the order of numbers, within each tag.
    for decision in decisions.iter().filter(mine) {
        newest.insert((decision.stage().to_string(), decision.tag_revision), decision.verdict);
    }
    let mut expected = BTreeSet::new();
    for decision in decisions.iter().filter(mine) {
        let stage = decision.stage();
        let was_asked = decision.policies.iter().all(|judged| judged.trace.is_some());
        let now = newest[&(stage.to_string(), decision.tag_revision)];
        let row =
            case.app.store.get(&crate::registry::row::tag(&stage.repository, &stage.tag)).await.unwrap();
        let is_current = row.is_some_and(|row| row.rev.0 == decision.tag_revision);
        if is_current && was_asked && now != decision.verdict {
            expected.insert((stage.to_string(), decision.number, now.name()));
        }
    }
    let replayed = replay_all(case, Replay { known: Known::Now, ..of_binding("to-qa") }).await;
    assert!(replayed.skipped > 0 && !expected.is_empty(), "this tested nothing");
    let moved = replayed.differences.iter().filter(|d| d.verdict.is_none());
    assert!(
        moved.clone().all(|d| d.why == "its tag points elsewhere now"),
        "{:#?}",
        moved.collect::<Vec<_>>()
    );
    let found: BTreeSet<(String, u64, &str)> = replayed
        .differences
        .iter()
        .filter_map(|d| Some((format!("{}:{}", d.repository, d.tag), d.decision, d.verdict?.name())))
        .collect();
    assert_eq!(found, expected);
}

/// The comparison is no formality: one other byte in one stored trace, and the decisions that stand on it are named.
async fn a_changed_byte_is_found(case: &Case, decisions: &[Decision]) {
    let trace = decisions
        .iter()
        .filter(|decision| decision.authority.binding() == Some("to-prod"))
        .find_map(|decision| decision.policies[1].trace.clone())
        .unwrap();
    let bytes =
        crate::facts::document::read(&case.app.store, crate::facts::Kind::Trace, &trace).await.unwrap();
    let changed = String::from_utf8(bytes).unwrap().replacen("amd64", "amd65", 1);
    serde_json::from_str::<Value>(&changed).unwrap();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(changed.as_bytes()).unwrap();
    let (key, packed) = (&wharf_store::key(Space::Facts, &["trace", &trace]), &packed.finish().unwrap());
    let put = async |mut tx: wharf_store::Tx| {
        tx.put(key, packed.clone());
        Ok::<_, wharf_store::StoreError>(())
    };
    case.app.store.act(put).await.unwrap();
    let stands_on = |decision: &&Decision| {
        decision.policies.iter().any(|judged| judged.trace.as_deref() == Some(trace.as_str()))
    };
    let expected: BTreeSet<(String, u64)> = decisions
        .iter()
        .filter(stands_on)
        .map(|decision| (decision.stage().to_string(), decision.number))
        .collect();
    let replayed = replay_all(case, of_binding("to-prod")).await;
    let found: BTreeSet<(String, u64)> =
        replayed.differences.iter().map(|d| (format!("{}:{}", d.repository, d.tag), d.decision)).collect();
    assert_eq!(found, expected);
    assert!(replayed.differences.iter().all(|d| d.why == "`guest` asks or is answered otherwise"));
}
