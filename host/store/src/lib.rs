//! Where the host keeps everything: rows in an engine, blobs in files.
//!
//! An operator sees one data directory: `meta.redb` (rows), `blobs/` (files with opaque names), `ballast`. The entry
//! is [`Store`]: [`Store::get`] and [`Store::scan`] to read, [`Store::act`] to change. `docs/store.md` specifies keys
//! and bytes.
//!
//! Invariant: what was acknowledged is durable, and a commit is applied whole or not at all.
//! Invariant: no transaction and no snapshot stays open between two calls.
//! Invariant: every queue, batch, page and commit has a named bound.

mod act;
mod blobs;
mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod key;
pub mod links;
mod model;
mod recent;
mod redb;
mod seam;
mod store;
mod value;

#[cfg(test)]
mod act_tests;

pub use act::Tx;
pub use blobs::{
    BlobError, BlobFile, BlobId, BlobReader, BlobWriter, Blobs, Finished, INLINE_MAX, Stored, Upload,
    WATERMARK_BYTES,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use key::{Key, KeyRange, Space, key, number, parse_number};
pub use model::Model;
pub use recent::Recent;
pub use redb::{Compacted, OpenError, Options, compact};
pub use seam::{
    Class, Commit, CommitError, Committed, Direction, Engine, Expect, MAX_COMMIT_BYTES, MAX_EXPECTS, MAX_GET,
    MAX_GET_BYTES, MAX_KEY_BYTES, MAX_OPS, MAX_PAGE, MAX_PAGE_BYTES, MAX_UNTIL_MS, Op, Page, ReadError, Rev,
    Row, appended,
};
pub use store::{ACT_DEADLINE, ACT_TRIES, Store, StoreError};
pub use value::{Counter, Refs, encode};
