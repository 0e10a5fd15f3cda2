//! The plugin runtime against real components: one that is compiled from `tests/guest`, and what is made of its bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may"
)]

mod calls;
mod guests;
mod host;
mod hostile;
mod reload;
mod shipped;
mod watch;
