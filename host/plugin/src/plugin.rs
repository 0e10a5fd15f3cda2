//! A plugin that can be called. The entries are [`Plugin::evaluate`], [`Plugin::validate`] and [`Plugin::self_test`].
//!
//! Invariant: each call has a store of its own, which is dropped with everything in it, whatever the call did.
//! Invariant: synchronous and memory only; a call takes microseconds, or ends within its time limit.
//! Invariant: an error is never a verdict. The host holds the image.

use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::engine::Engine;
use crate::facts::SealedFacts;
use crate::grant::Granted;
use crate::inspect::{Inspected, schema_validator};
use crate::sandbox::{
    CallLimits, CallState, FIRST_LOOK_TICKS, ImageHandle, LogLine, MAX_TRANSFER_BYTES, Reason, ReportHandle,
};
use crate::trace::{Node, Subject, Trace};
use crate::v0_1::{self, PromotionPolicy, PromotionPolicyPre};

mod error;

pub use error::{CallError, Cause, Partial, SelfTestError};

/// The most problems of a config that are reported.
const MAX_PROBLEMS: usize = 64;

/// The longest message about a config from its schema, in bytes: it may quote what it is about.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// The largest config, in bytes.
pub const MAX_CONFIG_BYTES: usize = 256 << 10;

/// What a policy says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may go on.
    Approve,
    /// Not now.
    Hold,
    /// Not this push.
    Reject,
    /// No opinion.
    Abstain,
}

impl Verdict {
    /// The name of the case in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Hold => "hold",
            Self::Reject => "reject",
            Self::Abstain => "abstain",
        }
    }
}

/// Something wrong in a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A JSON Pointer into the config, `""` for the whole.
    pub pointer: String,
    /// What is wrong, for the person who wrote it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "`{at}`: {}", self.message)
    }
}

/// What a call took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallStats {
    /// How long, in µs, with the making of the sandbox.
    pub elapsed_us: u64,
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// Host functions called.
    pub host_calls: u32,
    /// Bytes of log lines that there was no room for.
    pub log_bytes_dropped: usize,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in the policy's words and order.
    pub reasons: Vec<Reason>,
    /// The targets that it chose among the binding's; empty: all of them.
    pub targets: Vec<String>,
    /// When it wants to be asked again, in ms since 1970.
    pub recheck_at_ms: Option<u64>,
    /// What it asked, and was answered.
    pub trace: Trace,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it took.
    pub stats: CallStats,
}

/// A compiled plugin with what it was granted. Shared by every call; dropped when the last one ends.
pub struct Plugin {
    engine: Arc<Engine>,
    pre: PromotionPolicyPre<CallState>,
    inspected: Inspected,
    granted: Granted,
    schema: jsonschema::Validator,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = &self.inspected.manifest;
        f.debug_struct("Plugin")
            .field("name", &manifest.name)
            .field("version", &manifest.version)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(
        engine: Arc<Engine>,
        pre: PromotionPolicyPre<CallState>,
        inspected: Inspected,
        granted: Granted,
    ) -> Result<Self, String> {
        let schema = schema_validator(&inspected.manifest.config_schema)?;
        Ok(Self { engine, pre, inspected, granted, schema })
    }

    /// What bindings call it.
    pub fn name(&self) -> &str {
        &self.inspected.manifest.name
    }

    /// Its own version.
    pub fn version(&self) -> &Version {
        &self.inspected.manifest.version
    }

    /// `sha256:` and the hex digest of its file.
    pub fn digest(&self) -> &str {
        &self.inspected.digest
    }

    /// What its file turned out to be.
    pub fn inspected(&self) -> &Inspected {
        &self.inspected
    }

