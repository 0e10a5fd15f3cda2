//! `/api/v1/refusals`: what was denied, and wrong passwords.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_store::{Key, Space};

use super::extract::{Administrator, Asked};
use super::{Failures, Page, Paging};
use crate::App;
use crate::api::ApiError;
use crate::event;

/// One request that was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusalEntry {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked, or as whom somebody tried to log in.
    #[schema(example = "alice")]
    pub by: String,
    #[schema(example = "push")]
    pub action: String,
    #[schema(example = "prod/app")]
    pub resource: String,
    pub reason: String,
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/refusals", get(ls))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls))]
pub(super) struct Doc;

/// A key's bytes in hexadecimal.
fn cursor(key: &Key) -> String {
    key.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_cursor(text: &str) -> Option<Key> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| Key::new(Space::Audit, bytes))
}

/// What was denied, newest first; a request shows here within a second. For administrators.
#[utoipa::path(get, path = "/api/v1/refusals", tag = "refusals", params(Paging),
    responses((status = 200, body = Page<RefusalEntry>), Failures))]
async fn ls(
    State(app): State<App>,
    _: Administrator,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<RefusalEntry>>, ApiError> {
    let before = match paging.cursor() {
        Some(text) => Some(from_cursor(text).ok_or_else(|| paging.wrong_cursor())?),
        None => None,
    };
    let limit = paging.limit()?;
    let (found, more) = event::refusals(&app.store, before.as_ref(), limit).await?;
    let next = found.last().filter(|_| more).map(|(key, _)| cursor(key));
    let items = found.into_iter().map(|(_, refusal)| RefusalEntry {
        at_ms: refusal.at_ms,
        by: refusal.by,
        action: refusal.action,
        resource: refusal.resource,
        reason: refusal.reason,
    });
    Ok(Json(Page { items: items.collect(), next }))
}
