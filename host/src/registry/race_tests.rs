//! What happens between two reads of one question.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wharf_oci::{Digest, MediaType, RepoName, Tag, Target};
use wharf_store::{
    Commit, CommitError, Committed, Direction, Engine, Key, KeyRange, Model, Op, Page, ReadError, Row, Store,
    Stored, encode,
};

use super::blob::{self, Blob};
use super::row::{self, ManifestRow, TagRow};
use super::{manifest, tag, untag};

/// A model in which somebody commits between the first read and the second.
#[derive(Debug)]
struct Between {
    model: Model,
    /// Reads that were made, and what is committed then.
    rival: Mutex<(usize, Commit)>,
}

impl Between {
    fn store(rows: Vec<Op>, rival: Vec<Op>) -> Store {
        let model = Model::default();
        let commit = |ops| Commit { ops, ..Commit::default() };
        model.commit(commit(rows)).now_or_never().unwrap().unwrap();
        Store::new(Arc::new(Between { model, rival: Mutex::new((0, commit(rival))) }))
    }
}

impl Engine for Between {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
        let mut rival = self.rival.lock().unwrap();
        rival.0 += 1;
        if rival.0 == 2 {
            self.model.commit(rival.1.clone()).now_or_never().unwrap().unwrap();
        }
        self.model.get(keys)
    }
    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.model.scan(range, limit, direction)
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

fn put<T: serde::Serialize>(key: Key, value: &T) -> Op {
    Op::Put { key, val: encode(value).unwrap(), ttl: None }
}

/// Regression: whoever pulled by a tag that was moved just then, while what it had pointed to was deleted, heard that there was
/// no such tag.
#[tokio::test]
async fn a_tag_that_moves_while_it_is_looked_up_is_found() {
    let (name, tag): (RepoName, Tag) = ("dev/app".parse().unwrap(), "latest".parse().unwrap());
    let (old, new) = (Digest::sha256(b"old"), Digest::sha256(b"new"));
    let media_type: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    let pushed = |digest: &Digest| {
        let row = ManifestRow {
            media_type: media_type.clone(),
            size: 3,
            artifact_type: None,
            subject: None,
            sparse: false,
            kept: true,
            pushed_at_ms: 1,
            pushed_by: "alice".to_owned(),
        };
        put(row::manifest(&name, digest), &row)
    };
    let bytes = Blob { size: 3, stored: Stored::Inline("new".into()), twin: None, damaged: false };
    let bytes = Op::Put { key: blob::key(&new), val: bytes.encode().unwrap(), ttl: None };
    let pointed = |digest: &Digest| {
        let row = TagRow {
            digest: digest.clone(),
            media_type: media_type.clone(),
            at_ms: 1,
            by: "alice".to_owned(),
            lineage: Vec::new(),
        };
        put(row::tag(&name, &tag), &row)
    };
    let store = || {
        let mark = put(untag::row(&name, &old), &untag::Mark { by: "alice".to_owned() });
        let deleted = vec![pointed(&new), mark, Op::Delete(row::manifest(&name, &old))];
        Between::store(vec![pushed(&old), pushed(&new), bytes.clone(), pointed(&old)], deleted)
    };
    let found = manifest::read(&store(), &name, &Target::Tag(tag.clone())).await.unwrap();
    assert_eq!(found.map(|(found, _)| found.digest), Some(new.clone()));
    let found = tag::find(&store(), &name, &tag).await.unwrap();
    assert_eq!(found.map(|row| row.digest), Some(new));
}
