//! Stored decisions once more: the same, or what another policy would have said.

use serde::{Deserialize, Serialize};
use wharf_oci::RepoName;
use wharf_store::{Key, Space};

use super::PromoteError;
use super::again::{Again, OtherPolicy, Unjudged, again};
use crate::App;
use crate::promote::config;
use crate::promote::decision::{self, Authority};
use crate::promote::{Decision, Verdict};

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
    #[schema(value_type = Option<String>)]
    pub repository: Option<RepoName>,
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
    /// Decisions that could not be judged again though nothing is lost: the machine ended a call, then or now, the tag points
    /// elsewhere now, or there are no facts that policies are told.
    pub skipped: u64,
    /// Decisions that stand on something that is gone or cannot be read: facts, a config, a trace or a plugin.
    pub lost: u64,
    pub differences: Vec<Difference>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A decision that came out otherwise, or could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    pub repository: String,
    pub tag: String,
    pub decision: u64,
    pub was: Verdict,
    /// Absent where it could not be judged.
    pub verdict: Option<Verdict>,
    /// Whether that was because of what is lost.
    pub lost: bool,
    pub why: String,
}

impl Replayed {
    /// Takes in what the portion behind this one found.
    pub fn add(&mut self, portion: Replayed) {
        self.decisions += portion.decisions;
        self.same += portion.same;
        self.skipped += portion.skipped;
        self.lost += portion.lost;
        self.differences.extend(portion.differences);
        self.next = portion.next;
    }
}

/// Replays a portion of the stored decisions.
///
/// # Errors
/// [`PromoteError::NoPlugin`] where none of the other policy's name is in force; else where something of the server's own failed.
pub async fn replay(app: &App, what: &Replay) -> Result<Replayed, PromoteError> {
    let other = what.instead.as_ref().map(|instead| OtherPolicy::of(app, instead)).transpose()?;
    let other = other.as_ref();
    let limit = what.limit.unwrap_or(DECISIONS_MAX).clamp(1, DECISIONS_MAX);
    let mut replayed = Replayed::default();
    let mut after = what.after.as_deref().and_then(place);
    let mut seen = 0;
    while seen < limit {
        let (decisions, next) = decision::page(&app.store, after.as_ref(), PAGE.min(limit - seen)).await?;
        seen += decisions.len();
        for decision in decisions.iter().filter(|decision| is_meant(what, decision)) {
            one(app, what, other, decision, &mut replayed).await?;
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
        && what.repository.as_ref().is_none_or(|wanted| *wanted == decision.repository)
        && decision.at_ms >= what.from_ms
        && what.until_ms.is_none_or(|until_ms| decision.at_ms < until_ms)
}

async fn one(
    app: &App,
    what: &Replay,
    other: Option<&OtherPolicy<'_>>,
    decision: &Decision,
    replayed: &mut Replayed,
) -> Result<(), PromoteError> {
    let (verdict, lost, why) = match again(app, what, other, decision).await {
        Ok(Again::Same) => {
            replayed.decisions += 1;
            replayed.same += 1;
            return Ok(());
        }
        Ok(Again::Other(verdict, why)) => {
            replayed.decisions += 1;
            (Some(verdict), false, why)
        }
        Err(Unjudged::Skipped(why)) => {
            replayed.skipped += 1;
            (None, false, why)
        }
        Err(Unjudged::Lost(why)) => {
            replayed.lost += 1;
            (None, true, why)
        }
        Err(Unjudged::Failed(error)) => return Err(error),
    };
    replayed.differences.push(Difference {
        repository: decision.repository.to_string(),
        tag: decision.tag.to_string(),
        decision: decision.number,
        was: decision.verdict,
        verdict,
        lost,
        why,
    });
    Ok(())
}
