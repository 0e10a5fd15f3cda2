//! Why an image stands where it stands.

use std::collections::BTreeMap;

use serde::Serialize;
use wharf_oci::{RepoName, Tag};
use wharf_plugin::facts::ImageFacts;
use wharf_plugin::trace::{Question, Trace};

use super::{PromoteError, gather, past, stage};
use crate::App;
use crate::access::{self, Action, Principal};
use crate::event::{Event, Kind};
use crate::facts::document::{self, Kind as Document};
use crate::facts::{DocumentError, stored};
use crate::promote::Decision;
use crate::promote::binding;
use crate::promote::decision;
use crate::promote::standing::{self, Place, Standing};

/// A decision with the questions that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    pub decision: Decision,
    /// In the order of the decision's policies; empty where the plugin was not called, or the trace is no longer kept.
    pub traces: Vec<Vec<Question>>,
    /// The policies' configs, by the digests that the decision names.
    pub configs: BTreeMap<String, String>,
}

/// How a tag stands with one binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stands {
    pub binding: String,
    pub standing: Standing,
    pub explained: Option<Explained>,
}

/// Why a tag's image is there, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What took the image here from the stage before.
    pub came_by: Option<Decision>,
    /// The newest decision by hand about the tag as it stands.
    pub by_hand: Option<Decision>,
    pub stands: Vec<Stands>,
}

/// All that was decided about what a tag points at: how it came there, as far as `who` may read where from; the newest decision by
/// hand; and how it stands with every binding that judged it, each with its latest decision and the whole trace.
///
/// # Errors
/// [`PromoteError::NoTag`] where there is no such tag and none was judged, or the store's.
pub async fn tag(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    tag: &Tag,
) -> Result<Explanation, PromoteError> {
    let (stands, here) = (stands(app, repository, tag).await?, stage(repository, tag));
    let Some((row, revision)) = crate::registry::tag::find_at(&app.store, repository, tag).await? else {
        return match stands.is_empty() {
            true => Err(PromoteError::NoTag(here)),
            false => Ok(Explanation { came_by: None, by_hand: None, stands }),
        };
    };
    let came_by = match row.lineage.last() {
        Some(from) if access::may(app, who, Action::Pull, &from.repository).await? => {
            past::led(app, from, &here, &row.digest).await?
        }
        _ => None,
    };
    let by_hand = past::by_hand(app, &here, revision).await?;
    Ok(Explanation { came_by, by_hand, stands })
}

async fn stands(app: &App, repository: &RepoName, tag: &Tag) -> Result<Vec<Stands>, PromoteError> {
    let mut stands = Vec::new();
    for bound in binding::all(&app.store).await? {
        let binding = bound.binding.name.to_string();
        let place = Place { binding: binding.clone(), repository: repository.clone(), tag: tag.clone() };
        let Some(standing) = standing::find(&app.store, &place).await? else { continue };
        let decision = decision::find(&app.store, repository, tag, standing.decision).await?;
        let explained = match decision {
            Some(decision) => Some(explain(app, decision).await?),
            None => None,
        };
        stands.push(Stands { binding, standing, explained });
    }
    Ok(stands)
}

/// One decision with its traces.
///
/// # Errors
/// [`PromoteError::NoDecision`], or the store's.
pub async fn decision(
    app: &App,
    repository: &RepoName,
    tag: &Tag,
    number: u64,
) -> Result<Explained, PromoteError> {
    let found = decision::find(&app.store, repository, tag, number).await?;
    let decision = found.ok_or_else(|| PromoteError::NoDecision { stage: stage(repository, tag), number })?;
    explain(app, decision).await
}

async fn explain(app: &App, decision: Decision) -> Result<Explained, PromoteError> {
    let mut traces = Vec::with_capacity(decision.policies.len());
    let mut configs = BTreeMap::new();
    for judged in &decision.policies {
        let trace = match &judged.trace {
            Some(digest) => kept(document::read_json::<Trace>(&app.store, Document::Trace, digest).await)?,
            None => None,
        };
        traces.push(trace.map_or_else(Vec::new, |trace| trace.questions().to_vec()));
        if !configs.contains_key(&judged.config)
            && let Some(config) = kept(document::read(&app.store, Document::Config, &judged.config).await)?
        {
            configs.insert(judged.config.clone(), String::from_utf8_lossy(&config).into_owned());
        }
    }
    Ok(Explained { decision, traces, configs })
}

/// What was read, or nothing where it is no longer kept.
fn kept<T>(read: Result<T, DocumentError>) -> Result<Option<T>, DocumentError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(DocumentError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is known of a tag's image now, as a policy would be told.
///
/// # Errors
/// [`PromoteError::NoTag`]; [`PromoteError::Facts`] where that is more than can be judged; or the store's.
pub async fn facts(app: &App, repository: &RepoName, tag: &Tag) -> Result<ImageFacts, PromoteError> {
    let gathered = gather::tag(app, repository, tag).await?;
    let gathered = gathered.ok_or_else(|| PromoteError::NoTag(stage(repository, tag)))?;
    let facts = gathered.facts.map_err(|reason| PromoteError::Facts(reason.text))?;
    Ok(facts.facts().clone())
}

/// What was known when a decision was made.
///
/// # Errors
/// [`PromoteError::Stored`] where it is no longer kept.
pub async fn facts_then(app: &App, digest: &str) -> Result<ImageFacts, PromoteError> {
    Ok(stored::read(&app.store, digest).await?.facts().clone())
}

/// Asks for a new judgement; it comes as soon as a worker is free.
///
/// # Errors
/// [`PromoteError::NoTag`], or the store's.
pub async fn ask_again(app: &App, by: &str, repository: &RepoName, tag: &Tag) -> Result<(), PromoteError> {
    let found = crate::registry::tag::find(&app.store, repository, tag).await?;
    let digest = found.ok_or_else(|| PromoteError::NoTag(stage(repository, tag)))?.digest;
    let (repository, tag) = (repository.clone(), tag.clone());
    let asked = Kind::JudgementAsked { repository, tag, digest: Some(digest) };
    let event = &Event::new(app.now_ms(), by, asked);
    app.store.act(|mut tx| async move { crate::event::append(&mut tx, event) }).await?;
    Ok(())
}
