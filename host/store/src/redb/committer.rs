//! The committer: one thread that takes what waits, applies it as one batch, and answers.
//!
//! Invariant: it never waits for more to come; a batch is what queued up while the one before was synced.
//! Invariant: work that nobody waits for gets at most a quarter of a batch.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::ballast::Ballast;
use super::batch::Batch;
use super::file::{self, File};
use crate::clock::Clock;
use crate::seam::{Class, Commit, CommitError, Committed, Op};

/// Commits in one batch, and how many of them may be background work.
const MAX_BATCH: usize = 128;
const MAX_BATCH_BACKGROUND: usize = MAX_BATCH / 4;
/// Bytes in one batch, and how many of them may be background work; the first commit of each goes in whatever its size.
const MAX_BATCH_BYTES: usize = 4 << 20;
const MAX_BATCH_BACKGROUND_BYTES: usize = MAX_BATCH_BYTES / 4;
/// Commits and bytes that may wait; beyond them the answer is `Busy`.
const MAX_QUEUE: usize = 2048;
const MAX_QUEUE_BYTES: usize = 64 << 20;
/// How often the committer looks whether a file that would not open or a disk that was full is well again.
const RETRY: Duration = Duration::from_millis(250);

type Reply = oneshot::Sender<Result<Committed, CommitError>>;
type Outcome = Result<Committed, CommitError>;

struct Request {
    commit: Commit,
    bytes: usize,
    reply: Reply,
}

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    foreground: VecDeque<Request>,
    background: VecDeque<Request>,
    bytes: usize,
    /// A reader met an error in the file as it was opened this many times.
    reopen: Option<u64>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.lock();
        f.debug_struct("Queue")
            .field("bytes", &waiting.bytes)
            .field("closed", &waiting.closed)
            .finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, commit: Commit, reply: Reply) -> Result<(), CommitError> {
        let bytes = commit.bytes();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(CommitError::Down);
        }
        let of_class = match commit.class {
            Class::Foreground => waiting.foreground.len(),
            Class::Background => waiting.background.len(),
        };
        if of_class >= MAX_QUEUE || waiting.bytes + bytes > MAX_QUEUE_BYTES {
            return Err(CommitError::Busy);
        }
        waiting.bytes += bytes;
        let request = Request { commit, bytes, reply };
        match request.commit.class {
            Class::Foreground => waiting.foreground.push_back(request),
            Class::Background => waiting.background.push_back(request),
        }
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Asks to open the file again, unless that was done since.
    pub(super) fn ask_reopen(&self, opened: u64) {
        self.lock().reopen = Some(opened);
        self.wake.notify_one();
    }

    /// Takes no more; the committer ends when it is through with what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to do, or until `timeout`.
    fn next(&self, timeout: Option<Duration>) -> Next {
        let mut waiting = self.lock();
        loop {
            if let Some(opened) = waiting.reopen.take() {
                return Next::Reopen(opened);
            }
            let batch = waiting.take_batch();
            if !batch.is_empty() {
                return Next::Batch(batch);
            }
            if waiting.closed {
                return Next::Close;
            }
            waiting = match timeout {
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    let (waiting, result) =
                        self.wake.wait_timeout(waiting, timeout).unwrap_or_else(PoisonError::into_inner);
                    if result.timed_out() {
                        return Next::Idle;
                    }
                    waiting
                }
            };
        }
    }
}

enum Next {
    Batch(Vec<Request>),
    Reopen(u64),
    Idle,
    Close,
}

impl Waiting {
    fn take_batch(&mut self) -> Vec<Request> {
        let mut batch = Vec::new();
        take(&mut self.background, &mut batch, MAX_BATCH_BACKGROUND, MAX_BATCH_BACKGROUND_BYTES);
        let background: usize = batch.iter().map(|request| request.bytes).sum();
        take(&mut self.foreground, &mut batch, MAX_BATCH, MAX_BATCH_BYTES.saturating_sub(background));
        self.bytes -= batch.iter().map(|request| request.bytes).sum::<usize>();
        batch
    }
}

/// Moves requests over until the batch has `most` or `bytes` more are reached; the first goes whatever its size.
fn take(from: &mut VecDeque<Request>, batch: &mut Vec<Request>, most: usize, bytes: usize) {
    let mut taken = 0;
    while let Some(next) = from.front() {
        if batch.len() >= most || (taken > 0 && taken + next.bytes > bytes) {
            return;
        }
        taken += next.bytes.max(1);
        batch.extend(from.pop_front());
    }
}

/// The thread's state.
pub(super) struct Committer {
    file: Arc<File>,
    queue: Arc<Queue>,
    ballast: Ballast,
    clock: Arc<dyn Clock>,
    head: watch::Sender<u64>,
    /// The file could not be opened again.
    down: bool,
    /// The ballast is spent: only what frees something is taken.
    full: bool,
}

/// A batch that failed.
struct Failed {
    error: Box<redb::Error>,
    /// Set where it failed so late that it may be on the disk after all.
    late: Option<(file::Batch, Vec<Outcome>)>,
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed { error: Box::new(error.into()), late: None }
    }
}

