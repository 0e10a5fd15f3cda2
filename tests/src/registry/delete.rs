use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use wharf_store::{KeyRange, Options, Space, Store};

use super::{Registry, digest_of, index};

#[tokio::test]
async fn deletes_take_effect_at_once() -> Result<()> {
    let registry = Registry::start()?;
    let (manifest, digest) = registry.image("dev/app", "1.0", "a").await?;
    registry.put_manifest("dev/app", "1.1", &manifest).await?.expect(201);
    registry.put_manifest("dev/app", "1.2", &manifest).await?.expect(201);
    registry.delete("dev/app/manifests/1.0").await?.expect(202);
    registry.get("dev/app/manifests/1.0").await?.expect(404);
    registry.get("dev/app/manifests/1.1").await?.expect(200);
    registry.delete("dev/app/manifests/1.0").await?.expect(404);
    // A manifest goes with its tags.
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(202);
    for target in ["1.1", "1.2", digest.as_str()] {
        registry.get(&format!("dev/app/manifests/{target}")).await?.expect(404);
    }
    assert_eq!(registry.get("dev/app/tags/list").await?.json()["tags"], json!([]));
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(404);
    // It can be pushed again, as its blobs are still there.
    registry.put_manifest("dev/app", "1.0", &manifest).await?.expect(201);
    registry.get("dev/app/manifests/1.0").await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn a_manifest_goes_with_more_tags_than_one_commit_takes() -> Result<()> {
    let registry = Registry::start()?;
    let (manifest, digest) = registry.image("dev/app", "keep", "a").await?;
    let (_, other) = registry.image("dev/app", "other", "b").await?;
    for page in 0..6 {
        let tags: Vec<String> = (0..60).map(|i| format!("tag=t{page}-{i}")).collect();
        let target = format!("{digest}?{}", tags.join("&"));
        registry.put_manifest("dev/app", &target, &manifest).await?.expect(201);
    }
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(202);
    assert_eq!(registry.get("dev/app/tags/list").await?.json()["tags"], json!(["other"]));
    registry.get("dev/app/manifests/t5-59").await?.expect(404);
    let kept = registry.get("dev/app/manifests/other").await?.expect(200);
    assert_eq!(kept.header("docker-content-digest"), other.as_str());
    Ok(())
}

#[tokio::test]
async fn a_large_delete_is_whole_at_once_and_ends_after_a_kill() -> Result<()> {
    let mut registry = Registry::start()?;
    let (manifest, digest) = registry.image("dev/app", "first", "a").await?;
    registry.image("dev/app", "other", "b").await?;
    for page in 0..10 {
        let tags: Vec<String> = (0..60).map(|i| format!("tag=t{page}-{i}")).collect();
        let target = format!("{digest}?{}", tags.join("&"));
        registry.put_manifest("dev/app", &target, &manifest).await?.expect(201);
    }
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(202);
    registry.server.kill()?;
    registry.server.restart()?;
    assert_eq!(registry.get("dev/app/tags/list").await?.json()["tags"], json!(["other"]));
    registry.put_manifest("dev/app", "again", &manifest).await?.expect(201);
    assert_eq!(registry.get("dev/app/tags/list").await?.json()["tags"], json!(["again", "other"]));
    registry.get("dev/app/manifests/t5-59").await?.expect(404);
    // Then the job has removed what nobody saw, and told of each.
    let asked = ["events", "--kind", "tag-deleted", "--limit", "1000", "--output", "json"];
    for _ in 0..600 {
        if registry.server.wharf(&asked)?.matches("tag-deleted").count() == 601 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    registry.server.stop()?;
    let store = Store::open(registry.server.data(), &Options::default())?;
    assert_eq!(store.scan(KeyRange::all(Space::Tag), 10).await?.rows.len(), 2);
    assert_eq!(store.scan(KeyRange::prefix(Space::Cursor, &["untag"]), 10).await?.rows.len(), 0);
    Ok(())
}

#[tokio::test]
async fn what_something_needs_is_not_deleted() -> Result<()> {
    let registry = Registry::start()?;
    let (one, digest) = registry.image("dev/app", "1.0", "a").await?;
    let layer = format!("dev/app/blobs/{}", one["layers"][0]["digest"].as_str().unwrap_or_default());
    let refused = registry.delete(&layer).await?.expect(405);
    assert_eq!(refused.json()["errors"][0]["detail"]["manifest"], json!(digest));
    let both = index(&[&one]);
    registry.put_manifest("dev/app", "all", &both).await?.expect(201);
    let refused = registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(405);
    assert_eq!((refused.code().as_str(), refused.header("allow")), ("DENIED", "GET, HEAD"));
    registry.get("dev/app/manifests/1.0").await?.expect(200);
    registry.delete(&format!("dev/app/manifests/{}", digest_of(&both))).await?.expect(202);
    registry.delete(&format!("dev/app/manifests/{digest}")).await?.expect(202);
    registry.delete(&layer).await?.expect(202);
    registry.get(&layer).await?.expect(404);
    registry.delete(&layer).await?.expect(404);
    Ok(())
}
