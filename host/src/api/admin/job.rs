//! `/api/v1/jobs`: what waits, runs and failed.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Administrator, Asked, Body};
use super::{Failures, Page, Paging, Unread};
use crate::App;
use crate::api::{ApiError, ErrorBody};
use crate::jobs::{self, Listed, Queue};

/// One job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobEntry {
    /// `QUEUE/NAMESPACE/SUBJECT`.
    #[schema(example = "judge/dev/dev/app:1.4")]
    pub id: String,
    #[schema(example = "judge")]
    pub queue: String,
    /// Whose work it is; empty for the server's own.
    pub namespace: String,
    /// What it works on.
    pub subject: String,
    /// `queued`, `running` or `dead`.
    pub state: String,
    /// Milliseconds since 1970.
    pub made_at_ms: u64,
    /// When it may run (queued), began to run (running) or was given up (dead).
    pub since_ms: u64,
    /// What is left of the lease of one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<u64>,
    /// Runs that began.
    pub attempts: u32,
    /// Runs that ended because the process did.
    pub interruptions: u32,
    /// It runs once more when it is done.
    pub again: bool,
    /// Somebody asked to stop it.
    pub cancelled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The event that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// Which job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JobName {
    /// As the list shows it.
    #[schema(example = "judge/dev/dev/app:1.4")]
    #[param(example = "judge/dev/dev/app:1.4")]
    pub id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Only of this queue.
    #[param(example = "scan")]
    queue: Option<String>,
    /// `live` (queued and running) or `dead`; both without it.
    state: Option<String>,
    /// Items at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/jobs", get(ls))
        .route("/jobs/show", get(show))
        .route("/jobs/cancel", post(cancel))
        .route("/jobs/retry", post(retry))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, show, cancel, retry))]
pub(super) struct Doc;

impl From<Listed> for JobEntry {
    fn from(job: Listed) -> Self {
        JobEntry {
            id: format!("{}/{}/{}", job.queue, job.namespace, job.subject),
            queue: job.queue.to_string(),
            namespace: job.namespace,
            subject: job.subject,
            state: job.state,
            made_at_ms: job.made_at_ms,
            since_ms: job.since_ms,
            lease_left_ms: job.lease_left_ms,
            attempts: job.attempts,
            interruptions: job.interruptions,
            again: job.again,
            cancelled: job.cancelled,
            last_error: job.last_error,
            cause: job.cause,
        }
    }
}

/// The lists that a listing goes through: of each queue what failed for good, then what is alive.
fn lists(queue: Option<&str>, state: Option<&str>) -> Result<Vec<(Queue, bool)>, ApiError> {
    let queues = match queue {
        Some(name) => vec![name.parse().map_err(ApiError::invalid)?],
        None => Queue::ALL.to_vec(),
    };
    let states: &[bool] = match state {
        None => &[true, false],
        Some("dead") => &[true],
        Some("live") => &[false],
        Some(_) => return Err(ApiError::invalid("`state` is `live` or `dead`")),
    };
    Ok(queues.into_iter().flat_map(|queue| states.iter().map(move |dead| (queue, *dead))).collect())
}

fn cursor_text(queue: Queue, dead: bool, after: Option<&str>) -> String {
    format!("{queue}.{}.{}", if dead { "dead" } else { "live" }, after.unwrap_or_default())
}

/// Jobs by queue, what failed for good first. For administrators.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(Query),
    responses((status = 200, body = Page<JobEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    _: Administrator,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<JobEntry>>, ApiError> {
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let mut lists = lists(query.queue.as_deref(), query.state.as_deref())?;
    let mut after = None;
    if let Some(cursor) = paging.cursor() {
        let found = lists.iter().enumerate().find_map(|(at, (queue, dead))| {
            Some((at, cursor.strip_prefix(&cursor_text(*queue, *dead, None))?))
        });
        let (at, rest) = found.ok_or_else(|| paging.wrong_cursor())?;
        after = Some(rest.to_owned()).filter(|rest| !rest.is_empty());
        lists.drain(..at);
    }
    let mut items = Vec::new();
    for (queue, dead) in lists {
        loop {
            let rest = limit - items.len();
            if rest == 0 {
                return Ok(Json(Page { items, next: Some(cursor_text(queue, dead, after.as_deref())) }));
            }
            let page = jobs::ls(&app.store, queue, dead, after.as_deref(), rest).await?;
            items.extend(page.jobs.into_iter().map(JobEntry::from));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(Json(Page { items, next: None }))
}

/// One job, with its last error. For administrators.
#[utoipa::path(get, path = "/api/v1/jobs/show", tag = "jobs", params(JobName),
    responses((status = 200, body = JobEntry), (status = 404, body = ErrorBody), Failures))]
async fn show(
    State(app): State<App>,
    _: Administrator,
    Asked(job): Asked<JobName>,
) -> Result<Json<JobEntry>, ApiError> {
    let (queue, namespace, subject) = job.parts()?;
    let found = jobs::find(&app.store, queue, namespace, subject).await?;
    Ok(Json(found.ok_or_else(|| job.unknown())?.into()))
}

/// Cancels a job: one that waits or failed for good is gone, one that runs is told to stop. For administrators.
#[utoipa::path(post, path = "/api/v1/jobs/cancel", tag = "jobs", request_body = JobName,
    responses((status = 204), (status = 404, body = ErrorBody), Unread, Failures))]
async fn cancel(
    State(app): State<App>,
    _: Administrator,
    Body(job): Body<JobName>,
) -> Result<StatusCode, ApiError> {
    let (queue, namespace, subject) = job.parts()?;
    match jobs::cancel(&app.store, queue, namespace, subject).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(job.unknown()),
    }
}

/// Runs a job again that failed for good. For administrators.
#[utoipa::path(post, path = "/api/v1/jobs/retry", tag = "jobs", request_body = JobName,
    responses((status = 204), (status = 404, body = ErrorBody), Unread, Failures))]
async fn retry(
    State(app): State<App>,
    _: Administrator,
    Body(job): Body<JobName>,
) -> Result<StatusCode, ApiError> {
    let (queue, namespace, subject) = job.parts()?;
    match jobs::retry(&app.store, queue, namespace, subject).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(job.unknown()),
    }
}

impl JobName {
    /// Queue, namespace, subject. No queue or namespace has a slash.
    fn parts(&self) -> Result<(Queue, &str, &str), ApiError> {
        let mut parts = self.id.splitn(3, '/');
        let (Some(queue), Some(namespace), Some(subject)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(self.unknown());
        };
        Ok((queue.parse().map_err(ApiError::invalid)?, namespace, subject))
    }

    fn unknown(&self) -> ApiError {
        let id: String = self.id.chars().take(200).collect();
        ApiError::not_found(format!(
            "there is no job `{id}`; hint: one that is done is gone, `wharf jobs ls` shows those there are"
        ))
    }
}
