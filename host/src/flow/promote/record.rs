//! What is written of a judgement: the decision, how the tag stands from now on, and the events that say so.

use serde::Serialize;
use wharf_store::{StoreError, Tx};

use super::ask::Opened;
use super::gather::Gathered;
use super::settle::Case;
use crate::VERSION;
use crate::event::{self, Event, Kind, Stage};
use crate::promote::decision::Promotion;
use crate::promote::standing::Standing;
use crate::promote::{Authority, Decision, Effect, Outcome, Reason, Verdict};

/// A policy's wish to be asked again is granted at most this often, in ms.
const RECHECK_LEAST_MS: u64 = 60_000;
/// After this long a target that refused is tried again, in ms.
const RETRY_MS: u64 = 300_000;
/// Breakers that one judgement tells of in events; the decision itself says which plugin was not asked about what.
const OPENED_TOLD_MAX: usize = 128;

/// The decision, with what it was based on.
pub(super) fn decision(case: &Case<'_>, effects: Vec<Effect>, number: u64, now_ms: u64) -> Decision {
    let (gathered, bound) = (case.gathered, case.bound);
    let composed = &case.opinions.composed;
    Decision {
        number,
        at_ms: now_ms,
        repository: gathered.stage.repository.clone(),
        tag: gathered.stage.tag.clone(),
        tag_revision: gathered.revision.0,
        digest: gathered.digest().clone(),
        authority: Authority::Binding {
            binding: bound.binding.name.to_string(),
            binding_revision: bound.revision,
            owner: bound.binding.owner.clone(),
            mode: bound.binding.mode,
            offered: bound.binding.targets.iter().map(|target| target.name.clone()).collect(),
        },
        verdict: composed.verdict,
        reasons: composed.reasons.clone(),
        policies: case.opinions.judged.clone(),
        effects,
        facts: gathered.facts.as_ref().ok().map(|facts| facts.digest().to_owned()),
        recheck_at_ms: composed.recheck_at_ms,
        host: VERSION.to_owned(),
        cause: case.cause,
    }
}

/// How the tag stands from now on, and what it waits for.
pub(super) fn standing(case: &Case<'_>, decision: &Decision, promotion: &Promotion, now_ms: u64) -> Standing {
    let held = |effect: &Effect| matches!(effect.outcome, Outcome::Held { .. });
    let wish = decision.recheck_at_ms.map(|at_ms| at_ms.max(now_ms + RECHECK_LEAST_MS));
    let held_for = decision.effects.iter().any(held).then_some(RETRY_MS);
    let retry = case.opinions.again_in_ms.or(held_for).map(|ms| now_ms + ms);
    // Rejected is rejected: only another push, config or plugin is judged again.
    let (images, at_ms) = match decision.verdict {
        Verdict::Reject => (Vec::new(), None),
        _ => (case.opinions.images.clone(), wish.into_iter().chain(retry).chain(turns(case, now_ms)).min()),
    };
    Standing {
        verdict: decision.verdict,
        decision: decision.number,
        tag_revision: decision.tag_revision,
        binding_revision: case.bound.revision,
        fingerprint: fingerprint(decision),
        promoted: !promotion.targets.is_empty(),
        images,
        at_ms,
    }
}

/// When an answer changes that no event tells of: a distribution's end of life, where a policy asked about it.
fn turns(case: &Case<'_>, now_ms: u64) -> Option<u64> {
    let ends = case.gathered.scans.iter().filter_map(|scan| scan.end_of_life_ms);
    ends.filter(|at_ms| case.opinions.asked_end_of_life && *at_ms > now_ms).min()
}

/// An effect as far as it tells two decisions apart: promoted now and promoted before is the same state.
fn said(effect: &Effect) -> (&str, Option<&str>, Option<&Reason>) {
    match &effect.outcome {
        Outcome::Held { reason } => (&effect.target, None, Some(reason)),
        _ => (&effect.target, effect.to.as_deref(), None),
    }
}

/// What two decisions have in common that say the same.
fn fingerprint(decision: &Decision) -> String {
    #[derive(Serialize)]
    struct Print<'a> {
        tag_revision: u64,
        authority: &'a Authority,
        verdict: Verdict,
        reasons: &'a [Reason],
        policies: &'a [crate::promote::Judged],
        effects: Vec<(&'a str, Option<&'a str>, Option<&'a Reason>)>,
    }
    let print = Print {
        tag_revision: decision.tag_revision,
        authority: &decision.authority,
        verdict: decision.verdict,
        reasons: &decision.reasons,
        policies: &decision.policies,
        effects: decision.effects.iter().map(said).collect(),
    };
    wharf_plugin::facts::sha256(&serde_json::to_vec(&print).unwrap_or_default())
}

/// The events of a decision.
pub(super) fn tell(
    tx: &mut Tx,
    case: &Case<'_>,
    decision: &Decision,
    old: Option<&Standing>,
    promoted: &[Stage],
    now_ms: u64,
) -> Result<(), StoreError> {
    let binding = case.bound.binding.name.to_string();
    let (repository, tag, digest) =
        (decision.repository.clone(), decision.tag.clone(), decision.digest.clone());
    let before = old.filter(|old| old.tag_revision == decision.tag_revision);
    let (verdict, reason) = (decision.verdict.name().to_owned(), decision.first_reason());
    let number = decision.number;
    if let Some(old) = before.filter(|old| old.promoted && old.verdict != decision.verdict) {
        let was = old.verdict.name().to_owned();
        let changed = Kind::VerdictChanged {
            repository,
            tag,
            digest,
            binding: binding.clone(),
            was,
            verdict,
            decision: number,
            reason,
        };
        event::append(tx, &Event::system(now_ms, changed))?;
    } else if before.is_none_or(|old| old.verdict != decision.verdict) || held_only(decision, promoted) {
        let judged = Kind::ImageJudged {
            repository,
            tag,
            digest,
            binding: binding.clone(),
            verdict,
            decision: number,
            reason,
        };
        event::append(tx, &Event::system(now_ms, judged))?;
    }
    for Opened { plugin, image, why } in case.opinions.opened.iter().take(OPENED_TOLD_MAX) {
        let Ok(digest) = image.parse() else { continue };
        let (plugin, reason) = (plugin.clone(), why.clone());
        let opened = Kind::PluginBreakerOpened { plugin, digest, reason };
        event::append(tx, &Event::system(now_ms, opened))?;
    }
    for to in promoted {
        let moved = promoted_event(case.gathered, to, Some(binding.clone()), None, number);
        event::append(tx, &Event::new(now_ms, &case.bound.binding.owner, moved))?;
    }
    Ok(())
}

/// Approved, and yet nothing moves.
fn held_only(decision: &Decision, promoted: &[Stage]) -> bool {
    let held = decision.effects.iter().any(|effect| matches!(effect.outcome, Outcome::Held { .. }));
    held && promoted.is_empty()
}

/// What a promotion leaves for whoever follows the log.
pub(super) fn promoted_event(
    gathered: &Gathered,
    to: &Stage,
    binding: Option<String>,
    note: Option<String>,
    decision: u64,
) -> Kind {
    Kind::ImagePromoted {
        from: gathered.stage.clone(),
        to: to.clone(),
        digest: gathered.digest().clone(),
        binding,
        note,
        lineage: gathered.row.lineage.iter().chain([&gathered.stage]).cloned().collect(),
        decision,
    }
}
