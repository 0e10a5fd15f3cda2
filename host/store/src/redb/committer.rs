//! The committer: one thread that takes what waits, applies it as one batch, and answers.
//!
//! Invariant: it never waits for more to come; a batch is what queued up while the one before was synced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ballast::Ballast;
use super::batch::Batch;
use super::file::{self, File};
use super::queue::{Next, Queue, Request};
use crate::clock::Clock;
use crate::seam::{Class, Commit, CommitError, Committed, Op};

/// How often the committer looks whether a file that would not open or a disk that was full is well again.
const RETRY: Duration = Duration::from_millis(250);

type Outcome = Result<Committed, CommitError>;

/// The thread's state.
pub(super) struct Committer {
    file: Arc<File>,
    queue: Arc<Queue>,
    ballast: Ballast,
    clock: Arc<dyn Clock>,
    head: watch::Sender<u64>,
    /// The file could not be opened again.
    down: bool,
    /// The ballast is spent: only what frees something is taken. Written by this thread alone.
    full: Arc<AtomicBool>,
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
        Committer { file, queue, ballast, clock, head, down: false, full: Arc::default() }
    }

    /// Whether the disk is full, as the thread goes on finding out.
    pub(super) fn full(&self) -> Arc<AtomicBool> {
        self.full.clone()
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        self.make_ballast();
        let mut looked = Instant::now();
        loop {
            let unwell = self.down || self.is_full();
            match self.queue.next(unwell.then_some(RETRY)) {
                Next::Batch(batch) => self.survive(|committer| committer.commit(batch)),
                Next::Reopen(opened) if *self.file.opened().borrow() == opened => {
                    self.survive(|committer| {
                        committer.reopen();
                    });
                }
                Next::Reopen(_) | Next::Idle => {}
                Next::Close => return,
            }
            // By the clock, since the queue may never be idle.
            if (self.down || self.is_full()) && looked.elapsed() >= RETRY {
                looked = Instant::now();
                if self.down {
                    self.survive(|committer| {
                        committer.reopen();
                    });
                } else {
                    self.make_ballast();
                }
            }
        }
    }

    /// A defect below, which panics, must not end the thread: whoever waits hears `Unknown`, as nobody answers, and the file
    /// is opened again.
    fn survive(&mut self, work: impl FnOnce(&mut Committer)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        tracing::error!("a batch failed by a panic, which is a defect; the store is opened again");
        // What panicked may do so once more while it is closed.
        self.down = true;
        let _ = catch_unwind(AssertUnwindSafe(|| self.reopen()));
    }

    fn make_ballast(&mut self) {
        let was_full = self.is_full();
        let is_full = match self.ballast.make() {
            Ok(()) => false,
            Err(error) if file::is_out_of_space(&error) => {
                if !was_full {
                    tracing::warn!("no room for the ballast file: only what frees space is accepted");
                }
                true
            }
            // The disk has room, so nobody is turned away; when it is full one day, nothing will be there to give.
            Err(error) => {
                tracing::error!(%error, "the ballast file cannot be made; hint: see to `ballast` in the data directory");
                false
            }
        };
        self.full.store(is_full, Ordering::Relaxed);
        if was_full && !is_full {
            tracing::info!("there is room again");
        }
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
            let out_of_space = matches!(&*error, redb::Error::Io(error) if file::is_out_of_space(error));
            tracing::warn!(%error, commits = batch.len(), "a batch failed, the store is opened again");
            match (self.reopen(), late) {
                (Some(on_disk), Some((id, outcomes))) if on_disk == id => {
                    return answer_each(batch, outcomes);
                }
                (None, Some(_)) => return answer(batch, |_| Err(CommitError::Unknown)),
                (None, None) => return answer(batch, |_| Err(CommitError::Down)),
                (Some(_), _) if out_of_space && self.ballast.free() => {
                    tracing::warn!(
                        "the disk is full, the ballast is spent: only what frees space is accepted"
                    );
                    self.full.store(true, Ordering::Relaxed);
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
        if !self.is_full() {
            return batch;
        }
        let takes_none = |request: &Request| {
            let Commit { ops, class, .. } = &request.commit;
            ops.is_empty() || *class == Class::Background || ops.iter().any(|op| matches!(op, Op::Delete(_)))
        };
        let (taken, refused) = batch.into_iter().partition(takes_none);
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
        let left = self.queue.drain();
        answer(left, |_| Err(CommitError::Down));
        self.file.close();
    }
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
