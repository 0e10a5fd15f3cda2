//! The commit: what was decided, and what comes of it.

use std::collections::BTreeSet;

use wharf_oci::{Digest, RepoName};
use wharf_store::{StoreError, Tx};

use super::PromoteError;
use super::aim::{self, Aim};
use super::ask::Opinions;
use super::gather::Gathered;
use super::record;
use crate::App;
use crate::access;
use crate::event::{EventId, Stage};
use crate::facts::{Pending, scanned};
use crate::plugin::state;
use crate::promote::binding::{self, Bound};
use crate::promote::decision::{self, Promoted, Promotion};
use crate::promote::destination::{self, By, Destination};
use crate::promote::standing::{self, Place, Standing};
use crate::promote::{Effect, Mode, Outcome, Reason};
use crate::registry::copy::{self, Plan};
use crate::registry::{RegistryError, quota, row, tag};

/// What is to be settled.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) gathered: &'a Gathered,
    pub(super) bound: &'a Bound,
    pub(super) opinions: Opinions,
    pub(super) pending: Pending,
    pub(super) cause: Option<EventId>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Places that the image was promoted to now.
    pub(super) promoted: Vec<String>,
    /// Other targets wait only because one commit could not take them along.
    pub(super) more: bool,
}

/// Why the transaction was given up.
#[derive(Debug)]
enum Broken {
    /// A target refuses; the commit is tried without it.
    Target(String, Reason),
    Error(PromoteError),
}

impl<E: Into<PromoteError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Broken::Error(error.into())
    }
}

/// Records the decision, unless it says what the last one said, and promotes.
pub(super) async fn binding(app: &App, mut case: Case<'_>) -> Result<Settled, PromoteError> {
    for before in &case.pending.split(&app.store).await? {
        app.store.act(|mut tx| async move { before.write(&mut tx).await }).await?;
    }
    let agreed = &case.opinions.composed.targets;
    let mut aims = aim::all(app, &case.bound.binding, case.gathered, agreed).await?;
    let plan = prepare(app, &case, &mut aims).await?;
    let mut more = false;
    loop {
        let (case, now, plan) = (&case, &aims, plan.as_ref());
        match app.store.act(|tx| commit(app, tx, case, now, plan)).await {
            Ok((promoted, _)) => return Ok(Settled { more: more && !promoted.is_empty(), promoted }),
            Err(Broken::Target(name, reason)) => refuse(&mut aims, &name, reason)?,
            Err(Broken::Error(PromoteError::Store(error @ StoreError::Bound { .. }))) => {
                let Some((name, reason)) = over_quota(&aims, &error) else { return Err(error.into()) };
                refuse(&mut aims, &name, reason)?;
            }
            Err(Broken::Error(PromoteError::Store(StoreError::TooLarge))) => more |= lighten(&mut aims)?,
            Err(Broken::Error(error)) => return Err(error),
        }
    }
}

/// Takes the image's parts along to where it is going and has not been yet. None where it goes nowhere.
async fn prepare(app: &App, case: &Case<'_>, aims: &mut [Aim]) -> Result<Option<Plan>, PromoteError> {
    let Bound { binding, .. } = case.bound;
    if binding.mode != Mode::Enforce {
        return Ok(None);
    }
    let (from, revision) = (&case.gathered.stage, case.gathered.revision.0);
    let name = binding.name.as_str();
    let read = async |mut tx| decision::promotion(&mut tx, name, from, revision).await;
    let promotion = app.store.act(read).await?.0;
    for aim in aims.iter_mut() {
        aim.is_done = aim.to.as_ref().is_some_and(|to| promotion.of(&aim.name, &to.repository).is_some());
    }
    let mut open: Vec<&mut Aim> = aims.iter_mut().filter(|aim| aim.open().is_some()).collect();
    if open.is_empty() {
        return Ok(None);
    }
    let plan = self::plan(app, &from.repository, case.gathered.digest()).await?;
    // What the copy links can be seen by its digest. What came since it was judged is not among it; what comes from here on is
    // met by the commit.
    if plan.as_ref().is_ok_and(|plan| brings_more(plan, case.gathered)) {
        return Err(PromoteError::Stale);
    }
    for aim in &mut open {
        let Some(to) = aim.open() else { continue };
        aim.against = match &plan {
            Ok(plan) => link(app, &from.repository, &to.repository, plan, &binding.owner).await?,
            Err(reason) => Some(reason.clone()),
        };
    }
    Ok(plan.ok())
}

