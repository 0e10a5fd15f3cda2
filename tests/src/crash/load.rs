use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use wharf_oci::{Digest, MediaType};
use wharf_tests::client::http;

use super::until_it_dies;

/// Tags that a worker moves about.
const TAGS: usize = 5;
/// One image in so many is deleted again.
const DELETE_EVERY: usize = 6;

/// One client, and what it was told.
#[derive(Debug)]
pub(super) struct Worker {
    repository: String,
    next: usize,
    http: Client,
    /// Acknowledged and not deleted.
    images: BTreeMap<Digest, Pushed>,
    /// Acknowledged since the last check.
    newest: Vec<Digest>,
    deleted: BTreeSet<Digest>,
    /// What a tag may point to: what was acknowledged last, and what was asked for after it. None: nothing.
    tags: BTreeMap<String, BTreeSet<Option<Digest>>>,
    acknowledged: usize,
}

#[derive(Debug, Clone)]
struct Pushed {
    manifest: String,
    blobs: Vec<Vec<u8>>,
}

/// Where the server is.
struct At<'a> {
    http: &'a Client,
    url: &'a str,
    password: &'a str,
}

impl At<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = path.strip_prefix("/v2/").unwrap_or(path);
        self.http.request(method, format!("{}/v2/{path}", self.url)).basic_auth("admin", Some(self.password))
    }

    /// The status, if there was an answer at all.
    async fn status(&self, request: RequestBuilder) -> Result<u16> {
        Ok(request.send().await?.status().as_u16())
    }
}

