//! Somebody promotes an image, with a note.

use serde::Serialize;
use wharf_oci::RepoName;
use wharf_store::Tx;

use super::gather::{self, Gathered};
use super::{PromoteError, record, settle};
use crate::access::{self, Action, Principal};
use crate::event::{self, Event, Stage};
use crate::promote::decision;
use crate::promote::destination::{self, By, Destination};
use crate::promote::{Authority, Decision, Effect, Outcome, Verdict, lineage};
use crate::registry::copy::Plan;
use crate::{App, VERSION};

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 2000;

/// What a promotion by hand did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ByHand {
    pub from: String,
    pub to: String,
    pub digest: String,
    /// The decision in the source's history.
    pub decision: u64,
}

/// Points `to` at what `from` points at, by `who`'s own rights, and records it with the note.
///
/// # Errors
/// [`PromoteError::Note`]; [`PromoteError::Refused`] without the rights; [`PromoteError::Held`] where the target refuses, or the image has been there
/// before; [`PromoteError::NoTag`].
pub async fn promote(
    app: &App,
    who: &Principal,
    from: &Stage,
    to: &Stage,
    note: &str,
) -> Result<ByHand, PromoteError> {
    let held = |why: String| PromoteError::Held(to.clone(), why);
    if note.len() > NOTE_BYTES_MAX {
        return Err(PromoteError::Note(note.len()));
    }
    if let Some(refused) = no_right(app, who, &from.repository, &to.repository).await? {
        return Err(refused);
    }
    let gathered = gather::tag(app, &from.repository, &from.tag).await?;
    let gathered = &gathered.ok_or_else(|| PromoteError::NoTag(from.clone()))?;
    lineage::extend(&gathered.row.lineage, from, to).map_err(|error| held(error.to_string()))?;
    let plan = settle::plan(app, &from.repository, gathered.digest()).await?;
    let plan = &plan.map_err(|reason| held(reason.text))?;
    if let Some(reason) = settle::link(app, &from.repository, &to.repository, plan, &who.name).await? {
        return Err(held(reason.text));
    }
    let committed = app.store.act(|tx| commit(app, tx, gathered, plan, who, to, note)).await;
    match committed {
        Ok((decision, _)) => {
            let digest = gathered.digest().to_string();
            Ok(ByHand { from: from.to_string(), to: to.to_string(), digest, decision })
        }
        Err(error) => Err(held(settle::refused(error, &to.repository)?.text)),
    }
}

/// The refusal, where `who` may not promote from one to the other by what is granted now.
pub(super) async fn no_right(
    app: &App,
    who: &Principal,
    from: &RepoName,
    to: &RepoName,
) -> Result<Option<PromoteError>, PromoteError> {
    for (action, repository, verb) in [(Action::Pull, from, "pull"), (Action::Maintain, to, "promote into")] {
        if !access::may(app, who, action, repository).await? {
            let (who, repository) = (who.name.clone(), repository.clone());
            return Ok(Some(PromoteError::Refused { who, action: verb, repository }));
        }
    }
    Ok(None)
}

async fn commit(
    app: &App,
    mut tx: Tx,
    gathered: &Gathered,
    plan: &Plan,
    who: &Principal,
    to: &Stage,
    note: &str,
) -> Result<u64, PromoteError> {
    let tx = &mut tx;
    if !settle::is_current(tx, gathered).await? {
        return Err(PromoteError::Stale);
    }
    let now_ms = app.now_ms();
    let from = &gathered.stage;
    let number = decision::next_number(tx, &from.repository, &from.tag, now_ms).await?;
    settle::point(tx, gathered, to, plan, &who.name, now_ms).await?;
    let decision = Decision {
        number,
        at_ms: now_ms,
        repository: from.repository.clone(),
        tag: from.tag.clone(),
        tag_revision: gathered.revision.0,
        digest: gathered.digest().clone(),
        authority: Authority::Hand { by: who.name.clone(), note: note.to_owned() },
        verdict: Verdict::Approve,
        reasons: Vec::new(),
        policies: Vec::new(),
        effects: vec![Effect { target: String::new(), to: Some(to.to_string()), outcome: Outcome::Promoted }],
        facts: None,
        recheck_at_ms: None,
        host: VERSION.to_owned(),
        cause: None,
    };
    decision::put(tx, &decision)?;
    let (by, to_repository) = (By::Hand(who.name.clone()), to.repository.clone());
    let (from, digest) = (from.clone(), gathered.digest().clone());
    destination::put(tx, &Destination { from, digest, to: to_repository, by, decision: number })?;
    let note = (!note.is_empty()).then(|| note.to_owned());
    let moved = record::promoted_event(gathered, to, None, note, number);
    event::append(tx, &Event::new(now_ms, &who.name, moved))?;
    Ok(number)
}
