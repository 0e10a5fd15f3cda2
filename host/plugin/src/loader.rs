//! From one look at the folder to the next set of plugins: inspect, grant, compile, self-test, then everything at once.
//!
//! What an operator sees: an [`Outcome`] for each file, with the reason and the stage of each refusal. The entry is
//! [`Loader::apply`], at a start after [`Loader::resume`]; the host stores the outcomes and makes events of them.
//!
//! Invariant: a bad file changes nothing: what it was to replace stays in force, also after a restart.
//! Invariant: what stays in force for that reason is still what the operator allows: a plugin whose capability was taken back is
//! gone, and its bindings hold.
//! Invariant: a plugin is in the archive before it is in force.
//! Invariant: a missing file is a missing plugin, and so is one in a missing folder. Nothing older ever takes its place.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::archive::{Archive, ArchiveError};
use crate::catalog::{Catalog, Failed, PluginSet};
use crate::engine::{CompileError, Engine};
use crate::facts::sha256;
use crate::grant::{GrantError, Granted, Grants, grant};
use crate::inspect::{InspectError, Inspected, inspect};
use crate::plugin::{Plugin, SelfTestError};
use crate::sandbox::CallLimits;
use crate::watch::{Seen, Snapshot, Unreadable};

mod outcome;

pub use outcome::{Active, Before, Outcome, Stage};

/// The longest reason of a refusal, in bytes: it may quote the file, and is stored with each.
const MAX_REASON_BYTES: usize = 4 << 10;

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(
        "file `{other}` has a plugin of the name `{name}` too; hint: rename one of the plugins, or remove a file"
    )]
    Name { name: String, other: String },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    SelfTest(Box<SelfTestError>),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("this host panicked on it, which is an error of the host's; hint: its log says where")]
    Panic,
}

impl Refusal {
    fn stage(&self) -> Stage {
        match self {
            Self::Inspect(_) => Stage::Inspect,
            Self::Grant(_) => Stage::Grant,
            Self::Name { .. } => Stage::Name,
            Self::Compile(_) | Self::Panic => Stage::Compile,
            Self::SelfTest(_) => Stage::SelfTest,
            Self::Archive(_) => Stage::Archive,
        }
    }

    fn reason(&self) -> String {
        let mut reason = self.to_string();
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason
    }
}

/// What is known of a file since the last look.
#[derive(Debug)]
struct Known {
    digest: String,
    grants: Option<String>,
}

/// Loads what the folder holds. One for a host; its methods take their time.
#[derive(Debug)]
pub struct Loader {
    engine: Arc<Engine>,
    catalog: Arc<Catalog>,
    archive: Archive,
    limits: CallLimits,
    /// The last look, by file.
    known: BTreeMap<String, Known>,
    /// The plugin that each file stands for, by file.
    good: BTreeMap<String, Arc<Plugin>>,
    /// What was in force at the last stop, until its file has been seen.
    before: Vec<Active>,
    /// The files that are refused.
    refused: BTreeSet<String>,
}

/// The set that is being put together.
#[derive(Default)]
struct Next {
    plugins: BTreeMap<String, Arc<Plugin>>,
    files: BTreeMap<String, String>,
    good: BTreeMap<String, Arc<Plugin>>,
    failed: BTreeMap<String, Failed>,
    outcomes: Vec<Outcome>,
}

impl Next {
    /// Takes the name for the file. False: another file has it.
    fn insert(&mut self, file: &str, plugin: &Arc<Plugin>) -> bool {
        if self.plugins.contains_key(plugin.name()) {
            return false;
        }
        self.plugins.insert(plugin.name().to_owned(), Arc::clone(plugin));
        self.files.insert(plugin.name().to_owned(), file.to_owned());
        self.good.insert(file.to_owned(), Arc::clone(plugin));
        true
    }
}

impl Loader {
    /// A loader into `catalog`.
    pub fn new(
        engine: Arc<Engine>,
        catalog: Arc<Catalog>,
        archive: Archive,
        limits: CallLimits,
        before: Before,
    ) -> Self {
        let (known, good) = (BTreeMap::new(), BTreeMap::new());
        Self { engine, catalog, archive, limits, known, good, before: before.active, refused: before.refused }
    }

