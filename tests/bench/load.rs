//! A client that pushes to any registry and costs little itself: what it sends is made, and its digests are known, before the
//! clock starts. Prints pushes a second, their p99 in milliseconds and megabytes a second, on one line.
//!
//! `load images URL [USER:PASSWORD]` pushes 1,000 small images by 16 clients; `load blobs URL [USER:PASSWORD]` pushes 40 blobs
//! of 10 MB by 8; `load heads URL` asks `HEAD URL` on 32 connections for 8 seconds, which wrk cannot do.
//! `tests/bench/registry.sh` runs them against Wharf and its peers.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client, RequestBuilder, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use wharf_oci::{Algorithm, Digest, Hasher, MediaType};

const IMAGES: usize = 1_000;
const IMAGE_CLIENTS: usize = 16;
const BLOBS: usize = 40;
const BLOB_CLIENTS: usize = 8;
const BLOB_BYTES: usize = 10_000_000;
const HEAD_CONNECTIONS: usize = 32;
const HEAD_FOR: Duration = Duration::from_secs(8);

/// Bytes in a few pieces, which blobs may share, and their digest.
struct Blob {
    pieces: Vec<Bytes>,
    digest: Digest,
}

impl Blob {
    fn new(pieces: Vec<Bytes>) -> Blob {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        pieces.iter().for_each(|piece| hasher.update(piece));
        Blob { digest: hasher.finish(), pieces }
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn body(&self) -> Body {
        Body::wrap_stream(stream::iter(self.pieces.clone().into_iter().map(Ok::<_, Infallible>)))
    }
}

/// A repository of its own with a config, a layer and the manifest that names them, a few hundred bytes each.
struct Image {
    repository: String,
    blobs: [Blob; 2],
    manifest: Bytes,
}

impl Image {
    fn new(number: usize) -> Image {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","created":"{number}"}}"#);
        let layer = format!("layer {number} ").repeat(40);
        let blobs = [config, layer].map(|text| Blob::new(vec![text.into()]));
        let descriptor = |media_type: &str, blob: &Blob| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": descriptor(MediaType::OCI_CONFIG, &blobs[0]),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &blobs[1])],
        });
        Image { repository: format!("bench/app{number}"), blobs, manifest: manifest.to_string().into() }
    }
}

/// Ten megabytes that no compression makes smaller, of which every blob has its own first bytes.
fn big_blobs() -> Vec<Blob> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(BLOB_BYTES);
    while noise.len() < BLOB_BYTES - 8 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(BLOB_BYTES - 8);
    let shared = Bytes::from(noise);
    let own = |number: usize| Bytes::copy_from_slice(&(number as u64).to_le_bytes());
    (0..BLOBS).map(|number| Blob::new(vec![own(number), shared.clone()])).collect()
}

struct Target {
    http: Client,
    url: String,
    login: Option<(String, String)>,
}

impl Target {
    fn ask(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let start =
            self.ask(self.http.post(format!("{}/v2/{repository}/blobs/uploads/", self.url))).send().await?;
        ensure!(start.status() == StatusCode::ACCEPTED, "POST upload: {}", start.status());
        let location = start.headers().get("location").context("no Location")?.to_str()?.to_owned();
        let location = if location.starts_with('/') { format!("{}{location}", self.url) } else { location };
        let join = if location.contains('?') { '&' } else { '?' };
        let request = self.ask(self.http.put(format!("{location}{join}digest={}", blob.digest)));
        let done = request.header(CONTENT_LENGTH, blob.len()).body(blob.body()).send().await?;
        ensure!(done.status() == StatusCode::CREATED, "PUT blob: {}", done.status());
        Ok(())
    }

    async fn push_image(&self, image: &Image) -> Result<()> {
        for blob in &image.blobs {
            self.push_blob(&image.repository, blob).await?;
        }
        let request = self.http.put(format!("{}/v2/{}/manifests/1", self.url, image.repository));
        let request = self.ask(request).header("Content-Type", MediaType::OCI_MANIFEST);
        let done = request.body(image.manifest.clone()).send().await?;
        ensure!(done.status() == StatusCode::CREATED, "PUT manifest: {}", done.status());
        Ok(())
    }
}

/// Runs `work` for 0 up to `count` by `clients` tasks; prints what it took.
async fn measure<F, R>(count: usize, clients: usize, bytes: usize, work: F) -> Result<()>
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
    tell(times, begun.elapsed(), bytes);
    Ok(())
}

fn tell(mut times: Vec<Duration>, took: Duration, bytes: usize) {
    times.sort_unstable();
    let p99_ms = times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1_000.0;
    #[allow(clippy::cast_precision_loss)]
    let rate = times.len() as f64 / took.as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let mb = rate * bytes as f64 / 1e6;
    println!("{rate:.1} {p99_ms:.2} {mb:.1}");
}

/// An answer to `HEAD` ends with its header, so nothing of HTTP has to be understood.
fn heads(url: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").context("only http:// is asked")?;
    let (host, path) = rest.split_once('/').context("a URL with a path")?;
    let request = format!("HEAD /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let ask = || -> Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        let (mut times, mut answer, begun) = (Vec::new(), [0; 4096], Instant::now());
        while begun.elapsed() < HEAD_FOR {
            let asked = Instant::now();
            stream.write_all(request.as_bytes())?;
            let mut got = 0;
            while !answer[..got].ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut answer[got..])?;
                ensure!(n > 0, "the server closed the connection");
                got += n;
            }
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..got]));
            times.push(asked.elapsed());
        }
        Ok(times)
    };
    let begun = Instant::now();
    let times: Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..HEAD_CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        let joined =
            asking.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")));
        joined.collect()
    });
    tell(times?.concat(), begun.elapsed(), 0);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    // Two providers are never linked, so the first call wins and cannot fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let usage = "usage: load images|blobs|heads URL [USER:PASSWORD]";
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().context(usage)?;
    let url = arguments.next().context(usage)?.trim_end_matches('/').to_owned();
    let login = arguments.next();
    let login = login.and_then(|login| login.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned())));
    let target = Arc::new(Target { http: Client::new(), url, login });
    match kind.as_str() {
        "images" => {
            let images: Arc<Vec<Image>> = Arc::new((0..IMAGES).map(Image::new).collect());
            measure(IMAGES, IMAGE_CLIENTS, 0, move |number| {
                let (target, images) = (Arc::clone(&target), Arc::clone(&images));
                async move { target.push_image(&images[number]).await }
            })
            .await
        }
        "blobs" => {
            let blobs = Arc::new(big_blobs());
            measure(BLOBS, BLOB_CLIENTS, BLOB_BYTES, move |number| {
                let (target, blobs) = (Arc::clone(&target), Arc::clone(&blobs));
                async move { target.push_blob("bench/big", &blobs[number]).await }
            })
            .await
        }
        "heads" => tokio::task::block_in_place(|| heads(&target.url)),
        _ => bail!(usage),
    }
}
