//! `/api/v1/decisions`, `/api/v1/promotions`: what was decided about a tag, why, and moves by hand.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wharf_oci::{Reference, RepoName, Tag, Target};
use wharf_plugin::trace::Question;

use super::extract::{Administrator, Asked, Body, Named};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::access::Action;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::event::Stage;
use crate::facts::DocumentError;
use crate::flow::promote::explain::{self, Explained, Explanation};
use crate::flow::promote::replay::{self, Replay, Replayed};
use crate::flow::promote::{PromoteError, by_hand};
use crate::promote::{Decision, decision};
use crate::registry::RegistryError;

/// A decision with the questions that led to it: stored evidence, verbatim.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainedEntry {
    pub decision: Decision,
    /// What each of the decision's policies asked and was answered, in their order; empty where none was called, or where
    /// it is no longer kept.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub traces: Vec<Vec<Question>>,
    /// The policies' configs, by the digests that the decision names.
    pub configs: BTreeMap<String, String>,
}

/// Why a tag's image is there, and how it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainedTag {
    /// The decision that took the image here from another stage; absent where it was pushed here, where the caller may not read
    /// that stage's repository, and where it is no longer kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_by: Option<Decision>,
    /// The newest decision by hand about what the tag points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<Decision>,
    /// One for each binding that judged it.
    pub standings: Vec<ExplainedStanding>,
}

/// How a tag stands with one binding.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainedStanding {
    pub binding: String,
    #[schema(example = "hold")]
    pub verdict: String,
    /// Whether this binding promoted what the tag points at.
    pub promoted: bool,
    /// When it is judged again even if nothing changes, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_at_ms: Option<u64>,
    /// Absent where it is no longer kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<ExplainedEntry>,
}

/// Which image, by its tag.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TagName {
    /// `repository:tag`.
    #[schema(example = "dev/app:1.4")]
    #[param(example = "dev/app:1.4")]
    pub image: String,
}

/// A promotion to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPromotion {
    #[schema(example = "dev/app:1.4")]
    pub from: String,
    #[schema(example = "qa/app:1.4")]
    pub to: String,
    /// Why, for whoever reads the history; at most 2,000 bytes.
    #[serde(default)]
    pub note: String,
}

/// A promotion that was made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PromotionEntry {
    pub from: String,
    pub to: String,
    pub digest: String,
    /// The decision in the source's history.
    pub decision: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct History {
    /// `repository:tag`.
    #[param(example = "dev/app:1.4")]
    image: String,
    /// Decisions at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/decisions", get(ls))
        .route("/decisions/explain", get(explain_tag))
        .route("/decisions/ask", post(ask))
        .route("/decisions/replay", post(replay_all))
        .route("/decisions/{number}", get(show))
        .route("/promotions", post(promote))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, explain_tag, show, ask, replay_all, promote))]
pub(super) struct Doc;

impl From<Explained> for ExplainedEntry {
    fn from(Explained { decision, traces, configs }: Explained) -> Self {
        ExplainedEntry { decision, traces, configs }
    }
}

impl From<PromoteError> for ApiError {
    fn from(error: PromoteError) -> Self {
        match error {
            PromoteError::NoTag(_) | PromoteError::NoPlugin(_) | PromoteError::NoDecision { .. } => {
                ApiError::not_found(error)
            }
            PromoteError::Note(_) => ApiError::invalid(error),
            PromoteError::Refused { .. } => ApiError::new(StatusCode::FORBIDDEN, "denied", error),
            PromoteError::Held(..) => ApiError::new(StatusCode::CONFLICT, "held", error),
            PromoteError::Stale
            | PromoteError::Interrupted
            | PromoteError::Facts(_)
            | PromoteError::NotFollowed { .. } => ApiError::conflict(error),
            PromoteError::Registry(RegistryError::Store(error)) | PromoteError::Store(error) => error.into(),
            PromoteError::Registry(error) => ApiError::conflict(error),
            PromoteError::Document(error) => error.into(),
            PromoteError::Stored(error) => ApiError::internal(error),
        }
    }
}

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Missing { .. } => ApiError::not_found(error),
            DocumentError::TooLarge { .. } => ApiError::conflict(error),
            DocumentError::Damaged { .. } => ApiError::internal(error),
            DocumentError::Store(error) => error.into(),
        }
    }
}

/// A tag that is named as an image.
fn stage(image: &str) -> Result<Stage, ApiError> {
    let Reference { repository, target } = image.parse().map_err(ApiError::invalid)?;
    match target {
        Target::Tag(tag) => Ok(Stage { repository, tag }),
        Target::Digest(_) => Err(ApiError::invalid("decisions are about tags; hint: `repository:tag`")),
    }
}

