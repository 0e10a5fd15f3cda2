//! The plugins that are in force, and how a judgement asks one.
//!
//! An operator sees `wharf plugin ls`: what is in force, what was before it, what is in quarantine and why.
//!
//! Entry: [`Plugins::ask`]; [`state`] holds the rows.
//!
//! Invariant: a plugin runs on a blocking thread, as many at once as there are cores, never on one that serves.
//! Invariant: a plugin that is gone, failed or is not asked any more is an answer that holds.
//! Invariant: what a decision was made with stays in the archive as long as the decision.

mod ask;
mod log;
pub mod state;

pub use ask::{Asked, ConfigError, PASSING_CODES, Parts, Plugins, ReviveError, Unasked};
