//! The HTTP surfaces: the OCI distribution API under `/v2/` and the REST API under `/api/v1`.
//!
//! An operator sees one port that speaks HTTP/1.1 and HTTP/2, with TLS or without: `/v2/` for clients, `/token` where
//! they get their tokens, `/api/v1` for `wharf` and scripts, `/metrics`, `/healthz` and `/readyz` for whoever watches.
//!
//! Entry: [`router`]; [`Server`] listens and serves it.
//!
//! Invariant: this is the only place that knows status codes.
//! Invariant: every connection, header, body and wait has a bound; a client that stalls loses its connection.

pub mod admin;
mod caller;
mod drain;
mod error;
mod health;
mod observe;
mod oci;
mod patience;
mod process;
mod server;
mod tls;
mod token;
mod walk;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

use crate::App;

pub use caller::{Caller, Refusal};
pub use error::{ApiError, ErrorBody, ErrorText};
pub use observe::install_metrics;
pub use server::{Limits, Peer, Server, ServerError, Stopping};
pub use tls::{Source as TlsSource, Tls, TlsError, default_names, fingerprint, host_name};

/// Every route of the server.
pub fn router(app: App, metrics: PrometheusHandle) -> Router {
    let metrics_route = get(move |state, request| health::metrics(state, request, metrics.clone()));
    Router::new()
        .route("/token", get(token::get).post(token::post))
        .route("/metrics", metrics_route)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/ca.crt", get(health::authority))
        .merge(admin::routes(app.clone()))
        .layer(DefaultBodyLimit::max(admin::BODY_BYTES_MAX))
        // Behind the layer above: blobs and manifests have limits of their own.
        .merge(oci::routes())
        .fallback(error::not_found)
        // A panic is a defect: the request gets a 500, the connection and everybody else go on.
        .layer(CatchPanicLayer::custom(error::panicked))
        // Outermost, so that refused requests and panics are logged and counted too.
        .layer(axum::middleware::from_fn(observe::observe))
        .with_state(app)
}
