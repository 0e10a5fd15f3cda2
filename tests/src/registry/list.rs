use anyhow::Result;
use serde_json::{Value, json};
use wharf_oci::{Digest, MediaType};

use super::{Answer, Registry, digest_of, image};

/// The path of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(rest, "; rel=\"next\"");
    Some(path.to_owned())
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn tags_come_in_order_and_in_pages() -> Result<()> {
    let registry = Registry::start()?;
    registry.get("dev/app/tags/list").await?.expect(404);
    let (manifest, digest) = registry.image("dev/app", "b", "x").await?;
    let query: String = ["C", "a", "1.10", "1.9", "_x"].iter().map(|tag| format!("tag={tag}&")).collect();
    registry.put_manifest("dev/app", &format!("{digest}?{query}"), &manifest).await?.expect(201);
    let sorted = ["1.10", "1.9", "C", "_x", "a", "b"];
    let all = registry.get("dev/app/tags/list").await?.expect(200);
    assert_eq!(all.json(), json!({ "name": "dev/app", "tags": sorted }));
    assert_eq!(next(&all), None);
    let (mut seen, mut path) = (Vec::new(), Some("dev/app/tags/list?n=2".to_owned()));
    while let Some(page) = path {
        let page = registry.get(&page).await?.expect(200);
        let tags = names(&page.json()["tags"]);
        assert!(tags.len() <= 2);
        seen.extend(tags);
        path = next(&page);
    }
    assert_eq!(seen, sorted);
    let none = registry.get("dev/app/tags/list?n=0").await?.expect(200);
    assert_eq!((names(&none.json()["tags"]), next(&none)), (Vec::new(), None));
    let after = registry.get("dev/app/tags/list?last=C").await?.expect(200);
    assert_eq!(names(&after.json()["tags"]), ["_x", "a", "b"]);
    let beyond = registry.get("dev/app/tags/list?last=zzz&n=5").await?.expect(200);
    assert_eq!(names(&beyond.json()["tags"]), Vec::<String>::new());
    registry.get("dev/app/tags/list?n=-1").await?.expect(400);
    // A repository that has lost its last tag is still one.
    for tag in sorted {
        registry.delete(&format!("dev/app/manifests/{tag}")).await?.expect(202);
    }
    assert_eq!(registry.get("dev/app/tags/list").await?.expect(200).json()["tags"], json!([]));
    Ok(())
}

#[tokio::test]
async fn the_catalog_comes_in_pages() -> Result<()> {
    let registry = Registry::start()?;
    for name in ["b", "a/z", "a-b", "a/a"] {
        registry.image(name, "1", "x").await?;
    }
    let sorted = ["a-b", "a/a", "a/z", "b"];
    let all = registry.get("_catalog").await?.expect(200);
    assert_eq!(names(&all.json()["repositories"]), sorted);
    let (mut seen, mut path) = (Vec::new(), Some("_catalog?n=3".to_owned()));
    while let Some(page) = path {
        let page = registry.get(&page).await?.expect(200);
        seen.extend(names(&page.json()["repositories"]));
        path = next(&page);
    }
    assert_eq!(seen, sorted);
    let none = registry.get("_catalog?n=0").await?.expect(200);
    assert_eq!(names(&none.json()["repositories"]), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn referrers_are_found_by_their_subject() -> Result<()> {
    let registry = Registry::start()?;
    let subject = image(b"not pushed", &[]);
    let path = format!("dev/app/referrers/{}", digest_of(&subject));
    let none = registry.get(&path).await?.expect(200);
    assert_eq!(none.header("content-type"), MediaType::OCI_INDEX);
    assert_eq!(none.json()["manifests"], json!([]));
    registry.blob("dev/app", b"{}").await?;
    let mut expected = Vec::new();
    for i in 0..5 {
        let mut artifact = image(b"{}", &[]);
        artifact["subject"] = super::descriptor(MediaType::OCI_MANIFEST, subject.to_string().as_bytes());
        artifact["annotations"] = json!({ "org.example.i": i.to_string() });
        if i < 3 {
            artifact["artifactType"] = json!("application/x.sig+json");
        }
        let pushed =
            registry.put_manifest("dev/app", digest_of(&artifact).as_str(), &artifact).await?.expect(201);
        assert_eq!(pushed.header("oci-subject"), digest_of(&subject).as_str());
        expected.push((digest_of(&artifact).to_string(), i));
    }
    let listed = registry.get(&path).await?.expect(200).json();
    let entries: Vec<&Value> = listed["manifests"].as_array().into_iter().flatten().collect();
    assert_eq!(entries.len(), 5);
    for (digest, i) in &expected {
        let entry = entries.iter().find(|entry| entry["digest"] == json!(digest)).expect("an entry");
        assert_eq!(entry["annotations"]["org.example.i"], json!(i.to_string()));
        let kind = if *i < 3 { "application/x.sig+json" } else { MediaType::OCI_CONFIG };
        assert_eq!(entry["artifactType"], json!(kind));
    }
    let filtered =
        registry.get(&format!("{path}?artifactType=application%2Fx.sig%2Bjson")).await?.expect(200);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().map(Vec::len), Some(3));
    let (mut seen, mut page) = (0, Some(format!("{path}?n=2&artifactType=application%2Fx.sig%2Bjson")));
    while let Some(path) = page {
        let answer = registry.get(&path).await?.expect(200);
        seen += answer.json()["manifests"].as_array().map_or(0, Vec::len);
        page = next(&answer);
    }
    assert_eq!(seen, 3);
    registry.delete(&format!("dev/app/manifests/{}", expected[0].0)).await?.expect(202);
    assert_eq!(registry.get(&path).await?.json()["manifests"].as_array().map(Vec::len), Some(4));
    registry.get("dev/app/referrers/sha256:zz").await?.expect(400);
    let elsewhere = format!("dev/other/referrers/{}", Digest::sha256(b"x"));
    assert_eq!(registry.get(&elsewhere).await?.expect(200).json()["manifests"], json!([]));
    Ok(())
}
