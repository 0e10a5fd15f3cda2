//! A load client for any registry: prints requests and bytes a second with p50 and p99, one JSON line a measurement.
//!
//! `load URL [USER:PASSWORD]` pushes 1,000 small images by 16 clients, then reads manifests with 32 connections and
//! blobs of 10 MB with 8. `tests/bench/registry.sh` runs it against Wharf and a peer and prints the ratios.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use wharf_oci::{Digest, MediaType};

const IMAGES: usize = 1_000;
const PUSHERS: usize = 16;
const READERS: usize = 32;
const READS: usize = 20_000;
const BLOB_BYTES: usize = 10_000_000;
const BLOB_CLIENTS: usize = 8;
const BLOB_PUSHES: usize = 40;
const BLOB_READS: usize = 160;

#[derive(Clone)]
struct Target {
    http: Client,
    url: Arc<str>,
    login: Option<Arc<(String, String)>>,
}

impl Target {
    fn ask(&self, request: RequestBuilder) -> RequestBuilder {
        match self.login.as_deref() {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    async fn push_blob(&self, repository: &str, bytes: bytes::Bytes) -> Result<()> {
        let start =
            self.ask(self.http.post(format!("{}/v2/{repository}/blobs/uploads/", self.url))).send().await?;
        ensure!(start.status() == StatusCode::ACCEPTED, "POST upload: {}", start.status());
        let location = start.headers().get("location").context("no Location")?.to_str()?.to_owned();
        let location = if location.starts_with('/') { format!("{}{location}", self.url) } else { location };
        let join = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{join}digest={}", Digest::sha256(&bytes));
        let done = self.ask(self.http.put(url).body(bytes)).send().await?;
        ensure!(done.status() == StatusCode::CREATED, "PUT blob: {}", done.status());
        Ok(())
    }

    /// An image of its own in a repository of its own: a config and one layer of a few hundred bytes.
    async fn push_image(&self, number: usize) -> Result<()> {
        let repository = format!("bench/app{number}");
        let layer = format!("layer {number} ").repeat(40);
        let config = format!(r#"{{"architecture":"amd64","os":"linux","created":"{number}"}}"#);
        let descriptor = |media_type: &str, bytes: &str| json!({"mediaType": media_type, "digest": Digest::sha256(bytes.as_bytes()), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": descriptor(MediaType::OCI_CONFIG, &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        self.push_blob(&repository, config.into()).await?;
        self.push_blob(&repository, layer.into()).await?;
        let request = self.http.put(format!("{}/v2/{repository}/manifests/1", self.url));
        let request = self.ask(request).header("Content-Type", MediaType::OCI_MANIFEST);
        let done = request.body(manifest.to_string()).send().await?;
        ensure!(done.status() == StatusCode::CREATED, "PUT manifest: {}", done.status());
        Ok(())
    }

    async fn get(&self, path: String) -> Result<usize> {
        let request = self.http.get(format!("{}{path}", self.url)).header("Accept", MediaType::OCI_MANIFEST);
        let answer = self.ask(request).send().await?;
        ensure!(answer.status() == StatusCode::OK, "GET {path}: {}", answer.status());
        Ok(answer.bytes().await?.len())
    }
}

/// Runs `count` calls of `work` by `clients` tasks; prints the rate, and bytes a second where `bytes` is given.
async fn measure<F, R>(name: &str, count: usize, clients: usize, bytes: usize, work: F) -> Result<()>
where
    F: Fn(usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (next, work) = (Arc::clone(&next), work.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(times);
                }
                let begun = Instant::now();
                work(number).await?;
                times.push(begun.elapsed());
            }
        });
    }
    let mut times: Vec<Duration> = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        times.extend(joined??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |p: usize| times[(times.len() - 1) * p / 100].as_secs_f64() * 1_000.0;
    #[allow(clippy::cast_precision_loss)]
    let line = json!({
        "measurement": name, "per_second": count as f64 / seconds, "mb_per_second": (count * bytes) as f64 / seconds / 1e6,
        "p50_ms": percentile(50), "p99_ms": percentile(99),
    });
    println!("{line}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    // Two providers are never linked, so the first call wins and cannot fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: load URL [USER:PASSWORD]")?;
    let login = arguments.next().and_then(|login| {
        login.split_once(':').map(|(user, password)| Arc::new((user.to_owned(), password.to_owned())))
    });
    let target = Target { http: Client::new(), url: url.trim_end_matches('/').into(), login };

    let pusher = target.clone();
    measure("push of small images, 16 clients", IMAGES, PUSHERS, 0, move |number| {
        let target = pusher.clone();
        async move { target.push_image(number).await }
    })
    .await?;

    let reader = target.clone();
    measure("manifest GET, 32 connections", READS, READERS, 0, move |number| {
        let target = reader.clone();
        async move { target.get(format!("/v2/bench/app{}/manifests/1", number % IMAGES)).await.map(drop) }
    })
    .await?;

    let pusher = target.clone();
    measure("blob push 10 MB, 8 connections", BLOB_PUSHES, BLOB_CLIENTS, BLOB_BYTES, move |number| {
        let target = pusher.clone();
        async move { target.push_blob("bench/big", blob(number)).await }
    })
    .await?;

    measure("blob GET 10 MB, 8 connections", BLOB_READS, BLOB_CLIENTS, BLOB_BYTES, move |_| {
        let target = target.clone();
        async move {
            let got = target.get(format!("/v2/bench/big/blobs/{}", Digest::sha256(&blob(0)))).await?;
            ensure!(got == BLOB_BYTES, "a short blob of {got} bytes");
            Ok(())
        }
    })
    .await
}

/// Ten megabytes that differ from one number to the next.
fn blob(number: usize) -> bytes::Bytes {
    let mut bytes = vec![0_u8; BLOB_BYTES];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes.into()
}