/// Whether a copy takes along what was not there to be judged.
fn brings_more(plan: &Plan, gathered: &Gathered) -> bool {
    let missing: BTreeSet<&Digest> =
        gathered.scans.iter().filter(|scan| !scan.is_here).map(|scan| &scan.digest).collect();
    plan.manifests().any(|digest| missing.contains(digest))
}

/// What copying an image takes, or why it is more than one copy takes. An image that was deleted meanwhile is no error of the
/// server's.
pub(super) async fn plan(
    app: &App,
    from: &RepoName,
    digest: &Digest,
) -> Result<Result<Plan, Reason>, PromoteError> {
    planned(copy::plan(&app.store, from, digest).await)
}

/// A plan, or why there is none, where that is nothing of the server's own.
pub(super) fn planned(plan: Result<Plan, RegistryError>) -> Result<Result<Plan, Reason>, PromoteError> {
    match plan {
        Ok(plan) => Ok(Ok(plan)),
        Err(error) => refusal(error).map(Err),
    }
}

/// The commit is tried again without this target.
fn refuse(aims: &mut [Aim], name: &str, reason: Reason) -> Result<(), PromoteError> {
    let aim = aims.iter_mut().find(|aim| aim.name == name && aim.against.is_none());
    let aim = aim.ok_or_else(|| PromoteError::Facts(format!("target `{name}` failed twice")))?;
    aim.against = Some(reason);
    Ok(())
}

/// One commit does not take all open targets along: the later half of them waits. Returns whether the others are tried.
fn lighten(aims: &mut [Aim]) -> Result<bool, PromoteError> {
    let mut open: Vec<&mut Aim> = aims.iter_mut().filter(|aim| aim.open().is_some()).collect();
    let (all, rest) = (open.len(), open.len() / 2);
    let text = match all {
        0 => return Err(StoreError::TooLarge.into()),
        1 => "it is more than one commit takes",
        _ => "with the other targets it is more than one commit takes; it follows",
    };
    for aim in &mut open[rest..] {
        aim.against = Some(Reason::new("too-large", text));
    }
    Ok(all > 1)
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

/// What an image is not promoted for, with a reason; other errors stay errors.
pub(super) fn refusal(error: RegistryError) -> Result<Reason, PromoteError> {
    match error {
        RegistryError::Quota { .. } => Ok(Reason::new("quota", error.to_string())),
        RegistryError::TagImmutable { .. } => Ok(Reason::new("immutable", error.to_string())),
        RegistryError::TooManyManifests { .. } => Ok(Reason::new("too-many-manifests", error.to_string())),
        RegistryError::ManifestUnknown { .. } | RegistryError::ManifestBlobUnknown { .. } => {
            Err(PromoteError::Stale)
        }
        RegistryError::Store(error) => Err(error.into()),
        error => Err(error.into()),
    }
}

/// As [`refusal`], of a commit into `to`, which may have gone over its quota.
pub(super) fn refused(error: PromoteError, to: &RepoName) -> Result<Reason, PromoteError> {
    match error {
        PromoteError::Registry(error) => refusal(quota::explain(error, to)),
        PromoteError::Store(error) => refusal(quota::explain(error.into(), to)),
        error => Err(error),
    }
}

/// Which target's namespace is full.
fn over_quota(aims: &[Aim], error: &StoreError) -> Option<(String, Reason)> {
    aims.iter().find_map(|aim| {
        match quota::explain(RegistryError::Store(error.clone()), &aim.open()?.repository) {
            error @ RegistryError::Quota { .. } => {
                Some((aim.name.clone(), Reason::new("quota", error.to_string())))
            }
            _ => None,
        }
    })
}

/// The one commit. Reads what it stands on, so that a change of any of it starts it again.
async fn commit(
    app: &App,
    mut tx: Tx,
    case: &Case<'_>,
    aims: &[Aim],
    plan: Option<&Plan>,
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
        if let Some(to) = aim.open()
            && let Some(reason) =
                aim::no_right(app, &bound.binding.owner, &from.repository, &to.repository).await?
        {
            return Err(Broken::Target(aim.name.clone(), reason));
        }
        effects.push(one_target(tx, case, aim, plan, &mut promotion, (number, now_ms)).await?);
    }
    let decision = record::decision(case, effects, number, now_ms);
    let standing = record::standing(case, &decision, &promotion, now_ms);
    let promoted: Vec<Stage> = promotion
        .targets
        .iter()
        .filter(|promoted| promoted.decision == number)
        .map(|promoted| promoted.to.clone())
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
    record::tell(tx, case, &decision, old.as_ref(), &promoted, now_ms)?;
    Ok(promoted.iter().map(Stage::to_string).collect())
}

