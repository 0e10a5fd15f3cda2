//! `/healthz`, `/readyz`, `/metrics` and `/ca.crt`.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use metrics_exporter_prometheus::PrometheusHandle;
use wharf_store::{Space, key};

use super::{ApiError, Caller, process};
use crate::App;
use crate::config::Tls;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers too, so that requests can be served. Also on a full disk, which the body tells: who took the server out of
/// use for that would end pulls as well.
pub(super) async fn ready(State(app): State<App>) -> Response {
    match app.store.get(&key(Space::Meta, &["ready"])).await {
        Ok(_) if app.is_full() => "ready; the disk is full, uploads are refused\n".into_response(),
        Ok(_) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")).into_response(),
    }
}

/// The certificate of the server's own authority, which is public, for whoever sets up a client.
pub(super) async fn authority(State(app): State<App>) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("this server has no authority of its own");
    if !matches!(app.config.tls, Tls::Auto { .. }) {
        return Err(none());
    }
    let pem = tokio::fs::read(app.config.data.join("tls/ca.crt")).await.map_err(|_| none())?;
    let mut response = pem.into_response();
    let kind = HeaderValue::from_static("application/x-pem-file");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Prometheus' text form; for administrators, unless `[metrics] public` opens it.
pub(super) async fn metrics(
    State(app): State<App>,
    request: Request,
    metrics: PrometheusHandle,
) -> Result<Response, ApiError> {
    if !app.config.metrics.public {
        let (parts, _) = request.into_parts();
        Caller::of(&app, &parts).await?.require_admin(&app).await?;
    }
    process::measure();
    measure_disk(&app);
    let mut response = metrics.render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}

/// Looks now how much room there is.
fn measure_disk(app: &App) {
    if let Ok(free) = app.blobs.free_bytes() {
        metrics::gauge!("wharf_disk_free_bytes").set(free as f64);
    }
    metrics::gauge!("wharf_disk_full").set(if app.is_full() { 1.0 } else { 0.0 });
}
