use std::convert::Infallible;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use wharf_oci::Digest;

use super::{Answer, Registry, answer, basic, image, noise};

const MB: usize = 1_000_000;

impl Registry {
    pub(super) async fn rest(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let url = format!("{}/api/v1/{path}", self.server.url);
        let request = self.http.request(method, url).basic_auth("admin", Some(&self.server.admin_password));
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }
}

#[tokio::test]
async fn immutable_tags_are_neither_moved_nor_deleted() -> Result<()> {
    let registry = Registry::start()?;
    let set = |patterns: &[&str]| json!({ "repository": "dev/app", "immutable_tags": patterns });
    let early = registry.rest(Method::PUT, "repositories", Some(set(&["v*"]))).await?.expect(200).json();
    assert_eq!(early["exists"], false, "{early}");
    let (first, digest) = registry.image("dev/app", "v1", "1").await?;
    registry.put_manifest("dev/app", "v1", &first).await?.expect(201);
    registry.blob("dev/app", b"2").await?;
    let second = image(b"2", &[]);
    let refused = registry.put_manifest("dev/app", "v1", &second).await?.expect(403);
    assert_eq!(refused.code(), "DENIED");
    assert!(
        refused.json()["errors"][0]["message"]
            .as_str()
            .unwrap_or_default()
            .contains("immutable by pattern `v*`")
    );
    registry.delete("dev/app/manifests/v1").await?.expect(403);
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(403);
    registry.put_manifest("dev/app", "latest", &second).await?.expect(201);
    assert_eq!(registry.head("dev/app/manifests/v1").await?.header("docker-content-digest"), digest.as_str());
    let listed = registry.rest(Method::GET, "repositories", None).await?.expect(200).json();
    assert_eq!(listed["items"], json!([set(&["v*"])]));
    registry.rest(Method::PUT, "repositories", Some(set(&["no tag/has this"]))).await?.expect(400);
    let late = registry.rest(Method::PUT, "repositories", Some(set(&[]))).await?.expect(200).json();
    assert_eq!(late["exists"], true, "{late}");
    registry.delete("dev/app/manifests/v1").await?.expect(202);
    Ok(())
}

#[tokio::test]
async fn a_quota_is_exact_and_says_its_numbers() -> Result<()> {
    let registry = Registry::start()?;
    let quota = "quotas?namespace=dev";
    let limit = json!({ "namespace": "dev", "max_bytes": 100_000 });
    registry.rest(Method::PUT, "quotas", Some(limit)).await?.expect(204);
    let (one, two) = (noise(60_000, 1), noise(50_000, 2));
    let digest = registry.blob("dev/app", &one).await?;
    registry.blob("dev/web", &one).await?;
    let path = format!("dev/app/blobs/uploads/?digest={}", Digest::sha256(&two));
    let refused = registry.send(registry.request(Method::POST, &path).body(two.clone())).await?.expect(403);
    let detail = json!({ "namespace": "dev", "used": 60_000, "max": 100_000, "asked": 50_000 });
    assert_eq!(refused.json()["errors"][0]["detail"], detail);
    // Sixteen at once, of which two fit.
    let pushes = (0..16).map(|i| {
        let (registry, bytes) = (&registry, noise(20_000, 100 + i));
        async move {
            let path = format!("dev/many/blobs/uploads/?digest={}", Digest::sha256(&bytes));
            Ok::<_, anyhow::Error>(
                registry.send(registry.request(Method::POST, &path).body(bytes)).await?.status,
            )
        }
    });
    let statuses = futures_util::future::try_join_all(pushes).await?;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 14, "{statuses:?}");
    let usage = registry.rest(Method::GET, quota, None).await?.expect(200).json();
    assert_eq!(usage, json!({ "namespace": "dev", "used_bytes": 100_000, "max_bytes": 100_000 }));
    // Another namespace is not concerned; what goes is given back with its last link.
    registry.blob("qa/app", &two).await?;
    registry.delete(&format!("dev/app/blobs/{digest}")).await?.expect(202);
    assert_eq!(registry.rest(Method::GET, quota, None).await?.json()["used_bytes"], json!(100_000));
    registry.delete(&format!("dev/web/blobs/{digest}")).await?.expect(202);
    assert_eq!(registry.rest(Method::GET, quota, None).await?.json()["used_bytes"], json!(40_000));
    registry.blob("dev/app", &two).await?;
    Ok(())
}

impl Registry {
    async fn limit(&self, namespace: &str, max_bytes: usize) -> Result<()> {
        let limit = json!({ "namespace": namespace, "max_bytes": max_bytes });
        self.rest(Method::PUT, "quotas", Some(limit)).await?.expect(204);
        Ok(())
    }

    async fn used(&self, namespace: &str) -> Result<Value> {
        let quota = format!("quotas?namespace={namespace}");
        Ok(self.rest(Method::GET, &quota, None).await?.expect(200).json()["used_bytes"].clone())
    }

