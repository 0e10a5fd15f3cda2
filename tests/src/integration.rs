//! The one integration test binary. Each module is a story told from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this binary is tests: what cannot go on ends its test"
)]

mod access;
mod cli;
mod crash;
mod fuzz;
mod layering;
mod plugin;
mod promotion;
mod registry;
mod scan;
mod serving;