    /// Takes the folder's state over. `configs` gives the configs in use of the plugin of a name, which a new version must
    /// take. Compiles; not for a thread that serves.
    pub fn apply(&mut self, snapshot: &Snapshot, configs: &dyn Fn(&str) -> Vec<String>) -> Vec<Outcome> {
        if let Some(folder) = &snapshot.unlisted {
            return self.stay(folder);
        }
        let mut next = Next::default();
        for one in &snapshot.unreadable {
            self.miss(one, &mut next);
        }
        let mut files: Vec<&Seen> = snapshot.files.iter().collect();
        files.sort_by_key(|seen| self.seniority(seen));
        files.into_iter().for_each(|seen| self.take(seen, configs, &mut next));
        self.finish(snapshot, next)
    }

    /// Puts in force what was when the host stopped, is as it was, and need not be compiled: what a start has not to wait for.
    /// True: that is all there is. [`Loader::apply`] does the rest, and tells what became of each file.
    pub fn resume(&mut self, snapshot: &Snapshot, configs: &dyn Fn(&str) -> Vec<String>) -> bool {
        let mut next = Next::default();
        let as_it_was = |seen: &&Seen| self.seniority(seen) == 0 && self.engine.has_code(&seen.digest);
        let files: Vec<&Seen> = snapshot.files.iter().filter(as_it_was).collect();
        files.iter().for_each(|seen| self.take(seen, configs, &mut next));
        // Not known, so that it is looked at again, and told of.
        let refused = std::mem::take(&mut next.failed);
        self.known = files.into_iter().filter(|seen| !refused.contains_key(&seen.file)).map(known).collect();
        let whole = self.known.len() == snapshot.files.len()
            && snapshot.unreadable.is_empty()
            && self.before.iter().all(|active| next.plugins.contains_key(&active.name));
        self.good = std::mem::take(&mut next.good);
        self.put_in_force(&self.catalog.current(), next);
        whole
    }

    /// Everything stays as it is, but that the folder is refused.
    fn stay(&mut self, folder: &Unreadable) -> Vec<Outcome> {
        let current = self.catalog.current();
        let (plugins, failed) = (current.plugins().clone(), current.failed().clone());
        let mut next = Next { plugins, failed, ..Next::default() };
        self.miss(folder, &mut next);
        self.refused.insert(folder.file.clone());
        self.put_in_force(&current, next)
    }

