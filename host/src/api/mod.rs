//! The HTTP surfaces: the OCI distribution API under `/v2/` and the REST API under `/api/v1`.
//!
//! Invariant: this is the only place that knows status codes.

use axum::Router;

use crate::App;

/// Every route of the server.
pub fn router(app: App) -> Router {
    Router::new().with_state(app)
}
