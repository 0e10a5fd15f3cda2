//! What waits for the committer: two bounded lines, and which of them make up the next batch.
//!
//! Invariant: work that nobody waits for gets at most a quarter of a batch, and of the memory of what waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::seam::{Class, Commit, CommitError, Committed};

/// Commits in one batch, and how many of them may be background work.
const MAX_BATCH: usize = 128;
const MAX_BATCH_BACKGROUND: usize = MAX_BATCH / 4;
/// Bytes in one batch, and how many of them may be background work; the first commit of each goes in whatever its size.
const MAX_BATCH_BYTES: usize = 4 << 20;
const MAX_BATCH_BACKGROUND_BYTES: usize = MAX_BATCH_BYTES / 4;
/// Commits of a class that may wait, and bytes; beyond them the answer is `Busy`, to that class alone.
const MAX_QUEUE: usize = 2048;
const MAX_QUEUE_BYTES: usize = 64 << 20;
const MAX_QUEUE_BACKGROUND_BYTES: usize = MAX_QUEUE_BYTES / 4;

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

pub(super) struct Request {
    pub(super) commit: Commit,
    bytes: usize,
    pub(super) reply: Reply,
}

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    foreground: Line,
    background: Line,
    /// A reader met an error in the file as it was opened this many times.
    reopen: Option<u64>,
    closed: bool,
}

/// What waits of one class.
#[derive(Default)]
struct Line {
    requests: VecDeque<Request>,
    bytes: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.lock();
        f.debug_struct("Queue")
            .field("foreground", &waiting.foreground.requests.len())
            .field("background", &waiting.background.requests.len())
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
        let (line, most) = match commit.class {
            Class::Foreground => (&mut waiting.foreground, MAX_QUEUE_BYTES),
            Class::Background => (&mut waiting.background, MAX_QUEUE_BACKGROUND_BYTES),
        };
        if line.requests.len() >= MAX_QUEUE || line.bytes + bytes > most {
            return Err(CommitError::Busy);
        }
        line.bytes += bytes;
        line.requests.push_back(Request { commit, bytes, reply });
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

    /// Takes everything out, for an end without answers.
    pub(super) fn drain(&self) -> Vec<Request> {
        let mut waiting = self.lock();
        let Waiting { foreground, background, .. } = &mut *waiting;
        foreground.requests.drain(..).chain(background.requests.drain(..)).collect()
    }

    /// Waits until there is something to do, or until `timeout`.
    pub(super) fn next(&self, timeout: Option<Duration>) -> Next {
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

/// What to do next.
pub(super) enum Next {
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
        batch
    }
}

/// Moves requests over until the batch has `most` or `bytes` more are reached; the first goes whatever its size.
fn take(from: &mut Line, batch: &mut Vec<Request>, most: usize, bytes: usize) {
    let mut taken = 0;
    while let Some(next) = from.requests.front() {
        if batch.len() >= most || (taken > 0 && taken + next.bytes > bytes) {
            return;
        }
        taken += next.bytes.max(1);
        from.bytes -= next.bytes;
        batch.extend(from.requests.pop_front());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Op, Space};

    fn push(queue: &Queue, class: Class, bytes: usize) -> Result<(), CommitError> {
        let op = Op::Put { key: Key::new(Space::Meta, "k"), val: vec![0; bytes].into(), ttl: None };
        queue.push(Commit { ops: vec![op], class, ..Commit::default() }, oneshot::channel().0)
    }

    /// Foreground and background commits of the next batch.
    fn next(queue: &Queue) -> (usize, usize) {
        let Next::Batch(batch) = queue.next(None) else { panic!("there is a batch") };
        let background = batch.iter().filter(|request| request.commit.class == Class::Background).count();
        (batch.len() - background, background)
    }

    #[test]
    fn background_work_gets_a_quarter() {
        let queue = Queue::default();
        for _ in 0..130 {
            push(&queue, Class::Background, 10).unwrap();
            push(&queue, Class::Foreground, 10).unwrap();
        }
        assert_eq!(next(&queue), (96, 32));
        assert_eq!(next(&queue), (34, 32));
        assert_eq!(next(&queue), (0, 32));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_takes_any_one_commit() {
        let queue = Queue::default();
        for _ in 0..3 {
            push(&queue, Class::Foreground, 3 << 20).unwrap();
            push(&queue, Class::Background, 3 << 20).unwrap();
        }
        assert_eq!(next(&queue), (1, 1));
        push(&queue, Class::Foreground, 1 << 20).unwrap();
        assert_eq!(next(&queue), (1, 1));
        assert_eq!(next(&queue), (1, 1));
        assert_eq!(next(&queue), (1, 0));
    }

    #[test]
    fn a_full_queue_is_busy_and_a_closed_one_is_down() {
        let queue = Queue::default();
        for _ in 0..MAX_QUEUE {
            push(&queue, Class::Background, 10).unwrap();
        }
        assert_eq!(push(&queue, Class::Background, 10), Err(CommitError::Busy));
        push(&queue, Class::Foreground, 10).unwrap();
        let queue = Queue::default();
        let fit = MAX_QUEUE_BYTES / ((4 << 20) + 1);
        for _ in 0..fit {
            push(&queue, Class::Foreground, 4 << 20).unwrap();
        }
        assert_eq!(push(&queue, Class::Foreground, 4 << 20), Err(CommitError::Busy));
        queue.close();
        assert_eq!(push(&queue, Class::Foreground, 1), Err(CommitError::Down));
        assert_eq!(next(&queue), (1, 0), "what was accepted is still done");
    }

    /// Once large background commits made clients wait for their turn as `Busy`.
    #[test]
    fn background_work_does_not_make_clients_busy() {
        let queue = Queue::default();
        while push(&queue, Class::Background, 4 << 20).is_ok() {}
        for _ in 0..MAX_QUEUE_BYTES / ((4 << 20) + 1) {
            push(&queue, Class::Foreground, 4 << 20).unwrap();
        }
        while next(&queue) != (1, 0) {}
        push(&queue, Class::Background, 4 << 20).unwrap();
    }
}
