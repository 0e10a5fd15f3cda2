//! The watch over the folder: however files come and go, it is noticed, and a file counts once it is whole.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use wharf_plugin::watch::{Snapshot, Watch, WatchConfig, scan};

use crate::guests::marked;
use crate::host::{Host, wait};

fn quick() -> WatchConfig {
    WatchConfig { debounce_ms: 50, settle_ms: 10, poll_ms: 60_000, ..WatchConfig::default() }
}

#[test]
fn the_folder_is_watched_however_files_come() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("plugins");
    std::fs::create_dir(&dir).unwrap();
    let last = Arc::new(Mutex::new((0, Snapshot::default())));
    let watch = Watch::start(dir.clone(), quick(), {
        let last = Arc::clone(&last);
        move |snapshot| {
            let mut last = last.lock().unwrap();
            *last = (last.0 + 1, snapshot.clone());
        }
    })
    .unwrap();
    let contents = || -> Vec<(String, Vec<u8>)> {
        last.lock().unwrap().1.files.iter().map(|seen| (seen.file.clone(), seen.bytes.to_vec())).collect()
    };
    let shows = |what: &str, expected: &[(&str, &[u8])]| {
        let expected: Vec<_> =
            expected.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        wait(what, || contents() == expected);
    };
    wait("the first look", || last.lock().unwrap().0 == 1);
    std::fs::write(dir.join("a.wasm"), b"one").unwrap();
    shows("a copy", &[("a.wasm", b"one")]);
    std::fs::write(root.path().join("next"), b"two").unwrap();
    std::fs::rename(root.path().join("next"), dir.join("a.wasm")).unwrap();
    shows("a rename over it", &[("a.wasm", b"two")]);
    std::fs::write(dir.join(".hidden.wasm"), b"x").unwrap();
    std::fs::write(dir.join("a.txt"), b"x").unwrap();
    // As Kubernetes mounts a ConfigMap: a link to a link to a folder, and the middle one is swapped.
    for (folder, text) in [("..1", "three"), ("..2", "four")] {
        std::fs::create_dir(dir.join(folder)).unwrap();
        std::fs::write(dir.join(folder).join("k.wasm"), text).unwrap();
    }
    std::os::unix::fs::symlink("..1", dir.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/k.wasm", dir.join("k.wasm")).unwrap();
    shows("links", &[("a.wasm", b"two"), ("k.wasm", b"three")]);
    std::os::unix::fs::symlink("..2", dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    shows("a swapped link", &[("a.wasm", b"two"), ("k.wasm", b"four")]);
    std::fs::remove_file(dir.join("a.wasm")).unwrap();
    shows("a removal", &[("k.wasm", b"four")]);
    std::fs::write(dir.join("k.toml"), b"x").unwrap();
    wait("a grants file", || last.lock().unwrap().1.files[0].grants.as_deref() == Some(b"x"));
    std::os::unix::fs::symlink("nowhere", dir.join("l.wasm")).unwrap();
    wait("a dangling link", || last.lock().unwrap().1.unreadable.len() == 1);
    let count = last.lock().unwrap().0;
    watch.rescan();
    wait("a rescan", || last.lock().unwrap().0 > count);
}

/// Regression: a look opens the folder, which was an event, which led to the next look: five a second.
#[test]
fn a_look_does_not_lead_to_the_next() {
    let root = tempfile::tempdir().unwrap();
    let opens = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&opens, root.path(), WatchFlags::OPEN).unwrap();
    let mut opens = File::from(opens);
    let mut looked =
        || std::iter::repeat_with(|| opens.read(&mut [0; 4096])).take_while(Result::is_ok).count() > 0;
    let _watch = Watch::start(root.path().to_owned(), quick(), |_| {}).unwrap();
    wait("the first look", &mut looked);
    wait("a rest", || {
        // Ten times as long as a look waits after an event.
        std::thread::sleep(Duration::from_millis(500));
        !looked()
    });
}

#[test]
fn a_folder_that_cannot_be_listed_changes_nothing_and_is_told_of() {
    let host = Host::new();
    host.write("p.wasm", &marked(1));
    let (root, link) = (host.root.path().to_owned(), host.root.path().join("link"));
    let point_at = |target: &str| {
        std::os::unix::fs::symlink(target, root.join("next")).unwrap();
        std::fs::rename(root.join("next"), &link).unwrap();
    };
    point_at("plugins");
    let Host { root: _kept, catalog, mut loader, .. } = host;
    let config = WatchConfig { poll_ms: 50, ..quick() };
    let _watch = Watch::start(link.clone(), config, move |snapshot| {
        loader.apply(snapshot, &|_| Vec::new());
    })
    .unwrap();
    let failed = || catalog.current().failed().keys().cloned().collect::<Vec<_>>();
    wait("the plugin", || catalog.current().get("guest").is_some());
    // A link to itself leads nowhere, and is not missing either.
    point_at("link");
    wait("the folder is told of", || failed() == ["link/"]);
    assert!(catalog.current().get("guest").is_some());
    point_at("plugins");
    wait("it can be listed again", || failed().is_empty());
    assert!(catalog.current().get("guest").is_some());
}

