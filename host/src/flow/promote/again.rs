//! One stored decision once more: what its policies say this time, or another's.

use std::sync::Arc;

use wharf_plugin::Plugin;
use wharf_plugin::facts::SealedFacts;
use wharf_plugin::trace::Subject;

use super::ask::{given, unasked_gap, verdict};
use super::replay::{Instead, Known, Replay};
use super::{PromoteError, gather};
use crate::App;
use crate::facts::DocumentError;
use crate::facts::document::{self, Kind};
use crate::facts::stored::{self, StoredError};
use crate::plugin::{Asked, PASSING_CODES, Unasked};
use crate::promote::{Authority, Decision, Judged, Opinion, Outcome, Reason, Verdict, compose, reasons};

/// What is asked in place of those that were, with the plugin itself.
pub(super) struct OtherPolicy<'a> {
    instead: &'a Instead,
    plugin: Arc<Plugin>,
}

impl<'a> OtherPolicy<'a> {
    pub(super) fn of(app: &App, instead: &'a Instead) -> Result<Self, PromoteError> {
        let plugin = app.plugins.find(&instead.plugin);
        let plugin = plugin.ok_or_else(|| PromoteError::NoPlugin(instead.plugin.clone()))?;
        Ok(OtherPolicy { instead, plugin })
    }
}

/// How a decision comes out this time.
pub(super) enum Again {
    Same,
    /// With another verdict, or with the same one otherwise, and why.
    Other(Verdict, String),
}

/// Why a decision is not judged again.
pub(super) enum Unjudged {
    /// For nothing that is wrong.
    Skipped(String),
    /// What it stands on is gone or cannot be read.
    Lost(String),
    /// The replay itself failed.
    Failed(PromoteError),
}

impl From<DocumentError> for Unjudged {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Store(error) => Unjudged::Failed(error.into()),
            error => Unjudged::Lost(error.to_string()),
        }
    }
}

impl From<StoredError> for Unjudged {
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::Document(error) => error.into(),
            error => Unjudged::Lost(error.to_string()),
        }
    }
}

impl From<PromoteError> for Unjudged {
    fn from(error: PromoteError) -> Self {
        match error {
            PromoteError::Document(error) => error.into(),
            error => Unjudged::Failed(error),
        }
    }
}

/// Judges a decision again, on the facts of then or of now.
///
/// # Errors
/// [`Unjudged`].
pub(super) async fn again(
    app: &App,
    what: &Replay,
    other: Option<&OtherPolicy<'_>>,
    decision: &Decision,
) -> Result<Again, Unjudged> {
    let Authority::Binding { offered, .. } = &decision.authority else {
        return Err(Unjudged::Skipped("no policy decided it".to_owned()));
    };
    let facts = &facts(app, what, decision).await?;
    // One opinion of the other policy for each platform, or all those that there were.
    let calls: Vec<&Judged> = match other {
        Some(_) => once_a_platform(&decision.policies),
        None => decision.policies.iter().collect(),
    };
    let mut opinions = Vec::with_capacity(calls.len());
    let mut changed = None;
    for judged in calls {
        if let (None, Some(because)) = (other, passing(judged)) {
            return Err(Unjudged::Skipped(format!("not judged then: {}", because.text)));
        }
        let Some((plugin, config)) = policy(app, other, decision, judged).await? else {
            // It could not be asked then, either: the same hold.
            opinions.push(opinion(judged, Verdict::Hold, Vec::new()));
            continue;
        };
        let subject = Subject::Platform(judged.platform_index);
        let asked = app.plugins.ask_plugin(&plugin, &config, facts, subject, offered).await;
        match &asked.answer {
            Err(Unasked::Interrupted) => return Err(Unjudged::Failed(PromoteError::Interrupted)),
            Err(Unasked::Failed { code, text, .. } | Unasked::Passing { code, text, .. })
                if PASSING_CODES.contains(code) =>
            {
                return Err(Unjudged::Skipped(format!("not judged now: {text}")));
            }
            _ => {}
        }
        let said = Said::of(asked, facts, judged.platform_index);
        if other.is_none() && what.known == Known::Then {
            let share = reasons::share(decision.policies.len());
            changed = changed.or(compare(app, judged, &said, share).await?);
        }
        opinions.push(opinion(judged, said.verdict, said.targets));
    }
    let mut platforms: Vec<Option<String>> =
        opinions.iter().map(|opinion| opinion.platform.clone()).collect();
    platforms.dedup();
    let composed = compose(&platforms, &opinions, offered);
    Ok(match changed {
        Some(why) => Again::Other(composed.verdict, why),
        None if composed.verdict == decision.verdict => Again::Same,
        None => Again::Other(composed.verdict, moved(decision, composed.verdict)),
    })
}

/// The facts to ask about.
async fn facts(app: &App, what: &Replay, decision: &Decision) -> Result<Arc<SealedFacts>, Unjudged> {
    let skipped = |why: &str| Unjudged::Skipped(why.to_owned());
    match what.known {
        Known::Then => {
            // What is more than can be judged had none.
            let digest = decision.facts.as_ref().ok_or_else(|| skipped("it has no facts"))?;
            Ok(stored::read(&app.store, digest).await?)
        }
        Known::Now => {
            let gathered = gather::tag(app, &decision.repository, &decision.tag).await?;
            let same = gathered.filter(|gathered| gathered.revision.0 == decision.tag_revision);
            let same = same.ok_or_else(|| skipped("its tag points elsewhere now"))?;
            same.facts.map_err(|reason| Unjudged::Skipped(reason.text))
        }
    }
}

