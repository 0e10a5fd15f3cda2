//! The commit: what was decided, and what comes of it.

use std::collections::BTreeMap;

use serde::Serialize;
use wharf_oci::RepoName;
use wharf_store::{Rev, StoreError, Tx};

use super::PromoteError;
use super::ask::Opinions;
use super::gather::Gathered;
use crate::access::{self, Action, Principal};
use crate::event::{self, Event, EventId, Kind, Stage};
use crate::facts::stored;
use crate::facts::{Pending, scanned};
use crate::plugin::state;
use crate::promote::binding::{self, Bound};
use crate::promote::decision::{self, Promoted, Promotion};
use crate::promote::standing::{self, Place, Standing};
use crate::promote::{Authority, Decision, Effect, Mode, Outcome, Reason, Verdict, lineage};
use crate::registry::copy::{self, Plan};
use crate::registry::row;
use crate::registry::{RegistryError, quota, tag};
use crate::{App, VERSION};

/// A policy's wish to be asked again is granted at most this often, in ms.
const RECHECK_LEAST_MS: u64 = 60_000;
/// After this long a target that refused is tried again, in ms.
const RETRY_MS: u64 = 300_000;
/// After this long a policy is asked again that found no room or no time, in ms.
const PASSING_RETRY_MS: u64 = 10_000;

/// What is to be settled.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) gathered: &'a Gathered,
    pub(super) bound: &'a Bound,
    pub(super) opinions: Opinions,
    pub(super) pending: Pending,
    pub(super) cause: Option<EventId>,
}

/// A target of an approved image.
#[derive(Debug, Clone)]
struct Aim {
    name: String,
    to: Result<Stage, Reason>,
}

/// Why the transaction was given up.
#[derive(Debug)]
enum Broken {
    /// A target refuses; the commit is tried without it.
    Target(String, Reason),
    Error(PromoteError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Broken::Error(error.into())
    }
}

impl From<PromoteError> for Broken {
    fn from(error: PromoteError) -> Self {
        Broken::Error(error)
    }
}

/// Records the decision, unless it says what the last one said, and promotes. Returns where to.
pub(super) async fn binding(app: &App, mut case: Case<'_>) -> Result<Vec<String>, PromoteError> {
    stored::keep(&mut case.pending, &case.gathered.facts)?;
    for large in case.pending.split_large(&app.store).await? {
        let large = &large;
        app.store.act(|mut tx| async move { large.write(&mut tx).await }).await?;
    }
    let aims = aims(app, &case).await?;
    let acts = case.bound.binding.mode == Mode::Enforce && aims.iter().any(|aim| aim.to.is_ok());
    let source = &case.gathered.stage.repository;
    let plan = match acts {
        true => Some(copy::plan(&app.store, source, case.gathered.digest()).await?),
        false => None,
    };
    let mut refused: BTreeMap<String, Reason> = BTreeMap::new();
    if let Some(plan) = &plan {
        for aim in &aims {
            if let Ok(to) = &aim.to
                && let Some(reason) =
                    link(app, source, &to.repository, plan, &case.bound.binding.owner).await?
            {
                refused.insert(aim.name.clone(), reason);
            }
        }
    }
    loop {
        let (case, aims, plan, refusals) = (&case, &aims, plan.as_ref(), &refused);
        let acted = app.store.act(|tx| commit(app, tx, case, aims, plan, refusals)).await;
        match acted {
            Ok((promoted, _)) => return Ok(promoted),
            Err(Broken::Target(name, reason)) if !refused.contains_key(&name) => {
                refused.insert(name, reason);
            }
            Err(Broken::Target(name, _)) => {
                return Err(PromoteError::Facts(format!("target `{name}` failed twice")));
            }
            Err(Broken::Error(PromoteError::Store(error @ StoreError::Bound { .. }))) => {
                let Some((name, reason)) = over_quota(aims, refusals, &error) else {
                    return Err(error.into());
                };
                refused.insert(name, reason);
            }
            Err(Broken::Error(PromoteError::Store(StoreError::TooLarge))) => {
                let open = |aim: &&Aim| aim.to.is_ok() && !refusals.contains_key(&aim.name);
                let Some(last) = aims.iter().rev().find(open) else {
                    return Err(StoreError::TooLarge.into());
                };
                let text =
                    "with the other targets it is more than one commit takes; it goes there the next time";
                refused.insert(last.name.clone(), Reason::new("too-large", text));
            }
            Err(Broken::Error(error)) => return Err(error),
        }
    }
}

