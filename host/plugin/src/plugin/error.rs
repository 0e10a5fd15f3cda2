//! How a call fails. Every limit has a case of its own, so that nobody has to read a text to tell them apart.

use semver::Version;
use wasmtime::Trap;

use super::{CallStats, Problem};
use crate::sandbox::{LimitHit, Log, LogLevel, LogLine};
use crate::trace::Trace;

/// How much of what a plugin wrote to standard error goes into the message of a trap, in bytes.
const TRAP_TEXT_BYTES: usize = 512;

/// A call that came to no verdict, with what it asked and logged until then. The image is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` {version}: {cause}")]
pub struct CallError {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version.
    pub version: Version,
    /// What went wrong.
    pub cause: Cause,
    /// What it did until then.
    pub partial: Box<Partial>,
}

/// What a call did before it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// What it asked and was answered.
    pub trace: Trace,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it took.
    pub stats: CallStats,
}

impl CallError {
    pub(super) fn new(plugin: &str, version: &Version, cause: Cause, partial: Partial) -> Self {
        Self { plugin: plugin.to_owned(), version: version.clone(), cause, partial: Box::new(partial) }
    }
}

/// What ended a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It ran longer than its limit.
    #[error("ran into its time limit; hint: `limits.time_ms` in the `.toml` beside the plugin")]
    Timeout,
    /// It wanted more memory than its limit.
    #[error("ran into its memory limit; hint: `limits.memory_bytes` in the `.toml` beside the plugin")]
    MemoryLimit,
    /// It called more host functions than its limit.
    #[error("ran into its limit of host calls; hint: `limits.host_calls` in the `.toml` beside the plugin")]
    HostCallLimit,
    /// It gave out more than its limit.
    #[error("ran into its output limit; hint: `limits.output_bytes` in the `.toml` beside the plugin")]
    OutputLimit,
    /// It asked more than can be put on record.
    #[error(
        "ran into its limit of recorded questions; hint: `limits.trace_bytes` in the `.toml` beside the plugin"
    )]
    TraceLimit,
    /// It recursed too deep.
    #[error("ran out of stack")]
    StackOverflow,
    /// It did something that WebAssembly, or the host, does not allow.
    #[error("trapped: {message}")]
    Trap {
        /// What it did, and the last of what it wrote to standard error.
        message: String,
    },
    /// It returned an error of its own.
    #[error("returned an error: {message}")]
    Guest {
        /// Its words.
        message: String,
    },
    /// Every slot stayed taken; it never started.
    #[error("found no free slot in time; hint: too many calls at once")]
    Busy,
    /// The facts have no such platform; it never started.
    #[error("was to judge a platform that the facts do not have")]
    NoSubject,
}

impl Cause {
    /// Whether the plugin is to blame, so that the [breaker](crate::breaker) counts it.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Busy | Self::NoSubject | Self::Guest { .. })
    }

    /// A stable name, for metrics and stored records.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::MemoryLimit => "memory-limit",
            Self::HostCallLimit => "host-call-limit",
            Self::OutputLimit => "output-limit",
            Self::TraceLimit => "trace-limit",
            Self::StackOverflow => "stack-overflow",
            Self::Trap { .. } => "trap",
            Self::Guest { .. } => "guest-error",
            Self::Busy => "busy",
            Self::NoSubject => "no-subject",
        }
    }

    pub(super) fn of(error: &wasmtime::Error, log: &Log) -> Self {
        if let Some(hit) = error.downcast_ref::<LimitHit>() {
            return match hit {
                LimitHit::Time => Self::Timeout,
                LimitHit::Memory => Self::MemoryLimit,
                LimitHit::HostCalls => Self::HostCallLimit,
                LimitHit::Output => Self::OutputLimit,
                LimitHit::Trace => Self::TraceLimit,
            };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::Busy;
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Self::Timeout,
            Some(Trap::StackOverflow) => Self::StackOverflow,
            Some(trap) => Self::Trap { message: with_last_words(trap.to_string(), log) },
            None if is_transfer_limit(error) => Self::OutputLimit,
            None => Self::Trap { message: with_last_words(error.root_cause().to_string(), log) },
        }
    }
}

/// The one case that wasmtime 48 has no public type for. `tests/hostile.rs` fails if it changes its words.
fn is_transfer_limit(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().starts_with("too much data is being copied between the host and the guest")
}

/// A Rust plugin that panics says so in its log or on standard error, and traps on `unreachable` then.
fn with_last_words(message: String, log: &Log) -> String {
    let said: Vec<&str> = log
        .lines
        .iter()
        .filter(|line| matches!(line.level, LogLevel::Warn | LogLevel::Error))
        .map(|line| line.message.trim())
        .collect();
    let said = said.join(" ");
    if said.is_empty() {
        return message;
    }
    let kept = said.floor_char_boundary(TRAP_TEXT_BYTES.min(said.len()));
    format!("{message}; it said: {}", &said[..kept])
}

/// Why a plugin may not take over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It does not take a config that is in use.
    #[error("the plugin refuses a config that is in use: {}", first(.problems))]
    Config {
        /// The config.
        config: String,
        /// What it says is wrong.
        problems: Vec<Problem>,
    },
}

fn first(problems: &[Problem]) -> String {
    match problems {
        [] => "it gives no reason".to_owned(),
        [one] => one.to_string(),
        [one, ..] => format!("{one}, and {} more", problems.len() - 1),
    }
}
