use std::fmt;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use wharf_scan::vuln::Import;
use wharf_scan::{ImageFacts, Knowledge as Known};
use wharf_store::{
    Commit, CommitError, Committed, Direction, Engine, Key, KeyRange, Model, Page, ReadError, Row, Store,
};

use super::*;
use crate::config::{Config, LISTEN};
use crate::jobs::Queue;
use crate::scan::Database;

/// A store before whose first commit something happens.
struct Before {
    model: Model,
    what: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

impl Engine for Before {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>> {
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
        if let Some(what) = self.what.lock().unwrap().take() {
            what();
        }
        self.model.commit(commit)
    }
    fn head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.model.head()
    }
    fn now_ms(&self) -> u64 {
        self.model.now_ms()
    }
}

fn vulnerability_data(id: &str) -> Vec<u8> {
    let record = format!(
        r#"{{"id":"{id}","modified":"2026-01-01T00:00:00Z","affected":[{{"package":{{"ecosystem":"Debian:12","name":"a"}},"versions":["1"]}}]}}"#
    );
    let mut import = Import::new();
    import.add("own", std::io::Cursor::new(record)).unwrap();
    import.finish().unwrap()
}

/// Regression: an image whose scan was being compared with the data while other data came in force was not compared with that.
#[tokio::test]
async fn data_that_comes_in_force_during_a_scan_is_compared_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::of_data(folder.path());
    database.replace(&vulnerability_data("CVE-1")).unwrap();
    let replace = move || database.replace(&vulnerability_data("CVE-2")).unwrap();
    let before = Before { model: Model::default(), what: Mutex::new(Some(Box::new(replace))) };
    let store = Store::new(Arc::new(before));
    let app = App::over(Config::new(folder.path(), LISTEN), store).unwrap();
    let rematches = async || {
        let live = jobs::live(&app.store).await.unwrap();
        live.into_iter().find(|(queue, _)| *queue == Queue::Rematch).unwrap().1
    };
    let report = || Report {
        version: wharf_scan::REPORT_VERSION,
        scanner: wharf_scan::SCANNER.to_owned(),
        image: ImageFacts::default(),
        distro: None,
        knowledge: Known::Complete,
        layers: Vec::new(),
        packages: Vec::new(),
        problems: Vec::new(),
        problems_dropped: 0,
    };
    let repository: RepoName = "dev/app".parse().unwrap();
    for (image, expected) in [(&b"during the import"[..], 1), (&b"after it"[..], 1)] {
        finish(&app, &repository, &Digest::sha256(image), report()).await.unwrap();
        assert_eq!(rematches().await, expected);
    }
}