/// Where an approved image would go, with what already speaks against it.
async fn aims(app: &App, case: &Case<'_>) -> Result<Vec<Aim>, PromoteError> {
    let binding = &case.bound.binding;
    let owner = Principal::user(&binding.owner);
    let from = &case.gathered.stage;
    let may_read = access::may(app, &owner, Action::Pull, &from.repository).await?;
    let at_ms = case.gathered.facts.facts().evaluated_at_ms;
    let mut aims = Vec::new();
    for name in &case.opinions.composed.targets {
        let Some(rule) = binding.targets.iter().find(|rule| rule.name == *name) else { continue };
        let unusable = |why: String| Reason::new("target-template", why);
        let rendered = rule
            .repository
            .render(&from.repository)
            .and_then(|repository| Ok(Stage { repository, tag: rule.tag.render(&from.tag, at_ms)? }));
        let to = match rendered {
            Err(error) => Err(unusable(error.to_string())),
            Ok(to) => match lineage::extend(&case.gathered.row.lineage, from, &to) {
                Err(error) => Err(Reason::new("lineage", error.to_string())),
                Ok(_) if !may_read => Err(no_right(&binding.owner, "pull", &from.repository)),
                Ok(_) if !access::may(app, &owner, Action::Push, &to.repository).await? => {
                    Err(no_right(&binding.owner, "push", &to.repository))
                }
                Ok(_) => Ok(to),
            },
        };
        aims.push(Aim { name: name.clone(), to });
    }
    Ok(aims)
}

fn no_right(owner: &str, action: &str, repository: &RepoName) -> Reason {
    let text = format!("the binding's owner `{owner}` may not {action} `{repository}`");
    Reason::new("owner-not-allowed", text)
}

/// Takes the image's parts along, without its own manifest: nothing shows yet. Returns why the target refuses.
pub(super) async fn link(
    app: &App,
    from: &RepoName,
    to: &RepoName,
    plan: &Plan,
    by: &str,
) -> Result<Option<Reason>, PromoteError> {
    for chunk in plan.chunks() {
        let now_ms = app.now_ms();
        let linked = app
            .store
            .act(|mut tx| async move { copy::steps(&mut tx, from, to, chunk, by, now_ms).await })
            .await;
        if let Err(error) = linked {
            return refusal(quota::explain(error, to)).map(Some);
        }
    }
    Ok(None)
}

/// What a target says no with; other errors stay errors.
pub(super) fn refusal(error: RegistryError) -> Result<Reason, PromoteError> {
    match error {
        RegistryError::Quota { .. } => Ok(Reason::new("quota", error.to_string())),
        RegistryError::TagImmutable { .. } => Ok(Reason::new("immutable", error.to_string())),
        RegistryError::ManifestUnknown { .. } | RegistryError::ManifestBlobUnknown { .. } => {
            Err(PromoteError::Stale)
        }
        RegistryError::Store(error) => Err(error.into()),
        error => Err(error.into()),
    }
}

/// Which target's namespace is full.
fn over_quota(
    aims: &[Aim],
    refused: &BTreeMap<String, Reason>,
    error: &StoreError,
) -> Option<(String, Reason)> {
    let open = aims.iter().filter(|aim| !refused.contains_key(&aim.name));
    let mut explained = open.filter_map(|aim| {
        let to = aim.to.as_ref().ok()?;
        match quota::explain(RegistryError::Store(error.clone()), &to.repository) {
            error @ RegistryError::Quota { .. } => {
                Some((aim.name.clone(), Reason::new("quota", error.to_string())))
            }
            _ => None,
        }
    });
    explained.next()
}

