//! Files that come, change and go: what is in force then, and what a call in between sees.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wharf_plugin::catalog::Catalog;
use wharf_plugin::loader::{Active, Before, Outcome, Stage};
use wharf_plugin::trace::Subject;
use wharf_plugin::watch::{MAX_FILES, Watch, WatchConfig, scan};
use wharf_plugin::{Engine, EngineConfig, Verdict};

use crate::guests::{guest, marked, order, patient, replaced, sealed};
use crate::host::{Host, MARK, quarantined, wait};

fn active(host: &Host) -> Vec<Active> {
    let digest = host.catalog.current().get("guest").unwrap().digest().to_owned();
    vec![Active { file: "p.wasm".into(), name: "guest".into(), digest }]
}

#[test]
fn a_file_comes_changes_and_goes() {
    let mut host = Host::new();
    assert_eq!(host.look(), []);
    host.write("p.wasm", &marked(1));
    assert!(
        matches!(&host.look()[..], [Outcome::Loaded { file, name, replaced: None, .. }] if file == "p.wasm" && name == "guest")
    );
    assert_eq!(host.mark(), Some(1));
    assert_eq!(host.look(), [Outcome::Unchanged { file: "p.wasm".into() }]);
    assert_eq!(host.catalog.current().generation(), 1, "nothing new, no new set");
    let old = host.catalog.current().get("guest").unwrap().digest().to_owned();
    host.write("p.wasm", &marked(2));
    assert!(matches!(&host.look()[..], [Outcome::Loaded { replaced: Some(digest), .. }] if *digest == old));
    assert_eq!(host.mark(), Some(2));
    assert!(host.archive.get(&old).unwrap().is_some(), "a replay needs the old one");
    std::fs::remove_file(host.plugins().join("p.wasm")).unwrap();
    assert!(matches!(&host.look()[..], [Outcome::Removed { name, .. }] if name == "guest"));
    assert_eq!(host.mark(), None, "nothing older takes its place");
}

