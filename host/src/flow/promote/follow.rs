//! What is said of an image after it was promoted follows it: a signature is made of what was pushed, and a push is
//! promoted at once.
//!
//! Whoever pushes a referrer leaves an event, and so does a promotion. A job looks from the manifest up to the images that
//! it is about or part of, and links it, with what refers to it, where each of them went. What comes there that was not
//! there leaves an event in turn: so it goes down a chain, and ends where nothing is new.
//!
//! Invariant: of a referrer and a promotion, the job of whichever was committed last sees both.
//! Invariant: no tag moves, and nothing is kept for its own sake: a referrer lives as long as its subject.
//! Invariant: nothing that runs comes this way, be it named as a referrer, or in an index that is one: it would come unjudged.
//! Invariant: it is done by the right that the promotion was made by, as far as that is in force now. Where it is not, and where
//! it is more than one copy takes, an event says so, as a held decision does, and the job is done: time alone changes neither.

use tokio_util::sync::CancellationToken;
use wharf_oci::{Digest, RepoName};
use wharf_store::{StoreError, Tx};

use super::{PromoteError, aim, by_hand, settle};
use crate::App;
use crate::access::{self, Principal};
use crate::event::{self, Event, Kind};
use crate::promote::destination::{self, By, Destination};
use crate::promote::{Reason, binding};
use crate::registry::copy::{self, MANIFESTS_MAX, Plan, Step};
use crate::registry::{RegistryError, row};