/// The one commit. Reads what it stands on, so that a change of any of it starts it again.
async fn commit(
    app: &App,
    mut tx: Tx,
    case: &Case<'_>,
    aims: &[Aim],
    plan: Option<&Plan>,
    refused: &BTreeMap<String, Reason>,
) -> Result<Vec<String>, Broken> {
    let tx = &mut tx;
    let (gathered, bound) = (case.gathered, case.bound);
    let name = bound.binding.name.as_str();
    let now = binding::expect(tx, name).await?;
    let is_same = now.is_some_and(|now| now.revision == bound.revision);
    if !is_same || !is_current(tx, gathered).await? || !is_known_still(app, tx, case).await? {
        return Err(PromoteError::Stale.into());
    }
    let (from, revision) = (&gathered.stage, gathered.revision.0);
    let place =
        Place { binding: name.to_owned(), repository: from.repository.clone(), tag: from.tag.clone() };
    let old = standing::expect(tx, &place).await?;
    let mut promotion = decision::promotion(tx, name, from, revision).await?;
    let now_ms = app.now_ms();
    let number = decision::next_number(tx, &from.repository, &from.tag, now_ms).await?;
    // Rights are asked before, too; here no change of them can come between.
    access::expect_grants(tx).await?;
    let mut effects = Vec::new();
    for aim in aims {
        may_still(app, case, aim, refused).await?;
        let outcome = one_target(tx, case, aim, plan, refused, &mut promotion, (number, now_ms)).await?;
        effects.push(outcome);
    }
    let decision = decision_of(case, effects, number, now_ms);
    let standing = standing_of(case, &decision, &promotion, now_ms);
    let promoted: Vec<(String, Stage)> = promotion
        .targets
        .iter()
        .filter(|promoted| promoted.decision == number)
        .map(|promoted| (promoted.target.clone(), promoted.to.clone()))
        .collect();
    let is_news = old.as_ref().is_none_or(|old| old.fingerprint != standing.fingerprint);
    if !is_news && promoted.is_empty() && case.opinions.opened.is_empty() {
        let kept = Standing { decision: old.as_ref().map_or(number, |old| old.decision), ..standing };
        if old.as_ref() != Some(&kept) {
            standing::put(tx, &place, old.as_ref(), &kept)?;
        }
        return Ok(Vec::new());
    }
    case.pending.write(tx).await?;
    decision::put(tx, &decision)?;
    standing::put(tx, &place, old.as_ref(), &standing)?;
    if !promoted.is_empty() {
        decision::put_promotion(tx, name, from, revision, &promotion)?;
    }
    tell(tx, case, &decision, old.as_ref(), &promoted, now_ms)?;
    Ok(promoted.into_iter().map(|(_, to)| to.to_string()).collect())
}

/// Whether the tag still is what was judged; expects that it stays so.
pub(super) async fn is_current(tx: &mut Tx, gathered: &Gathered) -> Result<bool, StoreError> {
    let key = row::tag(&gathered.stage.repository, &gathered.stage.tag);
    let rev: Option<Rev> = tx.get(&key).await?.map(|row| row.rev);
    Ok(rev == Some(gathered.revision))
}

