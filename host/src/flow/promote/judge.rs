//! One tag, by all bindings that match it.

use wharf_oci::{RepoName, Tag};
use wharf_store::StoreError;

use super::PromoteError;
use super::ask::{self, Call, Opened};
use super::gather::{self, Gathered};
use super::settle::{self, Case, Settled};
use crate::App;
use crate::event::EventId;
use crate::promote::binding::{self, Bound};
use crate::promote::standing::{self, Place};
use crate::promote::{Mode, Verdict};
use crate::registry;

/// How often a judgement starts again that met a change.
const TRIES: usize = 4;

/// What a judgement of one tag came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Each binding's verdict.
    pub verdicts: Vec<(String, Verdict)>,
    /// Places that the image was promoted to now.
    pub promoted: Vec<String>,
}

/// Judges the tag by every binding that matches it, records what is new, and promotes what is approved. How it stood with the
/// others is forgotten.
///
/// # Errors
/// Where something of the server's own failed; the job tries again.
pub async fn tag(
    app: &App,
    repository: &RepoName,
    tag: &Tag,
    cause: Option<EventId>,
) -> Result<Summary, PromoteError> {
    let all = binding::all(&app.store).await?;
    let mut summary = Summary::default();
    for Bound { binding, .. } in &all {
        if binding.matches(repository, tag) {
            by_binding(app, repository, tag, binding.name.as_str(), cause, &mut summary).await?;
        } else {
            forget(app, &place(repository, tag, binding.name.as_str())).await?;
        }
    }
    Ok(summary)
}

/// Judges the tag by one binding as it is now.
///
/// # Errors
/// As [`tag`].
pub async fn by_binding(
    app: &App,
    repository: &RepoName,
    tag: &Tag,
    name: &str,
    cause: Option<EventId>,
    summary: &mut Summary,
) -> Result<(), PromoteError> {
    let place = &place(repository, tag, name);
    let (mut tries, mut opened) = (0, Vec::new());
    loop {
        let bound = binding::find(&app.store, name).await?;
        let Some(bound) = bound.filter(|bound| bound.binding.matches(repository, tag)) else {
            return Ok(forget(app, place).await?);
        };
        let Some(gathered) = gather::tag(app, repository, tag).await? else {
            return Ok(forget(app, place).await?);
        };
        tries += 1;
        match once(app, gathered, &bound, cause, &mut opened, summary).await {
            // What one commit could not take along follows at once. Each turn promotes to a target at least.
            Ok(true) => tries = 0,
            // The tag or the binding moved on: what they are now is what counts.
            Err(PromoteError::Stale | PromoteError::Store(StoreError::Conflict(_))) if tries < TRIES => {}
            ended => return ended.map(drop),
        }
    }
}

/// Asks and settles, with the breakers that were `opened` by tries that came to nothing. Returns whether there is more to
/// settle.
async fn once(
    app: &App,
    mut gathered: Gathered,
    bound: &Bound,
    cause: Option<EventId>,
    opened: &mut Vec<Opened>,
    summary: &mut Summary,
) -> Result<bool, PromoteError> {
    let mut pending = gathered.keep()?;
    let gathered = &gathered;
    let mut opinions = ask::binding(app, &bound.binding, gathered, Call::Judgement, &mut pending).await?;
    opened.append(&mut opinions.opened);
    opinions.opened.clone_from(opened);
    let verdict = opinions.composed.verdict;
    let Settled { promoted, more } =
        settle::binding(app, Case { gathered, bound, opinions, pending, cause }).await?;
    opened.clear();
    summary.verdicts.push((bound.binding.name.to_string(), verdict));
    summary.promoted.extend(promoted);
    metrics::counter!("wharf_judgements_total", "verdict" => verdict.name(), "shadow" => if bound.binding.mode == Mode::Shadow { "yes" } else { "no" })
        .increment(1);
    Ok(more)
}

fn place(repository: &RepoName, tag: &Tag, binding: &str) -> Place {
    Place { binding: binding.to_owned(), repository: repository.clone(), tag: tag.clone() }
}

/// Takes away how a tag stands with a binding that has nothing to do with it any more, or that is gone as the tag may be. Looks
/// again in the commit: a push or a change of the binding may just have made it stand anew.
pub(super) async fn forget(app: &App, place: &Place) -> Result<(), StoreError> {
    if standing::find(&app.store, place).await?.is_none() {
        return Ok(());
    }
    app.store
        .act(|mut tx| async move {
            let Place { binding, repository, tag } = place;
            let bound = binding::expect(&mut tx, binding).await?;
            let is_there = registry::tag::get(&mut tx, repository, tag).await?.is_some();
            let concerns = is_there && bound.is_some_and(|bound| bound.binding.matches(repository, tag));
            if !concerns && let Some(old) = standing::expect(&mut tx, place).await? {
                standing::remove(&mut tx, place, &old);
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}
