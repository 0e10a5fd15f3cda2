use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Registry, answer, image, noise};

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
    registry.rest(Method::PUT, "repositories", Some(set(&["v*"]))).await?.expect(204);
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
    registry.rest(Method::PUT, "repositories", Some(set(&[]))).await?.expect(204);
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
    let path = format!("dev/app/blobs/uploads/?digest={}", wharf_oci::Digest::sha256(&two));
    let refused = registry.send(registry.request(Method::POST, &path).body(two.clone())).await?.expect(403);
    let detail = json!({ "namespace": "dev", "used": 60_000, "max": 100_000, "asked": 50_000 });
    assert_eq!(refused.json()["errors"][0]["detail"], detail);
    // Sixteen at once, of which two fit.
    let pushes = (0..16).map(|i| {
        let (registry, bytes) = (&registry, noise(20_000, 100 + i));
        async move {
            let path = format!("dev/many/blobs/uploads/?digest={}", wharf_oci::Digest::sha256(&bytes));
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
