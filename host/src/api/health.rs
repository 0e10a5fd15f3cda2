//! `/healthz`, `/readyz` and `/metrics`.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use metrics_exporter_prometheus::PrometheusHandle;
use wharf_store::{Space, key};

use super::{ApiError, Caller};
use crate::App;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers too, so that requests can be served.
pub(super) async fn ready(State(app): State<App>) -> Response {
    match app.store.get(&key(Space::Meta, &["ready"])).await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")).into_response(),
    }
}

/// Prometheus' text form; for administrators, unless `[metrics] public` opens it.
pub(super) async fn metrics(
    State(app): State<App>,
    request: Request,
    metrics: PrometheusHandle,
) -> Result<Response, ApiError> {
    if !app.config.metrics_public {
        let (parts, _) = request.into_parts();
        Caller::of(&app, &parts).await?.require_admin(&app).await?;
    }
    let mut response = metrics.render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}
