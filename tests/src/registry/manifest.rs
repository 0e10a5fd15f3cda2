use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use wharf_oci::{Digest, MediaType};

use super::{LAYER, Registry, answer, descriptor, digest_of, image, index, noise, sha512};
use wharf_tests::client::http;

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_digest() -> Result<()> {
    let registry = Registry::start()?;
    let (manifest, digest) = registry.image("dev/app", "1.0", "a").await?;
    for target in ["1.0", digest.as_str()] {
        let path = format!("dev/app/manifests/{target}");
        let pulled = registry.get(&path).await?.expect(200);
        assert_eq!(pulled.body, manifest.to_string().into_bytes());
        let head = registry.head(&path).await?.expect(200);
        for answer in [&pulled, &head] {
            assert_eq!(answer.header("content-type"), MediaType::OCI_MANIFEST);
            assert_eq!(answer.header("docker-content-digest"), digest.as_str());
            assert_eq!(answer.header("content-length"), manifest.to_string().len().to_string());
        }
        let known = registry.request(Method::GET, &path).header("If-None-Match", pulled.header("etag"));
        registry.send(known).await?.expect(304);
    }
    // Whatever the client accepts: another form would have another digest.
    let request =
        registry.request(Method::GET, "dev/app/manifests/1.0").header("Accept", MediaType::DOCKER_MANIFEST);
    assert_eq!(registry.send(request).await?.expect(200).header("content-type"), MediaType::OCI_MANIFEST);
    Ok(())
}

