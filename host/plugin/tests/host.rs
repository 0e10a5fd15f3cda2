//! A plugin folder with what a host makes of it, without the host: what the tests of its watch and of its set share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wharf_plugin::Engine;
use wharf_plugin::archive::Archive;
use wharf_plugin::catalog::Catalog;
use wharf_plugin::loader::{Active, Before, Loader, Outcome, Stage};
use wharf_plugin::trace::Subject;
use wharf_plugin::watch::scan;

use crate::guests::{engine, patient, sealed};

pub(crate) const MARK: &str = r#"{"do":"mark"}"#;

pub(crate) struct Host {
    pub(crate) root: TempDir,
    pub(crate) archive: Archive,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) loader: Loader,
}

impl Host {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("plugins")).unwrap();
        Self::start(root, Before::default())
    }

    pub(crate) fn start(root: TempDir, before: Before) -> Self {
        Self::start_on(engine(), root, before)
    }

    pub(crate) fn start_on(engine: &Arc<Engine>, root: TempDir, before: Before) -> Self {
        let catalog = Arc::new(Catalog::default());
        let archive = Archive::open(&root.path().join("state")).unwrap();
        let loader =
            Loader::new(Arc::clone(engine), Arc::clone(&catalog), archive.clone(), patient(), before);
        Self { root, archive, catalog, loader }
    }

    /// The same folders, another process.
    pub(crate) fn restart(self, active: Vec<Active>) -> Self {
        Self::start(self.root, Before { active, ..Before::default() })
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.plugins().join(file), bytes).unwrap();
    }

    pub(crate) fn look(&mut self) -> Vec<Outcome> {
        self.look_with(&[MARK])
    }

    pub(crate) fn look_with(&mut self, configs: &[&str]) -> Vec<Outcome> {
        let snapshot = scan(&self.plugins(), Duration::from_millis(1)).unwrap();
        let configs: Vec<String> = configs.iter().map(|one| (*one).to_owned()).collect();
        self.loader.apply(&snapshot, &|_| configs.clone())
    }

    /// What a start does before the first look.
    pub(crate) fn resume(&mut self) -> bool {
        let snapshot = scan(&self.plugins(), Duration::from_millis(1)).unwrap();
        self.loader.resume(&snapshot, &|_| vec![MARK.to_owned()])
    }

    /// The mark of the plugin that is in force.
    pub(crate) fn mark(&self) -> Option<u32> {
        let set = self.catalog.current();
        let done = set.get("guest")?.evaluate(MARK, &sealed(), Subject::Image, &[], &patient()).unwrap();
        Some(done.reasons[0].text.parse().unwrap())
    }
}

pub(crate) fn quarantined(outcomes: &[Outcome]) -> Vec<(Stage, Option<String>)> {
    let one = |outcome: &Outcome| match outcome {
        Outcome::Quarantined { failed, kept } => {
            assert!(!failed.reason.is_empty());
            Some((failed.stage, kept.clone()))
        }
        _ => None,
    };
    outcomes.iter().filter_map(one).collect()
}

pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
