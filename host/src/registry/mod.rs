//! Repositories: blobs, manifests, tags, referrers, uploads, quotas, collection.
//!
//! An operator sees `docker push` and `docker pull`, repositories with tags, a quota for each namespace, and disk space
//! that comes back by itself within a day of a delete. Reads enter at [`cache::ManifestCache`] and [`blob::promise`]; what changes
//! something contributes to a flow's transaction: [`manifest::put`], [`tag::point`], [`copy::manifest`], ….
//!
//! Row layouts are in `row.rs` and, with their meaning, in `docs/store.md`.
//!
//! Invariant: nothing here commits; `flow/push.rs`, `flow/upload.rs`, `flow/delete.rs` and `flow/collect.rs` do.
//! Invariant: a read never writes.
//! Invariant: a manifest row exists only with its bytes and its link; a tag row is served only while the manifest row
//! that it names exists, and no mark of a large delete hides it ([`untag`]).
//! Invariant: every page, body, list and walk is bounded by a constant named here or in `setting.rs`.

pub mod blob;
pub mod cache;
pub mod collect;
pub mod copy;
mod error;
pub mod index;
pub mod list;
pub mod manifest;
pub mod quota;
pub mod referrer;
pub mod row;
pub mod session;
pub mod setting;
pub mod statement;
pub mod tag;
pub mod untag;
pub mod upload;

#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;

pub use error::RegistryError;
