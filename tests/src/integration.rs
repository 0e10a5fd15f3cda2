//! The one integration test binary. Each module is a story told from outside.

mod layering;
mod registry;
