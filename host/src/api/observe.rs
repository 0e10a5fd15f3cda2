//! One log line and one measurement for each request, under an id that the client gets too.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HeaderName, HeaderValue};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing::Instrument as _;

use super::{Peer, process};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken from a client, in bytes.
const ID_BYTES_MAX: usize = 64;
/// What is logged of a path, in bytes.
const PATH_BYTES_MAX: usize = 300;
/// Upper bounds of the latency histogram, in seconds.
const LATENCY_S: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What is counted, wherever that is done.
const COUNTERS: [(&str, &str); 7] = [
    ("wharf_http_requests_total", "Requests answered, by surface, method and status."),
    ("wharf_http_panics_total", "Requests that met a defect of the server."),
    ("wharf_login_failures_total", "Credentials that proved nothing, by reason."),
    ("wharf_jobs_total", "Runs of jobs that ended, by queue and outcome."),
    ("wharf_judgements_total", "Verdicts of bindings."),
    (
        "wharf_observations_dropped_total",
        "Pulls, logins and refusals that came faster than they are written.",
    ),
    ("wharf_scrub_damaged_total", "Blobs that the disk had damaged when they were read again."),
];

/// Makes the process' recorder of metrics; once for each process.
///
/// # Errors
/// Where there is one already.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&LATENCY_S)?.install_recorder()?;
    process::describe();
    metrics::describe_gauge!("wharf_build_info", "Always 1; the version is a label.");
    metrics::describe_gauge!("wharf_disk_free_bytes", "Left for the server on the data folder's disk.");
    metrics::describe_gauge!("wharf_disk_full", "1 while pushes are refused for want of room.");
    metrics::describe_histogram!("wharf_http_request_duration_seconds", "Time to the head of the answer.");
    for (name, about) in COUNTERS {
        metrics::describe_counter!(name, about);
    }
    metrics::gauge!("wharf_build_info", "version" => crate::VERSION).set(1.0);
    Ok(handle)
}

/// Outermost of all layers.
///
/// The query is never logged: it can hold what a client should have sent in a header.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let surface = surface(request.uri().path());
    let method = request.method().clone();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let path = request.uri().path();
    let path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)];
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %method, path);
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!("wharf_http_request_duration_seconds", "surface" => surface).record(seconds);
    metrics::counter!(
        "wharf_http_requests_total",
        "surface" => surface,
        "method" => method_label(&method),
        "status" => status.as_u16().to_string(),
    )
    .increment(1);
    span.in_scope(|| {
        let peer = peer.map(tracing::field::display);
        let ms = started.elapsed().as_millis() as u64;
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), ms, peer, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), ms, peer, "answered");
        }
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own id where it is plain, else a random one.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= ID_BYTES_MAX
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    if let Some(id) = request.headers().get(REQUEST_ID).filter(plain) {
        return id.clone();
    }
    let id = format!("{:016x}", rand::random::<u64>());
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
}

/// Labels come from a closed set, or clients could fill the memory with them.
fn surface(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "v2" if path.contains("/blobs/uploads") => "upload",
        "v2" if path.contains("/blobs/") => "blob",
        "v2" if path.contains("/manifests/") => "manifest",
        "v2" => "v2",
        "api" => "api",
        "token" => "token",
        "metrics" | "healthz" | "readyz" => "health",
        _ => "other",
    }
}

fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
