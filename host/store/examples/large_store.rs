//! A store of a million manifests: `cargo run --release -p wharf-store --example large_store [DIR]`.
//!
//! Prints how long it takes to open after a kill (the file is copied while it is open), what a page of tags costs at
//! the beginning and at the end, what a point read costs under writes, and the memory of the process.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use wharf_store::{Commit, KeyRange, Op, Options, Space, Store, key};

const MANIFESTS: usize = 1_000_000;
const OPS: usize = 1000;
const PAGE: usize = 100;
const OPENS: usize = 5;
const READS: usize = 20_000;

#[tokio::main]
async fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("wharf-large-store-{}", std::process::id()));
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let store = Store::open(&dir.join("a"), &options).unwrap();
    fill(&store).await;
    let killed = |n: usize| dir.join(format!("killed{n}"));
    for n in 0..OPENS {
        std::fs::create_dir(killed(n)).unwrap();
        std::fs::copy(dir.join("a/meta.redb"), killed(n).join("meta.redb")).unwrap();
        // What the copy left to write is not the open's to sync.
        std::fs::File::open(killed(n).join("meta.redb")).unwrap().sync_all().unwrap();
    }
    drop(store);
    let size = std::fs::metadata(killed(0).join("meta.redb")).unwrap().len();
    println!("{MANIFESTS} manifests, {} MB", size >> 20);
    for n in 1..OPENS {
        let began = Instant::now();
        drop(Store::open(&killed(n), &options).unwrap());
        let after_kill = began.elapsed();
        let began = Instant::now();
        drop(Store::open(&killed(n), &options).unwrap());
        println!("opened after a kill in {after_kill:.2?}, after a clean stop in {:.2?}", began.elapsed());
    }
    let store = Store::open(&killed(0), &options).unwrap();
    println!("resident after opening: {} MB", resident_mb());
    pages(&store).await;
    let quiet = reads(&store, false).await;
    let busy = reads(&store, true).await;
    println!(
        "point read p50, p99: {:.1?}, {:.1?}; under writes {:.1?}, {:.1?}",
        quiet.0, quiet.1, busy.0, busy.1
    );
    println!("resident at the end: {} MB", resident_mb());
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}

fn digest(n: usize) -> String {
    // Spread as real digests are.
    format!("sha256:{:016x}{:048x}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), n)
}

async fn fill(store: &Store) {
    for from in (0..MANIFESTS).step_by(OPS / 2) {
        let ops = (from..from + OPS / 2).flat_map(|n| {
            let repo = format!("team{}/app", n % 10);
            let row = |key, val: String| Op::Put { key, val: val.into(), ttl: None };
            [
                row(key(Space::Manifest, &[&repo, &digest(n)]), format!("{{\"size\":700,\"n\":{n}}}")),
                row(key(Space::Tag, &[&repo, &format!("v{n:07}")]), digest(n)),
            ]
        });
        store.commit(Commit { ops: ops.collect(), ..Commit::default() }).await.unwrap();
    }
}

async fn pages(store: &Store) {
    let all = KeyRange::prefix(Space::Tag, &["team3/app"]);
    let late = all.clone().after(&key(Space::Tag, &["team3/app", &format!("v{:07}", MANIFESTS - 20_000)]));
    for (name, range) in [("first", all), ("last", late)] {
        let mut took = Vec::new();
        for _ in 0..100 {
            let began = Instant::now();
            assert_eq!(store.scan(range.clone(), PAGE).await.unwrap().rows.len(), PAGE);
            took.push(began.elapsed());
        }
        took.sort();
        println!(
            "{name} page of {PAGE} of {} tags: p50 {:.1?}, p99 {:.1?}",
            MANIFESTS / 10,
            took[50],
            took[99]
        );
    }
}

async fn reads(store: &Store, writing: bool) -> (Duration, Duration) {
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut n = 0;
            if !writing {
                return;
            }
            loop {
                let op = Op::Put { key: key(Space::Tag, &["w", &n.to_string()]), val: "x".into(), ttl: None };
                store.commit(Commit { ops: vec![op], ..Commit::default() }).await.unwrap();
                n = (n + 1) % 1000;
            }
        })
    };
    let mut took = Vec::with_capacity(READS);
    for n in 0..READS {
        let n = n * 7919 % MANIFESTS;
        let wanted = key(Space::Manifest, &[format!("team{}/app", n % 10), digest(n)]);
        let began = Instant::now();
        assert!(store.get(&wanted).await.unwrap().is_some());
        took.push(began.elapsed());
    }
    writer.abort();
    took.sort();
    (took[READS / 2], took[READS / 100 * 99])
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}