    /// What it was granted.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Whether `config_json` is a config for this plugin: by the schema of its manifest first, then by its own check. The
    /// inner error is what is wrong with the config.
    ///
    /// # Errors
    /// The plugin failed to say.
    pub fn validate(
        &self,
        config_json: &str,
        limits: &CallLimits,
    ) -> Result<Result<(), Vec<Problem>>, CallError> {
        let problems = self.check_schema(config_json);
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        let state = CallState::new(self.limits(limits), None, self.engine.version_order());
        let call = self.call(state, |plugin, store| {
            plugin.wharf_plugin_policy().call_validate(&mut *store, config_json)
        });
        match call.result {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(problems)) => {
                let problems: Vec<Problem> = problems.into_iter().map(problem).collect();
                let bytes = problems.iter().map(|p| p.pointer.len() + p.message.len() + 16).sum::<usize>();
                if bytes > self.limits(limits).output_bytes {
                    return Err(self.error(Cause::OutputLimit, call.state, call.stats));
                }
                Ok(Err(problems))
            }
            Err(cause) => Err(self.error(cause, call.state, call.stats)),
        }
    }

    fn check_schema(&self, config_json: &str) -> Vec<Problem> {
        let whole = |message| vec![Problem { pointer: String::new(), message }];
        if config_json.len() > MAX_CONFIG_BYTES {
            return whole(format!(
                "a config may have {MAX_CONFIG_BYTES} bytes, this has {}",
                config_json.len()
            ));
        }
        let config: serde_json::Value = match serde_json::from_str(config_json) {
            Ok(config) => config,
            Err(error) => return whole(format!("no JSON: {error}")),
        };
        let errors = self.schema.iter_errors(&config).take(MAX_PROBLEMS);
        let problem = |e: jsonschema::ValidationError<'_>| {
            let mut message = e.to_string();
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            Problem { pointer: e.instance_path().to_string(), message }
        };
        errors.map(problem).collect()
    }

    /// What every plugin must pass before it takes over: it can be instantiated (some misfits show only then), and it takes
    /// the configs that are in use.
    ///
    /// # Errors
    /// What it did not pass.
    pub fn self_test<'a>(
        &self,
        configs: impl IntoIterator<Item = &'a str>,
        limits: &CallLimits,
    ) -> Result<(), SelfTestError> {
        let state = CallState::new(self.limits(limits), None, self.engine.version_order());
        let call = self.call(state, |_, _| Ok(()));
        if let Err(cause) = call.result {
            return Err(SelfTestError::Call(self.error(cause, call.state, call.stats)));
        }
        for config in configs {
            self.validate(config, limits)?
                .map_err(|problems| SelfTestError::Config { config: config.to_owned(), problems })?;
        }
        Ok(())
    }

    /// Judges `subject` of `facts`. `config_json` has passed [`Plugin::validate`]; `targets` are those of the binding.
    ///
    /// Takes this thread for as long as it runs; a thread of a pool, not one that serves.
    ///
    /// # Errors
    /// [`CallError`], with what was asked and logged until then.
    pub fn evaluate(
        &self,
        config_json: &str,
        facts: &Arc<SealedFacts>,
        subject: Subject,
        targets: &[String],
        limits: &CallLimits,
    ) -> Result<Evaluation, CallError> {
        let limits = self.limits(limits);
        let mut state = CallState::new(limits, Some(Arc::clone(facts)), self.engine.version_order());
        state.notes.targets = targets.to_vec();
        match Node::of(facts, subject, None) {
            Some(node) => state.subject = node,
            None => return Err(self.error(Cause::NoSubject, state, CallStats::default())),
        }
        let call = self.call(state, |plugin, store| {
            let (image, report) = (ImageHandle::subject(), ReportHandle::of_the_call());
            plugin.wharf_plugin_policy().call_evaluate(&mut *store, config_json, image, report)
        });
        let mut state = call.state;
        let verdict = match call.result {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(message)) => {
                let cause = match state.notes.charge(message.len()) {
                    Ok(()) => Cause::Guest { message },
                    Err(_) => Cause::OutputLimit,
                };
                return Err(self.error(cause, state, call.stats));
            }
            Err(cause) => return Err(self.error(cause, state, call.stats)),
        };
        Ok(Evaluation {
            verdict: verdict_of(verdict),
            reasons: state.notes.reasons,
            targets: state.notes.chosen,
            recheck_at_ms: state.notes.recheck_at_ms,
            trace: state.recorder.trace,
            logs: state.log.lines,
            stats: call.stats,
        })
    }

    /// The host's limits with the operator's for this plugin, and no more memory than the engine has.
    pub fn limits(&self, limits: &CallLimits) -> CallLimits {
        let limits = self.granted.limits.over(limits);
        CallLimits { memory_bytes: limits.memory_bytes.min(self.engine.max_memory_bytes()), ..limits }
    }

    fn call<R>(
        &self,
        state: CallState,
        run: impl FnOnce(&PromotionPolicy, &mut Store<CallState>) -> wasmtime::Result<R>,
    ) -> Call<R> {
        let Some(_slot) = self.engine.enter() else {
            return Call { result: Err(Cause::Busy), state, stats: CallStats::default() };
        };
        let mut store = Store::new(self.engine.wasm(), state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(FIRST_LOOK_TICKS);
        store.epoch_deadline_callback(|mut store| match store.data_mut().deadline.look() {
            Some(ticks) => Ok(UpdateDeadline::Continue(ticks)),
            None => Err(Trap::Interrupt.into()),
        });
        store.set_hostcall_fuel(MAX_TRANSFER_BYTES);
        let result = self.pre.instantiate(&mut store).and_then(|plugin| run(&plugin, &mut store));
        let state = store.into_data();
        let stats = CallStats {
            elapsed_us: u64::try_from(state.deadline.elapsed().as_micros()).unwrap_or(u64::MAX),
            memory_bytes: state.memory.bytes,
            host_calls: state.host_calls,
            log_bytes_dropped: state.log.dropped_bytes,
        };
        let result = result.map_err(|error| Cause::of(&error, &state.log));
        Call { result, state, stats }
    }

    fn error(&self, cause: Cause, state: CallState, stats: CallStats) -> CallError {
        let partial = Partial { trace: state.recorder.trace, logs: state.log.lines, stats };
        CallError::new(self.name(), self.version(), cause, partial)
    }
}

struct Call<R> {
    result: Result<R, Cause>,
    state: CallState,
    stats: CallStats,
}

fn problem(problem: v0_1::Problem) -> Problem {
    Problem { pointer: problem.pointer, message: problem.message }
}

fn verdict_of(verdict: v0_1::Verdict) -> Verdict {
    match verdict {
        v0_1::Verdict::Approve => Verdict::Approve,
        v0_1::Verdict::Hold => Verdict::Hold,
        v0_1::Verdict::Reject => Verdict::Reject,
        v0_1::Verdict::Abstain => Verdict::Abstain,
    }
}