    /// A name goes to the file that has it, whatever others are called: first the files that are as they were, then those that
    /// were replaced, then new ones.
    fn seniority(&self, seen: &Seen) -> u8 {
        let good = self.good.get(&seen.file).map(|plugin| plugin.digest());
        let before = self.before.iter().find(|active| active.file == seen.file);
        match good.or(before.map(|active| active.digest.as_str())) {
            Some(digest) if digest == seen.digest => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    /// A file that cannot be read is as bad as one that is broken. No plugin came from a folder's name, so none is kept for it.
    fn miss(&self, one: &Unreadable, next: &mut Next) {
        let failed = Failed {
            file: one.file.clone(),
            name: None,
            digest: String::new(),
            stage: Stage::Read,
            reason: one.reason.clone(),
        };
        let known = self.catalog.current().failed().get(&one.file) == Some(&failed);
        let kept = self.last_good(&one.file, None);
        self.refuse(failed, kept, known, next);
    }

    fn take(&self, seen: &Seen, configs: &dyn Fn(&str) -> Vec<String>, next: &mut Next) {
        let unchanged = self.known.get(&seen.file).is_some_and(|known| {
            known.digest == seen.digest && known.grants == seen.grants.as_deref().map(sha256)
        });
        let current = self.catalog.current();
        if unchanged && let Some(failed) = current.failed().get(&seen.file).filter(|f| f.stage.is_final()) {
            let kept = self.good.get(&seen.file).cloned();
            return self.refuse(failed.clone(), kept, true, next);
        }
        if unchanged
            && let Some(plugin) = self.good.get(&seen.file).filter(|p| p.digest() == seen.digest)
            && next.insert(&seen.file, plugin)
        {
            next.outcomes.push(Outcome::Unchanged { file: seen.file.clone() });
            return;
        }
        let mut name = None;
        match guarded(|| self.load(seen, configs, next, &mut name)) {
            Ok(plugin) => {
                let plugin = Arc::new(plugin);
                next.insert(&seen.file, &plugin);
                next.outcomes.push(self.loaded(seen, &plugin, &current));
            }
            Err(refusal) => {
                let failed = Failed {
                    file: seen.file.clone(),
                    name,
                    digest: seen.digest.clone(),
                    stage: refusal.stage(),
                    reason: refusal.reason(),
                };
                let known = unchanged && current.failed().get(&seen.file) == Some(&failed);
                let kept = self.last_good(&seen.file, seen.grants.as_deref());
                self.refuse(failed, kept, known, next);
            }
        }
    }

    /// What was in force before a restart and is again is no news.
    fn loaded(&self, seen: &Seen, plugin: &Plugin, current: &PluginSet) -> Outcome {
        let file = seen.file.clone();
        let before = self.before.iter().find(|active| active.name == plugin.name());
        if before.is_some_and(|active| active.file == file && active.digest == seen.digest) {
            return Outcome::Unchanged { file };
        }
        let replaced = current.get(plugin.name()).map(|old| old.digest().to_owned());
        let replaced = replaced.or_else(|| before.map(|active| active.digest.clone()));
        Outcome::Loaded {
            file,
            name: plugin.name().to_owned(),
            version: plugin.version().to_string(),
            digest: seen.digest.clone(),
            replaced: replaced.filter(|digest| *digest != seen.digest),
        }
    }

    fn load(
        &self,
        seen: &Seen,
        configs: &dyn Fn(&str) -> Vec<String>,
        next: &Next,
        name: &mut Option<String>,
    ) -> Result<Plugin, Refusal> {
        let inspected = inspect(&seen.bytes)?;
        let plugin_name = inspected.manifest.name.clone();
        *name = Some(plugin_name.clone());
        let granted = granted(&inspected, seen.grants.as_deref())?;
        if let Some(other) = next.files.get(&plugin_name) {
            return Err(Refusal::Name { name: plugin_name, other: other.clone() });
        }
        let plugin = self.engine.load(inspected, granted, &seen.bytes)?;
        let configs = configs(&plugin_name);
        let tested = plugin.self_test(configs.iter().map(String::as_str), &self.limits);
        tested.map_err(|error| Refusal::SelfTest(Box::new(error)))?;
        self.archive.put(&seen.bytes)?;
        Ok(plugin)
    }

    /// What the file stood for before it went bad: in this process, or when the host stopped.
    fn last_good(&self, file: &str, grants: Option<&[u8]>) -> Option<Arc<Plugin>> {
        let good = self.good.get(file).filter(|plugin| still_granted(plugin.inspected(), grants).is_ok());
        good.cloned().or_else(|| self.revive(file, grants))
    }

    /// Loads what the file stood for when the host stopped, with what the operator allows now.
    fn revive(&self, file: &str, grants: Option<&[u8]>) -> Option<Arc<Plugin>> {
        let active = self.before.iter().find(|active| active.file == file)?;
        let bytes = match self.archive.get(&active.digest) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                tracing::warn!(name = %active.name, digest = %active.digest, "the last good plugin was not kept");
                return None;
            }
            Err(error) => {
                tracing::warn!(name = %active.name, %error, "the last good plugin cannot be read");
                return None;
            }
        };
        let revived = || -> Result<Plugin, Refusal> {
            let inspected = inspect(&bytes)?;
            let granted = still_granted(&inspected, grants)?;
            let plugin = self.engine.load(inspected, granted, &bytes)?;
            plugin.self_test([], &self.limits).map_err(|error| Refusal::SelfTest(Box::new(error)))?;
            Ok(plugin)
        };
        match guarded(revived) {
            Ok(plugin) => Some(Arc::new(plugin)),
            Err(error) => {
                tracing::warn!(name = %active.name, %error, "the last good plugin cannot be loaded");
                None
            }
        }
    }