impl Committer {
    pub(super) fn new(
        file: Arc<File>,
        queue: Arc<Queue>,
        ballast: Ballast,
        clock: Arc<dyn Clock>,
        head: watch::Sender<u64>,
    ) -> Committer {
        Committer { file, queue, ballast, clock, head, down: false, full: false }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        self.make_ballast();
        let mut looked = Instant::now();
        loop {
            let unwell = self.down || self.full;
            match self.queue.next(unwell.then_some(RETRY)) {
                Next::Batch(batch) => self.commit(batch),
                Next::Reopen(opened) if *self.file.opened().borrow() == opened => {
                    self.reopen();
                }
                Next::Reopen(_) | Next::Idle => {}
                Next::Close => return,
            }
            // By the clock, since the queue may never be idle.
            if (self.down || self.full) && looked.elapsed() >= RETRY {
                looked = Instant::now();
                if self.down {
                    self.reopen();
                } else {
                    self.make_ballast();
                }
            }
        }
    }

    fn make_ballast(&mut self) {
        let made = self.ballast.make();
        if let Err(error) = &made
            && !self.full
        {
            tracing::warn!(%error, "no room for the ballast file: only what frees space is accepted");
        } else if made.is_ok() && self.full {
            tracing::info!("there is room again");
        }
        self.full = made.is_err();
    }

    /// Which batch the file holds, or none if it cannot be opened now.
    fn reopen(&mut self) -> Option<file::Batch> {
        match self.file.reopen() {
            Ok(batch) => {
                self.down = false;
                self.publish(batch.head);
                Some(batch)
            }
            Err(error) => {
                if !self.down {
                    tracing::error!(%error, "the store is down, it is tried again and again");
                }
                self.down = true;
                None
            }
        }
    }

    fn publish(&self, head: u64) {
        self.head.send_if_modified(|newest| {
            let newer = head > *newest;
            *newest = head.max(*newest);
            newer
        });
    }

    fn commit(&mut self, batch: Vec<Request>) {
        if self.down && self.reopen().is_none() {
            return answer(batch, |_| Err(CommitError::Down));
        }
        let mut batch = self.refuse_if_full(batch);
        let mut again = false;
        loop {
            let Failed { error, late } = match self.attempt(&batch) {
                Ok(outcomes) => return answer_each(batch, outcomes),
                Err(failed) => failed,
            };
            let out_of_space = is_out_of_space(&error);
            tracing::warn!(%error, commits = batch.len(), "a batch failed, the store is opened again");
            match (self.reopen(), late) {
                (Some(on_disk), Some((id, outcomes))) if on_disk == id => {
                    // It can be read; synced once more it is also durable.
                    return match self.file.confirm(id) {
                        Ok(()) => answer_each(batch, outcomes),
                        Err(_) => {
                            self.reopen();
                            answer(batch, |_| Err(CommitError::Unknown))
                        }
                    };
                }
                (None, Some(_)) => return answer(batch, |_| Err(CommitError::Unknown)),
                (None, None) => return answer(batch, |_| Err(CommitError::Down)),
                (Some(_), _) if out_of_space && self.ballast.free() => {
                    tracing::warn!(
                        "the disk is full, the ballast is spent: only what frees space is accepted"
                    );
                    self.full = true;
                    batch = self.refuse_if_full(batch);
                }
                (Some(_), _) if out_of_space => return answer(batch, |_| Err(CommitError::Full)),
                // Often it was a reader who met the error, or it does not come twice.
                (Some(_), None) if !std::mem::replace(&mut again, true) => {}
                (Some(_), _) => return answer(batch, |_| Err(CommitError::Down)),
            }
        }
    }

    /// While the ballast is spent, what would use space up again is turned away.
    fn refuse_if_full(&self, batch: Vec<Request>) -> Vec<Request> {
        if !self.full {
            return batch;
        }
        let frees = |request: &Request| {
            let deletes = || request.commit.ops.iter().any(|op| matches!(op, Op::Delete(_)));
            request.commit.class == Class::Background || deletes()
        };
        let (taken, refused) = batch.into_iter().partition(frees);
        answer(refused, |_| Err(CommitError::Full));
        taken
    }

    /// Applies the batch and syncs it. Refused commits are no failure.
    fn attempt(&self, batch: &[Request]) -> Result<Vec<Outcome>, Failed> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self.file.begin_write()?;
        let before = *self.head.borrow();
        let mut applied = Batch::new(&transaction, before, self.clock.now_ms());
        let mut outcomes = Vec::with_capacity(batch.len());
        for request in batch {
            outcomes.push(applied.apply(&request.commit)?);
        }
        let head = applied.head;
        drop(applied);
        if head == before {
            transaction.abort()?;
            return Ok(outcomes);
        }
        let id = file::Batch { head, id: rand::random() };
        file::write_batch(&transaction, id)?;
        if let Err(error) = transaction.commit() {
            return Err(Failed { error: Box::new(error.into()), late: Some((id, outcomes)) });
        }
        self.publish(head);
        Ok(outcomes)
    }
}

impl Drop for Committer {
    /// Also when the thread dies of a defect: nobody waits for it in vain.
    fn drop(&mut self) {
        self.queue.close();
        let mut waiting = self.queue.lock();
        let left = waiting.foreground.drain(..).collect::<Vec<_>>();
        let left = left.into_iter().chain(waiting.background.drain(..)).collect();
        drop(waiting);
        answer(left, |_| Err(CommitError::Down));
        self.file.close();
    }
}

fn is_out_of_space(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(e) if matches!(e.kind(), StorageFull | QuotaExceeded))
}

fn answer(batch: Vec<Request>, outcome: impl Fn(&Commit) -> Outcome) {
    for request in batch {
        // Whoever asked may have gone.
        let _ = request.reply.send(outcome(&request.commit));
    }
}

fn answer_each(batch: Vec<Request>, outcomes: Vec<Outcome>) {
    for (request, outcome) in batch.into_iter().zip(outcomes) {
        let _ = request.reply.send(outcome);
    }
}
