//! The seam every engine implements and everything above stands on.
//!
//! Readers call [`Engine::get`] and [`Engine::scan`]; each call is consistent on its own. A writer reads what it
//! needs, then submits one [`Commit`]: expectations and operations, applied all or nothing.
//!
//! Invariant: there is no interactive write transaction and no snapshot handle; a long reader grows a redb file
//! without limit and blocks vacuum on PostgreSQL, and a closure on the writer's thread cannot cross a network.
//! Invariant: commits are serial; a commit's number is one more than its predecessor's.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::key::{Key, KeyRange, Space, key, number};

/// Operations in one commit.
pub const MAX_OPS: usize = 1024;
/// Expectations in one commit.
pub const MAX_EXPECTS: usize = 4096;
/// Keys and values of one commit, in bytes. A manifest of the largest size accepted (4 MiB) is kept in a row.
pub const MAX_COMMIT_BYTES: usize = 6 * 1024 * 1024;
/// One key, in bytes.
pub const MAX_KEY_BYTES: usize = 2048;
/// Keys in one [`Engine::get`].
pub const MAX_GET: usize = 4096;
/// Keys and values of the rows of one [`Engine::get`], in bytes: room for two of the largest rows and what goes with them.
pub const MAX_GET_BYTES: usize = 16 * 1024 * 1024;
/// Rows in one page of [`Engine::scan`]; a higher limit is lowered to it.
pub const MAX_PAGE: usize = 1000;
/// Keys and values of one page, in bytes: rows hold manifests of 4 MiB, and a thousand of those are no page.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// No row expires later, Unix milliseconds: what an SQL engine's `bigint` holds. A longer ttl is cut to it.
pub const MAX_UNTIL_MS: u64 = i64::MAX as u64;

/// Number of the commit that last wrote a row; 0 before the first commit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Rev(pub u64);

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it is.
    pub key: Key,
    /// The commit that last wrote it.
    pub rev: Rev,
    /// When it expires by the engine's clock, Unix milliseconds; 0: never. Expired rows are still read: whoever
    /// owns them decides what that means and deletes them.
    pub until_ms: u64,
    /// The value.
    pub val: Bytes,
}

impl Row {
    /// Bytes that count towards [`MAX_PAGE_BYTES`] and [`MAX_GET_BYTES`].
    pub fn bytes(&self) -> usize {
        self.key.bytes.len() + self.val.len()
    }

    /// Whether the row's time has passed at `now_ms` (take it from [`Engine::now_ms`]).
    pub fn expired(&self, now_ms: u64) -> bool {
        self.until_ms != 0 && self.until_ms <= now_ms
    }
}

/// What must hold before a commit is applied; checked against the state that all earlier commits left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No row at all, expired ones included.
    Absent(Key),
    /// A row, whatever its revision, expired or not.
    Present(Key),
    /// A row that was last written by this commit.
    At(Key, Rev),
    /// No row, or one whose time has passed by the engine's clock.
    Expired(Key),
    /// Exactly these rows: as many, and none written later. `rows: 0` means still empty.
    Range {
        /// The keys looked at.
        range: KeyRange,
        /// How many rows there were; at most [`MAX_PAGE`], so that checking is bounded.
        rows: u32,
        /// The highest revision among them; 0 if there were none.
        max_rev: Rev,
    },
}

/// One change; operations apply in order, each seeing those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a row, replacing what was there.
    Put {
        /// Where.
        key: Key,
        /// What.
        val: Bytes,
        /// For how long, from the commit by the engine's clock; none: for ever. See [`MAX_UNTIL_MS`].
        ttl: Option<Duration>,
    },
    /// Removes a row; nothing happens if there is none.
    Delete(Key),
    /// Adds to a [`Counter`](crate::Counter), which starts as `{n: 0, max: u64::MAX}`. Refused outside `0..=max`
    /// ([`CommitError::Bound`]); never conflicts. A `delta` of 0 or below is accepted above `max` as well, so that
    /// a lowered limit does not stop anyone from giving back.
    Add {
        /// The counter.
        key: Key,
        /// By how much.
        delta: i64,
    },
    /// Sets a counter's bound and leaves what it has counted.
    Max {
        /// The counter.
        key: Key,
        /// Its new upper bound; may be below what is counted already.
        max: u64,
    },
    /// Counts references. The first one adds `edge.1` to the counter `edge.0`, the last one to go takes it off and
    /// removes this row.
    Ref {
        /// The reference count, a [`Refs`](crate::Refs) row.
        key: Key,
        /// References that come (above 0) or go (below 0).
        delta: i32,
        /// The counter that hangs on it, and what one non-zero count is worth there.
        edge: (Key, i64),
    },
    /// Adds a row behind all others of the space: its key is [`appended`] of the commit's revision and the index
    /// of this `Append` among the commit's. Key order is commit order.
    Append {
        /// The log.
        space: Space,
        /// What.
        val: Bytes,
    },
}

/// The key an [`Op::Append`] writes: revision, then index among the appends of that commit, counted from 0.
pub fn appended(space: Space, rev: Rev, index: usize) -> Key {
    key(space, &[number(rev.0), number(index as u64)])
}

/// Who waits for a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// A client.
    #[default]
    Foreground,
    /// Collection, retention, re-check: at most a quarter of a batch when clients wait too.
    Background,
}

/// One act: all of it or nothing. Without operations it is a check: that all it expects holds at one moment. It has no number
/// of its own and is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold; at most [`MAX_EXPECTS`].
    pub expect: Vec<Expect>,
    /// What changes; at most [`MAX_OPS`].
    pub ops: Vec<Op>,
    /// Who waits for it.
    pub class: Class,
}

