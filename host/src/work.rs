//! What a server does beside answering: plugins are loaded and watched, jobs run, observations are written.
//!
//! Entry: [`Work::start`], before the first request is answered.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_plugin::watch::WatchConfig;
use wharf_store::StoreError;

use crate::App;
use crate::flow::plugin_drop::{self, PluginFolder, PluginFolderError};
use crate::flow::{db_import, observe};
use crate::jobs::{self, Runner, Settings};

/// How often it is looked whether an age rule is due, and whether there is new vulnerability data.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
        db_import::take_up(app).await?;
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
    let mut due = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = db_import::take_up(&app).await {
            tracing::warn!(%error, "new vulnerability data cannot be taken up; trying again");
        }
        if let Err(error) = jobs::ask_due(&app, &mut due).await {
            tracing::warn!(%error, "judgements that are due cannot be asked for; trying again");
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