/// Whether what was known is what is known, and who was asked would be asked now; expects that it stays so. A change after the
/// commit finds its standing, and one before it is met here: so none is missed.
async fn is_known_still(app: &App, tx: &mut Tx, case: &Case<'_>) -> Result<bool, StoreError> {
    for (digest, rev) in &case.gathered.scans {
        if scanned::expect(tx, digest).await?.map(|(_, rev)| rev) != *rev {
            return Ok(false);
        }
    }
    for judged in &case.opinions.judged {
        // The set in force changes before its row does: either the row moves on, or the set is seen here.
        state::expect_active(tx, &judged.plugin).await?;
        let digest = app.plugins.find(&judged.plugin).map(|plugin| plugin.digest().to_owned());
        if digest.unwrap_or_default() != judged.plugin_digest {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the owner still has the rights that were asked before.
async fn may_still(
    app: &App,
    case: &Case<'_>,
    aim: &Aim,
    refused: &BTreeMap<String, Reason>,
) -> Result<(), Broken> {
    let (Ok(to), false) = (&aim.to, refused.contains_key(&aim.name)) else { return Ok(()) };
    let owner = Principal::user(&case.bound.binding.owner);
    let from = &case.gathered.stage.repository;
    for (action, repository) in [(Action::Pull, from), (Action::Push, &to.repository)] {
        if !access::may(app, &owner, action, repository).await? {
            let reason = no_right(&owner.name, action.name(), repository);
            return Err(Broken::Target(aim.name.clone(), reason));
        }
    }
    Ok(())
}

/// What becomes of one target, as part of the commit.
async fn one_target(
    tx: &mut Tx,
    case: &Case<'_>,
    aim: &Aim,
    plan: Option<&Plan>,
    refused: &BTreeMap<String, Reason>,
    promotion: &mut Promotion,
    (number, now_ms): (u64, u64),
) -> Result<Effect, Broken> {
    let effect = |to: Option<&Stage>, outcome| Effect {
        target: aim.name.clone(),
        to: to.map(Stage::to_string),
        outcome,
    };
    if let Some(promoted) = promotion.by_name(&aim.name) {
        return Ok(effect(Some(&promoted.to), Outcome::Already));
    }
    let to = match &aim.to {
        Ok(to) => to,
        Err(reason) => return Ok(effect(None, Outcome::Held { reason: reason.clone() })),
    };
    if let Some(reason) = refused.get(&aim.name) {
        return Ok(effect(Some(to), Outcome::Held { reason: reason.clone() }));
    }
    let (Mode::Enforce, Some(plan)) = (case.bound.binding.mode, plan) else {
        return Ok(effect(Some(to), Outcome::Shadow));
    };
    let owner = &case.bound.binding.owner;
    point(tx, case.gathered, to, plan, owner, now_ms).await.map_err(|error| match refusal(error) {
        Ok(reason) => Broken::Target(aim.name.clone(), reason),
        Err(error) => Broken::Error(error),
    })?;
    promotion.targets.push(Promoted {
        target: aim.name.clone(),
        to: to.clone(),
        at_ms: now_ms,
        decision: number,
    });
    Ok(effect(Some(to), Outcome::Promoted))
}

/// The image itself and its tag in the target.
pub(super) async fn point(
    tx: &mut Tx,
    gathered: &Gathered,
    to: &Stage,
    plan: &Plan,
    by: &str,
    now_ms: u64,
) -> Result<(), RegistryError> {
    let descriptor = copy::root(tx, &gathered.stage.repository, &to.repository, plan, by, now_ms).await?;
    let passed: Vec<Stage> = gathered.row.lineage.iter().chain([&gathered.stage]).cloned().collect();
    tag::point(tx, &to.repository, &to.tag, &descriptor, by, now_ms, &passed).await?;
    Ok(())
}

fn decision_of(case: &Case<'_>, effects: Vec<Effect>, number: u64, now_ms: u64) -> Decision {
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
        facts: Some(gathered.facts.digest().to_owned()),
        recheck_at_ms: composed.recheck_at_ms,
        host: VERSION.to_owned(),
        cause: case.cause,
    }
}

fn standing_of(case: &Case<'_>, decision: &Decision, promotion: &Promotion, now_ms: u64) -> Standing {
    let held = |effect: &Effect| matches!(effect.outcome, Outcome::Held { .. });
    let wish = decision.recheck_at_ms.map(|at_ms| at_ms.max(now_ms + RECHECK_LEAST_MS));
    let retry = match case.opinions.is_passing_trouble {
        true => Some(now_ms + PASSING_RETRY_MS),
        false => decision.effects.iter().any(held).then_some(now_ms + RETRY_MS),
    };
    // Rejected is rejected: only another push, config or plugin is judged again.
    let (images, at_ms) = match decision.verdict {
        Verdict::Reject => (Vec::new(), None),
        _ => (case.opinions.images.clone(), wish.into_iter().chain(retry).min()),
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
fn tell(
    tx: &mut Tx,
    case: &Case<'_>,
    decision: &Decision,
    old: Option<&Standing>,
    promoted: &[(String, Stage)],
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
    for (plugin, image, reason) in &case.opinions.opened {
        let Ok(digest) = image.parse() else { continue };
        let (plugin, reason) = (plugin.clone(), reason.clone());
        let opened = Kind::PluginBreakerOpened { plugin, digest, reason };
        event::append(tx, &Event::system(now_ms, opened))?;
    }
    for (_, to) in promoted {
        let moved = promoted_event(case.gathered, to, Some(binding.clone()), None, number);
        event::append(tx, &Event::new(now_ms, &case.bound.binding.owner, moved))?;
    }
    Ok(())
}

/// Approved, and yet nothing moves.
fn held_only(decision: &Decision, promoted: &[(String, Stage)]) -> bool {
    let held = decision.effects.iter().any(|effect| matches!(effect.outcome, Outcome::Held { .. }));
    held && promoted.is_empty()
}

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
