//! What a server does beside answering: plugins are loaded and watched, jobs run, observations are written.
//!
//! Entry: [`Work::start`], before the first request is answered.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_plugin::watch::WatchConfig;
use wharf_store::StoreError;

use crate::App;
use crate::flow::plugin_drop::{self, PluginFolder, PluginFolderError};
use crate::flow::{db_import, observe};
use crate::jobs::{self, Runner, Settings};

/// How often it is looked whether an age rule is due, whether there is new vulnerability data, and whether the disk is full.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a collection is asked for while the disk is full: room is wanted as soon as a grace ends, and each looks at every
/// blob.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// How often the plugin folder is looked at again while a file is refused for what may pass without it.
const RETRY_REFUSED: Duration = Duration::from_secs(60);

/// Everything that runs beside requests.
#[derive(Debug)]
pub struct Work {
    runner: Runner,
    loops: JoinSet<()>,
    stop: CancellationToken,
}

/// Why a server cannot start its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error(transparent)]
    Plugins(#[from] PluginFolderError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Work {
    /// Loads the plugins, takes back what an earlier process left running, and starts everything.
    ///
    /// # Errors
    /// Where the plugin folder or the store cannot be used.
    pub async fn start(app: &App) -> Result<Work, WorkError> {
        let grace_s = app.config.limits.stop_ms.div_ceil(1000);
        Work::start_with(app, WatchConfig::default(), Settings { grace_s, ..Settings::default() }).await
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// As [`Work::start`].
    pub async fn start_with(app: &App, watch: WatchConfig, settings: Settings) -> Result<Work, WorkError> {
        let folder = plugin_drop::start(app, watch).await?;
        let schedule = jobs::schedule();
        let runner =
            Runner::start(app.store.clone(), settings, jobs::route, schedule, jobs::handler(app.clone()))
                .await?;
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        loops.spawn(observe::run(app.clone(), stop.clone()));
        loops.spawn(look(app.clone(), stop.clone()));
        loops.spawn(rescan(app.clone(), folder, stop.clone()));
        Ok(Work { runner, loops, stop })
    }

    /// Ends what runs, or hands it back, while the last requests end too; then writes what both have left.
    pub async fn stop(mut self, requests: impl Future<Output = ()>) {
        tokio::join!(self.runner.stop(), requests);
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
    }
}

async fn look(app: App, stop: CancellationToken) {
    let (mut due, mut collected) = (None, None::<Instant>);
    loop {
        if !app.is_full()
            && let Err(error) = db_import::take_up(&app).await
        {
            tracing::warn!(%error, "new vulnerability data cannot be taken up; trying again");
        }
        if let Err(error) = jobs::ask_due(&app, &mut due).await {
            tracing::warn!(%error, "judgements that are due cannot be asked for; trying again");
        }
        if app.is_full() && collected.is_none_or(|at| at.elapsed() >= COLLECT_EVERY) {
            match jobs::ask_collection(&app).await {
                Ok(()) => collected = Some(Instant::now()),
                Err(error) => tracing::warn!(%error, "a collection cannot be asked for; trying again"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks at the plugin folder whenever somebody asks, and now and then while a file is refused that may be good without a change
/// of the folder: when a binding is gone, the disk has room again, or the machine is less busy.
async fn rescan(app: App, folder: PluginFolder, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = app.plugins.rescan_asked() => folder.rescan(),
            () = tokio::time::sleep(RETRY_REFUSED) => {
                app.plugins.catalog().check_drain();
                if app.plugins.catalog().current().failed().values().any(|failed| !failed.stage.is_final()) {
                    folder.rescan();
                }
            }
        }
    }
    // Ends the watching thread. Nobody waits for that: it may be compiling, which has no bound, and ends with the process.
    tokio::task::spawn_blocking(move || drop(folder));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use wharf_oci::{Digest, MediaType, RepoName, Target};
    use wharf_scan::vuln::Import;

    use super::*;
    use crate::access::Principal;
    use crate::config::{Config, LISTEN};
    use crate::flow::upload::{self, Chunk};
    use crate::flow::{delete, push};
    use crate::jobs::{Next, Queue};
    use crate::registry::RegistryError;

    /// A ballast that no disk has room for, so that the store is full from its opening on.
    const NO_ROOM: u64 = 1 << 60;

    /// With a grace that is over at once.
    async fn open(data: &Path, ballast_bytes: u64) -> App {
        let mut config = Config::new(data, LISTEN);
        config.store.ballast_bytes = ballast_bytes;
        config.registry.grace_ms = 1;
        App::open(config).await.unwrap()
    }

    fn repository() -> RepoName {
        "dev/app".parse().unwrap()
    }

    /// Pushes an empty index of its own under a tag.
    async fn push(app: &App, tag: &str) -> Result<Digest, RegistryError> {
        let bytes = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"tag":"{tag}"}}}}"#);
        let push = push::Push {
            repository: repository(),
            target: Target::Tag(tag.parse().unwrap()),
            tags: Vec::new(),
            content_type: Some(MediaType::OCI_INDEX.parse().unwrap()),
            bytes: bytes.into(),
        };
        Ok(push::manifest(app, &Principal::user("alice"), &push).await?.digest)
    }

    /// A job that runs for longer than the test, as the kill of its process leaves it.
    async fn leave_running(app: &App, work: &jobs::Work) {
        let enqueue = app.store.act(|mut tx| async move { jobs::enqueue(&mut tx, work.clone(), None).await });
        enqueue.await.unwrap();
        let next = jobs::next(&app.store, work.queue(), None, &|_| false).await.unwrap();
        let Next::Ready(key) = next else { panic!("{next:?}") };
        jobs::claim(&app.store, &key, Duration::from_secs(3600), 3).await.unwrap().unwrap();
    }

    /// Regression: a server that was killed on a full disk did not start again, so that nothing could be deleted.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_starts_on_a_full_disk_and_deletes() {
        let data = tempfile::tempdir().unwrap();
        let app = open(data.path(), 0).await;
        let digest = push(&app, "1").await.unwrap();
        let judge = jobs::Work::Judge { repository: repository(), tag: "1".parse().unwrap() };
        leave_running(&app, &judge).await;
        // In force, and not told of.
        app.vulnerability_data.replace(&Import::new().finish().unwrap()).unwrap();
        drop(app);

        let app = open(data.path(), NO_ROOM).await;
        let work = Work::start(&app).await.unwrap();
        let page = jobs::ls(&app.store, Queue::Judge, false, None, 10).await.unwrap();
        let states: Vec<&str> = page.jobs.iter().map(|job| job.state.as_str()).collect();
        assert_eq!(states, ["queued"], "it is taken back");
        let refused = push(&app, "2").await;
        assert!(matches!(refused, Err(RegistryError::Store(StoreError::Full))), "{refused:?}");
        delete::target(&app, &Principal::user("alice"), &repository(), &Target::Digest(digest))
            .await
            .unwrap();
        work.stop(async {}).await;
    }

    /// What is scheduled was done just now: the next comes in an hour.
    async fn finish_scheduled(app: &App) {
        jobs::tick(&app.store, &jobs::schedule()).await.unwrap();
        let next = async || jobs::next(&app.store, Queue::Housekeeping, None, &|_| false).await.unwrap();
        while let Next::Ready(key) = next().await {
            let run = jobs::claim(&app.store, &key, Duration::from_secs(3600), 3).await.unwrap().unwrap();
            jobs::complete(&app.store, &run).await.unwrap();
        }
    }

    async fn files(app: &App) -> usize {
        let mut files = 0;
        for digit in 0..16 {
            files += app.blobs.list(digit).await.unwrap().len();
        }
        files
    }

    /// Regression: on a full disk, what nothing needed any more stayed for up to an hour after its grace.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_asks_for_a_collection() {
        let data = tempfile::tempdir().unwrap();
        let app = open(data.path(), 0).await;
        let bytes = Bytes::from(vec![7; 10_000]);
        let digest = Digest::sha256(&bytes);
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let chunk = Chunk { body, range: None, bytes: None };
        upload::whole(&app, &Principal::user("alice"), &repository(), &digest, chunk).await.unwrap();
        finish_scheduled(&app).await;
        assert_eq!(files(&app).await, 1);
        drop(app);

        let app = open(data.path(), NO_ROOM).await;
        let work = Work::start(&app).await.unwrap();
        let collected = async {
            while files(&app).await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), collected).await.expect("it is collected");
        assert!(app.is_full());
        work.stop(async {}).await;
    }
}
