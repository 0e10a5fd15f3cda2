//! `/api/v1/plugins`: what is in force, and what was refused and why.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wharf_plugin::CallLimits;

use super::Failures;
use super::extract::{Administrator, Named};
use crate::App;
use crate::api::{ApiError, Caller, ErrorBody};
use crate::flow::promote::bind;
use crate::plugin::state::{self, ActiveRow, QuarantineRow};
use crate::promote::Bound;

/// What is in force, and what was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PluginList {
    /// By name.
    pub active: Vec<ActivePlugin>,
    /// By file, the newest first in each; kept after the file is gone. The newest 300, those that stand before the others. Shown to
    /// administrators alone.
    pub quarantine: Vec<RefusedFile>,
    /// More is remembered than that; the events have all.
    #[serde(default)]
    pub more_quarantine: bool,
}

/// A plugin in force, in short.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActivePlugin {
    #[schema(example = "criteria")]
    pub name: String,
    pub version: String,
    /// Of its file's bytes.
    pub digest: String,
    /// In the plugin folder.
    pub file: String,
    /// Since when it is in force, milliseconds since 1970.
    pub at_ms: u64,
    /// Digests of what it took the place of, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
}

/// A refusal that is remembered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusedFile {
    pub file: String,
    /// The plugin's name, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty where it could not be read.
    pub digest: String,
    /// How far it came: `read`, `inspect`, `grant`, `name`, `compile`, `self-test`, `archive`.
    pub stage: String,
    pub reason: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What stays in force in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// The file is there as it was refused; no longer once it is replaced or gone.
    pub standing: bool,
}

/// One plugin in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PluginEntry {
    #[schema(example = "criteria")]
    pub name: String,
    pub version: String,
    /// Of its file's bytes.
    pub digest: String,
    /// In the plugin folder.
    pub file: String,
    /// Since when it is in force, milliseconds since 1970.
    pub at_ms: u64,
    /// Digests of what it took the place of, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
    #[schema(example = "promotion-policy")]
    pub kind: String,
    /// Version of the interface that it was made for.
    pub interface: String,
    pub description: String,
    /// What it asks for, and what the operator's file beside it grants.
    pub asked: Vec<String>,
    pub granted: Vec<String>,
    pub limits: PluginLimits,
    /// JSON Schema of its config.
    #[schema(value_type = Object)]
    pub config_schema: Value,
    /// Bindings that ask it, of those that the caller may see.
    pub bindings: Vec<String>,
}

/// What one call of a plugin may take; whoever takes more is ended, and the image is held. The settings file has them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct PluginLimits {
    /// Milliseconds of processor time.
    pub time_ms: u64,
    pub memory_bytes: usize,
    /// Questions and other calls to the host.
    pub host_calls: u32,
    /// Of its reasons and errors together.
    pub output_bytes: usize,
    /// Of log lines; more are dropped.
    pub log_bytes: usize,
    /// Of the record of its questions.
    pub trace_bytes: usize,
}

impl From<ActiveRow> for ActivePlugin {
    fn from(row: ActiveRow) -> Self {
        let ActiveRow { name, version, digest, file, at_ms, previous } = row;
        ActivePlugin { name, version, digest, file, at_ms, previous }
    }
}

impl From<CallLimits> for PluginLimits {
    fn from(limits: CallLimits) -> Self {
        let CallLimits { time_ms, memory_bytes, host_calls, output_bytes, log_bytes, trace_bytes } = limits;
        PluginLimits { time_ms, memory_bytes, host_calls, output_bytes, log_bytes, trace_bytes }
    }
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/plugins", get(ls))
        .route("/plugins/rescan", post(rescan))
        .route("/plugins/{name}", get(show))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls, show, rescan))]
pub(super) struct Doc;

/// Plugins in force, for whoever binds them, and for administrators the files that were refused. What stands is few, so there
/// are no pages.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins",
    responses((status = 200, body = PluginList), Failures))]
async fn ls(State(app): State<App>, caller: Caller) -> Result<Json<PluginList>, ApiError> {
    let active = state::active(&app.store).await?;
    let set = app.plugins.catalog().current();
    let stands =
        |row: &QuarantineRow| set.failed().get(&row.file).is_some_and(|failed| failed.digest == row.digest);
    let (rows, more_quarantine) = match caller.administers(&app).await? {
        true => state::quarantine(&app.store, stands).await?,
        false => (Vec::new(), false),
    };
    let refused = |row: QuarantineRow| {
        let standing = stands(&row);
        let QuarantineRow { file, name, digest, stage, reason, at_ms, kept } = row;
        RefusedFile { file, name, digest, stage, reason, at_ms, kept, standing }
    };
    Ok(Json(PluginList {
        active: active.into_iter().map(ActivePlugin::from).collect(),
        quarantine: rows.into_iter().map(refused).collect(),
        more_quarantine,
    }))
}

/// One plugin in force, with what it asks for and the schema of its config.
#[utoipa::path(get, path = "/api/v1/plugins/{name}", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = PluginEntry), (status = 404, body = ErrorBody), Failures))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Json<PluginEntry>, ApiError> {
    let row = state::active(&app.store).await?.into_iter().find(|row| row.name == name);
    let (Some(row), Some(plugin)) = (row, app.plugins.find(&name)) else {
        let name: String = name.chars().take(100).collect();
        let message = format!(
            "no plugin `{name}` is in force; hint: `wharf plugin ls` shows those there are, and what was refused"
        );
        return Err(ApiError::not_found(message));
    };
    let bindings = bind::visible(&app, &caller.principal).await?;
    let asks = |bound: &&Bound| bound.binding.policies.iter().any(|policy| policy.plugin == name);
    let inspected = plugin.inspected();
    Ok(Json(PluginEntry {
        name: row.name,
        version: row.version,
        digest: row.digest,
        file: row.file,
        at_ms: row.at_ms,
        previous: row.previous,
        kind: inspected.kind.as_str().to_owned(),
        interface: inspected.interface.to_string(),
        description: inspected.manifest.description.clone(),
        asked: inspected.manifest.capabilities.iter().cloned().collect(),
        granted: plugin.granted().capabilities.iter().cloned().collect(),
        limits: plugin.limits(&app.plugins.limits()).into(),
        config_schema: inspected.manifest.config_schema.clone(),
        bindings: bindings.iter().filter(asks).map(|bound| bound.binding.name.to_string()).collect(),
    }))
}

/// Looks at the plugin folder now, as SIGHUP does; what comes of it is in the events. For administrators.
#[utoipa::path(post, path = "/api/v1/plugins/rescan", tag = "plugins", responses((status = 202), Failures))]
async fn rescan(State(app): State<App>, _: Administrator) -> Result<StatusCode, ApiError> {
    app.plugins.rescan();
    Ok(StatusCode::ACCEPTED)
}
