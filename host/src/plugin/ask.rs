use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinError;
use wharf_plugin::archive::{Archive, ArchiveError};
use wharf_plugin::breaker::{self, Breaker, Gate};
use wharf_plugin::catalog::Catalog;
use wharf_plugin::facts::{SealedFacts, sha256};
use wharf_plugin::trace::{Subject, Trace};
use wharf_plugin::{
    CallError, CallLimits, Cause, CompileError, Engine, Evaluation, GrantError, Grants, InspectError, Plugin,
    Problem, grant, inspect,
};

use super::log;

/// Plugins of the archive that are kept ready for replays.
const REVIVED_MAX: usize = 8;
/// After this long a plugin is asked again that found no room or no time, in ms.
const BUSY_RETRY_MS: u64 = 10_000;
/// After this long a plugin is asked again in whose call the server itself failed, in ms.
const DEFECT_RETRY_MS: u64 = 10 * 60_000;

/// Codes of what the machine ended, not the facts: a call that ran out of time or found no room, a breaker, a plugin that is not
/// there yet, a defect of the server's.
pub const PASSING_CODES: [&str; 5] = ["timeout", "busy", "breaker-open", "plugin-loading", "server-failed"];

/// What [`Plugins`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub engine: Arc<Engine>,
    pub catalog: Arc<Catalog>,
    pub archive: Archive,
    pub limits: CallLimits,
}

/// The plugins in force.
#[derive(Debug)]
pub struct Plugins {
    parts: Parts,
    breaker: Breaker,
    started: Instant,
    /// Calls at a time: as many as there are cores. More wait here, not in the engine's pool.
    slots: Arc<Semaphore>,
    /// Plugins that are no longer in force, for replays; the one used last is last.
    revived: Mutex<VecDeque<Arc<Plugin>>>,
    rescan: Notify,
    /// A plugin that is missing may be among those that are being loaded for the first time.
    loading: AtomicBool,
}

/// Which plugin was asked, and what came of it.
#[derive(Debug)]
pub struct Asked {
    /// Empty where it is gone.
    pub version: String,
    pub digest: String,
    pub answer: Result<Evaluation, Unasked>,
}

/// Why there is no verdict. The image is held.
#[derive(Debug)]
pub enum Unasked {
    /// It is not there.
    Held { code: &'static str, text: String },
    /// The server stops: the question was not asked to its end, and no answer is to be recorded.
    Interrupted,
    /// It found no room, is not there yet, is not asked about this image for now, or the server itself failed while it asked; after
    /// this time it may be asked again.
    Passing { code: &'static str, text: String, again_in_ms: u64 },
    /// It failed, after asking this.
    Failed { code: &'static str, text: String, trace: Trace, opened_breaker: bool },
}

/// Why no plugin of a name is in force.
#[derive(Debug, Clone, Copy)]
enum Missing {
    /// It may be among those that are being loaded.
    Loading,
    Gone,
}

impl Missing {
    fn asked(self, name: &str) -> Asked {
        let unasked = match self {
            Missing::Loading => Unasked::Passing {
                code: "plugin-loading",
                text: format!("plugin `{name}` is not in force: plugins are still being loaded"),
                again_in_ms: BUSY_RETRY_MS,
            },
            Missing::Gone => Unasked::Held {
                code: "plugin-gone",
                text: format!("plugin `{name}` is gone; hint: drop its `.wasm` into the plugin folder"),
            },
        };
        Asked { version: String::new(), digest: String::new(), answer: Err(unasked) }
    }
}

/// Why a plugin that is no longer in force cannot be asked again.
#[derive(Debug, thiserror::Error)]
pub enum ReviveError {
    #[error("its bytes are no longer kept")]
    Gone,
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the thread that compiled it ended")]
    Thread,
}

/// Why a config cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "there is no plugin `{0}`; hint: drop its `.wasm` into the plugin folder, `wharf plugin ls` shows those there are"
    )]
    NoPlugin(String),
    #[error(
        "plugin `{0}` is not in force: plugins are still being loaded; hint: try again in a moment, `wharf plugin ls` shows those there are"
    )]
    Loading(String),
    #[error(
        "plugin `{plugin}` refuses the config: {}; hint: `wharf plugin inspect {plugin}` shows what it takes",
        list(.problems)
    )]
    Refused { plugin: String, problems: Vec<Problem> },
    #[error(transparent)]
    Call(Box<CallError>),
    #[error("the plugin's thread ended")]
    Thread,
}

