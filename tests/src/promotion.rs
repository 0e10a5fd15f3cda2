//! From stage to stage, told from outside.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use wharf_oci::{Digest, MediaType};
use wharf_tests::{Image, Server, http};

/// How long a job may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

async fn request(
    server: &Server,
    method: Method,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (StatusCode, Value) {
    let request = http().request(method, format!("{}{path}", server.url)).header("Content-Type", kind);
    let answer = request.basic_auth("admin", Some(&server.admin_password)).body(body).send().await.unwrap();
    let status = answer.status();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn promote(server: &Server, from: &str, to: &str) {
    let body = json!({"from": from, "to": to, "note": ""}).to_string().into_bytes();
    let (status, said) = request(server, Method::POST, "/api/v1/promotions", "application/json", body).await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
}

/// Pushes what `cosign sign` makes: a manifest without a tag, whose subject is the image.
async fn sign(server: &Server, repository: &str, image: &Image, signature: &str) -> Digest {
    let blob = signature.as_bytes();
    let digest = Digest::sha256(blob);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let (status, _) = request(server, Method::POST, &path, "application/octet-stream", blob.to_vec()).await;
    assert_eq!(status, StatusCode::CREATED);
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let bundled = json!({"mediaType": bundle, "digest": digest, "size": blob.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": bundle,
        "config": bundled, "layers": [bundled],
        "subject": {"mediaType": MediaType::OCI_MANIFEST, "digest": image.digest(), "size": image.manifest.len()},
    })
    .to_string();
    let digest = Digest::sha256(manifest.as_bytes());
    let path = format!("/v2/{repository}/manifests/{digest}");
    let (status, said) =
        request(server, Method::PUT, &path, MediaType::OCI_MANIFEST, manifest.into_bytes()).await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
    digest
}

/// Waits for the image of a repository to have this referrer.
async fn until_referred(server: &Server, repository: &str, image: &Image, referrer: &Digest) {
    let path = format!("/v2/{repository}/referrers/{}", image.digest());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, found) = request(server, Method::GET, &path, "", Vec::new()).await;
        let entries = found["manifests"].as_array().cloned().unwrap_or_default();
        if entries.iter().any(|entry| entry["digest"] == referrer.as_str()) {
            return;
        }
        assert!(Instant::now() < deadline, "{repository} never got it: {found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Regression: only what had been signed before it was promoted was signed where it went.
#[tokio::test]
async fn a_signature_made_after_the_promotion_is_at_every_stage_and_outlives_a_kill() {
    let mut server = Server::start().unwrap();
    let image = Image::debian("tzdata", "2024a").unwrap();
    image.push(&server, "dev/app", "1").await.unwrap();
    promote(&server, "dev/app:1", "qa/app:1").await;
    promote(&server, "qa/app:1", "prod/app:stable").await;
    let first = sign(&server, "dev/app", &image, "first").await;
    server.kill().unwrap();
    server.restart().unwrap();
    for stage in ["qa/app", "prod/app"] {
        until_referred(&server, stage, &image, &first).await;
    }
    // Whoever verifies pulls the signature itself.
    let path = format!("/v2/prod/app/manifests/{first}");
    assert_eq!(request(&server, Method::GET, &path, "", Vec::new()).await.0, StatusCode::OK);
    let path = format!("/v2/prod/app/blobs/{}", Digest::sha256(b"first"));
    assert_eq!(request(&server, Method::GET, &path, "", Vec::new()).await.0, StatusCode::OK);
    // And from the middle of the chain on, only onwards.
    let second = sign(&server, "qa/app", &image, "second").await;
    until_referred(&server, "prod/app", &image, &second).await;
    let path = format!("/v2/dev/app/manifests/{second}");
    assert_eq!(request(&server, Method::GET, &path, "", Vec::new()).await.0, StatusCode::NOT_FOUND);
    server.stop().unwrap();
}
