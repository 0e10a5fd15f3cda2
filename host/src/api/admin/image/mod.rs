//! `/api/v1/images`: what stands at each tag, what is in it, and what is wrong with that.

mod list;
mod scan;

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::App;

pub use list::{ImageEntry, StandingEntry};
pub use scan::{FactsEntry, FindingEntry, FindingsPage, PlatformCounts, SeverityCounts};

/// What is known of an image's content; of an index, of its worst platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScanEntry {
    /// How far the list of packages can be trusted: `none` (nobody looked), `pending`, `partial`, `complete`, `failed`,
    /// `unsupported`.
    #[schema(example = "complete")]
    pub state: String,
    /// The same of the findings: `none` means that there is no vulnerability data, never that it is clean.
    #[schema(example = "complete")]
    pub matched: String,
    /// Why either is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub packages: u64,
    pub findings: SeverityCounts,
    /// Age of the oldest vulnerability data that it was compared with, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_as_of_ms: Option<u64>,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/images", get(list::ls))
        .route("/images/facts", get(scan::facts))
        .route("/images/bom", get(scan::bom))
        .route("/images/findings", get(scan::findings))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list::ls, scan::facts, scan::bom, scan::findings))]
pub(super) struct Doc;
