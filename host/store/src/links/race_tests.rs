//! What happens between two reads of one question, each as a regression test.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::*;
use crate::seam::{Commit, CommitError, Committed, Direction, Engine, Op, Page, ReadError};
use crate::{Blobs, Clock as _, Model, SystemClock};

const T: u64 = FRESH_MS;

/// A model whose pages hold one row, and in which somebody commits just before the `at`th scan of a space.
#[derive(Debug)]
struct Between {
    model: Model,
    rival: Mutex<Option<(Space, usize, Commit)>>,
}

impl Between {
    fn store(rows: Vec<Op>, rival: (Space, usize, Vec<Op>)) -> Store {
        let model = Model::default();
        model.apply(&Commit { ops: rows, ..Commit::default() }).unwrap();
        let (space, at, ops) = rival;
        let rival = Mutex::new(Some((space, at, Commit { ops, ..Commit::default() })));
        Store::new(Arc::new(Between { model, rival }))
    }
}

impl Engine for Between {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        self.model.get(keys)
    }
    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        let mut rival = self.rival.lock().unwrap();
        if let Some((space, at, commit)) = rival.as_mut().filter(|rival| rival.0 == range.space) {
            assert_eq!(*space, range.space);
            *at -= 1;
            if *at == 0 {
                self.model.apply(commit).unwrap();
                *rival = None;
            }
        }
        self.model.scan(range, limit.min(1), direction)
    }
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.model.commit(commit)
    }
    fn head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.model.head()
    }
    fn now_ms(&self) -> u64 {
        self.model.now_ms()
    }
}

fn put(key: Key, val: Bytes) -> Op {
    Op::Put { key, val, ttl: None }
}

fn link(digest: &str, since_ms: u64) -> Op {
    put(link_key(digest, "dev/app"), crate::encode(&Link { since_ms }).unwrap())
}

fn blob(digest: &str, stored: Stored) -> Op {
    let blob = Blob { size: 5000, stored, twin: None, damaged: false };
    put(blob_key(digest), blob.encode().unwrap())
}

/// A blob that had just lost its last manifest was shown as gone: its link was read before that and its mrefs after it.
#[tokio::test]
async fn a_blob_is_found_while_its_last_manifest_goes() {
    let mref = mref_key("d", "dev/app", "m");
    let rows = vec![link("d", 0), blob("d", Stored::Inline("x".into())), put(mref.clone(), Bytes::new())];
    let release = vec![Op::Delete(mref), link("d", 10 * T)];
    let store = Between::store(rows, (Space::Mref, 1, release));
    assert!(find(&store, "d", "dev/app", 10 * T, T).await.unwrap().is_some());
    assert!(find(&store, "d", "dev/app", 11 * T, T).await.unwrap().is_none(), "and not for ever");
}

/// A file was taken for an orphan when, between two pages of the search, its name moved to a row already passed.
#[tokio::test]
async fn a_name_that_moves_between_two_pages_is_still_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), 0).unwrap();
    let mut writer = blobs.create("dev/app", false).await.unwrap();
    writer.write(vec![1; 5000].into()).await.unwrap();
    let done = writer.finish(false).await.unwrap();
    let (id, stored) = (done.id.clone(), done.stored.clone());
    drop(done);

    let rows = vec![blob("sha256:b", Stored::Inline("x".into())), blob("sha512:c", stored.clone())];
    let moves = vec![blob("sha256:a", stored), Op::Delete(blob_key("sha512:c"))];
    let store = Between::store(rows, (Space::Blob, 2, moves));
    let digit = u8::from_str_radix(&id.as_str()[..1], 16).unwrap();
    let now_ms = SystemClock.now_ms() + 2 * T;
    assert_eq!(orphans(&store, &blobs, digit, now_ms, T).await.unwrap(), 0);
    assert!(blobs.open(&id).await.is_ok());
}
