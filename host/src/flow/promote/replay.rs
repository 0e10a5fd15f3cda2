//! Stored decisions once more: the same, or what another policy would have said.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_plugin::Plugin;
use wharf_plugin::facts::SealedFacts;
use wharf_plugin::trace::Subject;
use wharf_store::{Key, Space};

use super::ask::{given, unasked_gap, verdict};
use super::{PromoteError, gather};
use crate::App;
use crate::facts::document::{self, Kind};
use crate::facts::stored;
use crate::plugin::{Asked, PASSING_CODES, Unasked};
use crate::promote::config;
use crate::promote::decision::{self, Authority};
use crate::promote::{Decision, Judged, Opinion, Outcome, Reason, Verdict, compose, reasons};

/// Decisions that one replay goes through.
pub const DECISIONS_MAX: usize = 2000;
/// Decisions that are read at once.
const PAGE: usize = 100;

/// Which facts are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Those that the decision was made on.
    #[default]
    Then,
    /// Those of today about the same image, where its tag still points at it.
    Now,
}

/// What to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// Only decisions of this binding.
    pub binding: Option<String>,
    /// Only decisions about tags of this repository.
    pub repository: Option<String>,
    /// Only decisions made in this time, in milliseconds since 1970.
    pub from_ms: u64,
    pub until_ms: Option<u64>,
    pub known: Known,
    /// Ask this plugin, with this config, in place of those that were asked.
    pub instead: Option<Instead>,
    /// Where an earlier replay ended.
    pub after: Option<String>,
    pub limit: Option<usize>,
}

/// Another policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Instead {
    /// A plugin in force, by name.
    pub plugin: String,
    /// Its config; as the decisions have it, where left out and the plugin was asked.
    #[serde(default, deserialize_with = "config::read_if_any")]
    pub config: Option<serde_json::Value>,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Decisions asked again.
    pub decisions: u64,
    /// Those with the same verdict and, of the same plugin over the same facts, the same bytes of every trace.
    pub same: u64,
    /// Decisions that could not be judged again: the facts, a plugin or a tag is gone, or the machine ended a call, then or now.
    pub skipped: u64,
    pub differences: Vec<Difference>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A decision that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    pub repository: String,
    pub tag: String,
    pub decision: u64,
    pub was: Verdict,
    /// Absent where it could not be judged.
    pub verdict: Option<Verdict>,
    pub why: String,
}

/// Replays a portion of the stored decisions.
///
/// # Errors
/// Where something of the server's own failed.
pub async fn replay(app: &App, what: &Replay) -> Result<Replayed, PromoteError> {
    let limit = what.limit.unwrap_or(DECISIONS_MAX).clamp(1, DECISIONS_MAX);
    let mut replayed = Replayed::default();
    let mut after = what.after.as_deref().and_then(place);
    let mut seen = 0;
    while seen < limit {
        let (decisions, next) = decision::page(&app.store, after.as_ref(), PAGE.min(limit - seen)).await?;
        seen += decisions.len();
        for decision in decisions.iter().filter(|decision| is_meant(what, decision)) {
            one(app, what, decision, &mut replayed).await?;
        }
        after = next;
        if after.is_none() {
            return Ok(replayed);
        }
    }
    replayed.next = after.map(|key| key.parts().join(" "));
    Ok(replayed)
}

fn place(text: &str) -> Option<Key> {
    let parts: Vec<&str> = text.split(' ').collect();
    (parts.len() == 3).then(|| wharf_store::key(Space::Decision, &parts))
}

/// Only what policies decided can be asked again.
fn is_meant(what: &Replay, decision: &Decision) -> bool {
    let Authority::Binding { binding, .. } = &decision.authority else { return false };
    what.binding.as_ref().is_none_or(|wanted| wanted == binding)
        && what.repository.as_ref().is_none_or(|wanted| wanted == decision.repository.as_str())
        && decision.at_ms >= what.from_ms
        && what.until_ms.is_none_or(|until_ms| decision.at_ms < until_ms)
}

async fn one(
    app: &App,
    what: &Replay,
    decision: &Decision,
    replayed: &mut Replayed,
) -> Result<(), PromoteError> {
    let facts = match facts(app, what, decision).await? {
        Ok(facts) => facts,
        Err(why) => {
            replayed.skipped += 1;
            replayed.differences.push(difference(decision, None, why));
            return Ok(());
        }
    };
    match again(app, what, decision, &facts).await? {
        Again::Unjudged(why) => {
            replayed.skipped += 1;
            replayed.differences.push(difference(decision, None, why));
        }
        Again::Same => (replayed.decisions, replayed.same) = (replayed.decisions + 1, replayed.same + 1),
        Again::Other(verdict, why) => {
            replayed.decisions += 1;
            replayed.differences.push(difference(decision, Some(verdict), why));
        }
    }
    Ok(())
}