impl Worker {
    pub(super) fn new(number: usize) -> Self {
        Worker {
            repository: format!("load/w{number}"),
            next: 0,
            http: http(),
            images: BTreeMap::new(),
            newest: Vec::new(),
            deleted: BTreeSet::new(),
            tags: BTreeMap::new(),
            acknowledged: 0,
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Pushes, moves tags and deletes, see [`until_it_dies`].
    pub(super) async fn push_until_it_dies(&mut self, url: &str, password: &str) -> Result<()> {
        // Connections of the last server are dead.
        self.http = http();
        until_it_dies(async || {
            self.push_one(url, password).await?;
            match self.next.is_multiple_of(DELETE_EVERY) {
                true => self.delete_one(url, password).await,
                false => Ok(()),
            }
        })
        .await
    }

    async fn push_one(&mut self, url: &str, password: &str) -> Result<()> {
        self.next += 1;
        let (repository, number) = (self.repository.clone(), self.next);
        let client = self.http.clone();
        let at = At { http: &client, url, password };
        let image = image(&repository, number);
        for (i, blob) in image.blobs.iter().enumerate() {
            let status = match (number + i) % 3 {
                0 => in_chunks(&at, &repository, blob).await?,
                _ => whole(&at, &repository, blob).await?,
            };
            ensure!(status == 201, "a blob was answered by {status}");
        }
        let (tag, digest) = (format!("t{}", number % TAGS), Digest::sha256(image.manifest.as_bytes()));
        let may_be = self.tags.entry(tag.clone()).or_insert_with(|| BTreeSet::from([None]));
        may_be.insert(Some(digest.clone()));
        let request = at
            .request(Method::PUT, &format!("{repository}/manifests/{tag}"))
            .header("Content-Type", MediaType::OCI_MANIFEST)
            .body(image.manifest.clone());
        let status = at.status(request).await?;
        ensure!(status == 201, "a manifest was answered by {status}");
        self.tags.insert(tag, BTreeSet::from([Some(digest.clone())]));
        self.images.insert(digest.clone(), image);
        self.newest.push(digest);
        self.acknowledged += 1;
        Ok(())
    }

    async fn delete_one(&mut self, url: &str, password: &str) -> Result<()> {
        let Some((digest, _)) = self.images.pop_first() else { return Ok(()) };
        for may_be in self.tags.values_mut().filter(|may_be| may_be.contains(&Some(digest.clone()))) {
            may_be.insert(None);
        }
        let client = self.http.clone();
        let at = At { http: &client, url, password };
        let path = format!("{}/manifests/{digest}", self.repository);
        // Without an answer it may be there or not.
        let status = at.status(at.request(Method::DELETE, &path)).await?;
        ensure!(status == 202, "a delete was answered by {status}");
        for may_be in self.tags.values_mut() {
            may_be.remove(&Some(digest.clone()));
        }
        self.deleted.insert(digest);
        Ok(())
    }

    /// Pulls what was acknowledged since the last time, and looks at every tag.
    pub(super) async fn check_newest(&mut self, url: &str, password: &str) -> Result<()> {
        self.http = http();
        let at = At { http: &self.http, url, password };
        for digest in std::mem::take(&mut self.newest) {
            if let Some(image) = self.images.get(&digest) {
                pull(&at, &self.repository, &digest, image).await?;
            }
        }
        for (tag, may_be) in &mut self.tags {
            let found = points_to(&at, &self.repository, tag).await?;
            ensure!(may_be.contains(&found), "`{tag}` points to {found:?}, not to one of {may_be:?}");
            *may_be = BTreeSet::from([found]);
        }
        Ok(())
    }

    /// Pulls everything.
    pub(super) async fn check_all(&self, url: &str, password: &str) -> Result<()> {
        let at = At { http: &self.http, url, password };
        for (digest, image) in &self.images {
            pull(&at, &self.repository, digest, image).await?;
        }
        for digest in &self.deleted {
            let path = format!("{}/manifests/{digest}", self.repository);
            let status = at.status(at.request(Method::GET, &path)).await?;
            ensure!(status == 404, "`{digest}` was deleted and is answered by {status}");
        }
        Ok(())
    }
}

async fn pull(at: &At<'_>, repository: &str, digest: &Digest, image: &Pushed) -> Result<()> {
    let path = format!("{repository}/manifests/{digest}");
    let answer = at.request(Method::GET, &path).send().await?;
    ensure!(answer.status() == 200, "acknowledged `{digest}` is answered by {}", answer.status());
    ensure!(answer.bytes().await? == image.manifest.as_bytes(), "`{digest}` has other bytes");
    for blob in &image.blobs {
        let path = format!("{repository}/blobs/{}", Digest::sha256(blob));
        let answer = at.request(Method::GET, &path).send().await?;
        ensure!(answer.status() == 200, "acknowledged blob `{path}` is answered by {}", answer.status());
        ensure!(answer.bytes().await? == blob, "blob `{path}` has other bytes");
    }
    Ok(())
}

async fn points_to(at: &At<'_>, repository: &str, tag: &str) -> Result<Option<Digest>> {
    let answer = at.request(Method::HEAD, &format!("{repository}/manifests/{tag}")).send().await?;
    match answer.status().as_u16() {
        404 => Ok(None),
        200 => {
            let digest = answer.headers().get("docker-content-digest").context("no digest")?;
            Ok(Some(digest.to_str()?.parse()?))
        }
        status => bail!("`{tag}` is answered by {status}"),
    }
}

async fn whole(at: &At<'_>, repository: &str, blob: &[u8]) -> Result<u16> {
    let path = format!("{repository}/blobs/uploads/?digest={}", Digest::sha256(blob));
    at.status(at.request(Method::POST, &path).body(blob.to_vec())).await
}

async fn in_chunks(at: &At<'_>, repository: &str, blob: &[u8]) -> Result<u16> {
    let opened = at.request(Method::POST, &format!("{repository}/blobs/uploads/")).send().await?;
    ensure!(opened.status() == 202, "an upload was opened by {}", opened.status());
    let location = opened.headers().get("location").context("no location")?.to_str()?.to_owned();
    let half = blob.len() / 2;
    let status = at.status(at.request(Method::PATCH, &location).body(blob[..half].to_vec())).await?;
    ensure!(status == 202, "a chunk was answered by {status}");
    let path = format!("{location}?digest={}", Digest::sha256(blob));
    at.status(at.request(Method::PUT, &path).body(blob[half..].to_vec())).await
}

/// An image of three blobs: one of its own in the row, one of its own in a file, one that everybody pushes.
fn image(repository: &str, number: usize) -> Pushed {
    let config = json!({ "of": repository, "number": number }).to_string().into_bytes();
    let own = format!("{repository} {number} ").repeat(2000).into_bytes();
    let shared = format!("shared {} ", number % 3).repeat(5000).into_bytes();
    let descriptor = |media_type: &str, bytes: &[u8]| -> Value {
        json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
    };
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor(MediaType::OCI_CONFIG, &config),
        "layers": [descriptor(layer, &own), descriptor(layer, &shared)],
    });
    Pushed { manifest: manifest.to_string(), blobs: vec![config, own, shared] }
}
