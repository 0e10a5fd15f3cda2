use std::sync::Arc;
use std::time::Duration;

use wharf_oci::Digest;
use wharf_store::{Model, Store};

use super::*;

fn store() -> Store {
    Store::new(Arc::new(Model::default()))
}

fn removed(n: u64) -> Event {
    Event::system(n, Kind::PluginRemoved { plugin: format!("p{n}") })
}

async fn put(store: &Store, events: &[Event]) -> EventId {
    let ((), rev) = store
        .act(|mut tx| async move {
            events.iter().try_for_each(|event| append(&mut tx, event))?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    EventId { rev: rev.0, index: 0 }
}

#[tokio::test]
async fn pages_follow_commit_order_both_ways() {
    let store = store();
    put(&store, &[removed(1), removed(2)]).await;
    let third = put(&store, &[removed(3)]).await;
    let first = after(&store, None, 2).await.unwrap();
    assert_eq!(first.events.iter().map(|e| e.event.at_ms).collect::<Vec<_>>(), [1, 2]);
    assert!(first.more);
    let second = after(&store, Some(first.events[1].id), 2).await.unwrap();
    assert_eq!(second.events.iter().map(|e| e.id).collect::<Vec<_>>(), [third]);
    assert!(!second.more);
    let newest = before(&store, None, 2).await.unwrap();
    assert_eq!(newest.events.iter().map(|e| e.event.at_ms).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(get(&store, third).await.unwrap().unwrap().event, removed(3));
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_the_commit() {
    let store = store();
    let last = put(&store, &[removed(1)]).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { wait(&store, Some(last), 10, Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    put(&store, &[removed(2)]).await;
    assert_eq!(waiting.await.unwrap().unwrap().events[0].event, removed(2));
    let none = wait(&store, Some(EventId { rev: 99, index: 0 }), 10, Duration::from_millis(1)).await.unwrap();
    assert!(none.events.is_empty());
}

#[test]
fn an_id_reads_back_and_a_bad_one_is_refused() {
    let id = EventId { rev: 1204, index: 3 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "12", "12.", ".1", "a.b", "1.2.3", "-1.0"] {
        assert!(bad.parse::<EventId>().is_err(), "{bad}");
    }
}

#[test]
fn a_kind_of_a_newer_version_is_unknown_and_not_an_error() {
    let event: Event =
        serde_json::from_str(r#"{"at_ms":1,"by":"x","kind":"moon-landed","where":"sea"}"#).unwrap();
    assert_eq!(event.kind, Kind::Unknown);
    let pushed = Event::new(
        5,
        "ann",
        Kind::ImagePushed {
            repository: "dev/app".parse().unwrap(),
            digest: Digest::sha256(b""),
            tag: Some("1.4".parse().unwrap()),
            lineage: Vec::new(),
            subject: None,
        },
    );
    let json = serde_json::to_string(&pushed).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), pushed);
}

#[tokio::test]
async fn observations_are_merged_bounded_and_flushed() {
    let (store, seen) = (store(), Observations::default());
    let (repository, digest) = ("dev/app".parse().unwrap(), Digest::sha256(b"a"));
    let pull = |at_ms| Observation::Pulled {
        repository: "dev/app".parse().unwrap(),
        digest: Digest::sha256(b"a"),
        tag: None,
        by: "ann".to_owned(),
        at_ms,
    };
    seen.note(pull(7));
    seen.note(pull(5));
    for n in 0..OBSERVATIONS_MAX as u64 + 10 {
        seen.note(Observation::Refused(Refusal {
            at_ms: n,
            by: "eve".to_owned(),
            action: "push".to_owned(),
            resource: "prod/app".to_owned(),
            reason: "no grant".to_owned(),
        }));
    }
    let mut dropped = 0;
    for batch in &seen.take() {
        // Regression: what came while a batch was written was taken by the same flush, which had no end under load.
        seen.note(Observation::LoggedIn { by: "ann".to_owned(), at_ms: 8 });
        dropped += batch.dropped();
        store.act(|mut tx| async move { batch.write(&mut tx).await }).await.unwrap();
    }
    assert_eq!(dropped, 11);
    let last = last_pull(&store, &repository, &digest).await.unwrap().unwrap();
    assert_eq!((last.at_ms, last.pulls), (7, 2));
    seen.note(pull(9));
    // What could not be written waits, as far as there is room.
    seen.put_back(seen.take());
    let [batch] = &seen.take()[..] else { panic!("one batch") };
    store.act(|mut tx| async move { batch.write(&mut tx).await }).await.unwrap();
    let last = last_pull(&store, &repository, &digest).await.unwrap().unwrap();
    assert_eq!((last.at_ms, last.pulls), (9, 3));
    let (found, more) = refusals(&store, None, 1000).await.unwrap();
    assert_eq!((found.len(), more), (1000, true), "all but those that were dropped are there, in pages");
}

#[test]
fn what_waits_again_is_bounded() {
    let seen = Observations::default();
    let login = |n: usize| Observation::LoggedIn { by: format!("u{n}"), at_ms: 1 };
    (0..OBSERVATIONS_MAX).for_each(|n| seen.note(login(n)));
    let batches = seen.take();
    (0..10).for_each(|n| seen.note(login(n)));
    seen.note(login(OBSERVATIONS_MAX));
    seen.put_back(batches);
    assert_eq!(seen.take().iter().map(Batch::dropped).sum::<u64>(), 1, "ten are the same ones");
}

#[tokio::test]
async fn trimming_stops_at_the_slowest_reader() {
    let store = store();
    for n in 1..=10 {
        put(&store, &[removed(n)]).await;
    }
    let all = after(&store, None, 100).await.unwrap().events;
    let floor = all[6].id;
    let trim_to = |cutoff| {
        let store = store.clone();
        async move { store.act(|mut tx| async move { trim(&mut tx, cutoff, floor).await }).await.unwrap().0 }
    };
    assert_eq!(trim_to(4).await.rows, 3);
    assert_eq!(trim_to(u64::MAX).await.rows, 3);
    assert_eq!(after(&store, None, 100).await.unwrap().events[0].id, floor);
}

#[test]
fn a_kind_is_known_by_its_name() {
    let check = |name: &str, expected: bool| assert_eq!(Kind::is_known(name), expected, "{name}");
    check("image-pushed", true);
    check("vulnerability-data-imported", true);
    check("quota-changed", true);
    for mistyped in ["image-push", "ImagePushed", "unknown", ""] {
        check(mistyped, false);
    }
}

/// Regression: the names stood nowhere, and whoever looked for one had to wait for such an event.
#[test]
fn every_kind_is_in_the_list_of_names() {
    let (_, variants) = include_str!("kind.rs").split_once("pub enum Kind {\n").unwrap();
    let (variants, _) = variants.split_once("\n}\n").unwrap();
    let mut names = Vec::new();
    for line in variants.lines().filter_map(|line| line.strip_prefix("    ")) {
        // At a variant's depth nothing else begins so.
        if line.starts_with(|c: char| c.is_ascii_uppercase()) {
            let variant = line.split([' ', ',']).next().unwrap();
            names.push(kebab(variant));
        }
    }
    assert_eq!(names.pop().as_deref(), Some("unknown"));
    assert_eq!(names, Kind::NAMES);
    for name in Kind::NAMES {
        // A known one misses its fields here; an unknown one is read without any.
        let read = serde_json::from_value(serde_json::json!({ "kind": name }));
        assert!(!matches!(read, Ok(Kind::Unknown)), "{name}");
    }
}

fn kebab(variant: &str) -> String {
    let mut name = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}
