//! What was decided before about an image that stands at a tag.

use wharf_oci::Digest;
use wharf_store::{Rev, StoreError};

use crate::App;
use crate::event::Stage;
use crate::promote::{Authority, Decision, Effect, Outcome, decision};

/// How far back a decision is searched for, in decisions of one tag.
const SEARCH_MAX: usize = 1000;
/// Decisions that the search reads at once.
const PAGE: usize = 50;

/// The newest decision that took this image from a stage to the next. The stage's tag may have moved on since, so that there
/// are newer ones about other images.
pub(super) async fn led(
    app: &App,
    from: &Stage,
    to: &Stage,
    digest: &Digest,
) -> Result<Option<Decision>, StoreError> {
    let target = to.to_string();
    let goes_there = |effect: &Effect| {
        effect.outcome == Outcome::Promoted && effect.to.as_deref() == Some(target.as_str())
    };
    newest(app, from, |decision| decision.digest == *digest && decision.effects.iter().any(goes_there)).await
}

/// The newest decision by hand about a tag as it has stood since `revision`.
pub(super) async fn by_hand(app: &App, stage: &Stage, revision: Rev) -> Result<Option<Decision>, StoreError> {
    let is_of_now = |decision: &Decision| decision.tag_revision == revision.0;
    let is_by_hand = |decision: &Decision| matches!(decision.authority, Authority::Hand { .. });
    // What is older than the first one about another image is, too.
    let found = newest(app, stage, |decision| !is_of_now(decision) || is_by_hand(decision)).await?;
    Ok(found.filter(is_of_now))
}

async fn newest(
    app: &App,
    stage: &Stage,
    is_wanted: impl Fn(&Decision) -> bool,
) -> Result<Option<Decision>, StoreError> {
    let (mut before, mut looked_at) = (None, 0);
    while looked_at < SEARCH_MAX {
        let page = decision::history(&app.store, &stage.repository, &stage.tag, before, PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        (before, looked_at) = (Some(last.number), looked_at + page.len());
        if let Some(found) = page.into_iter().find(&is_wanted) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
