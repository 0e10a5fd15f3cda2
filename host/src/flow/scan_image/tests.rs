use std::fmt;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use wharf_scan::vuln::Import;
use wharf_scan::{ImageFacts, Knowledge as Known};
use wharf_store::{
    Commit, CommitError, Committed, Direction, Engine, Key, KeyRange, Model, Page, ReadError, Row, Space,
    Store,
};

use super::*;
use crate::config::{Config, LISTEN};
use crate::flow::db_import;
use crate::jobs::Queue;

/// A store before whose next commit something happens.
struct Before {
    model: Model,
    what: Mutex<Option<BoxFuture<'static, ()>>>,
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
        let what = self.what.lock().unwrap().take();
        Box::pin(async move {
            if let Some(what) = what {
                what.await;
            }
            self.model.commit(commit).await
        })
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

fn report() -> Report {
    Report {
        version: wharf_scan::REPORT_VERSION,
        scanner: wharf_scan::SCANNER.to_owned(),
        image: ImageFacts::default(),
        distro: None,
        knowledge: Known::Complete,
        layers: Vec::new(),
        packages: Vec::new(),
        problems: Vec::new(),
        problems_dropped: 0,
    }
}

/// Regression: an image whose scan was being compared with the data while other data came in force was not compared with that;
/// later it was asked for after the scan was kept, and so not at all by a server that was killed between the two.
#[tokio::test]
async fn a_scan_is_kept_with_a_comparison_to_come_where_other_data_was_told_of() {
    // Data that is told of and data in the file before the scan, and data that is imported while it is compared.
    let check = async |told: Option<&str>, file: Option<&str>, meanwhile: Option<&str>, expected: bool| {
        let folder = tempfile::tempdir().unwrap();
        let before = Arc::new(Before { model: Model::default(), what: Mutex::default() });
        let app = App::over(Config::new(folder.path(), LISTEN), Store::new(before.clone())).unwrap();
        let put = |id: &str| app.vulnerability_data.replace(&vulnerability_data(id)).unwrap();
        if let Some(told) = told {
            put(told);
            db_import::take_up(&app).await.unwrap();
        }
        match file {
            Some(file) => put(file),
            None => _ = std::fs::remove_file(app.vulnerability_data.path()),
        }
        if let Some(id) = meanwhile {
            let (app, bytes) = (app.clone(), vulnerability_data(id));
            let import = async move {
                app.vulnerability_data.replace(&bytes).unwrap();
                db_import::take_up(&app).await.unwrap();
            };
            *before.what.lock().unwrap() = Some(Box::pin(import));
        }
        let (repository, digest) = ("dev/app".parse().unwrap(), Digest::sha256(b"image"));
        finish(&app, &repository, &digest, report()).await.unwrap();
        let (_, kept) = scanned::find_at(&app.store, &digest).await.unwrap().unwrap();
        let jobs = KeyRange::prefix(Space::Job, &["live", Queue::Rematch.name()]);
        let jobs = app.store.scan(jobs, 10).await.unwrap().rows;
        let with_it: Vec<bool> = jobs.iter().map(|job| job.rev == kept).collect();
        let expected: &[bool] = if expected { &[true] } else { &[] };
        assert_eq!(with_it, expected, "told of {told:?}, {file:?} in the file, then {meanwhile:?}");
    };
    let (one, two) = (Some("CVE-1"), Some("CVE-2"));
    check(None, None, None, false).await;
    check(None, one, None, false).await;
    check(one, one, None, false).await;
    check(None, None, one, true).await;
    check(one, one, two, true).await;
    // Files that were put there by hand: it is asked for once too often, and what runs asks for no other.
    check(one, two, None, true).await;
    check(one, None, None, true).await;
}