/// Whether the tag still is what was judged; expects that it stays so.
pub(super) async fn is_current(tx: &mut Tx, gathered: &Gathered) -> Result<bool, StoreError> {
    let now = tag::get(tx, &gathered.stage.repository, &gathered.stage.tag).await?;
    Ok(now.is_some_and(|(_, revision)| revision == gathered.revision))
}

/// Whether what was known is what is known, and who was asked would be asked now; expects that it stays so. A change after the
/// commit finds its standing, and one before it is met here: so none is missed.
async fn is_known_still(app: &App, tx: &mut Tx, case: &Case<'_>) -> Result<bool, StoreError> {
    for scan in &case.gathered.scans {
        if scanned::expect(tx, &scan.digest).await?.map(|(_, revision)| revision) != scan.revision {
            return Ok(false);
        }
        let repository = &case.gathered.stage.repository;
        if !scan.is_here || scan.unread.is_some() {
            let now = tx.get(&row::manifest(repository, &scan.digest)).await?;
            if now.map(|row| row.rev) != scan.row {
                return Ok(false);
            }
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

/// What becomes of one target, as part of the commit.
async fn one_target(
    tx: &mut Tx,
    case: &Case<'_>,
    aim: &Aim,
    plan: Option<&Plan>,
    promotion: &mut Promotion,
    (number, now_ms): (u64, u64),
) -> Result<Effect, Broken> {
    let effect = |to: Option<&Stage>, outcome| Effect {
        target: aim.name.clone(),
        to: to.map(Stage::to_string),
        outcome,
    };
    if let Some(promoted) = aim.to.as_ref().and_then(|to| promotion.of(&aim.name, &to.repository)) {
        return Ok(effect(Some(&promoted.to), Outcome::Already));
    }
    if let Some(reason) = &aim.against {
        return Ok(effect(aim.to.as_ref(), Outcome::Held { reason: reason.clone() }));
    }
    // What went there before by the row that was looked up first has been met above.
    let to = aim.open().ok_or(PromoteError::Stale)?;
    if case.bound.binding.mode != Mode::Enforce {
        return Ok(effect(Some(to), Outcome::Shadow));
    }
    let plan = plan.ok_or(PromoteError::Stale)?;
    let owner = &case.bound.binding.owner;
    point(tx, case.gathered, to, plan, owner, now_ms).await.map_err(|error| match refusal(error) {
        Ok(reason) => Broken::Target(aim.name.clone(), reason),
        Err(error) => Broken::Error(error),
    })?;
    destination::put(
        tx,
        &Destination {
            from: case.gathered.stage.clone(),
            digest: case.gathered.digest().clone(),
            to: to.repository.clone(),
            by: By::Binding(case.bound.binding.name.to_string()),
            decision: number,
        },
    )?;
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