#[test]
fn a_bad_file_leaves_the_good_one_in_force() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let good = Some(active(&host)[0].digest.clone());
    let bad: [(&[u8], Stage); 4] = [
        (&marked(2)[..100_000], Stage::Inspect),
        (b"not wasm", Stage::Inspect),
        (&replaced(guest(), b"policy@0.1.0", b"policy@0.2.0"), Stage::Inspect),
        (&replaced(guest(), br#"["log"]"#, br#"["lag"]"#), Stage::Grant),
    ];
    for (bytes, stage) in bad {
        host.write("p.wasm", bytes);
        let outcomes = host.look();
        assert_eq!(quarantined(&outcomes), [(stage, good.clone())]);
        assert_eq!(host.mark(), Some(1));
        assert_eq!(host.look(), [Outcome::Unchanged { file: "p.wasm".into() }], "said once");
        assert_eq!(host.catalog.current().failed()["p.wasm"].stage, stage);
    }
    host.write("p.wasm", &marked(3));
    assert_eq!(
        quarantined(&host.look_with(&[MARK, r#"{"do":"refuse-config"}"#])),
        [(Stage::SelfTest, good.clone())]
    );
    assert_eq!(host.mark(), Some(1));
    assert_eq!(
        host.look_with(&[r#"{"do":"refuse-config"}"#]),
        [Outcome::Unchanged { file: "p.wasm".into() }],
        "said once"
    );
    assert!(
        matches!(&host.look()[..], [Outcome::Loaded { .. }, Outcome::RefusalEnded { .. }]),
        "once nobody uses that config, it is taken"
    );
    assert_eq!(host.mark(), Some(3));
    host.write("p.wasm", &marked(1));
    host.look();
    // A trap during the self-test.
    host.write("p.wasm", &marked(4));
    assert_eq!(quarantined(&host.look_with(&[r#"{"do":"trap-in-validate"}"#])), [(Stage::SelfTest, good)]);
    host.write("p.wasm", &marked(5));
    host.look();
    assert_eq!(host.mark(), Some(5));
    assert!(host.catalog.current().failed().is_empty());
}

#[test]
fn a_refusal_ends_when_the_file_is_good_or_gone() {
    let ended = |file: &str| Outcome::RefusalEnded { file: file.into() };
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let active = active(&host);
    host.write("p.wasm", b"broken");
    host.write("q.wasm", b"broken");
    host.look();
    host.write("p.wasm", &marked(1));
    std::fs::remove_file(host.plugins().join("q.wasm")).unwrap();
    let outcomes = host.look();
    // It took nothing's place but its own.
    assert!(matches!(&outcomes[0], Outcome::Loaded { replaced: None, .. }), "{outcomes:?}");
    assert_eq!(outcomes[1..], [ended("p.wasm"), ended("q.wasm")]);
    assert_eq!(host.look(), [Outcome::Unchanged { file: "p.wasm".into() }], "said once");
    // So it does while no host is there to see it.
    let refused = ["p.wasm".to_owned(), "q.wasm".to_owned()].into();
    let mut host = Host::start(host.root, Before { active, refused });
    assert_eq!(host.look(), [Outcome::Unchanged { file: "p.wasm".into() }, ended("p.wasm"), ended("q.wasm")]);
}

#[test]
fn the_last_good_one_survives_a_restart() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let before = active(&host);
    host.write("p.wasm", b"broken while nobody looked");
    let mut host = host.restart(before.clone());
    assert_eq!(quarantined(&host.look()), [(Stage::Inspect, Some(before[0].digest.clone()))]);
    assert_eq!(host.mark(), Some(1));
    // Once more, with the plugin as it was: no news.
    host.write("p.wasm", &marked(1));
    let mut host = host.restart(before.clone());
    assert_eq!(host.look(), [Outcome::Unchanged { file: "p.wasm".into() }]);
    // And gone.
    std::fs::remove_file(host.plugins().join("p.wasm")).unwrap();
    let mut host = host.restart(before.clone());
    assert_eq!(host.look(), [Outcome::Removed { name: "guest".into(), digest: before[0].digest.clone() }]);
    assert_eq!(host.mark(), None);
}

/// A host that keeps compiled code, with one plugin in force.
fn with_cache() -> (Arc<Engine>, Host) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("plugins")).unwrap();
    let cache_dir = Some(root.path().join("cache"));
    let engine = Engine::new(EngineConfig { cache_dir, ..EngineConfig::new(order) }).unwrap();
    let mut host = Host::start_on(&engine, root, Before::default());
    host.write("p.wasm", &marked(1));
    host.look();
    (engine, host)
}

/// Regression: a server was ready once the last plugin of its folder was compiled, which may take minutes.
#[test]
fn a_start_resumes_what_need_not_be_compiled() {
    let (engine, host) = with_cache();
    let mut before = active(&host);
    let restart =
        |host: Host, active| Host::start_on(&engine, host.root, Before { active, ..Before::default() });
    let unchanged = |file: &str| Outcome::Unchanged { file: file.into() };

    let new = replaced(&marked(2), br#""name":"guest""#, br#""name":"visit""#);
    host.write("q.wasm", &new);
    let mut host = restart(host, before.clone());
    assert!(!host.resume(), "a new one is to be compiled");
    assert_eq!(host.mark(), Some(1));
    assert!(host.catalog.current().get("visit").is_none());
    let outcomes = host.look();
    assert!(
        matches!(&outcomes[..], [first, Outcome::Loaded { name, .. }] if *first == unchanged("p.wasm") && name == "visit"),
        "{outcomes:?}"
    );

    let digest = host.catalog.current().get("visit").unwrap().digest().to_owned();
    before.push(Active { file: "q.wasm".into(), name: "visit".into(), digest });
    let mut host = restart(host, before.clone());
    assert!(host.resume(), "there is nothing else");
    assert_eq!(host.look(), [unchanged("p.wasm"), unchanged("q.wasm")]);
    assert_eq!(host.catalog.current().generation(), 1);

    // What was changed while nobody looked is not in force as it was.
    host.write("p.wasm", &marked(3));
    std::fs::remove_file(host.plugins().join("q.wasm")).unwrap();
    let mut host = restart(host, before);
    assert!(!host.resume());
    assert_eq!(host.catalog.current().plugins().len(), 0);
    let outcomes = host.look();
    assert!(
        matches!(&outcomes[..], [Outcome::Loaded { .. }, Outcome::Removed { name, .. }] if name == "visit"),
        "{outcomes:?}"
    );
    assert_eq!(host.mark(), Some(3));
}

/// A start tells of what is refused only once, and in the first look.
#[test]
fn what_is_refused_at_a_start_is_told_of() {
    let (engine, host) = with_cache();
    let before = Before { active: active(&host), ..Before::default() };
    host.write("p.toml", b"capabilities = [\"image-facts\"]");
    let mut host = Host::start_on(&engine, host.root, before);
    assert!(!host.resume());
    assert_eq!(host.mark(), None, "its capability was taken back");
    let outcomes = host.look();
    assert_eq!(quarantined(&outcomes), [(Stage::Grant, None)]);
    assert!(quarantined(&host.look()).is_empty());
}

#[test]
fn what_the_operator_takes_back_is_gone() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    host.write("p.toml", b"capabilities = [");
    assert!(matches!(&quarantined(&host.look())[..], [(Stage::Grant, Some(_))]), "a typo changes nothing");
    assert_eq!(host.mark(), Some(1));
    host.write("p.toml", b"capabilities = [\"image-facts\"]");
    let outcomes = host.look();
    assert_eq!(quarantined(&outcomes), [(Stage::Grant, None)]);
    assert_eq!(host.mark(), None, "its bindings hold");
    host.write("p.toml", b"capabilities = [\"image-facts\", \"log\"]");
    host.look();
    assert_eq!(host.mark(), Some(1));
    host.write("p.wasm", b"broken");
    assert!(matches!(&quarantined(&host.look())[..], [(Stage::Inspect, Some(_))]));
    host.write("p.toml", b"capabilities = [\"image-facts\"]");
    assert_eq!(quarantined(&host.look()), [(Stage::Inspect, None)], "nor does the last good one keep it");
    assert_eq!(host.mark(), None);
}

#[test]
fn two_files_with_one_name() {
    let mut host = Host::new();
    host.write("a.wasm", &marked(1));
    host.write("b.wasm", &marked(2));
    let outcomes = host.look();
    let [(Stage::Name, None)] = quarantined(&outcomes)[..] else { panic!("{outcomes:?}") };
    let reason = host.catalog.current().failed()["b.wasm"].reason.clone();
    assert_eq!(
        reason,
        "file `a.wasm` has a plugin of the name `guest` too; hint: rename one of the plugins, or remove a file"
    );
    assert_eq!(host.mark(), Some(1));
    assert!(quarantined(&host.look()).is_empty(), "said once");
    std::fs::remove_file(host.plugins().join("a.wasm")).unwrap();
    host.look();
    assert_eq!(host.mark(), Some(2));
}

#[test]
fn a_newcomer_does_not_take_the_name_of_what_is_in_force() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let before = active(&host);
    // By its file's name it comes first.
    host.write("a.wasm", &marked(2));
    assert_eq!(quarantined(&host.look()), [(Stage::Name, None)]);
    assert_eq!(host.mark(), Some(1));
    let mut host = host.restart(before);
    assert_eq!(quarantined(&host.look()), [(Stage::Name, None)], "nor after a restart");
    assert_eq!(host.mark(), Some(1));
    // Even while the file that has the name is bad.
    host.write("p.wasm", b"broken");
    host.look();
    assert_eq!(host.mark(), Some(1));
}

#[test]
fn a_file_that_takes_the_name_of_another_leaves_its_own_in_force() {
    let other = |mark| replaced(&marked(mark), br#""name":"guest""#, br#""name":"visit""#);
    let mut host = Host::new();
    host.write("a.wasm", &other(7));
    host.write("b.wasm", &marked(1));
    host.look();
    host.write("a.wasm", &marked(2));
    let visit = host.catalog.current().get("visit").unwrap().digest().to_owned();
    assert_eq!(quarantined(&host.look()), [(Stage::Name, Some(visit))]);
    assert_eq!(host.mark(), Some(1), "`b.wasm` has that name");
    assert!(host.catalog.current().get("visit").is_some());
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing_even_at_a_start() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let before = active(&host);
    let digest = Some(before[0].digest.clone());
    std::fs::remove_file(host.plugins().join("p.wasm")).unwrap();
    std::fs::create_dir(host.plugins().join("p.wasm")).unwrap();
    assert_eq!(quarantined(&host.look()), [(Stage::Read, digest.clone())]);
    assert_eq!(host.catalog.current().failed()["p.wasm"].reason, "it is no file");
    let mut host = host.restart(before.clone());
    assert_eq!(quarantined(&host.look()), [(Stage::Read, digest.clone())]);
    assert_eq!(host.mark(), Some(1));
    // Nor does a typing error in the file beside it.
    std::fs::remove_dir(host.plugins().join("p.wasm")).unwrap();
    host.write("p.wasm", &marked(1));
    host.write("p.toml", b"capabilities = [");
    let mut host = host.restart(before);
    assert_eq!(quarantined(&host.look()), [(Stage::Grant, digest)]);
    assert_eq!(host.mark(), Some(1));
}

/// Regression: such a file was passed over in silence.
#[test]
fn a_name_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut host = Host::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.wasm");
    std::fs::write(host.plugins().join(name), marked(1)).unwrap();
    host.write("p.wasm", &marked(2));
    assert_eq!(quarantined(&host.look()), [(Stage::Read, None)]);
    let reason = host.catalog.current().failed()[r"caf\xe9.wasm"].reason.clone();
    assert_eq!(reason, "its name is not UTF-8; hint: rename it");
    assert_eq!(host.mark(), Some(2));
    assert!(quarantined(&host.look()).is_empty(), "said once");
}

#[test]
fn more_plugins_than_a_folder_may_have_are_told_of() {
    let mut host = Host::new();
    (0..MAX_FILES).for_each(|n| host.write(&format!("b{n:03}.wasm"), b"broken"));
    host.look();
    assert_eq!(host.catalog.current().failed().len(), MAX_FILES);
    host.write("a.wasm", &marked(1));
    assert_eq!(quarantined(&host.look()), [(Stage::Read, None)]);
    let reason = host.catalog.current().failed()["plugins/"].reason.clone();
    assert!(reason.contains("more than 256 plugins, of which `b255.wasm` and those after it"), "{reason}");
    assert_eq!(host.mark(), Some(1));
}

/// Regression: only the log told of it, and what came from the folder stayed in force.
#[test]
fn a_folder_that_is_gone_takes_its_plugins_along() {
    let mut host = Host::new();
    host.write("p.wasm", &marked(1));
    host.look();
    let (plugins, aside) = (host.plugins(), host.root.path().join("aside"));
    std::fs::rename(&plugins, &aside).unwrap();
    let outcomes = host.look();
    assert_eq!(quarantined(&outcomes), [(Stage::Read, None)]);
    assert!(matches!(&outcomes[1..], [Outcome::Removed { name, .. }] if name == "guest"), "{outcomes:?}");
    assert_eq!(host.mark(), None, "its bindings hold");
    let reason = host.catalog.current().failed()["plugins/"].reason.clone();
    assert!(reason.contains("no plugin of it is in force"), "{reason}");
    assert_eq!(host.look(), [Outcome::Unchanged { file: "plugins/".into() }], "said once");
    std::fs::rename(&aside, &plugins).unwrap();
    let outcomes = host.look();
    let ended = Outcome::RefusalEnded { file: "plugins/".into() };
    assert!(matches!(&outcomes[..], [Outcome::Loaded { .. }, last] if *last == ended), "{outcomes:?}");
    assert_eq!(host.mark(), Some(1));
    assert!(host.catalog.current().failed().is_empty());
}

#[test]
fn a_file_that_makes_the_host_panic_is_refused_alone() {
    let mut host = Host::new();
    host.write("a.wasm", &replaced(guest(), br#""name":"guest""#, br#""name":"visit""#));
    host.write("p.wasm", &marked(1));
    let snapshot = scan(&host.plugins(), Duration::from_millis(1)).unwrap();
    let outcomes = host.loader.apply(&snapshot, &|name| {
        assert_ne!(name, "visit", "as a bug would");
        Vec::new()
    });
    assert_eq!(quarantined(&outcomes), [(Stage::Compile, None)]);
    assert_eq!(host.mark(), Some(1));
}

#[test]
fn a_pipe_in_the_folder_stops_nobody() {
    let mut host = Host::new();
    for name in ["p.wasm", "q.toml"] {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, host.plugins().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    host.write("q.wasm", &marked(1));
    host.write("r.wasm", &marked(2));
    assert_eq!(quarantined(&host.look()), [(Stage::Read, None), (Stage::Read, None)]);
    let failed = |file: &str| host.catalog.current().failed()[file].reason.clone();
    assert_eq!([failed("p.wasm"), failed("q.wasm")], ["it is no file", "`q.toml` beside it: it is no file"]);
    assert_eq!(host.mark(), Some(2));
}

/// Calls that each round of the soak waits for.
const CALLS_A_ROUND: u64 = 1_000;

/// The soak: the file is replaced 20 times, 5 of these broken, while two threads call without a pause. Each round sees a thousand
/// calls; how many that is a second is printed, and no test asserts it.
#[test]
fn replaced_twenty_times_under_load() {
    let host = Host::new();
    let dir = host.plugins();
    host.write("p.wasm", &marked(0));
    let Host { root, catalog, mut loader, .. } = host;
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let watch = Watch::start(dir.clone(), WatchConfig::default(), {
        let outcomes = Arc::clone(&outcomes);
        move |snapshot| {
            let found = loader.apply(snapshot, &|_| vec![MARK.to_owned()]);
            outcomes.lock().unwrap().extend(found);
        }
    })
    .unwrap();
    wait("the first plugin", || catalog.current().get("guest").is_some());
    // The marks that a call may see: what is in force, and what is about to be.
    let (settled, coming) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (settled, coming, stop) = (Arc::clone(&settled), Arc::clone(&coming), Arc::clone(&stop));
            let (catalog, facts, calls) = (Arc::clone(&catalog), sealed(), Arc::clone(&calls));
            std::thread::spawn(move || call_until(&stop, &catalog, &facts, &settled, &coming, &calls))
        })
        .collect();
    let (mut broken, mut delays) = (0, Vec::new());
    for round in 1..=20u8 {
        let path = dir.join("p.wasm");
        let before = calls.load(Ordering::SeqCst);
        if round % 4 == 0 {
            broken += 1;
            put(&root, &path, &breakage(round / 4));
            wait("the quarantine", || quarantined(&outcomes.lock().unwrap()).len() == broken);
        } else {
            coming.store(u64::from(round), Ordering::SeqCst);
            put(&root, &path, &marked(round));
            let dropped = Instant::now();
            let digest = wharf_plugin::facts::sha256(&marked(round));
            wait("the next plugin", || catalog.current().get("guest").unwrap().digest() == digest);
            delays.push(dropped.elapsed());
            settled.store(u64::from(round), Ordering::SeqCst);
        }
        wait("the calls of a round", || calls.load(Ordering::SeqCst) - before >= CALLS_A_ROUND);
    }
    stop.store(true, Ordering::SeqCst);
    callers.into_iter().for_each(|caller| caller.join().expect("no call failed"));
    let calls = calls.load(Ordering::SeqCst);
    let seconds = started.elapsed().as_secs_f64();
    delays.sort();
    println!("{calls} calls in {seconds:.1} s, {:.0} a second", calls as f64 / seconds);
    let ms = |at: usize| delays[at].as_millis();
    println!("from file to force: median {} ms, longest {} ms", ms(delays.len() / 2), ms(delays.len() - 1));
    drop(watch);
    let outcomes = outcomes.lock().unwrap();
    let refused = quarantined(&outcomes);
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(refused.iter().all(|(_, kept)| kept.is_some()), "the last good one stayed");
    let loaded = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Loaded { .. })).count();
    assert_eq!(loaded, 16, "the first and fifteen more");
    assert_eq!(catalog.live_generations(), 1, "old sets are freed");
}

/// Another way to be broken each time.
fn breakage(way: u8) -> Vec<u8> {
    match way {
        1 => marked(90)[..50_000].to_vec(),
        2 => replaced(&marked(91), b"policy@0.1.0", b"policy@0.9.0"),
        3 => replaced(&marked(92), br#""name":"guest""#, br#""name":"GUEST""#),
        4 => b"\0asm\x01\0\0\0".to_vec(),
        _ => replaced(&marked(93), br#"["log"]"#, br#"["net"]"#),
    }
}

/// As a careful tool does: write beside, then rename.
fn put(root: &tempfile::TempDir, path: &Path, bytes: &[u8]) {
    let beside = root.path().join("beside");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn call_until(
    stop: &AtomicBool,
    catalog: &Catalog,
    facts: &Arc<wharf_plugin::facts::SealedFacts>,
    settled: &AtomicU64,
    coming: &AtomicU64,
    calls: &AtomicU64,
) {
    while !stop.load(Ordering::SeqCst) {
        let oldest = settled.load(Ordering::SeqCst);
        let set = catalog.current();
        let plugin = set.get("guest").expect("it is always there");
        let done = plugin.evaluate(MARK, facts, Subject::Image, &[], &patient()).expect("no call fails");
        let newest = coming.load(Ordering::SeqCst);
        let mark: u64 = done.reasons[0].text.parse().unwrap();
        assert!((oldest..=newest).contains(&mark), "{mark} is neither old nor new: {oldest} to {newest}");
        let verdict = if mark.is_multiple_of(2) { Verdict::Approve } else { Verdict::Reject };
        assert_eq!(done.verdict, verdict, "verdict and reasons are of one plugin");
        calls.fetch_add(1, Ordering::SeqCst);
    }
}
