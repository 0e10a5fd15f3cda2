//! A `.wasm` file is dropped into the folder, replaced, broken or taken away.
//!
//! The folder is looked at when it changes, at SIGHUP and on demand. Each look is loaded as a whole: what is good is in
//! force at once, what is bad is refused with a reason while what it was to replace goes on. What became of each file is
//! written down with an event, from which the bindings that ask the plugin are judged again.
//!
//! A server that starts is ready once what was in force is so again; it waits for what must be compiled first, but not for long.
//! A binding to a plugin that is not there yet holds until it is.
//!
//! Invariant: a plugin is in force before its event is written, so a judgement that the event leads to asks the new one.
//! Invariant: an outcome that could not be written is tried again until it is, before anything newer.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wharf_plugin::loader::{Loader, Outcome};
use wharf_plugin::watch::{self, Snapshot, Watch, WatchConfig};
use wharf_store::StoreError;

use crate::App;
use crate::plugin::state;
use crate::promote::binding;

/// Looks that wait to be written down; the watching thread waits when there are more.
const OUTCOMES_WAITING: usize = 64;
/// How long a start waits for plugins that must be compiled. A folder of many new ones takes minutes.
const START_MAX: Duration = Duration::from_secs(30);
/// How long to wait before outcomes are written again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Why the plugin folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PluginFolderError {
    #[error(
        "cannot make the plugin folder `{}`: {error}; hint: move what is there, or set `plugins` to another folder", path.display()
    )]
    Folder { path: PathBuf, error: std::io::Error },
    #[error("cannot watch the plugin folder: {0}")]
    Watch(std::io::Error),
    #[error("the plugins could not be loaded: {0}")]
    Load(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The watched folder; dropping it ends the watch.
#[derive(Debug)]
pub struct PluginFolder {
    watch: Watch,
    writer: JoinHandle<()>,
}

impl PluginFolder {
    /// Looks at the folder now, changed or not: for SIGHUP and the API.
    pub fn rescan(&self) {
        self.watch.rescan();
    }
}

impl Drop for PluginFolder {
    /// The watching thread ends with the folder, and may be waiting for a store that is down. What was not written is found out
    /// again at the next start.
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Loads what is in the folder, then goes on watching it. When this returns, every good plugin is in force, or what can be so
/// within [`START_MAX`].
///
/// # Errors
/// Where there is no folder and none can be made, or the store cannot be read.
pub async fn start(app: &App, config: WatchConfig) -> Result<PluginFolder, PluginFolderError> {
    let folder = app.config.plugins.clone();
    std::fs::create_dir_all(&folder)
        .map_err(|error| PluginFolderError::Folder { path: folder.clone(), error })?;
    load_and_watch(app, folder, config).await
}

async fn load_and_watch(
    app: &App,
    folder: PathBuf,
    config: WatchConfig,
) -> Result<PluginFolder, PluginFolderError> {
    let before = state::before(&app.store).await?;
    let plugins = &app.plugins;
    let mut loader = Loader::new(
        plugins.engine().clone(),
        plugins.catalog().clone(),
        plugins.archive().clone(),
        plugins.limits(),
        before,
    );
    let resumed = tokio::task::spawn_blocking({
        let (folder, configs) = (folder.clone(), configs(app).await);
        let settle = Duration::from_millis(config.settle_ms);
        move || {
            // A folder that cannot be listed is told of by the watch.
            let whole = watch::scan(&folder, settle)
                .is_ok_and(|snapshot| loader.resume(&snapshot, &|name| of_plugin(&configs, name)));
            (loader, whole)
        }
    });
    let (mut loader, whole) = resumed.await.map_err(|error| PluginFolderError::Load(error.to_string()))?;
    plugins.set_loading(!whole);
    let (sender, receiver) = mpsc::channel(OUTCOMES_WAITING);
    let writer = tokio::spawn(write_down(app.clone(), receiver));
    let (in_force, first) = oneshot::channel();
    let on_snapshot = {
        let (app, runtime, mut in_force) = (app.clone(), Handle::current(), Some(in_force));
        move |snapshot: &Snapshot| {
            // Taken first: where the loader panics it is dropped, and the start fails.
            let in_force = in_force.take();
            let configs = runtime.block_on(configs(&app));
            let outcomes = loader.apply(snapshot, &|name| of_plugin(&configs, name));
            // A folder that cannot be listed may hold what is missing. Where that was in force before the start, its coming back
            // is no news: nothing would lead whoever was told that it is gone to ask again.
            if snapshot.unlisted.is_none() {
                app.plugins.set_loading(false);
            }
            if let Some(in_force) = in_force {
                // Nobody waits where a start had nothing to wait for, or has waited long enough.
                let _ = in_force.send(());
            }
            if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Unchanged { .. })) {
                // The other end is gone when the server stops.
                let _ = sender.blocking_send(outcomes);
            }
        }
    };
    let watch = Watch::start(folder, config, on_snapshot).map_err(PluginFolderError::Watch)?;
    let folder = PluginFolder { watch, writer };
    if !whole {
        match tokio::time::timeout(START_MAX, first).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(PluginFolderError::Load("see the log".to_owned())),
            Err(_) => tracing::warn!(
                "plugins are still being loaded; bindings to them hold until they are in force"
            ),
        }
    }
    Ok(folder)
}