impl Commit {
    /// Bytes of keys and values that count towards [`MAX_COMMIT_BYTES`].
    pub fn bytes(&self) -> usize {
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, val, .. } => key.bytes.len() + val.len(),
            Op::Delete(key) | Op::Add { key, .. } | Op::Max { key, .. } => key.bytes.len(),
            Op::Ref { key, edge, .. } => key.bytes.len() + edge.0.bytes.len(),
            Op::Append { val, .. } => val.len() + 33,
        });
        let expects = self.expect.iter().map(|e| match e {
            Expect::Absent(key) | Expect::Present(key) | Expect::At(key, _) | Expect::Expired(key) => {
                key.bytes.len()
            }
            Expect::Range { range, .. } => range.from.len() + range.to.as_ref().map_or(0, Bytes::len),
        });
        ops.sum::<usize>() + expects.sum::<usize>()
    }

    /// The checks that need no state; every engine makes them first.
    pub fn check_size(&self) -> Result<(), CommitError> {
        let long = |key: &Key| key.bytes.len() > MAX_KEY_BYTES;
        let long_op = self.ops.iter().any(|op| match op {
            Op::Put { key, .. } | Op::Delete(key) | Op::Add { key, .. } | Op::Max { key, .. } => long(key),
            Op::Ref { key, edge, .. } => long(key) || long(&edge.0),
            Op::Append { .. } => false,
        });
        let wide = |e: &Expect| matches!(e, Expect::Range { rows, .. } if *rows as usize > MAX_PAGE);
        let fits = self.ops.len() <= MAX_OPS
            && self.expect.len() <= MAX_EXPECTS
            && !self.expect.iter().any(wide)
            && !long_op
            && self.bytes() <= MAX_COMMIT_BYTES;
        if fits { Ok(()) } else { Err(CommitError::TooLarge) }
    }
}

/// What a commit left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its number, now the revision of each row it wrote; of a check, that of the commit before it.
    pub rev: Rev,
}

/// Why a commit was not applied, or, for `Unknown` alone, may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold; of a range, this is where it begins.
    #[error("{0:?} changed meanwhile")]
    Conflict(Key),
    /// A counter would leave its bounds.
    #[error("counter {key:?} stands at {n} of at most {max}, {delta:+} is refused")]
    Bound {
        /// The counter.
        key: Key,
        /// Where it stands.
        n: u64,
        /// What was to be added.
        delta: i64,
        /// Its upper bound.
        max: u64,
    },
    /// An `Add`, `Max` or `Ref` on a row that is something else.
    #[error("{0:?} is not a counter")]
    NotACounter(Key),
    /// A row that it looks at is not what the engine wrote; as [`ReadError::Damaged`].
    #[error("{key:?} is damaged: {reason}")]
    Damaged {
        /// Where.
        key: Key,
        /// How.
        reason: String,
    },
    /// More than [`MAX_OPS`], [`MAX_EXPECTS`], [`MAX_COMMIT_BYTES`] or [`MAX_KEY_BYTES`], or a range of more than
    /// [`MAX_PAGE`] rows.
    #[error("the commit is too large")]
    TooLarge,
    /// The queue of commits is full.
    #[error("too many commits are waiting")]
    Busy,
    /// No space is left on the disk.
    #[error("the disk is full")]
    Full,
    /// The engine does not answer; nothing was applied.
    #[error("the store is down")]
    Down,
    /// The engine failed after the commit was handed to it; whether it was applied will show when it is back.
    #[error("the store failed while committing, the outcome is unknown")]
    Unknown,
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The engine does not answer.
    #[error("the store is down")]
    Down,
    /// More than [`MAX_GET`] keys or [`MAX_GET_BYTES`].
    #[error("too many rows in one read, or too large ones")]
    TooLarge,
    /// What the engine holds is not what it wrote.
    #[error("{key:?} is damaged: {reason}")]
    Damaged {
        /// Where.
        key: Key,
        /// How.
        reason: String,
    },
}

/// Which end of a range a page starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Lowest key first.
    #[default]
    Forward,
    /// Highest key first.
    Backward,
}

/// One page of a scan.
///
/// It may hold fewer rows than were asked for and say that there are more: only `more` tells the end of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the direction asked for.
    pub rows: Vec<Row>,
    /// Whether the range holds more behind the last of them.
    pub more: bool,
}

/// A metadata store: redb, the in-memory model, PostgreSQL later. One conformance suite runs against all.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Rows by key, in the order asked for; one consistent view over all of them. At most [`MAX_GET`] keys, and
    /// [`MAX_GET_BYTES`]: unlike a page it cannot end early, so it is refused as [`ReadError::TooLarge`].
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Row>>, ReadError>>;

    /// At most `limit` rows of a range (and at most [`MAX_PAGE`]); one consistent view. The page ends before the row
    /// that would take it above [`MAX_PAGE_BYTES`]; its first row is in it whatever its size.
    fn scan(
        &self,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// Applies a commit, all or nothing. Once it returns `Ok`, the commit is durable.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// The newest commit's number; changes after each commit is durable and readable, and for one of this engine's own
    /// before [`Engine::commit`] returns.
    fn head(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The clock that ttl and `Expired` go by, Unix milliseconds.
    fn now_ms(&self) -> u64;

    /// Whether only commits that free space are taken now, for want of it. An engine that never is full need not say so.
    fn is_full(&self) -> bool {
        false
    }
}
