//! The store as the rest of the host holds it: a handle that is cheap to clone.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::act::Tx;
use crate::key::{Key, KeyRange};
use crate::seam::{Class, Commit, CommitError, Committed, Direction, Engine, Page, ReadError, Rev, Row};

/// How often [`Store::act`] runs an act whose reads changed under it.
pub const ACT_TRIES: u32 = 8;
/// How long [`Store::act`] goes on trying.
pub const ACT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest pause between two tries doubles from here.
const FIRST_PAUSE_MS: u64 = 2;

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else kept changing the same rows.
    #[error("{0:?} kept changing; hint: try again")]
    Conflict(Key),
    /// A counter, such as a quota, would leave its bounds.
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
    /// More in one read or commit than the store takes.
    #[error("too much for one act of the store")]
    TooLarge,
    /// Too many commits are waiting.
    #[error("too many commits are waiting; hint: try again later")]
    Busy,
    /// No space is left.
    #[error("the disk is full")]
    Full,
    /// The store does not answer; nothing was changed.
    #[error("the store is down")]
    Down,
    /// The store failed while committing.
    #[error("the store failed while committing, whether it was done is unknown")]
    Unknown,
    /// A row does not hold what its kind of row holds.
    #[error("{key:?} is damaged: {reason}")]
    Damaged {
        /// Where.
        key: Key,
        /// How.
        reason: String,
    },
    /// A value could not be written as JSON.
    #[error("a value cannot be stored: {0}")]
    Encode(String),
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> StoreError {
        match error {
            CommitError::Conflict(key) => StoreError::Conflict(key),
            CommitError::Bound { key, n, delta, max } => StoreError::Bound { key, n, delta, max },
            CommitError::NotACounter(key) => StoreError::Damaged { key, reason: "not a counter".into() },
            CommitError::Damaged { key, reason } => StoreError::Damaged { key, reason },
            CommitError::TooLarge => StoreError::TooLarge,
            CommitError::Busy => StoreError::Busy,
            CommitError::Full => StoreError::Full,
            CommitError::Down => StoreError::Down,
            CommitError::Unknown => StoreError::Unknown,
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> StoreError {
        match error {
            ReadError::Down => StoreError::Down,
            ReadError::TooLarge => StoreError::TooLarge,
            ReadError::Damaged { key, reason } => StoreError::Damaged { key, reason },
        }
    }
}

/// A handle on an engine.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
    class: Class,
}

impl Store {
    /// A handle whose commits clients wait for.
    pub fn new(engine: Arc<dyn Engine>) -> Store {
        Store { engine, class: Class::Foreground }
    }

    /// The same store for work that nobody waits for; see [`Class::Background`].
    pub fn background(&self) -> Store {
        Store { engine: self.engine.clone(), class: Class::Background }
    }

    /// One row.
    pub async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        Ok(self.engine.get(vec![key.clone()]).await?.pop().flatten())
    }

    /// Rows in the order asked for, in one consistent view; bounded as [`Engine::get`].
    pub async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Row>>, StoreError> {
        Ok(self.engine.get(keys).await?)
    }

    /// One page of a range, lowest key first; for the next one, [`KeyRange::after`] its last key. Only
    /// [`Page::more`] tells whether there is one: a page is bounded in bytes as well.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, StoreError> {
        Ok(self.engine.scan(range, limit, Direction::Forward).await?)
    }

    /// One page of a range, highest key first; for the next one, [`KeyRange::before`] its last key.
    pub async fn scan_back(&self, range: KeyRange, limit: usize) -> Result<Page, StoreError> {
        Ok(self.engine.scan(range, limit, Direction::Backward).await?)
    }

    /// All rows of a range that is small by nature, page by page, at most `most`. Consistent within a page only.
    pub async fn scan_all(&self, mut range: KeyRange, most: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        while rows.len() < most {
            let page = self.scan(range.clone(), most - rows.len()).await?;
            rows.extend(page.rows);
            match rows.last() {
                Some(last) if page.more => range = range.after(&last.key),
                _ => break,
            }
        }
        Ok(rows)
    }

    /// Submits one commit as it is. Flows use [`Store::act`], which writes the expectations itself.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.engine.commit(commit).await
    }

    /// The newest commit's number; wakes its holder after each commit.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.engine.head()
    }

    /// The engine's clock, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }

    /// Whether only commits that free space are taken now; see [`Engine::is_full`].
    pub fn is_full(&self) -> bool {
        self.engine.is_full()
    }

    /// Reads, decides and writes, all or nothing: what flows and jobs call.
    ///
    /// ```
    /// # use wharf_store::{key, Model, Space, Store, StoreError};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let store = Store::new(std::sync::Arc::new(Model::default()));
    /// # let repo = "dev/app";
    /// let (was_new, rev) = store
    ///     .act(|mut tx| async move {
    ///         let tag = key(Space::Tag, &[repo, "1.4"]);
    ///         let was_new = tx.get(&tag).await?.is_none();
    ///         tx.put_value(&tag, "sha256:…")?;
    ///         Ok::<_, StoreError>(was_new)
    ///     })
    ///     .await?;
    /// # assert!(was_new && rev.0 == 1);
    /// # Ok::<_, StoreError>(()) }).unwrap();
    /// ```
    ///
    /// `act` runs the closure with a fresh [`Tx`], then commits what the transaction collected. If something the
    /// closure read has changed meanwhile, it runs again, at most [`ACT_TRIES`] times within [`ACT_DEADLINE`]; so
    /// the closure must have no effect outside the transaction. Its own error ends the act at once and nothing is
    /// written. The closure is not limited in time itself.
    ///
    /// The transaction is handed over by value because a future that borrows from a closure's argument cannot be
    /// proven `Send` today; the closure must drop it before it returns, which `async move` does by itself.
    ///
    /// Returns the closure's value and the commit's number. Where the closure wrote nothing, nothing is committed and
    /// the number is that of a commit before; that there was nothing to write was true at one moment all the same. Of
    /// the closure's own error that is not known: what it has read may be of several.
    pub async fn act<T, E, F, Fut>(&self, mut f: F) -> Result<(T, Rev), E>
    where
        E: From<StoreError>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let deadline = Instant::now() + ACT_DEADLINE;
        let mut tries = 1;
        loop {
            let (tx, slot) = Tx::new(self.engine.clone());
            let value = f(tx).await?;
            let Some(commit) = Tx::into_commit(slot, self.class).map_err(E::from)? else {
                return Ok((value, Rev(*self.engine.head().borrow())));
            };
            match self.engine.commit(commit).await {
                Ok(committed) => return Ok((value, committed.rev)),
                Err(CommitError::Conflict(_)) if tries < ACT_TRIES && Instant::now() < deadline => {
                    pause(tries).await;
                    tries += 1;
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
    }
}

/// Waits a random time, so that those who met do not meet again.
async fn pause(tries: u32) {
    let longest = FIRST_PAUSE_MS << tries;
    let ms = rand::rng().random_range(0..=longest);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