fn of_plugin(configs: &[(String, String)], name: &str) -> Vec<String> {
    configs.iter().filter(|(plugin, _)| plugin == name).map(|(_, config)| config.clone()).collect()
}

/// Configs in use, which a new version must take; none can be had from a store that is down, and then none are asked.
async fn configs(app: &App) -> Vec<(String, String)> {
    match binding::all(&app.store).await {
        Ok(all) => all
            .iter()
            .flat_map(|bound| &bound.binding.policies)
            .map(|policy| (policy.plugin.clone(), policy.config_json()))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the configs in use cannot be read, so no new plugin is tested with them");
            Vec::new()
        }
    }
}

async fn write_down(app: App, mut looks: mpsc::Receiver<Vec<Outcome>>) {
    while let Some(outcomes) = looks.recv().await {
        for outcome in &outcomes {
            while let Err(error) = write(&app, outcome).await {
                if !passes(&error) {
                    // A row that is damaged stays so; what comes after it must not wait, least of all the end of a plugin.
                    tracing::error!(%error, ?outcome, "what became of a plugin cannot be written down");
                    break;
                }
                tracing::warn!(%error, "what became of plugins cannot be written down; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn passes(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy
            | StoreError::Full
            | StoreError::Down
            | StoreError::Unknown
            | StoreError::Conflict(_)
    )
}

/// Each outcome is a commit of its own, in order: repeating one changes nothing but its event.
async fn write(app: &App, outcome: &Outcome) -> Result<(), StoreError> {
    let now_ms = app.now_ms();
    app.store.act(|mut tx| async move { state::record(&mut tx, outcome, now_ms).await }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharf_store::{Model, Store};

    use super::*;
    use crate::config::{Config, LISTEN};
    use crate::plugin::ConfigError;

    /// Regression: judgements that asked for a plugin in a folder that could not be listed at a start were told that it is gone,
    /// and nobody asked again when it was there.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_plugin_is_not_gone_before_its_folder_was_listed() {
        let data = tempfile::tempdir().unwrap();
        let app =
            App::over(Config::new(data.path(), LISTEN), Store::new(Arc::new(Model::default()))).unwrap();
        let plugins = app.config.plugins.clone();
        // A link to itself leads nowhere, and is not missing either.
        std::os::unix::fs::symlink(&plugins, &plugins).unwrap();
        let config = WatchConfig { debounce_ms: 20, max_debounce_ms: 100, settle_ms: 5, poll_ms: 50 };
        let folder = load_and_watch(&app, plugins.clone(), config).await.unwrap();
        assert!(!app.plugins.catalog().current().failed().is_empty(), "the first look has ended");
        let asked = async || app.plugins.check_config("criteria", "{}").await.unwrap_err();
        assert!(matches!(asked().await, ConfigError::Loading(_)));

        std::fs::remove_file(&plugins).unwrap();
        std::fs::create_dir(&plugins).unwrap();
        let listed = async {
            while !matches!(asked().await, ConfigError::NoPlugin(_)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), listed).await.expect("it is listed, and empty");
        tokio::task::spawn_blocking(move || drop(folder)).await.unwrap();
    }
}
