//! Images that tests push: real manifests over real layers, made in memory.

use std::io::Write as _;

use anyhow::{Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use wharf_oci::{Digest, MediaType};

use crate::Server;
use crate::client::http;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One image for linux/amd64.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// An image whose layers hold these `(path, contents)` files.
    pub fn new(layers: &[&[(&str, &str)]]) -> Result<Self> {
        let tars = layers.iter().map(|files| tar(files)).collect::<Result<Vec<_>>>()?;
        let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::sha256(tar)).collect();
        let layers = tars.iter().map(|tar| gzip(tar)).collect::<Result<Vec<_>>>()?;
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"org.example.team": "dev"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": descriptor(MediaType::OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        Ok(Image { manifest, config, layers })
    }

    /// A small Debian 12 image with one installed package, as `dpkg` records it.
    pub fn debian(package: &str, version: &str) -> Result<Self> {
        let status = format!(
            "Package: {package}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: a package of the tests\n\n"
        );
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";
        Image::new(&[&[("etc/os-release", release), ("var/lib/dpkg/status", &status)]])
    }

    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    /// Pushes the blobs and the manifest as the administrator, over the distribution API.
    pub async fn push(&self, server: &Server, repository: &str, tag: &str) -> Result<()> {
        let http = http();
        for blob in self.layers.iter().chain([&self.config]) {
            let url =
                format!("{}/v2/{repository}/blobs/uploads/?digest={}", server.url, Digest::sha256(blob));
            let request = http.post(url).basic_auth("admin", Some(&server.admin_password)).body(blob.clone());
            let answer = request.send().await?;
            ensure!(answer.status() == 201, "blob push: {} {}", answer.status(), answer.text().await?);
        }
        let answer = http
            .put(format!("{}/v2/{repository}/manifests/{tag}", server.url))
            .basic_auth("admin", Some(&server.admin_password))
            .header("Content-Type", MediaType::OCI_MANIFEST)
            .body(self.manifest.clone())
            .send()
            .await?;
        ensure!(answer.status() == 201, "manifest push: {} {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// Pulls it as the administrator: every byte is as it was pushed.
    pub async fn pull(&self, server: &Server, repository: &str, tag: &str) -> Result<()> {
        let http = http();
        let get = async |path: &str| -> Result<Vec<u8>> {
            let request = http.get(format!("{}/v2/{repository}/{path}", server.url));
            let answer = request.basic_auth("admin", Some(&server.admin_password)).send().await?;
            ensure!(answer.status() == 200, "`{repository}/{path}`: {}", answer.status());
            Ok(answer.bytes().await?.to_vec())
        };
        let manifest = get(&format!("manifests/{tag}")).await?;
        ensure!(manifest == self.manifest, "`{repository}:{tag}` is another manifest");
        for blob in self.layers.iter().chain([&self.config]) {
            let digest = Digest::sha256(blob);
            ensure!(get(&format!("blobs/{digest}")).await? == *blob, "`{digest}` has other bytes");
        }
        Ok(())
    }
}

fn tar(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, path, contents.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
