//! One tag, by all bindings that match it.

use wharf_oci::{RepoName, Tag};
use wharf_store::StoreError;

use super::gather::{self, Gathered};
use super::settle::{self, Case};
use super::{PromoteError, ask};
use crate::App;
use crate::event::EventId;
use crate::facts::Pending;
use crate::promote::binding::{self, Bound};
use crate::promote::standing::{self, Place};
use crate::promote::{Mode, Verdict};

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

/// Judges the tag by every binding that matches it, records what is new, and promotes what is approved.
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
    let (matching, others): (Vec<Bound>, Vec<Bound>) =
        all.into_iter().partition(|bound| bound.binding.matches(repository, tag));
    forget(app, repository, tag, &others).await?;
    let mut summary = Summary::default();
    for bound in &matching {
        by_binding(app, repository, tag, bound.binding.name.as_str(), cause, &mut summary).await?;
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
    let mut tries = 0;
    loop {
        let Some(bound) = binding::find(&app.store, name).await? else { return Ok(()) };
        if !bound.binding.matches(repository, tag) {
            return Ok(forget(app, repository, tag, &[bound]).await?);
        }
        let Some(gathered) = gather::tag(app, repository, tag).await? else {
            return Ok(forget(app, repository, tag, &[bound]).await?);
        };
        tries += 1;
        match once(app, &gathered, &bound, cause, summary).await {
            // The tag or the binding moved on: what they are now is what counts.
            Err(PromoteError::Stale | PromoteError::Store(StoreError::Conflict(_))) if tries < TRIES => {}
            ended => return ended,
        }
    }
}

async fn once(
    app: &App,
    gathered: &Gathered,
    bound: &Bound,
    cause: Option<EventId>,
    summary: &mut Summary,
) -> Result<(), PromoteError> {
    let mut pending = Pending::default();
    let opinions = ask::binding(app, &bound.binding, &gathered.facts, &mut pending).await?;
    let verdict = opinions.composed.verdict;
    let settled = settle::binding(app, Case { gathered, bound, opinions, pending, cause }).await?;
    summary.verdicts.push((bound.binding.name.to_string(), verdict));
    summary.promoted.extend(settled);
    metrics::counter!("wharf_judgements_total", "verdict" => verdict.name(), "shadow" => if bound.binding.mode == Mode::Shadow { "yes" } else { "no" })
        .increment(1);
    Ok(())
}

/// Takes away how the tag stands with bindings that have nothing to do with it (any more), or that it is gone for.
async fn forget(app: &App, repository: &RepoName, tag: &Tag, bindings: &[Bound]) -> Result<(), StoreError> {
    for bound in bindings {
        let place = &Place {
            binding: bound.binding.name.to_string(),
            repository: repository.clone(),
            tag: tag.clone(),
        };
        if standing::find(&app.store, place).await?.is_none() {
            continue;
        }
        app.store
            .act(|mut tx| async move {
                if let Some(old) = standing::expect(&mut tx, place).await? {
                    standing::remove(&mut tx, place, &old);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
    Ok(())
}