#[tokio::test]
async fn a_tag_moves_and_extra_tags_are_set_at_once() -> Result<()> {
    let registry = Registry::start()?;
    let (_, first) = registry.image("dev/app", "latest", "1").await?;
    let (manifest, second) = registry.image("dev/app", "latest", "2").await?;
    let latest = registry.get("dev/app/manifests/latest").await?;
    assert_eq!(latest.header("docker-content-digest"), second.as_str());
    registry.get(&format!("dev/app/manifests/{first}")).await?.expect(200);
    let sha512 = sha512(manifest.to_string().as_bytes());
    for digest in [&second, &sha512] {
        let tags: Vec<String> = (0..12).map(|i| format!("{}-{i}", digest.algorithm().name())).collect();
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let target = format!("{digest}?{}", query.join("&"));
        let pushed = registry.put_manifest("dev/app", &target, &manifest).await?.expect(201);
        assert_eq!(pushed.header("oci-tag"), tags.join(", "));
        assert_eq!(pushed.header("docker-content-digest"), digest.as_str());
        for tag in &tags {
            let pulled = registry.head(&format!("dev/app/manifests/{tag}")).await?.expect(200);
            assert_eq!(pulled.header("docker-content-digest"), digest.as_str());
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_manifest_is_taken() -> Result<()> {
    let registry = Registry::start()?;
    let (one, _) = registry.image("dev/app", "one", "1").await?;
    let (two, _) = registry.image("dev/app", "two", "2").await?;
    let both = index(&[&one, &two]);
    registry.put_manifest("dev/app", "both", &both).await?.expect(201);
    registry.put_manifest("dev/app", "nested", &index(&[&both])).await?.expect(201);
    registry.put_manifest("dev/app", "empty", &index(&[])).await?.expect(201);
    // Of a sparse index some manifests are elsewhere.
    let elsewhere = image(b"elsewhere", &[]);
    registry.put_manifest("dev/app", "sparse", &index(&[&one, &elsewhere])).await?.expect(201);
    // Docker schema 2, a list of it, and a layer that may not be redistributed.
    registry.blob("dev/app", b"docker config").await?;
    let mut docker = image(b"docker config", &[b"foreign"]);
    docker["mediaType"] = json!(MediaType::DOCKER_MANIFEST);
    docker["config"]["mediaType"] = json!(MediaType::DOCKER_CONFIG);
    docker["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    docker["layers"][0]["urls"] = json!(["https://example.org/layer"]);
    registry.put_manifest("dev/app", "docker", &docker).await?.expect(201);
    let mut list = index(&[&docker]);
    list["mediaType"] = json!(MediaType::DOCKER_LIST);
    registry.put_manifest("dev/app", "list", &list).await?.expect(201);
    assert_eq!(registry.get("dev/app/manifests/list").await?.header("content-type"), MediaType::DOCKER_LIST);
    // An artifact without layers, with fields that nobody knows.
    registry.blob("dev/app", b"{}").await?;
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/x.sbom",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [], "org.example.new": { "field": [1, 2] },
    });
    registry.put_manifest("dev/app", "artifact", &artifact).await?.expect(201);
    let pulled = registry.get("dev/app/manifests/artifact").await?;
    assert_eq!(serde_json::from_slice::<Value>(&pulled.body)?, artifact);
    Ok(())
}

#[tokio::test]
async fn a_missing_blob_is_named() -> Result<()> {
    let registry = Registry::start()?;
    registry.blob("dev/app", b"{}").await?;
    let refused = registry.put_manifest("dev/app", "1", &image(b"{}", &[b"missing"])).await?.expect(400);
    assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digests"], json!([Digest::sha256(b"missing")]));
    registry.get("dev/app/manifests/1").await?.expect(404);
    registry.get("dev/app/tags/list").await?.expect(404);
    // A blob of another repository is not this one's.
    registry.blob("dev/other", b"other").await?;
    registry.put_manifest("dev/app", "1", &image(b"{}", &[b"other"])).await?.expect(400);
    Ok(())
}

/// As BuildKit makes one, with a statement of these bytes.
fn attestation(statement: &[u8]) -> Value {
    let mut attestation = image(b"{}", &[statement]);
    attestation["layers"][0]["mediaType"] = json!("application/vnd.in-toto+json");
    attestation
}

/// Regression: an image whose layer was called a statement was no platform of an index and followed other images, unjudged; and
/// podman unpacks a layer by its bytes.
#[tokio::test]
async fn what_is_called_a_statement_is_one() -> Result<()> {
    let registry = Registry::start()?;
    registry.blob("dev/app", b"{}").await?;
    // In a row, and in a file.
    for len in [64, 64 << 10] {
        let said = format!("{{\"said\":\"{}\"}}", "x".repeat(len));
        let archive = [&b"\x1f\x8b\x08"[..], &noise(len, 1)].concat();
        registry.blob("dev/app", said.as_bytes()).await?;
        registry.blob("dev/app", &archive).await?;
        registry.put_manifest("dev/app", "said", &attestation(said.as_bytes())).await?.expect(201);
        let refused = registry.put_manifest("dev/app", "archive", &attestation(&archive)).await?.expect(400);
        assert_eq!(refused.code(), "MANIFEST_INVALID");
    }
    registry.get("dev/app/manifests/archive").await?.expect(404);
    Ok(())
}

/// Regression: a layer that was collected while its manifest was pushed was told as a failure of the server's disk.
#[tokio::test]
async fn a_statement_whose_file_is_gone_is_missing() -> Result<()> {
    let registry = Registry::start()?;
    let said = format!("{{\"said\":\"{}\"}}", "x".repeat(64 << 10));
    registry.blob("dev/app", b"{}").await?;
    let missing = registry.blob("dev/app", said.as_bytes()).await?;
    // Its row is there, as when it is read just before a collection ends.
    std::fs::remove_dir_all(registry.server.data().join("blobs"))?;
    let refused = registry.put_manifest("dev/app", "1", &attestation(said.as_bytes())).await?.expect(400);
    assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digests"], json!([missing]));
    Ok(())
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_with_the_reason() -> Result<()> {
    let registry = Registry::start()?;
    registry.blob("dev/app", b"{}").await?;
    let put = async |target: &str, media_type: &str, body: String| -> Result<(u16, String)> {
        let request = registry.request(Method::PUT, &format!("dev/app/manifests/{target}"));
        let answer = registry.send(request.header("Content-Type", media_type).body(body)).await?;
        Ok((answer.status, answer.code()))
    };
    let good = image(b"{}", &[]);
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    for body in ["", "{", "[]", "null", "{\"schemaVersion\":1}", &"[".repeat(100_000)] {
        assert_eq!(put("1", MediaType::OCI_MANIFEST, body.to_owned()).await?, invalid);
    }
    assert_eq!(put("1", MediaType::OCI_INDEX, good.to_string()).await?, invalid);
    assert_eq!(put("1", "text/plain", good.to_string()).await?, invalid);
    assert_eq!(put("1", "no media type", good.to_string()).await?, invalid);
    let mut both = good.clone();
    both["manifests"] = json!([]);
    assert_eq!(put("1", MediaType::OCI_MANIFEST, both.to_string()).await?, invalid);
    let mut lie = good.clone();
    lie["config"]["size"] = json!(77);
    assert_eq!(put("1", MediaType::OCI_MANIFEST, lie.to_string()).await?, invalid);
    let wrong_digest = (400, "DIGEST_INVALID".to_owned());
    assert_eq!(put(digest_of(&lie).as_str(), MediaType::OCI_MANIFEST, good.to_string()).await?, wrong_digest);
    assert_eq!(put("sha256:baddigeststring", MediaType::OCI_MANIFEST, good.to_string()).await?, wrong_digest);
    assert_eq!(put("-1", MediaType::OCI_MANIFEST, good.to_string()).await?, invalid);
    assert_eq!(put("a?tag=b", MediaType::OCI_MANIFEST, good.to_string()).await?, invalid);
    // Parameters of a media type are ignored.
    let parameters = format!("{}; charset=utf-8", MediaType::OCI_MANIFEST);
    assert_eq!(put("1", &parameters, good.to_string()).await?.0, 201);
    assert_eq!(registry.get("dev/app/manifests/1").await?.header("content-type"), MediaType::OCI_MANIFEST);
    Ok(())
}

#[tokio::test]
async fn a_manifest_has_a_limit_and_what_is_over_it_costs_nobody_anything() -> Result<()> {
    let registry = Registry::start()?;
    registry.blob("dev/app", b"{}").await?;
    let mut large = image(b"{}", &[]);
    large["annotations"] = json!({ "large": "x".repeat((4 << 20) - large.to_string().len() - 30) });
    assert!(large.to_string().len() <= 4 << 20 && large.to_string().len() > (4 << 20) - 40);
    registry.put_manifest("dev/app", "large", &large).await?.expect(201);
    assert_eq!(registry.get("dev/app/manifests/large").await?.body, large.to_string().into_bytes());

    let before = resident_kb(registry.server.pid())?;
    let huge = vec![b'['; 100 << 20];
    let request = registry.request(Method::PUT, "dev/app/manifests/huge");
    let request = request.header("Content-Type", MediaType::OCI_MANIFEST).body(huge.clone());
    assert_eq!(registry.send(request).await?.expect(413).code(), "MANIFEST_INVALID");
    // Without a length the server finds out while reading.
    let pieces =
        huge.chunks(1 << 20).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = registry.request(Method::PUT, "dev/app/manifests/huge");
    let request = request.header("Content-Type", MediaType::OCI_MANIFEST).body(body);
    assert_eq!(registry.send(request).await?.expect(413).code(), "MANIFEST_INVALID");
    let grown = resident_kb(registry.server.pid())?.saturating_sub(before);
    assert!(grown < 50 << 10, "the server grew by {grown} KiB");
    Ok(())
}

/// Peak resident memory of a process.
fn resident_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() -> Result<()> {
    let registry = Registry::start()?;
    let (manifest, _) = registry.image("dev/app", "1.0", "a").await?;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap_or_default();
    let _ = http();
    for (client, version) in [
        (reqwest::Client::builder().http1_only().build()?, reqwest::Version::HTTP_11),
        (reqwest::Client::builder().http2_prior_knowledge().build()?, reqwest::Version::HTTP_2),
    ] {
        for path in ["manifests/1.0".to_owned(), format!("blobs/{layer}")] {
            let url = format!("{}/v2/dev/app/{path}", registry.server.url);
            let request = client.get(url).basic_auth("admin", Some(&registry.server.admin_password));
            let response = request.send().await?;
            assert_eq!((response.version(), response.status().as_u16()), (version, 200));
        }
        let url = format!(
            "{}/v2/dev/h{version:?}/blobs/uploads/?digest={}",
            registry.server.url,
            Digest::sha256(b"x")
        );
        let request = client.post(url.to_lowercase().replace("http/", "")).body("x");
        let request = request.basic_auth("admin", Some(&registry.server.admin_password));
        answer(request).await?.expect(201);
    }
    Ok(())
}

#[tokio::test]
async fn the_digest_of_the_client_s_choice_is_kept() -> Result<()> {
    let registry = Registry::start()?;
    let (config, layer) = (b"{\"sha\":512}".as_slice(), b"layer 512".as_slice());
    for bytes in [config, layer] {
        let path = format!("dev/app/blobs/uploads/?digest={}", sha512(bytes));
        registry.send(registry.request(Method::POST, &path).body(bytes.to_vec())).await?.expect(201);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": MediaType::OCI_CONFIG, "digest": sha512(config), "size": config.len() },
        "layers": [{ "mediaType": LAYER, "digest": sha512(layer), "size": layer.len() }],
    });
    let digest = sha512(manifest.to_string().as_bytes());
    let pushed = registry.put_manifest("dev/app", digest.as_str(), &manifest).await?.expect(201);
    assert_eq!(pushed.header("docker-content-digest"), digest.as_str());
    let pulled = registry.get(pushed.header("location")).await?.expect(200);
    assert_eq!(pulled.header("docker-content-digest"), digest.as_str());
    // The same bytes are not there under a digest that nobody pushed them by.
    registry.get(&format!("dev/app/manifests/{}", digest_of(&manifest))).await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn a_manifest_may_have_come_as_a_blob_before() -> Result<()> {
    let registry = Registry::start()?;
    registry.blob("dev/app", b"{}").await?;
    let mut large = image(b"{}", &[]);
    large["annotations"] = json!({ "large": "x".repeat(20_000) });
    let digest = registry.blob("dev/app", large.to_string().as_bytes()).await?;
    registry.put_manifest("dev/app", "1.0", &large).await?.expect(201);
    for target in ["1.0", digest.as_str()] {
        let pulled = registry.get(&format!("dev/app/manifests/{target}")).await?.expect(200);
        assert_eq!(pulled.body, large.to_string().into_bytes());
    }
    // It is one content with two doors, and the manifest keeps it.
    assert_eq!(
        registry.get(&format!("dev/app/blobs/{digest}")).await?.expect(200).body.len(),
        large.to_string().len()
    );
    registry.delete(&format!("dev/app/blobs/{digest}")).await?.expect(405);
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(202);
    registry.get(&format!("dev/app/manifests/{digest}")).await?.expect(404);
    Ok(())
}
