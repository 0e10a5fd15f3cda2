//! How many small images a second the rows allow: `cargo run --release -p wharf-store --example push_rows [DIR]`.
//!
//! Each push is what the registry commits for an image of a config and one layer: two blobs, then the manifest with its
//! references, tag and event. No bytes of blobs are written, so this is the store's share alone. For scale, it also
//! prints how many bare syncs a second the disk does.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wharf_store::links::{NewBlob, add_blob, hold};
use wharf_store::{Options, Space, Store, StoreError, Stored, key};

const RUN: Duration = Duration::from_secs(3);
const MANIFEST_BYTES: usize = 700;

#[tokio::main]
async fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("wharf-push-rows-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    println!("bare syncs of 4 KiB: {:.0}/s", syncs(&dir));
    for clients in [1, 16, 64] {
        measure(&dir.join(clients.to_string()), clients).await;
    }
    std::fs::remove_dir_all(dir).unwrap();
}

fn syncs(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("sync")).unwrap();
    let (began, mut n) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        file.rewind().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_all().unwrap();
        n += 1;
    }
    f64::from(n) / began.elapsed().as_secs_f64()
}

async fn measure(dir: &Path, clients: usize) {
    let store = Store::open(dir, &Options { ballast_bytes: 0, ..Options::default() }).unwrap();
    let (began, wrote) = (Instant::now(), written_bytes());
    let tasks: Vec<_> =
        (0..clients).map(|client| tokio::spawn(push_until(store.clone(), client, began + RUN))).collect();
    let (mut pushes, mut worst) = (0, Duration::ZERO);
    for task in tasks {
        let (n, slowest) = task.await.unwrap();
        pushes += n;
        worst = worst.max(slowest);
    }
    let seconds = began.elapsed().as_secs_f64();
    let wrote = (written_bytes() - wrote) as f64 / pushes as f64;
    let rows = rows(&store).await as f64 / pushes as f64;
    let commits = *store.head().borrow() as f64 / seconds;
    println!(
        "{clients:>3} clients: {:>6.0} pushes/s  {commits:>6.0} commits/s  {rows:.1} rows and {:.0} KB written a push  \
         slowest {worst:.0?}",
        pushes as f64 / seconds,
        wrote / 1024.0,
    );
}

async fn push_until(store: Store, client: usize, end: Instant) -> (usize, Duration) {
    let (mut n, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let began = Instant::now();
        push(&store, client, n).await.unwrap();
        slowest = slowest.max(began.elapsed());
        n += 1;
    }
    (n, slowest)
}

async fn push(store: &Store, client: usize, n: usize) -> Result<(), StoreError> {
    let repo = &format!("bench/client{client}");
    let digest = |part: u8| format!("sha256:{:064x}", (client * 1_000_000 + n) * 4 + usize::from(part));
    let (config, layer, manifest) = (&digest(0), &digest(1), &digest(2));
    let now_ms = store.now_ms();
    for digest in [config, layer] {
        let stored = &Stored::Inline(vec![7; 300].into());
        let new = || NewBlob { digest, twin: None, size: 300, stored };
        store.act(|mut tx| async move { add_blob(&mut tx, new(), repo, now_ms).await }).await?;
    }
    let stored = &Stored::Inline(vec![7; MANIFEST_BYTES].into());
    let act = store.act(|mut tx| async move {
        let new = NewBlob { digest: manifest, twin: None, size: MANIFEST_BYTES as u64, stored };
        add_blob(&mut tx, new, repo, now_ms).await?;
        for digest in [config, layer, manifest] {
            assert!(hold(&mut tx, digest, repo, manifest).await?);
        }
        tx.put_value(&key(Space::Manifest, &[repo, manifest]), "application/vnd.oci.image.manifest.v1+json")?;
        let tag = key(Space::Tag, &[repo.as_str(), &n.to_string()]);
        tx.get(&tag).await?;
        tx.put_value(&tag, manifest)?;
        tx.append_value(Space::Event, &("push", repo, manifest))
    });
    act.await.map(drop)
}

async fn rows(store: &Store) -> usize {
    let mut rows = 0;
    for space in Space::ALL {
        let mut range = wharf_store::KeyRange::all(space);
        loop {
            let page = store.scan(range.clone(), 1000).await.unwrap();
            rows += page.rows.len();
            match page.rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => break,
            }
        }
    }
    rows
}

/// What this process has given to the disk so far; 0 where the system does not say.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}
