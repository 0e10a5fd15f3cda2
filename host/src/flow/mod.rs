//! One file a story, each read top to bottom.

pub mod account;
pub mod collect;
pub mod delete;
pub mod grant;
pub mod push;
pub mod repository;
pub mod token;
pub mod upload;
