//! A manifest with more tags than its commit takes.

use wharf_oci::MediaType;
use wharf_store::{KeyRange, Space};

use super::*;
use crate::config::{Config, LISTEN};
use crate::flow::push;
use crate::registry::list;
use crate::registry::manifest::find;

/// More than two portions.
const TAGS: usize = 600;

struct World {
    app: App,
    who: Principal,
    name: RepoName,
    _data: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let data = tempfile::tempdir().unwrap();
        let app = App::open(Config::new(data.path(), LISTEN)).await.unwrap();
        World { app, who: Principal::user("alice"), name: "dev/app".parse().unwrap(), _data: data }
    }

    /// Pushes an empty index that `fill` tells from others, under tags. Returns its digest.
    async fn push(&self, fill: &str, tags: &[String]) -> Digest {
        let bytes = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"fill":"{fill}"}}}}"#);
        let digest = Digest::sha256(bytes.as_bytes());
        for tags in tags.chunks(300) {
            let push = push::Push {
                repository: self.name.clone(),
                target: Target::Digest(digest.clone()),
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                content_type: Some(MediaType::OCI_INDEX.parse().unwrap()),
                bytes: bytes.clone().into(),
            };
            push::manifest(&self.app, &self.who, &push).await.unwrap();
        }
        digest
    }

    async fn delete(&self, digest: &Digest) {
        target(&self.app, &self.who, &self.name, &Target::Digest(digest.clone())).await.unwrap();
    }

    async fn listed(&self) -> Vec<String> {
        let page = list::tags(&self.app.store, &self.name, None, list::PAGE_MAX).await.unwrap().unwrap();
        assert!(!page.more);
        page.names.iter().map(Tag::to_string).collect()
    }

    async fn serves(&self, tag: &str) -> bool {
        find(&self.app.store, &self.name, &Target::Tag(tag.parse().unwrap())).await.unwrap().is_some()
    }

    async fn untag(&self, from: Option<&str>) -> Option<String> {
        untag(&self.app, &self.name, from).await.unwrap()
    }

    async fn untag_all(&self, mut from: Option<String>) {
        loop {
            from = self.untag(from.as_deref()).await;
            if from.is_none() {
                return;
            }
        }
    }

    async fn rows(&self, range: KeyRange) -> usize {
        self.app.store.scan(range, MAX_PAGE).await.unwrap().rows.len()
    }

    async fn left(&self) -> (usize, bool) {
        let marks = Marks::of(&self.app.store, &self.name).await.unwrap();
        (self.rows(KeyRange::all(Space::Tag)).await, !marks.is_empty())
    }
}

fn tags(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("t{n:03}")).collect()
}

#[tokio::test]
async fn tags_of_a_large_delete_are_gone_before_their_rows_are() {
    let w = World::new().await;
    let digest = w.push("a", &tags(TAGS)).await;
    w.push("b", &["other".into()]).await;
    w.delete(&digest).await;
    assert_eq!(w.listed().await, ["other"]);
    let page = list::tags(&w.app.store, &w.name, None, 1).await.unwrap().unwrap();
    assert_eq!((page.names.len(), page.names[0].as_str()), (1, "other"));
    assert!(!w.serves("t007").await);
    assert_eq!(w.left().await, (TAGS + 1, true));
    let again = one_tag(&w.app, &w.who, &w.name, &"t007".parse().unwrap()).await;
    assert!(matches!(again, Err(RegistryError::ManifestUnknown { .. })));
    // The job begins, is killed, and begins again.
    let place = w.untag(None).await;
    w.untag(place.as_deref()).await;
    w.untag_all(None).await;
    assert_eq!(w.left().await, (1, false));
    assert_eq!(w.listed().await, ["other"]);
    let events = w.app.store.scan_back(KeyRange::all(Space::Event), MAX_PAGE).await.unwrap().rows;
    let told = |row: &&Row| String::from_utf8_lossy(&row.val).contains("tag-deleted");
    assert_eq!(events.iter().filter(told).count(), TAGS, "each once");
}

#[tokio::test]
async fn what_was_deleted_does_not_come_back_with_the_same_manifest() {
    let w = World::new().await;
    let digest = w.push("a", &tags(TAGS)).await;
    w.delete(&digest).await;
    let place = w.untag(None).await;
    let again = w.push("a", &["t500".into(), "new".into()]).await;
    assert_eq!(again, digest);
    assert_eq!(w.listed().await, ["new", "t500"]);
    assert!(w.serves("t500").await && !w.serves("t501").await);
    w.untag_all(place).await;
    assert_eq!(w.listed().await, ["new", "t500"]);
    assert_eq!(w.left().await, (2, false));
}

#[tokio::test]
async fn a_walk_leaves_what_a_younger_delete_hides_to_the_next() {
    let w = World::new().await;
    let first = w.push("a", &tags(TAGS)).await;
    w.delete(&first).await;
    let place = w.untag(None).await;
    // Behind the walk already.
    let second = w.push("b", &tags(20)).await;
    w.delete(&second).await;
    w.untag_all(place).await;
    assert_eq!(w.left().await, (0, false));
}

#[tokio::test]
async fn a_hidden_tag_is_nobody_s_to_protect() {
    let w = World::new().await;
    let digest = w.push("a", &tags(20)).await;
    w.delete(&digest).await;
    let setting = setting::RepoSetting { immutable_tags: vec!["*".into()] };
    crate::flow::repository::set(&w.app, &w.who, &w.name, &setting).await.unwrap();
    let other = w.push("b", &["t007".into()]).await;
    assert!(w.serves("t007").await);
    w.untag_all(None).await;
    assert_eq!(w.listed().await, ["t007"]);
    let refused = target(&w.app, &w.who, &w.name, &Target::Digest(other)).await;
    assert!(matches!(refused, Err(RegistryError::TagImmutable { .. })));
}
