//! One file a story, each read top to bottom.

pub mod account;
pub mod grant;
pub mod token;