/// Why a thread gave no answer.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The server stops.
    Stopped,
    /// A defect of the server's, by what the panic says.
    Panicked(String),
}

impl From<JoinError> for Ended {
    fn from(error: JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else { return Ended::Stopped };
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Ended::Panicked(text.unwrap_or_default())
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

impl Asked {
    /// The questions that were asked; none where the plugin was not called.
    pub fn trace(&self) -> Option<&Trace> {
        match &self.answer {
            Ok(said) => Some(&said.trace),
            Err(Unasked::Failed { trace, .. }) => Some(trace),
            Err(Unasked::Held { .. } | Unasked::Interrupted | Unasked::Passing { .. }) => None,
        }
    }

    /// After which time it may well go otherwise: a loaded machine finds no room or runs out of time, a breaker closes.
    pub fn again_in_ms(&self) -> Option<u64> {
        match &self.answer {
            Err(Unasked::Passing { again_in_ms, .. }) => Some(*again_in_ms),
            Err(Unasked::Failed { code, .. }) if *code == "timeout" => Some(BUSY_RETRY_MS),
            _ => None,
        }
    }
}

impl Plugins {
    pub fn new(parts: Parts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = Arc::new(Semaphore::new(cores));
        Plugins {
            parts,
            breaker: Breaker::default(),
            started: Instant::now(),
            slots,
            revived: Mutex::default(),
            rescan: Notify::new(),
            loading: AtomicBool::new(false),
        }
    }

    /// The set in force, for listings and for the loader.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.parts.catalog
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.parts.engine
    }

    pub fn archive(&self) -> &Archive {
        &self.parts.archive
    }

    pub fn limits(&self) -> CallLimits {
        self.parts.limits
    }

    /// Has the folder looked at now, changed or not: for SIGHUP and the API.
    pub fn rescan(&self) {
        self.rescan.notify_one();
    }

    /// Waits until somebody calls [`Plugins::rescan`].
    pub async fn rescan_asked(&self) {
        self.rescan.notified().await;
    }

    /// Whether the folder may have plugins that are yet to be loaded for the first time.
    pub fn set_loading(&self, loading: bool) {
        self.loading.store(loading, Ordering::SeqCst);
    }

    /// The plugin in force of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Plugin>> {
        self.parts.catalog.current().get(name).cloned()
    }

    /// As [`Plugins::find`], and why it is missing.
    fn require(&self, name: &str) -> Result<Arc<Plugin>, Missing> {
        // Before it is looked for: what was still being loaded is then told as that, and never as gone.
        let missing = match self.loading.load(Ordering::SeqCst) {
            true => Missing::Loading,
            false => Missing::Gone,
        };
        self.find(name).ok_or(missing)
    }

    /// The plugin of these bytes, in force or from the archive: what a replay asks.
    ///
    /// # Errors
    /// [`ReviveError`].
    pub async fn by_digest(&self, digest: &str) -> Result<Arc<Plugin>, ReviveError> {
        let current = self.parts.catalog.current();
        if let Some(plugin) = current.plugins().values().find(|plugin| plugin.digest() == digest) {
            return Ok(plugin.clone());
        }
        if let Some(plugin) = self.revived_already(digest) {
            return Ok(plugin);
        }
        let (engine, archive) = (self.parts.engine.clone(), self.parts.archive.clone());
        let wanted = digest.to_owned();
        let revive = move || -> Result<Plugin, ReviveError> {
            let bytes = archive.get(&wanted)?.ok_or(ReviveError::Gone)?;
            let inspected = inspect(&bytes)?;
            // It gets what its kind has by default: memory only, whatever was allowed since.
            let granted = grant(&inspected, &Grants::default())?;
            Ok(engine.load(inspected, granted, &bytes)?)
        };
        let plugin = Arc::new(self.on_a_thread(revive).await.map_err(|_| ReviveError::Thread)??);
        let mut revived = self.revived();
        if revived.len() >= REVIVED_MAX {
            revived.pop_front();
        }
        revived.push_back(plugin.clone());
        Ok(plugin)
    }

