//! The OCI distribution API, `/v2/` (distribution specification 1.1 and what is decided for the next), with Docker's
//! `_catalog`.
//!
//! Entry: [`routes`]. A request is: who sent it, which endpoint, may they, then one flow.
//!
//! Invariant: no handler acts before it has asked [`Caller::require`].
//! Invariant: what a client sends is answered with 2xx, 3xx or 4xx; a 5xx is this server's or its disk's fault.
//! Invariant: a repository that is unknown and one that may not be seen look alike.
//! Invariant: `GET` and `HEAD` write nothing.

mod blob;
mod body;
mod error;
mod explain;
mod list;
mod manifest;
mod path;
mod query;
mod range;
mod upload;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use wharf_oci::RepoName;

use self::error::{Code, OciError};
use self::path::Endpoint;
use self::query::Query;
use super::Caller;
use crate::App;
use crate::access::Action;

/// Docker clients look for it to tell this API from others.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Which content a response is about.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Everything below `/v2/`. Names hold slashes, so paths are read by [`Endpoint::parse`].
pub(super) fn routes() -> Router<App> {
    Router::new().route("/v2", any(handle)).route("/v2/", any(handle)).route("/v2/{*path}", any(handle))
}

async fn handle(State(app): State<App>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let answered = serve(&app, &parts, &mut body).await;
    let mut response = answered.unwrap_or_else(OciError::into_response);
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// What every handler gets.
struct Call<'a> {
    app: &'a App,
    caller: Caller,
    parts: &'a Parts,
    query: Query,
}

impl Call<'_> {
    /// Passes a caller who may do this.
    async fn require(&self, action: Action, repository: &RepoName) -> Result<(), OciError> {
        Ok(self.caller.require(self.app, action, repository).await?)
    }

    /// A header's value as text, if it is there and is text.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }
}

/// Handlers take the body out of its place when they read it.
async fn serve(app: &App, parts: &Parts, body: &mut Body) -> Result<Response, OciError> {
    let caller = Caller::of(app, parts).await?;
    let endpoint = Endpoint::parse(parts.uri.path())?;
    let call = Call { app, caller, parts, query: Query::parse(&parts.uri)? };
    match (endpoint, &parts.method) {
        (Endpoint::Base, &Method::GET | &Method::HEAD) => base(&call),
        (Endpoint::Catalog, &Method::GET | &Method::HEAD) => list::catalog(&call).await,
        (Endpoint::Tags(name), &Method::GET | &Method::HEAD) => list::tags(&call, &name).await,
        (Endpoint::Referrers(name, digest), &Method::GET | &Method::HEAD) => {
            list::referrers(&call, &name, &digest).await
        }
        (Endpoint::Base | Endpoint::Catalog | Endpoint::Tags(_) | Endpoint::Referrers(..), _) => {
            Err(OciError::method("GET, HEAD"))
        }
        (Endpoint::Blob(name, digest), method) => match *method {
            Method::GET | Method::HEAD => blob::read(&call, &name, &digest).await,
            Method::DELETE => blob::delete(&call, &name, &digest).await,
            _ => Err(OciError::method("GET, HEAD, DELETE")),
        },
        (Endpoint::Manifest(name, target), method) => match *method {
            Method::GET | Method::HEAD => manifest::read(&call, &name, &target).await,
            Method::PUT => manifest::put(&call, name, target, body).await,
            Method::DELETE => manifest::delete(&call, &name, &target).await,
            _ => Err(OciError::method("GET, HEAD, PUT, DELETE")),
        },
        (Endpoint::Uploads(name), &Method::POST) => upload::start(&call, &name, body).await,
        (Endpoint::Uploads(_), _) => Err(OciError::method("POST")),
        (Endpoint::Upload(name, id), method) => match *method {
            Method::GET | Method::HEAD => upload::status(&call, &name, &id).await,
            Method::PATCH => upload::append(&call, &name, &id, body).await,
            Method::PUT => upload::finish(&call, &name, &id, body).await,
            Method::DELETE => upload::cancel(&call, &name, &id).await,
            _ => Err(OciError::method("GET, HEAD, PATCH, PUT, DELETE")),
        },
    }
}

/// end-1: whether this is such an API, and whether the caller's credentials hold.
fn base(call: &Call<'_>) -> Result<Response, OciError> {
    call.caller.require_proof()?;
    let mut response = (StatusCode::OK, "{}").into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Text that is made of visible ASCII alone, such as a digest or a path.
fn header_value(text: &str) -> Result<HeaderValue, OciError> {
    HeaderValue::from_str(text).map_err(|_| OciError::new(Code::Internal, "a header cannot be written"))
}
