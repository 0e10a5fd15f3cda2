//! A manifest with more tags than its commit takes, and one that others push to or protect meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};

use wharf_oci::MediaType;
use wharf_store::{KeyRange, Space, key};

use super::*;
use crate::config::{Config, LISTEN};
use crate::flow::push;
use crate::registry::list;
use crate::registry::manifest::read;

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

    /// Deletes, with `meanwhile` between what the first try has read and its commit. Returns how many tries it took.
    async fn delete_while(&self, digest: &Digest, meanwhile: impl AsyncFn()) -> Result<u32, RegistryError> {
        let (tries, meanwhile) = (&AtomicU32::new(0), &meanwhile);
        let act = self.app.store.act(|mut tx| async move {
            remove_manifest(&mut tx, &self.app, &self.who, &self.name, digest).await?;
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                meanwhile().await;
            }
            Ok::<_, RegistryError>(())
        });
        act.await?;
        Ok(tries.load(Ordering::Relaxed))
    }

    async fn protect(&self, pattern: &str) {
        let setting = RepoSetting { immutable_tags: vec![pattern.into()] };
        crate::flow::repository::set(&self.app, &self.who, &self.name, &setting).await.unwrap();
    }

    async fn listed(&self) -> Vec<String> {
        let page = list::tags(&self.app.store, &self.name, None, list::PAGE_MAX).await.unwrap().unwrap();
        assert!(!page.more);
        page.names.iter().map(Tag::to_string).collect()
    }

    async fn serves(&self, tag: &str) -> bool {
        read(&self.app.store, &self.name, &Target::Tag(tag.parse().unwrap())).await.unwrap().is_some()
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
    w.protect("*").await;
    let other = w.push("b", &["t007".into()]).await;
    assert!(w.serves("t007").await);
    w.untag_all(None).await;
    assert_eq!(w.listed().await, ["t007"]);
    let refused = target(&w.app, &w.who, &w.name, &Target::Digest(other)).await;
    assert!(matches!(refused, Err(RegistryError::TagImmutable { .. })));
}

/// Every push to the repository made the delete begin again, until the client heard 429.
#[tokio::test]
async fn pushes_to_the_same_repository_do_not_hold_a_delete_up() {
    for of_it in [3, TAGS] {
        let w = World::new().await;
        let digest = w.push("a", &tags(of_it)).await;
        w.push("b", &["latest".into()]).await;
        let pushed = async || {
            w.push("c", &["0".into(), "t000x".into(), "latest".into()]).await;
            w.push("b", &["z".into()]).await;
        };
        assert_eq!(w.delete_while(&digest, pushed).await.unwrap(), 1);
        assert_eq!(w.listed().await, ["0", "latest", "t000x", "z"]);
    }
}

#[tokio::test]
async fn a_tag_that_is_pointed_while_a_manifest_is_deleted_goes_with_what_it_points_to() {
    let check = async |to: &str, tag: &str, expected: &[&str]| {
        let w = World::new().await;
        w.push("b", &["3".into()]).await;
        let digest = w.push("a", &["1".into(), "2".into()]).await;
        let tries = w.delete_while(&digest, async || drop(w.push(to, &[tag.into()]).await)).await;
        assert_eq!(tries.unwrap(), 2, "`{tag}` to {to}");
        assert_eq!(w.listed().await, expected);
        assert_eq!(w.left().await, (expected.len(), false));
        let counted = key(Space::Counter, &["tagged", w.name.as_str(), digest.as_str()]);
        assert_eq!(w.app.store.get(&counted).await.unwrap(), None);
    };
    check("a", "4", &["3"]).await;
    check("a", "3", &[]).await;
    check("b", "2", &["2", "3"]).await;
}

/// Looked for before the commit alone, a tag or a setting that came after the search was missed where the tags were too
/// many to be searched in the commit as well.
#[tokio::test]
async fn an_immutable_tag_that_is_made_meanwhile_keeps_its_manifest() {
    let refused =
        |outcome| assert!(matches!(outcome, Err(RegistryError::TagImmutable { .. })), "{outcome:?}");
    for others in [3, TAG_PAGES * MAX_PAGE + 1] {
        let w = World::new().await;
        w.push("b", &tags(others)).await;
        let digest = w.push("a", &["v1".into()]).await;
        refused(w.delete_while(&digest, async || w.protect("v*").await).await);
        let digest = w.push("c", &["w1".into()]).await;
        refused(w.delete_while(&digest, async || drop(w.push("c", &["v2".into()]).await)).await);
        assert!(w.serves("v1").await && w.serves("v2").await && w.serves("w1").await);
    }
}