    fn refuse(&self, failed: Failed, kept: Option<Arc<Plugin>>, known: bool, next: &mut Next) {
        let kept = kept.filter(|plugin| next.insert(&failed.file, plugin));
        next.outcomes.push(match known {
            true => Outcome::Unchanged { file: failed.file.clone() },
            false => {
                // As texts, which the log quotes: a file's name and a plugin's words may hold line ends.
                tracing::warn!(
                    file = failed.file,
                    digest = failed.digest,
                    stage = failed.stage.as_str(),
                    reason = failed.reason,
                    kept = kept.as_ref().map_or("nothing", |plugin| plugin.digest()),
                    "plugin refused"
                );
                Outcome::Quarantined {
                    failed: failed.clone(),
                    kept: kept.map(|plugin| plugin.digest().to_owned()),
                }
            }
        });
        next.failed.insert(failed.file.clone(), failed);
    }

    fn finish(&mut self, snapshot: &Snapshot, mut next: Next) -> Vec<Outcome> {
        let current = self.catalog.current();
        let gone = |name: &str, digest: &str, next: &Next| {
            let removed = Outcome::Removed { name: name.to_owned(), digest: digest.to_owned() };
            (!next.plugins.contains_key(name) && !next.outcomes.contains(&removed)).then_some(removed)
        };
        for (name, plugin) in current.plugins() {
            let removed = gone(name, plugin.digest(), &next);
            next.outcomes.extend(removed);
        }
        for active in std::mem::take(&mut self.before) {
            let removed = gone(&active.name, &active.digest, &next);
            next.outcomes.extend(removed);
        }
        let refused = std::mem::replace(&mut self.refused, next.failed.keys().cloned().collect());
        let ended = refused.into_iter().filter(|file| !next.failed.contains_key(file));
        next.outcomes.extend(ended.map(|file| Outcome::RefusalEnded { file }));
        self.known = snapshot.files.iter().map(known).collect();
        self.good = std::mem::take(&mut next.good);
        self.put_in_force(&current, next)
    }

    fn put_in_force(&self, current: &PluginSet, next: Next) -> Vec<Outcome> {
        if changed(current, &next.plugins, &next.failed) {
            let set = self.catalog.replace(next.plugins, next.failed);
            let (plugins, failed) = (set.plugins().len(), set.failed().len());
            tracing::info!(generation = set.generation(), plugins, failed, "plugins in force");
        }
        next.outcomes
    }
}

fn known(seen: &Seen) -> (String, Known) {
    let known = Known { digest: seen.digest.clone(), grants: seen.grants.as_deref().map(sha256) };
    (seen.file.clone(), known)
}

/// A file that makes the loader panic is refused as any other, and the rest of the folder is loaded.
fn guarded<T>(load: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or(Err(Refusal::Panic))
}

fn granted(inspected: &Inspected, file: Option<&[u8]>) -> Result<Granted, GrantError> {
    let allowed = file.map(Grants::parse).transpose()?.unwrap_or_default();
    grant(inspected, &allowed)
}

/// As [`granted`], for what is in force: a grants file that cannot be read takes nothing back.
fn still_granted(inspected: &Inspected, file: Option<&[u8]>) -> Result<Granted, GrantError> {
    match granted(inspected, file) {
        Err(GrantError::BadFile { .. }) => granted(inspected, None),
        other => other,
    }
}

fn changed(
    current: &PluginSet,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    failed: &BTreeMap<String, Failed>,
) -> bool {
    let same = |(one, other): (&Arc<Plugin>, &Arc<Plugin>)| Arc::ptr_eq(one, other);
    current.failed() != failed
        || current.plugins().len() != plugins.len()
        || !current.plugins().values().zip(plugins.values()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a plugin that may say much said more than a row of the store takes, and nothing after it was ever written.
    #[test]
    fn a_reason_is_bounded() {
        let refusal = Refusal::Name { name: "é".repeat(MAX_REASON_BYTES), other: String::new() };
        assert!((MAX_REASON_BYTES - 1..=MAX_REASON_BYTES).contains(&refusal.reason().len()));
    }
}
