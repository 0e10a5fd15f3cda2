//! Wharf: a registry that scans, judges, promotes and deploys images.
//!
//! Downwards only: surfaces (`api`, `cli`) call flows, a flow joins concepts in one transaction, and concepts do not know
//! each other. `flow` reads top to bottom, one file a story.
//!
//! Invariant: concepts contribute to a transaction and never commit; only `flow` and `jobs` call `Store::act`.
//! Invariant: flows do not call flows; they leave events.

pub mod access;
pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod event;
pub mod facts;
pub mod flow;
pub mod jobs;
pub mod plugin;
pub mod promote;
pub mod registry;
pub mod scan;
pub mod serve;
pub mod work;

pub use app::App;
pub use serve::{ServeOptions, reset_admin, serve};

/// The host's version, recorded in every decision.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
