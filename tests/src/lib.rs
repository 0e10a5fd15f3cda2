//! The harness of the integration tests: a real server of the real binary, images to push, and clients to push with.

#![allow(clippy::expect_used, reason = "a harness that cannot go on ends its test")]

pub mod client;
pub mod image;
pub mod server;

pub use client::{http, tool};
pub use image::Image;
pub use server::{Server, settings};
