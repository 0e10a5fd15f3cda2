//! The clients that people use: push, pull, many platforms, delete; digests equal on both ends.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use wharf_oci::{Digest, MediaType};
use wharf_tests::{Image, Server, tool};

/// An OCI layout of one image for two platforms. Returns the index's digest.
fn layout(folder: &Path) -> Result<Digest> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let store =
        |bytes: &[u8]| -> Result<()> { Ok(fs::write(blobs.join(Digest::sha256(bytes).hex()), bytes)?) };
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let image = Image::new(&[&[("bin/hello", architecture)]])?;
        // The image is made for amd64; the other platform's config says so, or docker would refuse the mix.
        let config = String::from_utf8(image.config.clone())?.replace("amd64", architecture).into_bytes();
        let manifest = String::from_utf8(image.manifest.clone())?
            .replace(Digest::sha256(&image.config).as_str(), Digest::sha256(&config).as_str())
            .into_bytes();
        for bytes in image.layers.iter().chain([&config, &manifest]) {
            store(bytes)?;
        }
        manifests.push(json!({
            "mediaType": MediaType::OCI_MANIFEST, "digest": Digest::sha256(&manifest), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": architecture },
        }));
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests }).to_string();
    store(index.as_bytes())?;
    let digest = Digest::sha256(index.as_bytes());
    let entry = json!({
        "mediaType": MediaType::OCI_INDEX, "digest": digest, "size": index.len(),
        "annotations": { "org.opencontainers.image.ref.name": "it" },
    });
    fs::write(folder.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())?;
    fs::write(folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    Ok(digest)
}

fn credentials(server: &Server) -> String {
    format!("admin:{}", server.admin_password)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[test]
fn skopeo_pushes_pulls_and_deletes_every_platform() -> Result<()> {
    let server = Server::start()?;
    let (folder, creds) = (TempDir::new()?, credentials(&server));
    let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
    let digest = layout(&source)?;
    let source = format!("oci:{}:it", text(&source));
    let remote = format!("docker://{}/dev/app:1.0", server.host());
    tool("skopeo", &["copy", "--all", "--dest-tls-verify=false", "--dest-creds", &creds, &source, &remote])?;
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", "--creds", &creds, &remote])?;
    assert_eq!(Digest::sha256(raw.as_bytes()), digest);
    let target = format!("dir:{}", text(&copy));
    tool("skopeo", &["copy", "--all", "--src-tls-verify=false", "--src-creds", &creds, &remote, &target])?;
    assert_eq!(Digest::sha256(&fs::read(copy.join("manifest.json"))?), digest);
    // Into another repository: blobs are mounted, the digest stays.
    let other = format!("docker://{}/qa/app:1.0", server.host());
    tool(
        "skopeo",
        &[
            "copy",
            "--all",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--src-creds",
            &creds,
            "--dest-creds",
            &creds,
            &remote,
            &other,
        ],
    )?;
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", "--creds", &creds, &other])?;
    assert_eq!(Digest::sha256(raw.as_bytes()), digest);
    tool("skopeo", &["delete", "--tls-verify=false", "--creds", &creds, &remote])?;
    let gone = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", "--creds", &creds, &remote]);
    assert!(format!("{:?}", gone.err()).contains("manifest unknown"));
    tool("skopeo", &["inspect", "--raw", "--tls-verify=false", "--creds", &creds, &other])?;
    Ok(())
}

#[test]
fn crane_pushes_pulls_and_deletes_every_platform() -> Result<()> {
    let server = Server::start()?;
    let folder = TempDir::new()?;
    let source = folder.path().join("source");
    let digest = layout(&source)?;
    // crane reads its logins from a file of docker's.
    let docker = folder.path().join("docker");
    fs::create_dir_all(&docker)?;
    let crane = |arguments: &[&str]| crane(&docker, arguments);
    crane(&["auth", "login", server.host(), "-u", "admin", "-p", &server.admin_password])?;
    let remote = format!("{}/dev/app:1.0", server.host());
    crane(&["push", "--index", text(&source), &remote])?;
    // `push` wraps the layout's own index; what was in it is there by its digest.
    let by_digest = format!("{}/dev/app@{digest}", server.host());
    assert_eq!(crane(&["digest", &by_digest])?.trim(), digest.as_str());
    let other = format!("{}/qa/app:1.0", server.host());
    crane(&["copy", &by_digest, &other])?;
    assert_eq!(crane(&["digest", &other])?.trim(), digest.as_str());
    let pulled = folder.path().join("pulled");
    crane(&["pull", "--format=oci", &other, text(&pulled)])?;
    let index = fs::read_to_string(pulled.join("index.json"))?;
    assert!(index.contains(digest.as_str()), "{index}");
    assert_eq!(crane(&["ls", &format!("{}/qa/app", server.host())])?.trim(), "1.0");
    assert!(crane(&["catalog", server.host()])?.contains("qa/app"));
    crane(&["delete", &other])?;
    assert!(crane(&["digest", &other]).is_err());
    Ok(())
}

fn crane(docker: &Path, arguments: &[&str]) -> Result<String> {
    let config = format!("DOCKER_CONFIG={}", text(docker));
    let mut all = vec![config.as_str(), "crane", "--insecure"];
    all.extend_from_slice(arguments);
    tool("env", &all).context("crane failed; hint: `bash tests/install.sh` installs the tests' clients")
}

#[test]
fn podman_pulls_and_pushes() -> Result<()> {
    let server = Server::start()?;
    let (folder, creds) = (TempDir::new()?, credentials(&server));
    let source = folder.path().join("source");
    layout(&source)?;
    let remote = format!("{}/dev/app:1.0", server.host());
    let (from, to) = (format!("oci:{}:it", text(&source)), format!("docker://{remote}"));
    tool("skopeo", &["copy", "--all", "--dest-tls-verify=false", "--dest-creds", &creds, &from, &to])?;
    let (root, run) = (folder.path().join("root"), folder.path().join("run"));
    let store = ["--root", text(&root), "--runroot", text(&run), "--storage-driver", "vfs"];
    let podman = |arguments: &[&str]| tool("podman", &[store.as_slice(), arguments].concat());
    podman(&["pull", "--quiet", "--tls-verify=false", "--creds", &creds, &remote])?;
    let again = format!("{}/dev/again:1.0", server.host());
    podman(&["tag", &remote, &again])?;
    let told = folder.path().join("digest");
    podman(&["push", "--tls-verify=false", "--creds", &creds, "--digestfile", text(&told), &again])?;
    let raw = tool(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", "--creds", &creds, &format!("docker://{again}")],
    )?;
    assert_eq!(Digest::sha256(raw.as_bytes()).as_str(), fs::read_to_string(told)?.trim());
    podman(&["rmi", "--all", "--force"])?;
    Ok(())
}