/// Regression: the time of the bytes was compared, which copying tools set to that of what they copy.
#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.wasm");
    let write = |bytes: &[u8]| {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    write(b"one");
    let last = Arc::new(Mutex::new(Vec::new()));
    let _watch = Watch::start(root.path().to_owned(), quick(), {
        let last = Arc::clone(&last);
        move |snapshot| *last.lock().unwrap() = snapshot.files[0].bytes.to_vec()
    })
    .unwrap();
    wait("the first", || *last.lock().unwrap() == b"one");
    write(b"two");
    wait("the second", || *last.lock().unwrap() == b"two");
}

/// Regression: whoever asked for a look while one was going on and a change was waiting, waited for its end.
#[test]
fn asking_for_a_look_does_not_wait_for_it() {
    let root = tempfile::tempdir().unwrap();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let looks = Arc::new(AtomicU64::new(0));
    let watch = Watch::start(root.path().to_owned(), quick(), {
        let looks = Arc::clone(&looks);
        move |_| {
            looks.fetch_add(1, Ordering::SeqCst);
            let _ = held.recv();
        }
    })
    .unwrap();
    wait("the first look", || looks.load(Ordering::SeqCst) == 1);
    (0..3).for_each(|_| watch.rescan());
    drop(let_go);
    wait("the look that was asked for", || looks.load(Ordering::SeqCst) >= 2);
}

/// Regression: what came after a look at the folder was read by the report of that look, and when it had gone again the folder was
/// as it had been at the look: it stayed reported for ever.
#[test]
fn a_file_that_comes_and_goes_during_a_report_is_seen_to_be_gone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.wasm");
    let reports = Arc::new(Mutex::new(Vec::new()));
    let config = WatchConfig { settle_ms: 300, ..quick() };
    let _watch = Watch::start(root.path().to_owned(), config, {
        let (file, reports) = (file.clone(), Arc::clone(&reports));
        move |snapshot| {
            let _ = std::fs::remove_file(&file);
            reports.lock().unwrap().push(snapshot.files.len());
        }
    })
    .unwrap();
    // The first report has begun, and waits for the folder to settle.
    std::thread::sleep(Duration::from_millis(150));
    std::fs::write(&file, b"one").unwrap();
    wait("it comes, and is gone", || matches!(reports.lock().unwrap()[..], [.., 1, 0]));
}

#[test]
fn a_panic_does_not_end_the_watch() {
    let root = tempfile::tempdir().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let _watch = Watch::start(root.path().to_owned(), quick(), {
        let seen = Arc::clone(&seen);
        move |snapshot| {
            assert!(snapshot.files.iter().all(|seen| seen.file != "bad.wasm"), "as a bug would");
            seen.fetch_add(1, Ordering::SeqCst);
        }
    })
    .unwrap();
    wait("the first look", || seen.load(Ordering::SeqCst) == 1);
    std::fs::write(root.path().join("bad.wasm"), b"x").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_file(root.path().join("bad.wasm")).unwrap();
    std::fs::write(root.path().join("good.wasm"), b"x").unwrap();
    // More than one, where it was seen before it was written.
    wait("a look after the panic", || seen.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_file_that_is_still_written_is_not_read() {
    // Far longer between two looks than between two writes.
    const SETTLE: Duration = Duration::from_millis(500);
    for _ in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(root.path().join("p.wasm")).unwrap();
        let bytes = marked(7);
        let began = Instant::now();
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || longest_pause(file, &bytes, began)
        });
        let snapshot = scan(root.path(), SETTLE).unwrap();
        // Where the machine held the writer up for so long, it was not being written.
        if writer.join().unwrap() < SETTLE {
            assert_eq!(snapshot.files[0].bytes[..], bytes[..]);
            return;
        }
    }
    panic!("the writer was never left to write");
}

/// Writes in small pieces. Returns the longest pause between two of them, the first one being counted from when it `began`.
fn longest_pause(mut file: std::fs::File, bytes: &[u8], began: Instant) -> Duration {
    use std::io::Write as _;
    let (mut since, mut longest) = (began, Duration::ZERO);
    for chunk in bytes.chunks(bytes.len() / 40 + 1) {
        let before = Instant::now();
        file.write_all(chunk).unwrap();
        longest = longest.max(since.elapsed());
        since = before;
        std::thread::sleep(Duration::from_millis(5));
    }
    longest
}
