//! One call's sandbox: its limits, what it may see, what it left.
//!
//! Invariant: everything that a call can make grow is counted against one of its [`CallLimits`].

use std::sync::Arc;

use crate::facts::SealedFacts;
use crate::pattern::VersionOrder;
use crate::trace::{Answer, Ask, Node, Question, Recorder};

mod deadline;
pub(crate) mod handles;
mod memory;
mod notes;
pub(crate) mod wasi;

pub(crate) use deadline::{Deadline, FIRST_LOOK_TICKS};
pub(crate) use handles::{ImageHandle, ReportHandle};
pub(crate) use memory::{MAX_TABLE_ELEMENTS, Memory};
pub(crate) use notes::{Log, Notes};
pub use notes::{LogLevel, LogLine, Reason};

/// The most bytes that a plugin may hand to the host in one host call, or return. Past it the call ends with
/// [`Cause::OutputLimit`](crate::Cause::OutputLimit): the host would have to copy them first.
pub const MAX_TRANSFER_BYTES: usize = 1 << 20;

/// The limits of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallLimits {
    /// How long it may run, in ms of processor time; checked each ms.
    pub time_ms: u64,
    /// How much memory its instances may have together, in bytes.
    pub memory_bytes: usize,
    /// How many host functions it may call.
    pub host_calls: u32,
    /// How many bytes its reasons, and the problems or the error that it returns, may have together.
    pub output_bytes: usize,
    /// How many bytes of log lines are kept; more are dropped.
    pub log_bytes: usize,
    /// How large the record of its questions may be, in bytes (roughly).
    pub trace_bytes: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            time_ms: 100,
            memory_bytes: 64 << 20,
            host_calls: 100_000,
            output_bytes: 64 << 10,
            log_bytes: 16 << 10,
            trace_bytes: 1 << 20,
        }
    }
}

/// The limit that a host function ran into; it travels through the sandbox as a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitHit {
    #[error("time limit")]
    Time,
    #[error("memory limit")]
    Memory,
    #[error("host call limit")]
    HostCalls,
    #[error("output limit")]
    Output,
    #[error("trace limit")]
    Trace,
}

/// The data of one call's store.
pub(crate) struct CallState {
    pub(crate) limits: CallLimits,
    pub(crate) host_calls: u32,
    pub(crate) memory: Memory,
    pub(crate) deadline: Deadline,
    pub(crate) recorder: Recorder,
    pub(crate) notes: Notes,
    pub(crate) log: Log,
    /// What is judged.
    pub(crate) subject: Node,
    /// None while a config is validated: then there is no image.
    facts: Option<Arc<SealedFacts>>,
    order: VersionOrder,
    random: Option<u64>,
}

impl CallState {
    pub(crate) fn new(limits: CallLimits, facts: Option<Arc<SealedFacts>>, order: VersionOrder) -> Self {
        Self {
            limits,
            host_calls: 0,
            memory: Memory::new(limits.memory_bytes),
            deadline: Deadline::new(limits.time_ms),
            recorder: Recorder { max_bytes: limits.trace_bytes, ..Recorder::default() },
            notes: Notes::new(limits.output_bytes),
            log: Log::new(limits.log_bytes),
            subject: Node::Index,
            facts,
            order,
            random: None,
        }
    }

    /// Counts a host call.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            return Err(wasmtime::Error::new(LimitHit::HostCalls));
        }
        Ok(())
    }

    /// The facts of the call.
    pub(crate) fn facts(&self) -> wasmtime::Result<&Arc<SealedFacts>> {
        self.facts.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no image during this call"))
    }

    pub(crate) fn order(&self) -> VersionOrder {
        self.order
    }

    /// Puts a question and its answer on record.
    pub(crate) fn record(
        &mut self,
        ask: Ask,
        platform: Option<u32>,
        answer: Answer,
        ask_bytes: usize,
    ) -> wasmtime::Result<()> {
        match self.recorder.push(Question { ask, platform, answer }, ask_bytes) {
            true => Ok(()),
            false => Err(wasmtime::Error::new(LimitHit::Trace)),
        }
    }

    /// The only clock: the moment of the evaluation, in ms since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| facts.facts().evaluated_at_ms)
    }

    /// Numbers that look random and are not: the SplitMix64 sequence that the facts' digest starts.
    pub(crate) fn random(&mut self) -> u64 {
        let state = self.random.unwrap_or_else(|| {
            let digest = self.facts.as_ref().map_or("", |facts| facts.digest());
            digest.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        });
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = Some(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
