//! Write a Wharf policy in Rust: one function over typed facts, and a struct for its configuration.
//!
//! ```
//! use wharf_sdk::prelude::*;
//!
//! wharf_sdk::config! {
//!     /// Lets images through that CI pushed and that have few enough bad findings.
//!     pub struct Limits {
//!         /// How many findings of severity high or worse an image may have.
//!         max_high: u32 = 0,
//!         /// Who may push.
//!         pushed_by: Vec<String> = ["ci"],
//!     }
//! }
//!
//! fn judge(limits: &Limits, image: &Image) -> Judgement {
//!     image.scanned()?; // no data is never clean: this holds an image that was not scanned
//!     let mut outcome = approve();
//!     let high = image.findings().at_least(Severity::High).count();
//!     if high > limits.max_high {
//!         outcome.reject("too-many-high", format!("{high} findings are high or worse, {} may be", limits.max_high));
//!     }
//!     if !limits.pushed_by.contains(&image.pushed_by()) {
//!         outcome.hold("pushed-by", format!("`{}` pushed it, not one of {:?}", image.pushed_by(), limits.pushed_by));
//!     }
//!     Ok(outcome)
//! }
//!
//! wharf_sdk::policy! { config: Limits, evaluate: judge }
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` from a crate with `crate-type = ["cdylib"]`, and drop the
//! `.wasm` into Wharf's plugin folder. `docs/write-a-plugin.md` goes through it step by step.
//!
//! Invariant: a policy is pure. The facts are all it knows, `evaluated-at` is the only clock, and the same facts with the same
//! configuration always give the same verdict; Wharf replays old decisions and compares.
//! Invariant: a policy fails closed. A panic, an error, or a limit reached is a hold, never an approval.

pub mod bindings;
pub mod config;
#[cfg(any(test, all(target_family = "wasm", target_os = "unknown")))]
#[allow(unsafe_code)]
mod heap;
pub mod image;
pub mod json;
pub mod log;
pub mod outcome;
pub mod pattern;
pub mod policy;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::exports::wharf::plugin::policy::Problem;
pub use config::{Config, ConfigValue, NoConfig};
pub use image::Image;
pub use outcome::{IntoOutcome, Judgement, Outcome, Stop, Verdict};
pub use pattern::glob;
pub use policy::Policy;

#[doc(hidden)]
pub use {serde, serde_json};

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

/// Lets this crate's own macros name it as authors do.
extern crate self as wharf_sdk;

/// The guide's Rust is compiled with the docs' tests; it is no part of the crate.
#[cfg(doctest)]
#[doc = include_str!("../../docs/write-a-plugin.md")]
struct Guide;

/// What a policy usually names.
pub mod prelude {
    pub use crate::config::problem;
    pub use crate::image::{
        Approval, Component, Components, Confidence, Coverage, Finding, Findings, FixState, Image, Knowledge,
        Platform, Severity, Signature,
    };
    pub use crate::outcome::{Judgement, Outcome, Stop, Verdict, abstain, approve, hold, reject};
    pub use crate::{Config, NoConfig, Problem};
}
