//! What must happen next.
//!
//! An operator sees `wharf jobs`: what waits, what runs, what failed and why; `cancel` and `retry`. A router reads events
//! behind a cursor and makes jobs of them, so whoever leaves an event knows nothing of what follows. A job is a row: it is
//! claimed with a lease, its attempt is counted at the claim, and it is gone when it is done.
//!
//! Entry: [`Runner::start`].
//!
//! Invariant: the cursor moves in the commit that makes the jobs: each event fans out exactly once.
//! Invariant: at most one job of a (queue, subject) runs; what comes meanwhile sets one bit, and it runs once more.
//! Invariant: an attempt counts when it starts, so that a job that kills the process cannot do so for ever.
//! Invariant: live jobs are counted in the commits that make and end them.
//! Invariant: whatever finishes a job expects the row to be as its own claim left it.
//! Invariant: a handler is idempotent by the job's subject; a lease that ran out means that it may run twice.

mod claim;
mod dispatch;
mod list;
mod queue;
mod router;
mod row;
mod run;
mod runner;
mod schedule;

pub use claim::{ClaimError, Claimed, Next, claim, complete, fail, hand_back, next, recover, renew};
pub use dispatch::{ask_collection, ask_due, handler, route, schedule};
pub use list::{JobPage, Listed, cancel, find, ls, retry};
pub use queue::{Queue, Work};
pub use router::{BATCH as ROUTER_BATCH, ROUTER, Route, cursor, route_once};
pub use row::{Job, State, enqueue, live};
pub use run::{Failure, Handler, Running};
pub use runner::{Runner, Settings};
pub use schedule::{Every, tick};

#[cfg(test)]
mod tests;