/// The tag, once the caller may read it.
async fn readable(app: &App, caller: &Caller, image: &str) -> Result<(RepoName, Tag), ApiError> {
    let Stage { repository, tag } = stage(image)?;
    caller.require(app, Action::Pull, &repository).await?;
    Ok((repository, tag))
}

/// A tag's decisions, newest first, as they are stored.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "decisions", params(History),
    responses((status = 200, body = Page<Decision>), Failures))]
async fn ls(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<History>,
) -> Result<Json<Page<Decision>>, ApiError> {
    let (repository, tag) = readable(&app, &caller, &query.image).await?;
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let before = match paging.cursor() {
        Some(cursor) => Some(cursor.parse().map_err(|_| paging.wrong_cursor())?),
        None => None,
    };
    let items = decision::history(&app.store, &repository, &tag, before, limit).await?;
    let next = match items.last() {
        // A page holds fewer than were asked for; whether there is another, the next read tells.
        Some(last) => {
            let more = decision::history(&app.store, &repository, &tag, Some(last.number), 1).await?;
            (!more.is_empty()).then(|| last.number.to_string())
        }
        None => None,
    };
    Ok(Json(Page { items, next }))
}

/// Why a tag's image is there, and how it stands with every binding that judged it, each with its latest decision and all
/// questions that led to it.
#[utoipa::path(get, path = "/api/v1/decisions/explain", tag = "decisions", params(TagName),
    responses((status = 200, body = ExplainedTag), (status = 404, body = ErrorBody), Failures))]
async fn explain_tag(
    State(app): State<App>,
    caller: Caller,
    Asked(name): Asked<TagName>,
) -> Result<Json<ExplainedTag>, ApiError> {
    let (repository, tag) = readable(&app, &caller, &name.image).await?;
    let Explanation { came_by, by_hand, stands } =
        explain::tag(&app, &caller.principal, &repository, &tag).await?;
    let entry = |stands: explain::Stands| ExplainedStanding {
        binding: stands.binding,
        verdict: stands.standing.verdict.to_string(),
        promoted: stands.standing.promoted,
        recheck_at_ms: stands.standing.at_ms,
        explained: stands.explained.map(Into::into),
    };
    Ok(Json(ExplainedTag { came_by, by_hand, standings: stands.into_iter().map(entry).collect() }))
}

/// One decision with all questions that led to it.
#[utoipa::path(get, path = "/api/v1/decisions/{number}", tag = "decisions", params(("number" = u64, Path), TagName),
    responses((status = 200, body = ExplainedEntry), (status = 404, body = ErrorBody), Failures))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(number): Named<u64>,
    Asked(name): Asked<TagName>,
) -> Result<Json<ExplainedEntry>, ApiError> {
    let (repository, tag) = readable(&app, &caller, &name.image).await?;
    Ok(Json(explain::decision(&app, &repository, &tag, number).await?.into()))
}

/// Asks the policies about a tag again; the decisions come as soon as a worker is free.
#[utoipa::path(post, path = "/api/v1/decisions/ask", tag = "decisions", request_body = TagName,
    responses((status = 202), (status = 404, body = ErrorBody), Unread, Failures))]
async fn ask(
    State(app): State<App>,
    caller: Caller,
    Body(name): Body<TagName>,
) -> Result<StatusCode, ApiError> {
    let Stage { repository, tag } = stage(&name.image)?;
    caller.require(&app, Action::Maintain, &repository).await?;
    explain::ask_again(&app, &caller.principal.name, &repository, &tag).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Judges stored decisions again, on what was known then or now, by the same policies or by another. Nothing is written.
/// For administrators.
#[utoipa::path(post, path = "/api/v1/decisions/replay", tag = "decisions", request_body = Replay,
    responses((status = 200, body = Replayed), (status = 404, body = ErrorBody), Unread, Failures))]
async fn replay_all(
    State(app): State<App>,
    _: Administrator,
    Body(what): Body<Replay>,
) -> Result<Json<Replayed>, ApiError> {
    Ok(Json(replay::replay(&app, &what).await?))
}

/// Promotes by hand: points a tag at what another points at, with a note. The caller may pull the one and maintain the
/// other.
#[utoipa::path(post, path = "/api/v1/promotions", tag = "promotions", request_body = NewPromotion,
    responses((status = 201, body = PromotionEntry), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), Unread, Failures))]
async fn promote(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewPromotion>,
) -> Result<(StatusCode, Json<PromotionEntry>), ApiError> {
    let (from, to) = (stage(&new.from)?, stage(&new.to)?);
    caller.require(&app, Action::Pull, &from.repository).await?;
    caller.require(&app, Action::Maintain, &to.repository).await?;
    let by_hand::ByHand { from, to, digest, decision } =
        by_hand::promote(&app, &caller.principal, &from, &to, &new.note).await?;
    Ok((StatusCode::CREATED, Json(PromotionEntry { from, to, digest, decision })))
}
