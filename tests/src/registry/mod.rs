//! The distribution API, told from outside: what the conformance program checks, in this project's own words, and what it
//! does not look at.

mod clients;
mod connection;
mod delete;
mod errors;
mod list;
mod manifest;
mod observe;
mod settings;
mod upload;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use wharf_oci::{Algorithm, Digest, MediaType};
use wharf_tests::Server;
use wharf_tests::client::http;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A server, and the administrator's client of its `/v2/`.
struct Registry {
    server: Server,
    http: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&self.body)))
    }

    /// The first error's code.
    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }
}

impl Registry {
    fn start() -> Result<Registry> {
        Ok(Registry { server: Server::start()?, http: http() })
    }

    /// A request to a path below `/v2/`, or to a whole `Location`.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = path.strip_prefix("/v2/").unwrap_or(path);
        let url = format!("{}/v2/{path}", self.server.url);
        self.http.request(method, url).basic_auth("admin", Some(&self.server.admin_password))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        answer(request).await
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    async fn head(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::HEAD, path)).await
    }

    async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    async fn post(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::POST, path)).await
    }

    /// Pushes a blob in one request.
    async fn blob(&self, repository: &str, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        let path = format!("{repository}/blobs/uploads/?digest={digest}");
        let answer = self.send(self.request(Method::POST, &path).body(bytes.to_vec())).await?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(digest)
    }

    async fn put_manifest(&self, repository: &str, target: &str, manifest: &Value) -> Result<Answer> {
        let media_type = manifest["mediaType"].as_str().context("a media type")?;
        let path = format!("{repository}/manifests/{target}");
        let request = self.request(Method::PUT, &path).header("Content-Type", media_type);
        self.send(request.body(manifest.to_string())).await
    }

    /// Pushes an image of a config and a layer, under a tag. Returns its manifest and digest.
    async fn image(&self, repository: &str, tag: &str, fill: &str) -> Result<(Value, Digest)> {
        let (config, layer) = (format!("{{\"fill\":\"{fill}\"}}"), format!("layer {fill}"));
        self.blob(repository, config.as_bytes()).await?;
        self.blob(repository, layer.as_bytes()).await?;
        let manifest = image(config.as_bytes(), &[layer.as_bytes()]);
        self.put_manifest(repository, tag, &manifest).await?.expect(201);
        let digest = Digest::sha256(manifest.to_string().as_bytes());
        Ok((manifest, digest))
    }
}

/// The administrator's login, as a header.
fn basic(server: &Server) -> String {
    let login = STANDARD.encode(format!("admin:{}", server.admin_password));
    format!("Authorization: Basic {login}")
}

async fn answer(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in response.headers() {
        let value = value.to_str()?;
        let joined = headers.entry(name.to_string()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value);
    }
    Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

fn image(config: &[u8], layers: &[&[u8]]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor(MediaType::OCI_CONFIG, config),
        "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
    })
}

fn index(children: &[&Value]) -> Value {
    let children: Vec<Value> = children
        .iter()
        .map(|child| {
            let bytes = child.to_string();
            descriptor(child["mediaType"].as_str().unwrap_or_default(), bytes.as_bytes())
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": children })
}

fn digest_of(manifest: &Value) -> Digest {
    Digest::sha256(manifest.to_string().as_bytes())
}

fn sha512(bytes: &[u8]) -> Digest {
    Algorithm::Sha512.digest(bytes)
}

/// Bytes that do not repeat, the same in every run.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = (seed << 1) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