    /// Waits until a namespace has used so much.
    async fn until_used(&self, namespace: &str, bytes: usize) -> Result<()> {
        for _ in 0..3000 {
            if self.used(namespace).await? == json!(bytes) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("`{namespace}` uses {}, not {bytes}", self.used(namespace).await?)
    }

    /// Opens an upload and sends its first bytes.
    async fn begin(&self, repository: &str, body: impl Into<Body>) -> Result<(String, Answer)> {
        let opened = self.post(&format!("{repository}/blobs/uploads/")).await?.expect(202);
        let location = opened.header("location").to_owned();
        let sent = self.send(self.request(Method::PATCH, &location).body(body)).await?;
        Ok((location, sent))
    }
}

#[tokio::test]
async fn what_is_under_way_counts_towards_the_quota() -> Result<()> {
    let registry = Registry::start()?;
    registry.limit("dev", 30 * MB).await?;
    let (first, second) = (noise(20 * MB, 1), noise(15 * MB, 2));
    let (location, sent) = registry.begin("dev/app", first.clone()).await?;
    sent.expect(202);
    assert_eq!(registry.used("dev").await?, json!(20 * MB));
    // Refused before a byte is taken, in one request and in several.
    let path = format!("dev/web/blobs/uploads/?digest={}", Digest::sha256(&second));
    let refused =
        registry.send(registry.request(Method::POST, &path).body(second.clone())).await?.expect(403);
    assert_eq!(refused.json()["errors"][0]["detail"]["asked"], json!(15 * MB));
    let (other, refused) = registry.begin("dev/web", second.clone()).await?;
    refused.expect(403);
    registry.get(&other).await?.expect(404);
    // An upload that is given up, or refused in the end, makes room.
    registry.delete(&location).await?.expect(204);
    assert_eq!(registry.used("dev").await?, json!(0));
    let (location, sent) = registry.begin("dev/app", first.clone()).await?;
    sent.expect(202);
    registry.finish(&location, &Digest::sha256(b"other"), b"").await?.expect(400);
    assert_eq!(registry.used("dev").await?, json!(0));
    // One that is finished is charged once.
    let (location, _) = registry.begin("dev/app", first.clone()).await?;
    registry.finish(&location, &Digest::sha256(&first), b"").await?.expect(201);
    assert_eq!(registry.used("dev").await?, json!(20 * MB));
    Ok(())
}

#[tokio::test]
async fn bytes_that_nobody_announced_are_counted_as_they_come() -> Result<()> {
    let registry = Registry::start()?;
    registry.limit("dev", 20 * MB).await?;
    let stream = |pieces| {
        let piece = bytes::Bytes::from(noise(MB, 3));
        Body::wrap_stream(stream::iter(vec![Ok::<_, Infallible>(piece); pieces]))
    };
    let (location, refused) = registry.begin("dev/app", stream(40)).await?;
    assert_eq!(refused.expect(403).code(), "DENIED");
    registry.get(&location).await?.expect(404);
    assert_eq!(registry.used("dev").await?, json!(0));
    let (location, sent) = registry.begin("dev/app", stream(20)).await?;
    sent.expect(202);
    let whole = noise(MB, 3).repeat(20);
    registry.finish(&location, &Digest::sha256(&whole), b"").await?.expect(201);
    assert_eq!(registry.used("dev").await?, json!(20 * MB));
    Ok(())
}

#[tokio::test]
async fn what_a_client_announced_and_did_not_send_is_given_back() -> Result<()> {
    let registry = Registry::start()?;
    registry.limit("dev", 30 * MB).await?;
    let opened = registry.post("dev/app/blobs/uploads/").await?.expect(202);
    let digest = Digest::sha256(b"x");
    for line in [
        format!("POST /v2/dev/app/blobs/uploads/?digest={digest}"),
        format!("PATCH {}", opened.header("location")),
        format!("PUT {}?digest={digest}", opened.header("location")),
    ] {
        let mut client = TcpStream::connect(registry.server.host())?;
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{}\r\n", basic(&registry.server));
        write!(client, "{head}Content-Length: {}\r\n\r\n", 20 * MB)?;
        registry.until_used("dev", 20 * MB).await?;
        drop(client);
        registry.until_used("dev", 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_name_of_a_blob_that_is_there_lets_no_others_bytes_in() -> Result<()> {
    let registry = Registry::start()?;
    registry.limit("dev", 5 * MB).await?;
    let known = noise(MB, 1);
    let digest = registry.blob("dev/app", &known).await?;
    let whole = format!("dev/app/blobs/uploads/?digest={digest}");
    let others = registry.request(Method::POST, &whole).body(noise(MB, 2).repeat(40));
    registry.send(others).await?.expect(403);
    let again = registry.request(Method::POST, &whole).body(known);
    registry.send(again).await?.expect(201);
    assert_eq!(registry.used("dev").await?, json!(MB));
    Ok(())
}