/// Takes a manifest of the repository, with what refers to it, along to wherever an image went that it is about or part of.
/// May be done again: what is there already costs reads only.
///
/// # Errors
/// [`PromoteError::NotFollowed`] where a target refuses it that may take it later, after the others have it; else where something
/// of the server's own failed.
pub async fn manifest(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
    stop: &CancellationToken,
) -> Result<(), PromoteError> {
    let (images, more) = copy::above(&app.store, repository, digest).await?;
    // Most of what is said is said where no promotion begins: there it is not worth a walk over all that refers to it.
    if !went_somewhere(app, repository, &images).await? {
        return Ok(());
    }
    let mut plan = match settle::planned(copy::plan_said(&app.store, repository, digest).await) {
        // It was deleted meanwhile.
        Err(PromoteError::Stale) => return Ok(()),
        plan => plan?,
    };
    if more {
        let too_many = RegistryError::TooManyManifests { digest: digest.clone(), max: MANIFESTS_MAX };
        plan = Err(settle::refusal(too_many)?);
    }
    let mut missed = Vec::new();
    for image in images {
        let mut after = None;
        loop {
            let (page, next) = destination::of_image(&app.store, repository, &image, after.as_ref()).await?;
            for destination in page {
                if stop.is_cancelled() {
                    return Err(PromoteError::Interrupted);
                }
                let why = match &plan {
                    Ok(plan) => one(app, plan, &destination).await?,
                    Err(reason) => leads(app, &destination).await?.then(|| Missed::Held(reason.clone())),
                };
                let miss = why.map(|why| (destination.to, why));
                missed.extend(miss.filter(|miss| !missed.contains(miss)));
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    let mut lacking = Vec::new();
    for (to, why) in missed {
        // What one right does not allow another may have done.
        let is_there = match &plan {
            Ok(plan) => !lacks(app, plan, repository, &to).await?,
            Err(_) => false,
        };
        if !is_there {
            lacking.push((to, why));
        }
    }
    if lacking.iter().any(|(_, why)| matches!(why, Missed::Refused(_))) {
        let mut reasons: Vec<String> = lacking.into_iter().map(|(_, why)| why.reason().text).collect();
        reasons.dedup();
        return Err(PromoteError::NotFollowed { digest: digest.clone(), why: reasons.join("; ") });
    }
    for (to, why) in lacking {
        tell_held(app, repository, &to, digest, why.reason().text).await?;
    }
    Ok(())
}

async fn went_somewhere(app: &App, from: &RepoName, images: &[Digest]) -> Result<bool, StoreError> {
    for image in images {
        let (destinations, _) = destination::of_image(&app.store, from, image, None).await?;
        if !destinations.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a repository did not get it.
#[derive(Debug, PartialEq, Eq)]
enum Missed {
    /// Whoever answers for the promotion may not any more, or it is too much to be taken along: no other try changes that.
    Held(Reason),
    /// The repository refuses it now, and may take it at another try.
    Refused(Reason),
}

impl Missed {
    fn reason(self) -> Reason {
        match self {
            Missed::Held(reason) | Missed::Refused(reason) => reason,
        }
    }
}

async fn tell_held(
    app: &App,
    from: &RepoName,
    to: &RepoName,
    digest: &Digest,
    reason: String,
) -> Result<(), PromoteError> {
    let held = Kind::ReferrerHeld { from: from.clone(), to: to.clone(), digest: digest.clone(), reason };
    let event = &Event::system(app.now_ms(), held);
    app.store.act(|mut tx| async move { event::append(&mut tx, event) }).await?;
    Ok(())
}

/// Whether something of the plan is not there that the source has.
async fn lacks(app: &App, plan: &Plan, from: &RepoName, to: &RepoName) -> Result<bool, PromoteError> {
    for digest in plan.manifests() {
        let (there, here) = (row::manifest(to, digest), row::manifest(from, digest));
        if app.store.get(&there).await?.is_none() && app.store.get(&here).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes it along to one repository. Returns why that did not get it.
async fn one(app: &App, plan: &Plan, destination: &Destination) -> Result<Option<Missed>, PromoteError> {
    for steps in plan.whole() {
        match app.store.act(|tx| portion(app, tx, steps, destination)).await {
            Ok((None, _)) => {}
            Ok((Some(reason), _)) => return Ok(Some(Missed::Held(reason))),
            Err(error) => return Ok(Some(Missed::Refused(settle::refused(error, &destination.to)?))),
        }
    }
    Ok(None)
}

/// Whether the image still is where it went, and is still meant to be led there.
async fn leads(app: &App, destination: &Destination) -> Result<bool, PromoteError> {
    let Destination { from, to, digest, .. } = destination;
    let led = match &destination.by {
        By::Hand(_) => true,
        By::Binding(name) => {
            binding::find(&app.store, name).await?.is_some_and(|bound| bound.binding.leads(from, to))
        }
    };
    Ok(led && app.store.get(&row::manifest(to, digest)).await?.is_some())
}

/// One commit: rights and binding as they are, links, and an event for each referrer that came. Returns the right that is missing.
async fn portion(
    app: &App,
    mut tx: Tx,
    steps: &[Step],
    destination: &Destination,
) -> Result<Option<Reason>, PromoteError> {
    let (tx, Destination { from, to, .. }) = (&mut tx, destination);
    if !tx.present(&row::manifest(to, &destination.digest)).await? {
        // The image was taken away there.
        return Ok(None);
    }
    access::expect_grants(tx).await?;
    let (by, refused) = match &destination.by {
        By::Binding(name) => {
            let bound = binding::expect(tx, name).await?;
            let Some(bound) = bound.filter(|bound| bound.binding.leads(from, to)) else { return Ok(None) };
            let owner = bound.binding.owner;
            let refused = aim::no_right(app, &owner, &from.repository, to).await?;
            (owner, refused)
        }
        By::Hand(by) => {
            let refused = by_hand::no_right(app, &Principal::user(by), &from.repository, to).await?;
            (by.clone(), refused.map(|refused| Reason::new("not-allowed", refused.to_string())))
        }
    };
    if refused.is_some() {
        return Ok(refused);
    }
    let now_ms = app.now_ms();
    for referrer in copy::steps(tx, &from.repository, to, steps, &by, now_ms).await? {
        let followed = Kind::ReferrerPromoted {
            from: from.repository.clone(),
            to: to.clone(),
            digest: referrer.digest,
            subject: referrer.subject,
            decision: destination.decision,
        };
        event::append(tx, &Event::new(now_ms, &by, followed))?;
    }
    Ok(None)
}