    /// A plugin that was revived before; it is now the one used last.
    fn revived_already(&self, digest: &str) -> Option<Arc<Plugin>> {
        let mut revived = self.revived();
        let at = revived.iter().position(|plugin| plugin.digest() == digest)?;
        let plugin = revived.remove(at)?;
        revived.push_back(plugin.clone());
        Some(plugin)
    }

    fn revived(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Plugin>>> {
        self.revived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a config by the plugin's schema and by the plugin itself.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub async fn check_config(&self, name: &str, config: &str) -> Result<(), ConfigError> {
        let plugin = self.require(name).map_err(|missing| match missing {
            Missing::Loading => ConfigError::Loading(name.to_owned()),
            Missing::Gone => ConfigError::NoPlugin(name.to_owned()),
        })?;
        let (config, limits) = (config.to_owned(), self.parts.limits);
        let checked = self.on_a_thread(move || plugin.validate(&config, &limits)).await;
        match checked.map_err(|_| ConfigError::Thread)? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(problems)) => Err(ConfigError::Refused { plugin: name.to_owned(), problems }),
            Err(error) => Err(ConfigError::Call(Box::new(error))),
        }
    }

    /// Asks the plugin of that name about `subject` of the facts, for a judgement: failures count for the breaker, and while it
    /// is open the plugin is not asked. What it logs goes to the server's log.
    pub async fn ask(
        &self,
        name: &str,
        config: &str,
        facts: &Arc<SealedFacts>,
        subject: Subject,
        targets: &[String],
    ) -> Asked {
        let plugin = match self.require(name) {
            Ok(plugin) => plugin,
            Err(missing) => return missing.asked(name),
        };
        let (version, digest) = (plugin.version().to_string(), plugin.digest().to_owned());
        let image = image_digest(facts, subject);
        let made = breaker::Call {
            plugin: digest.clone(),
            limits: plugin.limits(&self.parts.limits),
            config: sha256(config.as_bytes()),
            image: image.to_owned(),
        };
        if let Gate::Open { reason, until_ms } = self.breaker.gate(&made, self.now_ms()) {
            let text = format!("plugin `{name}` {version} is not asked about this image for now: {reason}");
            let again_in_ms = until_ms.saturating_sub(self.now_ms());
            let answer = Err(Unasked::Passing { code: "breaker-open", text, again_in_ms });
            return Asked { version, digest, answer };
        }
        let called = self.call(&plugin, config, facts, subject, targets).await;
        let from = log::Call { plugin: name, version: &version, image };
        match &called {
            Ok(Ok(said)) => log::write(from, &said.logs, said.stats.log_bytes_dropped),
            Ok(Err(error)) => {
                log::write(from, &error.partial.logs, error.partial.stats.log_bytes_dropped);
            }
            Err(_) => {}
        }
        let opened = match &called {
            Ok(Ok(_)) => {
                self.breaker.succeeded(&made);
                false
            }
            Ok(Err(error)) => self.breaker.failed(made, error, self.now_ms()),
            Err(_) => false,
        };
        Asked { version, digest, answer: answer(called, opened) }
    }

    /// Asks the plugin of that name, whatever happens: no judgement depends on it.
    pub async fn try_out(
        &self,
        name: &str,
        config: &str,
        facts: &Arc<SealedFacts>,
        subject: Subject,
        targets: &[String],
    ) -> Asked {
        match self.require(name) {
            Ok(plugin) => self.ask_plugin(&plugin, config, facts, subject, targets).await,
            Err(missing) => missing.asked(name),
        }
    }

    /// Asks this plugin, in force or not: what a replay does. No judgement depends on it.
    pub async fn ask_plugin(
        &self,
        plugin: &Arc<Plugin>,
        config: &str,
        facts: &Arc<SealedFacts>,
        subject: Subject,
        targets: &[String],
    ) -> Asked {
        let called = self.call(plugin, config, facts, subject, targets).await;
        let (version, digest) = (plugin.version().to_string(), plugin.digest().to_owned());
        Asked { version, digest, answer: answer(called, false) }
    }

    async fn call(
        &self,
        plugin: &Arc<Plugin>,
        config: &str,
        facts: &Arc<SealedFacts>,
        subject: Subject,
        targets: &[String],
    ) -> Result<Result<Evaluation, CallError>, Ended> {
        let (asked, config, on) = (plugin.clone(), config.to_owned(), facts.clone());
        let (targets, limits) = (targets.to_vec(), self.parts.limits);
        let called = self.on_a_thread(move || asked.evaluate(&config, &on, subject, &targets, &limits)).await;
        if let Err(Ended::Panicked(error)) = &called {
            let (name, version, image) = (plugin.name(), plugin.version(), image_digest(facts, subject));
            tracing::error!(plugin = name, %version, image, error, "the server failed while it asked a plugin");
        }
        called
    }

    /// The breaker's clock: pauses, not evidence. The time of day may leap, and would leave a breaker open for years.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Ended::Stopped)?;
        let called = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            call()
        });
        Ok(called.await?)
    }
}