/// Why a call came to no verdict that depends on the machine and not on the facts: there is nothing to compare.
fn passing(judged: &Judged) -> Option<&Reason> {
    judged.held_because.as_ref().filter(|because| PASSING_CODES.contains(&because.code.as_str()))
}

fn moved(decision: &Decision, verdict: Verdict) -> String {
    let went =
        decision.effects.iter().any(|effect| matches!(effect.outcome, Outcome::Promoted | Outcome::Already));
    match (went, verdict) {
        (true, Verdict::Approve) | (false, Verdict::Approve) => "would have been promoted".to_owned(),
        (true, _) => "would not have been promoted".to_owned(),
        (false, _) => "would have been held otherwise".to_owned(),
    }
}

fn once_a_platform(policies: &[Judged]) -> Vec<&Judged> {
    let mut once: Vec<&Judged> = Vec::new();
    for judged in policies {
        if !once.iter().any(|seen| seen.platform_index == judged.platform_index) {
            once.push(judged);
        }
    }
    once
}

fn opinion(judged: &Judged, verdict: Verdict, targets: Vec<String>) -> Opinion {
    let (plugin, platform) = (judged.plugin.clone(), judged.platform.clone());
    Opinion { plugin, platform, verdict, targets, recheck_at_ms: None }
}

/// The plugin to ask and its config; `None` where none was asked then.
async fn policy(
    app: &App,
    other: Option<&OtherPolicy<'_>>,
    decision: &Decision,
    judged: &Judged,
) -> Result<Option<(Arc<Plugin>, String)>, Unjudged> {
    if let Some(OtherPolicy { instead, plugin }) = other {
        let theirs = || decision.policies.iter().find(|judged| judged.plugin == instead.plugin);
        let config = match (&instead.config, theirs()) {
            (Some(config), _) => config.to_string(),
            (None, Some(theirs)) => config_of(app, theirs).await?,
            (None, None) => "{}".to_owned(),
        };
        return Ok(Some((plugin.clone(), config)));
    }
    if judged.trace.is_none() {
        return Ok(None);
    }
    let digest = &judged.plugin_digest;
    let lost = |error| Unjudged::Lost(format!("plugin `{}` `{digest}`: {error}", judged.plugin));
    let plugin = app.plugins.by_digest(digest).await.map_err(lost)?;
    Ok(Some((plugin, config_of(app, judged).await?)))
}

async fn config_of(app: &App, judged: &Judged) -> Result<String, Unjudged> {
    let bytes = document::read(&app.store, Kind::Config, &judged.config).await?;
    let lost = |error| Unjudged::Lost(format!("config `{}`: {error}", judged.config));
    String::from_utf8(bytes).map_err(lost)
}

/// What a plugin says this time.
struct Said {
    /// The verdict that counts.
    verdict: Verdict,
    reasons: Vec<Reason>,
    targets: Vec<String>,
    recheck_at_ms: Option<u64>,
    /// The trace's bytes; none where it was not called.
    trace: Option<Vec<u8>>,
}

impl Said {
    fn of(asked: Asked, facts: &SealedFacts, platform_index: u32) -> Said {
        let trace = asked.trace().and_then(|trace| trace.to_canonical_bytes().ok());
        let held = Said {
            verdict: Verdict::Hold,
            reasons: Vec::new(),
            targets: Vec::new(),
            recheck_at_ms: None,
            trace,
        };
        let Ok(answer) = asked.answer else { return held };
        let platform = usize::try_from(platform_index).ok().and_then(|at| facts.facts().platforms.get(at));
        let gap = platform.and_then(|platform| unasked_gap(&answer.trace, platform));
        let verdict = match verdict(answer.verdict) {
            Verdict::Approve if gap.is_some() => Verdict::Hold,
            verdict => verdict,
        };
        let reasons = given(answer.reasons);
        Said { verdict, reasons, targets: answer.targets, recheck_at_ms: answer.recheck_at_ms, ..held }
    }
}

/// What differs from the record: the verdict, what the policy reported with it as far as its `share` goes, or a byte of the
/// trace.
async fn compare(app: &App, judged: &Judged, said: &Said, share: usize) -> Result<Option<String>, Unjudged> {
    let plugin = &judged.plugin;
    if said.verdict != judged.verdict {
        return Ok(Some(format!("`{plugin}` says {} now, {} then", said.verdict, judged.verdict)));
    }
    let kept = reasons::within(said.reasons.clone(), share);
    let reported = (&kept, &said.targets, said.recheck_at_ms);
    if reported != (&judged.reasons, &judged.targets, judged.recheck_at_ms) {
        return Ok(Some(format!("`{plugin}` reports otherwise")));
    }
    let Some(kept) = &judged.trace else { return Ok(None) };
    let Some(trace) = &said.trace else { return Ok(Some(format!("`{plugin}` could not be asked now"))) };
    let bytes = document::read(&app.store, Kind::Trace, kept).await?;
    Ok((bytes != *trace).then(|| format!("`{plugin}` asks or is answered otherwise")))
}
