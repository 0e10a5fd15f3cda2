//! The plugins that are in force, as one set that is replaced as a whole.
//!
//! Invariant: a set never changes. A call takes one set at its start and finishes on it, so it never sees half a reload.
//! Invariant: an old set lives exactly as long as somebody holds it; [`Catalog::live_generations`] counts them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::loader::Stage;
use crate::plugin::Plugin;

/// After this time an old set that is still held is worth a line in the log.
const DRAIN_WARNING: Duration = Duration::from_secs(30);

/// A file that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The file's name.
    pub file: String,
    /// The plugin's name, where it could be read.
    pub name: Option<String>,
    /// The digest of its bytes; empty where they could not be read.
    pub digest: String,
    /// How far it came.
    pub stage: Stage,
    /// Why it was refused.
    pub reason: String,
}

/// The plugins that are in force at one time.
#[derive(Debug)]
pub struct PluginSet {
    generation: u64,
    plugins: BTreeMap<String, Arc<Plugin>>,
    failed: BTreeMap<String, Failed>,
    _live: Live,
}

impl PluginSet {
    /// Counts up with each replacement; 0 is the empty set at the start.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The plugin of this name; none: bindings to it hold.
    pub fn get(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.get(name)
    }

    /// Every plugin, by name.
    pub fn plugins(&self) -> &BTreeMap<String, Arc<Plugin>> {
        &self.plugins
    }

    /// Every file that was refused, by file name.
    pub fn failed(&self) -> &BTreeMap<String, Failed> {
        &self.failed
    }
}

#[derive(Debug)]
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Holds the set that is in force.
#[derive(Debug)]
pub struct Catalog {
    current: ArcSwap<PluginSet>,
    live: Arc<AtomicUsize>,
    draining: Mutex<Vec<(Instant, Weak<PluginSet>)>>,
}

impl Default for Catalog {
    fn default() -> Self {
        let live = Arc::new(AtomicUsize::new(0));
        let empty = PluginSet {
            generation: 0,
            plugins: BTreeMap::new(),
            failed: BTreeMap::new(),
            _live: Live::new(&live),
        };
        Self { current: ArcSwap::from_pointee(empty), live, draining: Mutex::default() }
    }
}

impl Catalog {
    /// The set that is in force now. Take it once for each call, and keep it until the call has ended.
    pub fn current(&self) -> Arc<PluginSet> {
        self.current.load_full()
    }

    /// How many sets are held: 1 where nothing is draining.
    pub fn live_generations(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Puts a new set in force. Only the loader does this, one change after the other.
    pub(crate) fn replace(
        &self,
        plugins: BTreeMap<String, Arc<Plugin>>,
        failed: BTreeMap<String, Failed>,
    ) -> Arc<PluginSet> {
        let generation = self.current.load().generation + 1;
        let next = Arc::new(PluginSet { generation, plugins, failed, _live: Live::new(&self.live) });
        let old = self.current.swap(Arc::clone(&next));
        let mut draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        draining.push((Instant::now(), Arc::downgrade(&old)));
        next
    }

    /// Logs each old set that is held for longer than 30 s, once. To be called now and then.
    pub fn check_drain(&self) {
        let mut draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        draining.retain(|(since, set)| match set.upgrade() {
            None => false,
            Some(_) if since.elapsed() < DRAIN_WARNING => true,
            Some(set) => {
                tracing::warn!(
                    generation = set.generation,
                    "an old set of plugins is still in use after 30 s"
                );
                false
            }
        });
    }
}
