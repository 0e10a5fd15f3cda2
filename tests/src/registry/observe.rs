use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_store::{KeyRange, Options, Space, Store};

use super::Registry;

#[tokio::test]
async fn pulls_and_refusals_are_remembered() -> Result<()> {
    let mut registry = Registry::start()?;
    let (_, digest) = registry.image("dev/app", "1.0", "a").await?;
    registry.get("dev/app/manifests/1.0").await?.expect(200);
    registry.get(&format!("dev/app/manifests/{digest}")).await?.expect(200);
    registry.head("dev/app/manifests/1.0").await?.expect(200);
    let alice = json!({ "name": "alice", "password": "correct horse" });
    registry.rest(Method::POST, "users", Some(alice)).await?;
    let url = format!("{}/v2/dev/app/manifests/1.0", registry.server.url);
    let refused = registry.http.get(url).basic_auth("alice", Some("correct horse"));
    registry.send(refused).await?.expect(403);
    // What waits is written before the server ends.
    registry.server.stop()?;
    let store = Store::open(registry.server.data(), &Options::default())?;
    let seen = store.scan(KeyRange::prefix(Space::Access, &["pull", "dev/app"]), 10).await?.rows;
    let [pull] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(pull.key.part(2).as_deref(), Some(digest.as_str()));
    let value: Value = pull.value()?;
    assert_eq!((&value["by"], &value["pulls"]), (&json!("admin"), &json!(2)), "a HEAD is no pull");
    let audit = store.scan(KeyRange::all(Space::Audit), 10).await?.rows;
    let refusal: Value = audit.first().context("no refusal")?.value()?;
    assert_eq!(
        (&refusal["by"], &refusal["action"], &refusal["resource"]),
        (&json!("alice"), &json!("pull"), &json!("dev/app"))
    );
    Ok(())
}
