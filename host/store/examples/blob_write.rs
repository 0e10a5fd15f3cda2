//! Blob writes against the floor: `cargo run --release -p wharf-store --example blob_write [DIR]`.
//!
//! The floor is `write`, sha256 and `fsync` of the same bytes on one thread for each client; the ratio is what
//! [`BlobWriter`](wharf_store::BlobWriter) keeps of it. Then the same blobs are read back, against plain `pread`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use wharf_store::{BlobId, Blobs};

const CLIENTS: usize = 8;
const BLOBS: usize = 8;
const BYTES: usize = 10_000_000;
/// What hyper hands over at a time.
const CHUNK: usize = 64 * 1024;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("wharf-blob-write-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let data: Bytes = (0..BYTES).map(|n| (n * 31 + n / 7919) as u8).collect();
    let blobs = Blobs::open_dir(&dir.join("data"), 0).unwrap();
    for _ in 0..ROUNDS {
        let floor = floor(&dir, &data);
        let (ours, ids) = write(&blobs, &data).await;
        println!("write: floor {floor:>5.0} MB/s  blobs {ours:>5.0} MB/s  ratio {:.2}", ours / floor);
        let floor = floor_read(&dir.join("data"), &ids);
        let ours = read(&blobs, &ids).await;
        println!("read:  floor {floor:>5.0} MB/s  blobs {ours:>5.0} MB/s  ratio {:.2}", ours / floor);
        for id in &ids {
            blobs.delete(id).await.unwrap();
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

fn rate(began: Instant) -> f64 {
    (CLIENTS * BLOBS * BYTES) as f64 / 1e6 / began.elapsed().as_secs_f64()
}

fn floor(dir: &Path, data: &Bytes) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for n in 0..BLOBS {
                    let path = dir.join(format!("floor-{client}-{n}"));
                    let (mut file, mut hash) = (std::fs::File::create(&path).unwrap(), Sha256::new());
                    for chunk in data.chunks(CHUNK) {
                        file.write_all(chunk).unwrap();
                        hash.update(chunk);
                    }
                    file.sync_all().unwrap();
                    std::hint::black_box(hash.finalize());
                    std::fs::remove_file(path).unwrap();
                }
            });
        }
    });
    rate(began)
}

async fn write(blobs: &Blobs, data: &Bytes) -> (f64, Vec<BlobId>) {
    let began = Instant::now();
    let client = |blobs: Blobs, data: Bytes| async move {
        let mut ids = Vec::new();
        for _ in 0..BLOBS {
            let mut writer = blobs.create("bench", false).await.unwrap();
            for at in (0..BYTES).step_by(CHUNK) {
                writer.write(data.slice(at..(at + CHUNK).min(BYTES))).await.unwrap();
            }
            ids.push(writer.finish(false).await.unwrap().id);
        }
        ids
    };
    let tasks: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client(blobs.clone(), data.clone()))).collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    (rate(began), ids)
}

fn floor_read(data: &Path, ids: &[BlobId]) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for ids in ids.chunks(BLOBS) {
            scope.spawn(move || {
                let mut buffer = vec![0; CHUNK];
                for id in ids {
                    let path = data.join("blobs").join(&id.as_str()[..2]).join(id.as_str());
                    let file = std::fs::File::open(path).unwrap();
                    let mut at = 0;
                    while at < BYTES {
                        at += file.read_at(&mut buffer, at as u64).unwrap();
                    }
                }
            });
        }
    });
    rate(began)
}

async fn read(blobs: &Blobs, ids: &[BlobId]) -> f64 {
    let began = Instant::now();
    let client = |blobs: Blobs, ids: Vec<BlobId>| async move {
        for id in ids {
            let stream = blobs.open(&id).await.unwrap().stream(0..u64::MAX);
            let bytes = stream.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len()) }).await.unwrap();
            assert_eq!(bytes, BYTES);
        }
    };
    let tasks: Vec<_> =
        ids.chunks(BLOBS).map(|ids| tokio::spawn(client(blobs.clone(), ids.to_vec()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    rate(began)
}
