//! `/token`: where docker, podman, skopeo, crane and oras exchange what they have for a token that lasts minutes.
//!
//! GET is distribution's token protocol, POST its OAuth2 form (RFC 6749, sections 4.3 and 6). A token is signed for what
//! was asked and the grants allow; what they do not allow is left out of it, and the request it is used for is refused.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::{Deserialize, Serialize};
use wharf_oci::{RepoName, RepoPattern};
use wharf_store::StoreError;

use super::caller::{address, credentials, note_failure};
use crate::App;
use crate::access::{self, Action, Principal, Scope};
use crate::auth::{self, ACCESS_TTL_S, AuthError, Bearer, Credentials, Identity, Kind, Proof, REFRESH_TTL_S};
use crate::event::Observation;

/// Scopes that one request may ask for; a cross-repository mount asks for two.
const SCOPES_MAX: usize = 32;
/// Largest form, in bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    scopes: Vec<String>,
    /// Whether a refresh token is wanted as well.
    offline: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    token: String,
    access_token: String,
    /// Seconds.
    expires_in: u64,
    /// RFC 3339.
    issued_at: String,
    /// Space-separated, what was granted of what was asked.
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Request(String),
    #[error("the token could not be signed: {0}")]
    Sign(serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `GET /token?service=…&scope=repository:dev/app:pull&offline_token=true`, with Basic credentials or none.
pub(super) async fn get(State(app): State<App>, request: Request) -> Result<Response, TokenError> {
    let (parts, _) = request.into_parts();
    let mut asked = Asked::default();
    for (name, value) in form_pairs(parts.uri.query().unwrap_or_default()) {
        match name.as_str() {
            "scope" => asked.scopes.extend(value.split(' ').filter(|s| !s.is_empty()).map(str::to_owned)),
            "offline_token" => asked.offline = matches!(value.as_str(), "true" | "1"),
            _ => {}
        }
    }
    let credentials = credentials(&parts)
        .ok_or_else(|| TokenError::Request("the Authorization header is malformed".into()))?;
    let identity = log_in(&app, &credentials, address(&app, &parts)).await?;
    if identity.proof == Proof::Bearer {
        return Err(TokenError::Request("a token cannot be had for a token; hint: use Basic".into()));
    }
    issue(&app, &identity, &asked, None).await
}

/// Says who it is, and keeps that somebody logged in, or tried to.
async fn log_in(app: &App, credentials: &Credentials, peer: IpAddr) -> Result<Identity, AuthError> {
    let identity = auth::identify(app, credentials, peer).await;
    match &identity {
        Ok(Identity { principal, proof: Proof::Password(_) | Proof::AccessToken(_) }) => {
            let (by, at_ms) = (principal.name.clone(), app.now_ms());
            app.observations.note(Observation::LoggedIn { by, at_ms });
        }
        Ok(_) => {}
        Err(error) => note_failure(app, credentials, peer, error),
    }
    identity
}

/// The OAuth2 form's fields.
#[derive(Deserialize)]
struct Fields {
    grant_type: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    access_type: String,
}

/// `POST /token` with `grant_type=password` or `grant_type=refresh_token`.
pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, TokenError> {
    let (parts, body) = request.into_parts();
    let peer = address(&app, &parts);
    let body = axum::body::to_bytes(body, FORM_BYTES_MAX).await;
    let body = body.map_err(|e| TokenError::Request(format!("the form cannot be read: {e}")))?;
    let fields: Fields = serde_urlencoded::from_bytes(&body)
        .map_err(|e| TokenError::Request(format!("the form cannot be read: {e}")))?;
    let scopes = fields.scope.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect();
    let asked = Asked { scopes, offline: fields.access_type == "offline" };
    match fields.grant_type.as_str() {
        "password" => {
            let basic = Credentials::Basic { user: fields.username, password: fields.password };
            let identity = log_in(&app, &basic, peer).await?;
            issue(&app, &identity, &asked, None).await
        }
        "refresh_token" if auth::is_access_token(&fields.refresh_token) => {
            // An access token may stand where a client has room for a refresh token alone.
            let bearer = Credentials::Bearer(fields.refresh_token.clone());
            let identity = log_in(&app, &bearer, peer).await?;
            issue(&app, &identity, &asked, Some(fields.refresh_token)).await
        }
        "refresh_token" => {
            let refreshed = auth::by_refresh_token(&app, &fields.refresh_token).await;
            let bearer = Credentials::Bearer(fields.refresh_token.clone());
            let (identity, refreshed) =
                refreshed.inspect_err(|error| note_failure(&app, &bearer, peer, error))?;
            let identity = Identity { proof: proof_of(&refreshed), ..identity };
            issue(&app, &identity, &asked, Some(fields.refresh_token)).await
        }
        other => {
            let other: String = other.chars().take(64).collect();
            Err(TokenError::Request(format!("grant_type `{other}` is not `password` or `refresh_token`")))
        }
    }
}

/// What a refresh token was signed on, so that what is signed on it ends with the same.
fn proof_of(bearer: &Bearer) -> Proof {
    match (&bearer.token_id, bearer.password_rev) {
        (Some(id), _) => Proof::AccessToken(id.clone()),
        (None, Some(rev)) => Proof::Password(wharf_store::Rev(rev)),
        (None, None) => Proof::None,
    }
}

async fn issue(
    app: &App,
    identity: &Identity,
    asked: &Asked,
    refresh_token: Option<String>,
) -> Result<Response, TokenError> {
    if asked.scopes.len() > SCOPES_MAX {
        return Err(TokenError::Request(format!("at most {SCOPES_MAX} scopes at once")));
    }
    let granted = granted(app, &identity.principal, &asked.scopes).await?;
    let now_s = app.now_ms() / 1000;
    let (password_rev, token_id) = match &identity.proof {
        Proof::Password(rev) => (Some(rev.0), None),
        Proof::AccessToken(id) => (None, Some(id.clone())),
        Proof::None | Proof::Bearer => (None, None),
    };
    let mut bearer = Bearer {
        subject: identity.principal.name.clone(),
        kind: Kind::Access,
        issued_at_s: now_s,
        expires_at_s: now_s + ACCESS_TTL_S,
        scopes: Some(granted),
        password_rev,
        token_id,
    };
    let sign = |bearer: &Bearer| app.auth.signer.sign(bearer).map_err(TokenError::Sign);
    let token = sign(&bearer)?;
    let scope = bearer.scopes.take().unwrap_or_default();
    let scope = scope.iter().map(|s| format!("repository:{s}")).collect::<Vec<_>>().join(" ");
    let refresh_token = match refresh_token {
        None if asked.offline && !identity.principal.is_anonymous() => {
            bearer.kind = Kind::Refresh;
            bearer.expires_at_s = now_s + REFRESH_TTL_S;
            // A refresh token is worth no more than what it was signed on.
            bearer.scopes.clone_from(&identity.principal.scopes);
            Some(sign(&bearer)?)
        }
        kept => kept,
    };
    let issued_at = jiff::Timestamp::from_second(i64::try_from(now_s).unwrap_or(0)).unwrap_or_default();
    let answer = Answer {
        access_token: token.clone(),
        token,
        expires_in: ACCESS_TTL_S,
        issued_at: issued_at.to_string(),
        scope,
        refresh_token,
    };
    let mut response = axum::Json(answer).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What of it the principal may do now.
async fn granted(app: &App, who: &Principal, asked: &[String]) -> Result<Vec<Scope>, TokenError> {
    let view = access::view(app, who).await?;
    let mut granted = Vec::new();
    for scope in asked {
        let malformed = || {
            let shown: String = scope.chars().take(300).collect();
            TokenError::Request(format!("scope `{shown}` is not `repository:NAME:ACTION,…`"))
        };
        let (kind, rest) = scope.split_once(':').ok_or_else(malformed)?;
        let (name, actions) = rest.rsplit_once(':').ok_or_else(malformed)?;
        if kind == "registry" && name == "catalog" {
            granted.extend(listable(who));
            continue;
        }
        // `repository(plugin)` is Docker's for what it ran in its own plugins.
        if kind != "repository" && !kind.starts_with("repository(") {
            continue;
        }
        let repository: RepoName = name.parse().map_err(|_| malformed())?;
        let wanted = |action: &Action| actions.split(',').any(|name| name == "*" || name == action.name());
        let mut allowed: Vec<Action> = Action::ALL.into_iter().filter(wanted).collect();
        if allowed.contains(&Action::Pull) {
            allowed.insert(0, Action::List);
            allowed.dedup();
        }
        allowed.retain(|action| view.may(*action, &repository));
        if !allowed.is_empty() {
            granted.push(Scope { pattern: RepoPattern::from(&repository), actions: allowed });
        }
    }
    Ok(granted)
}

/// What the catalog shows to the principal: everything it may list, within what its own token is narrowed to.
fn listable(who: &Principal) -> Vec<Scope> {
    let list = |pattern| Scope { pattern, actions: vec![Action::List] };
    match &who.scopes {
        None => vec![list(RepoPattern::all())],
        Some(scopes) => {
            let reads =
                |scope: &&Scope| scope.actions.iter().any(|a| matches!(a, Action::List | Action::Pull));
            scopes.iter().filter(reads).map(|scope| list(scope.pattern.clone())).collect()
        }
    }
}

/// The pairs of a query or form, decoded (`application/x-www-form-urlencoded`).
fn form_pairs(query: &str) -> Vec<(String, String)> {
    serde_urlencoded::from_str(query).unwrap_or_default()
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            TokenError::Auth(AuthError::Throttled { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS")
            }
            TokenError::Auth(AuthError::Busy | AuthError::Store(_)) | TokenError::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
            }
            TokenError::Auth(AuthError::Hash(_) | AuthError::KeyFile(_)) | TokenError::Sign(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
            }
            TokenError::Auth(_) => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            TokenError::Request(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
        };
        if status.is_server_error() {
            tracing::error!(error = %self, "no token could be issued");
        }
        // Whoever reads `errors` finds distribution's form, whoever reads `error` OAuth2's.
        let body = serde_json::json!({
            "errors": [{"code": code, "message": self.to_string()}],
            "error": if status == StatusCode::BAD_REQUEST { "invalid_request" } else { "invalid_grant" },
            "error_description": self.to_string(),
        });
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wharf\""));
        }
        if let TokenError::Auth(AuthError::Throttled { retry_s }) = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_s));
        }
        response
    }
}
