//! The WebAssembly engine: compiles plugins, and gives each call its slot and its clock.
//!
//! Invariant: one [`Engine`] in a process. It holds the pool of sandboxes, which is virtual memory reserved once.
//! Invariant: a call has a slot before it touches the pool: an exhausted pool is an error, a taken slot is a wait.
//! Invariant: machine code comes from this process, or from the private cache that this process can authenticate; never from
//! a file that somebody dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::grant::Granted;
use crate::inspect::{Inspected, features};
use crate::pattern::VersionOrder;
use crate::plugin::Plugin;
use crate::sandbox::{CallState, wasi};
use crate::v0_1;

mod cache;
mod slots;
mod ticker;

use cache::CompiledCache;
pub(crate) use slots::Slot;
use slots::Slots;
use ticker::Ticker;

/// How often running plugins are looked at, in ms: the grain of every time limit.
pub const TICK_MS: u64 = 1;

/// The core instances of one component: its own module and the small ones that its compiler adds.
const CORE_INSTANCES: u32 = 16;

/// The linear memories and the tables of one component.
const MEMORIES: u32 = 4;
const TABLES: u32 = 16;

/// Memory of a returned slot that is wiped by hand rather than given back to the kernel, in bytes.
const KEEP_RESIDENT_BYTES: usize = 512 << 10;

/// Returned slots whose memory stays mapped.
const WARM_SLOTS: u32 = 8;

/// How the engine is built.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where compiled code is kept between starts; none: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// How many calls run at the same time.
    pub max_calls: u32,
    /// How long a call waits for a slot, in ms; then it is [`Cause::Busy`](crate::Cause::Busy).
    pub wait_ms: u64,
    /// The most memory that the limits of a call may allow, in bytes.
    pub max_memory_bytes: usize,
    /// The stack of a call, in bytes. The thread that calls needs this and 256 KiB more.
    pub max_stack_bytes: usize,
    /// How versions compare.
    pub version_order: VersionOrder,
}

impl EngineConfig {
    /// The usual settings, with the host's order of versions.
    pub fn new(version_order: VersionOrder) -> Self {
        Self {
            cache_dir: None,
            max_calls: 32,
            wait_ms: 1_000,
            max_memory_bytes: 256 << 20,
            max_stack_bytes: 512 << 10,
            version_order,
        }
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// This machine does not have what the engine needs.
    #[error("cannot start the plugin engine: {0}")]
    Start(String),
    /// A thread could not be started.
    #[error("cannot start the plugin clock: {0}")]
    Thread(std::io::Error),
}

/// Why a component that was inspected cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It does not compile, or needs more than the engine gives.
    #[error("cannot compile the component: {0}")]
    Compile(String),
    /// It wants a function that this host does not have, or gives one another type.
    #[error("the component does not fit this host: {0}; hint: it may be made for a newer Wharf")]
    Link(String),
    /// The schema of its config cannot be used.
    #[error("the schema of the config: {0}")]
    Schema(String),
}

/// Compiles plugins and runs their calls.
pub struct Engine {
    wasm: wasmtime::Engine,
    linker: Linker<CallState>,
    cache: Option<CompiledCache>,
    slots: Slots,
    ticker: Ticker,
    config: EngineConfig,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the engine and its clock.
    ///
    /// # Errors
    /// [`EngineError`]. A cache that cannot be opened is logged and done without.
    pub fn new(config: EngineConfig) -> Result<Arc<Self>, EngineError> {
        let start = |e: wasmtime::Error| EngineError::Start(format!("{e:#}"));
        let wasm = wasmtime::Engine::new(&settings(&config)).map_err(start)?;
        let mut linker = Linker::new(&wasm);
        v0_1::link(&mut linker).map_err(start)?;
        let cache = config.cache_dir.as_deref().and_then(|dir| match CompiledCache::open(dir, &wasm) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled plugins are not cached");
                None
            }
        });
        let ticker = Ticker::start(wasm.weak()).map_err(EngineError::Thread)?;
        let slots = Slots::new(config.max_calls, Duration::from_millis(config.wait_ms));
        Ok(Arc::new(Self { wasm, linker, cache, slots, ticker, config }))
    }

    /// Makes a plugin of an inspected file. Takes tens of ms to seconds of one core unless the code is cached: not for a
    /// thread that serves.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn load(
        self: &Arc<Self>,
        inspected: Inspected,
        granted: Granted,
        bytes: &[u8],
    ) -> Result<Plugin, CompileError> {
        let component = self.compile(&inspected.digest, bytes)?;
        let mut linker = self.linker.clone();
        let link = |e: wasmtime::Error| CompileError::Link(format!("{e:#}"));
        wasi::link(&mut linker, &component).map_err(link)?;
        let pre = linker.instantiate_pre(&component).map_err(link)?;
        let pre = v0_1::PromotionPolicyPre::new(pre).map_err(link)?;
        Plugin::new(Arc::clone(self), pre, inspected, granted).map_err(CompileError::Schema)
    }

    /// Whether the plugin of these bytes was compiled before, so that [`Engine::load`] takes milliseconds.
    pub(crate) fn has_code(&self, digest: &str) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.has(digest))
    }

    fn compile(&self, digest: &str, bytes: &[u8]) -> Result<Component, CompileError> {
        let failed = |e: wasmtime::Error| CompileError::Compile(format!("{e:#}"));
        let Some(cache) = &self.cache else {
            return Component::from_binary(&self.wasm, bytes).map_err(failed);
        };
        if let Some(component) = cache.get(&self.wasm, digest) {
            return Ok(component);
        }
        let component = Component::from_binary(&self.wasm, bytes).map_err(failed)?;
        match component.serialize() {
            Ok(code) => cache.put(digest, &code),
            Err(error) => tracing::warn!(%digest, %error, "compiled plugin cannot be cached"),
        }
        Ok(component)
    }

    pub(crate) fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    pub(crate) fn version_order(&self) -> VersionOrder {
        self.config.version_order
    }

    /// The most memory that a call's limits may allow, in bytes.
    pub fn max_memory_bytes(&self) -> usize {
        self.config.max_memory_bytes
    }

    /// Takes a slot and starts the clock, until the [`Slot`] is dropped. None: all stay taken.
    pub(crate) fn enter(&self) -> Option<Slot<'_>> {
        let slot = self.slots.take()?;
        Some(slot.with_clock(&self.ticker))
    }
}

fn settings(config: &EngineConfig) -> Config {
    let slots = config.max_calls;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MEMORIES))
        .total_tables(slots.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memory_size(config.max_memory_bytes)
        .table_elements(crate::sandbox::MAX_TABLE_ELEMENTS)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    let mut settings = Config::new();
    settings
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(config.max_stack_bytes)
        // One core: the others serve.
        .parallel_compilation(false)
        // Equal bits of every NaN on every machine: replay depends on it.
        .cranelift_nan_canonicalization(true)
        .wasm_features(wasmtime::WasmFeatures::all(), false)
        .wasm_features(features(), true);
    settings
}
