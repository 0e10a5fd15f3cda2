//! The one integration test binary. Each module is a story told from outside.

mod access;
mod crash;
mod layering;
mod registry;
mod scan;
