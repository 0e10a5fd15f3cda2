//! The plugin runtime: what takes a `.wasm` file from a folder to a verdict.
//!
//! What an operator sees: a file dropped into the plugin folder is in force within a second, a broken one is refused with a
//! reason while the one before it goes on, and no plugin can take more than its limits.
//!
//! The stages, one file each: [`watch`] → [`inspect`](inspect()) → [`grant`](grant()) → [`Engine::load`] →
//! [`Plugin::self_test`] → [`catalog`] → [`Plugin::evaluate`]; [`loader`] drives them, [`breaker`] stops asking a plugin that
//! keeps failing on one image.
//!
//! Invariant: this crate is the only place that names wasmtime, and it knows no other crate of the host.
//! Invariant: a call is memory only. Facts are loaded before it; no host function blocks.
//! Invariant: a call is deterministic in (plugin, config, facts, targets), except for running into a limit, which is an error
//! and never a verdict.
//! Invariant: nothing that a plugin does ends the process or another call.

pub mod archive;
pub mod bounds;
pub mod breaker;
pub mod catalog;
mod engine;
pub mod facts;
mod grant;
mod inspect;
mod interface;
mod licence;
pub mod loader;
pub mod pattern;
mod plugin;
pub mod query;
mod sandbox;
pub mod trace;
mod v0_1;
pub mod watch;

pub use engine::{CompileError, Engine, EngineConfig, EngineError, TICK_MS};
pub use grant::{GrantError, Granted, Grants, LimitOverrides, MAX_GRANTS_BYTES, grant};
pub use inspect::{
    InspectError, Inspected, MANIFEST_SECTION, MAX_MANIFEST_BYTES, MAX_PLUGIN_BYTES, Manifest, inspect,
};
pub use interface::{Kind, SUPPORTED_VERSIONS};
pub use plugin::{
    CallError, CallStats, Cause, Evaluation, MAX_CONFIG_BYTES, Partial, Plugin, Problem, SelfTestError,
    Verdict,
};
pub use sandbox::{CallLimits, LogLevel, LogLine, MAX_TRANSFER_BYTES, Reason};