fn difference(decision: &Decision, verdict: Option<Verdict>, why: String) -> Difference {
    Difference {
        repository: decision.repository.to_string(),
        tag: decision.tag.to_string(),
        decision: decision.number,
        was: decision.verdict,
        verdict,
        why,
    }
}

/// The facts to ask about, or why there are none.
async fn facts(
    app: &App,
    what: &Replay,
    decision: &Decision,
) -> Result<Result<Arc<SealedFacts>, String>, PromoteError> {
    match what.known {
        Known::Then => {
            let Some(digest) = &decision.facts else { return Ok(Err("it has no facts".to_owned())) };
            Ok(stored::read(&app.store, digest).await.map_err(|error| error.to_string()))
        }
        Known::Now => {
            let gathered = gather::tag(app, &decision.repository, &decision.tag).await?;
            let same = gathered.filter(|gathered| gathered.revision.0 == decision.tag_revision);
            let elsewhere = || "its tag points elsewhere now".to_owned();
            Ok(same.ok_or_else(elsewhere).and_then(|same| same.facts.map_err(|reason| reason.text)))
        }
    }
}

enum Again {
    Same,
    Other(Verdict, String),
    Unjudged(String),
}

async fn again(
    app: &App,
    what: &Replay,
    decision: &Decision,
    facts: &Arc<SealedFacts>,
) -> Result<Again, PromoteError> {
    let Authority::Binding { offered, .. } = &decision.authority else {
        return Ok(Again::Unjudged("no policy decided it".to_owned()));
    };
    // One opinion of the other policy for each platform, or all those that there were.
    let calls: Vec<&Judged> = match what.instead {
        Some(_) => once_a_platform(&decision.policies),
        None => decision.policies.iter().collect(),
    };
    let mut opinions = Vec::with_capacity(calls.len());
    let mut changed = None;
    for judged in calls {
        if let (None, Some(because)) = (&what.instead, passing(judged)) {
            return Ok(Again::Unjudged(format!("not judged then: {}", because.text)));
        }
        let (plugin, config) = match plugin_of(app, what, decision, judged).await {
            Ok(Some(found)) => found,
            // It could not be asked then, either: the same hold.
            Ok(None) => {
                opinions.push(opinion(judged, Verdict::Hold, Vec::new()));
                continue;
            }
            Err(why) => return Ok(Again::Unjudged(why)),
        };
        let subject = Subject::Platform(judged.platform_index);
        let asked = app.plugins.ask_plugin(&plugin, &config, facts, subject, offered).await;
        match &asked.answer {
            Err(Unasked::Interrupted) => return Err(PromoteError::Interrupted),
            Err(Unasked::Failed { code, text, .. } | Unasked::Passing { code, text, .. })
                if PASSING_CODES.contains(code) =>
            {
                return Ok(Again::Unjudged(format!("not judged now: {text}")));
            }
            _ => {}
        }
        let said = Said::of(asked, facts, judged.platform_index);
        if what.instead.is_none() && what.known == Known::Then {
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

/// The plugin to ask and its config; `None` where none was asked then; an error where it is gone by now.
async fn plugin_of(
    app: &App,
    what: &Replay,
    decision: &Decision,
    judged: &Judged,
) -> Result<Option<(Arc<Plugin>, String)>, String> {
    if let Some(instead) = &what.instead {
        let plugin = app.plugins.find(&instead.plugin);
        let plugin = plugin.ok_or_else(|| format!("plugin `{}` is not in force", instead.plugin))?;
        let theirs = || decision.policies.iter().find(|judged| judged.plugin == instead.plugin);
        let config = match (&instead.config, theirs()) {
            (Some(config), _) => config.to_string(),
            (None, Some(theirs)) => config_of(app, theirs).await?,
            (None, None) => "{}".to_owned(),
        };
        return Ok(Some((plugin, config)));
    }
    if judged.trace.is_none() {
        return Ok(None);
    }
    let digest = &judged.plugin_digest;
    let plugin = app.plugins.by_digest(digest).await;
    let plugin = plugin.map_err(|error| format!("plugin `{}` `{digest}`: {error}", judged.plugin))?;
    Ok(Some((plugin, config_of(app, judged).await?)))
}

async fn config_of(app: &App, judged: &Judged) -> Result<String, String> {
    let bytes = document::read(&app.store, Kind::Config, &judged.config).await;
    String::from_utf8(bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
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
async fn compare(
    app: &App,
    judged: &Judged,
    said: &Said,
    share: usize,
) -> Result<Option<String>, PromoteError> {
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
