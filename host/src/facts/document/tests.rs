use std::sync::Arc;

use wharf_store::{MAX_OPS, Model};

use super::*;

/// What a decision about the largest index names: traces of 16 policies about 128 platforms, their configs, three lists of each
/// platform, the facts.
const LARGEST: [(Kind, usize); 6] = [
    (Kind::Config, 16),
    (Kind::Trace, 128 * 16),
    (Kind::Bom, 128),
    (Kind::Components, 128),
    (Kind::Findings, 128),
    (Kind::Facts, 1),
];
/// What it changes besides: 480 references of the index and its rows in a target, how the tag stands with 129 images that were
/// others before, events.
const BESIDES: usize = 800;

fn store() -> Store {
    Store::new(Arc::new(Model::default()))
}

fn named(kinds: &[(Kind, usize)]) -> Pending {
    let mut pending = Pending::default();
    for (kind, count) in kinds {
        for n in 0..*count {
            pending.add(*kind, format!("{} {n}", kind.name()).as_bytes()).unwrap();
        }
    }
    pending
}

fn largest() -> Pending {
    named(&LARGEST)
}

async fn write(store: &Store, pending: &Pending, besides: usize) -> Result<(), StoreError> {
    let other = |n: usize| key(Space::Held, &[n.to_string()]);
    let act = store.act(|mut tx| async move {
        pending.write(&mut tx).await?;
        (0..besides).for_each(|n| tx.put(&other(n), Vec::new()));
        Ok::<_, StoreError>(())
    });
    act.await.map(drop)
}

async fn keep(store: &Store, mut pending: Pending) {
    for before in &pending.split(store).await.unwrap() {
        write(store, before, 0).await.unwrap();
    }
    write(store, &pending, BESIDES).await.unwrap();
}

async fn begin(store: &Store) {
    let begin = async |mut tx| {
        begin_sweep(&mut tx);
        Ok::<_, StoreError>(())
    };
    store.act(begin).await.unwrap();
}

/// Removes what was not named since the search began, as if no decision were kept.
async fn sweep_all(store: &Store) -> usize {
    let mut removed = 0;
    for kind in Kind::ALL {
        let mut after = None;
        loop {
            let (found, next) = unnamed(store, kind, after.as_ref(), |_| false).await.unwrap();
            let found = &found;
            removed += store.act(async |mut tx| sweep(&mut tx, kind, found).await).await.unwrap().0;
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    removed
}

async fn end(store: &Store) {
    while store.act(async |mut tx| end_sweep(&mut tx).await).await.unwrap().0 {}
}

fn all() -> usize {
    LARGEST.iter().map(|(_, count)| count).sum()
}

/// Regression: a commit takes 1,024 operations, and a decision about 128 platforms by 8 policies was never stored.
#[tokio::test]
async fn the_documents_of_the_largest_decision_fit_and_go_when_nothing_names_them() {
    let store = store();
    keep(&store, largest()).await;
    begin(&store).await;
    assert_eq!(sweep_all(&store).await, all());
    end(&store).await;
    assert_eq!(sweep_all(&store).await, 0);
}

#[tokio::test]
async fn so_they_do_while_a_search_is_on_which_spares_them() {
    let store = store();
    // What its scans have found is there.
    keep(&store, named(&LARGEST[2..5])).await;
    begin(&store).await;
    keep(&store, largest()).await;
    assert_eq!(sweep_all(&store).await, 0);
    end(&store).await;
    begin(&store).await;
    assert_eq!(sweep_all(&store).await, all());
}

#[tokio::test]
async fn a_search_that_begins_in_between_misses_nothing() {
    let store = store();
    let mut pending = largest();
    let before = pending.split(&store).await.unwrap();
    for before in &before {
        write(&store, before, 0).await.unwrap();
    }
    begin(&store).await;
    let missed = write(&store, &pending, 0).await;
    assert!(matches!(missed, Err(StoreError::Conflict(_))), "{missed:?}");
    // The decision does not come: what was written for it is nobody's.
    assert_eq!(sweep_all(&store).await, all() - ALONG_MAX);
    keep(&store, largest()).await;
    assert_eq!(sweep_all(&store).await, 0);
}

/// Bytes that deflating makes no smaller, more than one commit takes with others.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..2 * COMMIT_BYTES_MAX).map(|_| next()).collect()
}

/// A scan's few documents do not begin again: it would read the image once more.
#[tokio::test]
async fn a_few_that_a_search_missed_are_marked_with_the_rest() {
    let store = store();
    let mut pending = Pending::default();
    for n in 0..3 {
        pending.add(Kind::Bom, &noise(n)).unwrap();
    }
    let before = pending.split(&store).await.unwrap();
    assert_eq!(before.len(), 3);
    for before in &before {
        write(&store, before, 0).await.unwrap();
    }
    begin(&store).await;
    write(&store, &pending, MAX_OPS - 4).await.unwrap();
    assert_eq!(sweep_all(&store).await, 0);
}
