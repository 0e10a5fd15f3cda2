//! `/api/v1/status`: is the server well, and what keeps it busy.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DatabaseEntry, Failures, database};
use crate::App;
use crate::api::{ApiError, Caller};
use crate::jobs::{self, Queue};
use crate::plugin::state;

/// Jobs of one queue that are counted.
pub const COUNTED_MAX: usize = 500;

/// How the server is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Who asks.
    pub caller: StatusCaller,
    /// The number of the newest commit, which tells how busy the server is. Shown to administrators alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<u64>,
    /// The disk that the data folder is on. Shown to administrators alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStatus>,
    /// Plugins in force, as `name version`.
    pub plugins: Vec<String>,
    /// What images are compared with.
    pub vulnerability_data: DatabaseEntry,
    /// Files in the plugin folder that are refused now. Shown to administrators alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// What must happen next, by queue. Shown to administrators alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueStatus>,
}

/// Whoever asks, as the server knows them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusCaller {
    pub user: String,
    pub administers: bool,
}

/// Whether there is room.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DiskStatus {
    /// What is left for the server, in bytes.
    pub free_bytes: u64,
    /// Pushes are refused for want of room; pulls and deletes are not.
    pub full: bool,
}

/// One queue of jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueStatus {
    pub queue: String,
    /// Waiting and running, counted up to 500.
    pub live: usize,
    /// Failed for good, counted up to 500.
    pub dead: usize,
    /// When the next of those that wait was asked for, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<u64>,
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/status", get(status))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(status))]
pub(super) struct Doc;

/// How the server is. For everybody who is logged in.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", responses((status = 200, body = Status), Failures))]
async fn status(State(app): State<App>, caller: Caller) -> Result<Json<Status>, ApiError> {
    let administers = caller.administers(&app).await?;
    let (mut refused, mut queues) = (Vec::new(), Vec::new());
    if administers {
        refused.extend(app.plugins.catalog().current().failed().keys().cloned());
        for queue in Queue::ALL {
            queues.push(queue_status(&app, queue).await?);
        }
    }
    let active = state::active(&app.store).await?;
    let vulnerability_data = database::entry(&app).await?;
    Ok(Json(Status {
        version: crate::VERSION.to_owned(),
        caller: StatusCaller { user: caller.principal.name, administers },
        commits: administers.then(|| *app.store.head().borrow()),
        disk: if administers { disk_status(&app) } else { None },
        plugins: active.iter().map(|row| format!("{} {}", row.name, row.version)).collect(),
        vulnerability_data,
        refused,
        queues,
    }))
}

/// None where the system does not tell.
fn disk_status(app: &App) -> Option<DiskStatus> {
    Some(DiskStatus { free_bytes: app.blobs.free_bytes().ok()?, full: app.is_full() })
}

async fn queue_status(app: &App, queue: Queue) -> Result<QueueStatus, ApiError> {
    let live = jobs::ls(&app.store, queue, false, None, COUNTED_MAX).await?.jobs;
    let dead = jobs::ls(&app.store, queue, true, None, COUNTED_MAX).await?.jobs.len();
    let oldest_ms = live.iter().map(|job| job.made_at_ms).min();
    Ok(QueueStatus { queue: queue.to_string(), live: live.len(), dead, oldest_ms })
}