fn answer(
    called: Result<Result<Evaluation, CallError>, Ended>,
    opened_breaker: bool,
) -> Result<Evaluation, Unasked> {
    match called {
        Ok(called) => called.map_err(|error| failed(error, opened_breaker)),
        Err(Ended::Stopped) => Err(Unasked::Interrupted),
        // The log has the panic's words: they are for who mends the server.
        Err(Ended::Panicked(_)) => {
            let text = "the server itself failed while it asked; hint: its log says more".to_owned();
            Err(Unasked::Passing { code: "server-failed", text, again_in_ms: DEFECT_RETRY_MS })
        }
    }
}

fn failed(error: CallError, opened_breaker: bool) -> Unasked {
    let (code, text) = (error.cause.code(), error.to_string());
    match error.cause {
        Cause::Busy => Unasked::Passing { code, text, again_in_ms: BUSY_RETRY_MS },
        _ => Unasked::Failed { code, text, trace: error.partial.trace, opened_breaker },
    }
}

/// The digest of what is judged.
fn image_digest(facts: &SealedFacts, subject: Subject) -> &str {
    let facts = facts.facts();
    match subject {
        Subject::Image => &facts.digest,
        Subject::Platform(index) => usize::try_from(index)
            .ok()
            .and_then(|index| facts.platforms.get(index))
            .map_or(&facts.digest, |platform| &platform.digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a panic was taken for the end of the server: nothing was recorded, and a mass judgement ended at that image.
    #[tokio::test]
    async fn a_panic_is_a_hold_and_only_the_end_of_the_server_is_no_answer() {
        let panicked = tokio::task::spawn_blocking(|| panic!("column {}", 7)).await.unwrap_err();
        let held = answer(Err(panicked.into()), false).unwrap_err();
        let Unasked::Passing { code: "server-failed", text, .. } = held else { panic!("{held:?}") };
        assert!(text.contains("failed while it asked; hint:"), "{text}");
        let stopped = tokio::spawn(std::future::pending::<()>());
        stopped.abort();
        let stopped = answer(Err(stopped.await.unwrap_err().into()), false);
        assert!(matches!(stopped, Err(Unasked::Interrupted)), "{stopped:?}");
    }
}
