//! Who sent this request, and may they.
//!
//! A handler takes a [`Caller`] and says `caller.require(&app, Action::Push, &repository).await?;`.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use wharf_oci::RepoName;
use wharf_store::StoreError;

use super::Peer;
use crate::App;
use crate::access::{self, Action, Answer, Principal};
use crate::auth::{self, AuthError, Credentials, Identity, Proof, UserName};
use crate::event::{self, Observation};

/// Longest `Authorization` header looked at, in bytes.
const AUTHORIZATION_BYTES_MAX: usize = 20 * 1024;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies behind each other that are looked through.
const HOPS_MAX: usize = 8;

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Principal,
    pub proof: Proof,
    /// `https://registry.example.com`: how this client reaches the server.
    base: String,
}

/// Why a request is not served, as every surface says it in its own form.
#[derive(Debug)]
pub enum Refusal {
    /// 401. The challenge is the `WWW-Authenticate` header's value.
    Unauthenticated { challenge: HeaderValue, message: String },
    /// 403.
    Denied { message: String },
    /// 429.
    Throttled { retry_s: u64 },
    /// 503.
    Busy,
    /// The store does not answer.
    Store(StoreError),
    /// The server is at fault; what happened is in its log.
    Internal,
}

impl Caller {
    /// Who sent this request: anonymous where it says nothing.
    ///
    /// # Errors
    /// Where it brings credentials that prove nothing.
    pub async fn of(app: &App, parts: &Parts) -> Result<Self, Refusal> {
        let base = base_url(app, parts);
        let Some(credentials) = credentials(parts) else {
            return Err(challenge(
                &base,
                "",
                Some("invalid_request"),
                "the Authorization header is malformed",
            ));
        };
        let peer = address(app, parts);
        match auth::identify(app, &credentials, peer).await {
            Ok(Identity { principal, proof }) => Ok(Caller { principal, proof, base }),
            Err(error) => {
                note_failure(app, &credentials, peer, &error);
                Err(refusal(error, &base))
            }
        }
    }

    /// `https://registry.example.com`: how this client reaches the server.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Passes whoever proved something; also the bearer of an anonymous token, which is how clients pull what is public.
    ///
    /// # Errors
    /// The challenge that sends the client to `/token`.
    pub fn require_proof(&self) -> Result<(), Refusal> {
        if self.proof == Proof::None {
            return Err(challenge(&self.base, "", None, "authentication required"));
        }
        Ok(())
    }

    /// Passes whoever proved something, to the list of repositories.
    ///
    /// # Errors
    /// The challenge that sends the client to `/token` for a token which may see names.
    pub fn require_catalog(&self) -> Result<(), Refusal> {
        if self.proof == Proof::None {
            return Err(challenge(&self.base, "registry:catalog:*", None, "authentication required"));
        }
        Ok(())
    }

    /// Passes whoever has a name.
    ///
    /// # Errors
    /// The challenge that sends the client to `/token`.
    pub fn require_user(&self) -> Result<(), Refusal> {
        if self.principal.is_anonymous() {
            return Err(challenge(&self.base, "", None, "authentication required"));
        }
        Ok(())
    }

    /// Passes whoever may do this.
    ///
    /// # Errors
    /// A challenge that names the scope needed where logging in or another token would help, a denial where not.
    pub async fn require(&self, app: &App, action: Action, repository: &RepoName) -> Result<(), Refusal> {
        let answer = access::judge(app, &self.principal, action, repository).await.map_err(Refusal::Store)?;
        let message = || format!("`{}` may not {} in `{repository}`", self.principal.name, action.name());
        let passed = self.answer(answer, &scope(action, repository), message);
        self.note(app, action, repository.as_str(), passed)
    }

    /// Whether this caller, who may push to `repository`, may mount a blob of `from` into it.
    ///
    /// # Errors
    /// A challenge that names both scopes where the caller may, and only its bearer token does not say so.
    pub async fn may_mount(
        &self,
        app: &App,
        repository: &RepoName,
        from: &RepoName,
    ) -> Result<bool, Refusal> {
        let answer = access::judge(app, &self.principal, Action::Pull, from).await.map_err(Refusal::Store)?;
        match answer {
            Answer::Allowed => Ok(true),
            Answer::OutOfScope if self.proof == Proof::Bearer => {
                let scopes = format!("{} {}", scope(Action::Push, repository), scope(Action::Pull, from));
                let message = format!("this token does not let `{}` pull from `{from}`", self.principal.name);
                Err(challenge(&self.base, &scopes, Some("insufficient_scope"), &message))
            }
            Answer::OutOfScope | Answer::Refused => Ok(false),
        }
    }

    /// Passes whoever administers the server.
    ///
    /// # Errors
    /// As [`Caller::require`].
    pub async fn require_admin(&self, app: &App) -> Result<(), Refusal> {
        let view = access::view(app, &self.principal).await.map_err(Refusal::Store)?;
        let message = || format!("`{}` does not administer this server", self.principal.name);
        let passed = self.answer(view.judge_server(), "", message);
        self.note(app, Action::Administer, "the server", passed)
    }

    /// Passes this user with all its rights, and whoever administers the server.
    ///
    /// # Errors
    /// As [`Caller::require`].
    pub async fn require_owner(&self, app: &App, user: &UserName) -> Result<(), Refusal> {
        if self.principal.name != user.as_str() {
            return self.require_admin(app).await;
        }
        // A token that is narrowed could otherwise make one that is not.
        if self.principal.scopes.is_none() || self.administers(app).await.map_err(Refusal::Store)? {
            return Ok(());
        }
        let message = || format!("`{user}` may not use its own account");
        self.note(app, Action::Administer, user.as_str(), self.answer(Answer::OutOfScope, "", message))
    }

    /// Whether the caller administers the server, for what is shown to administrators beside what everybody sees.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn administers(&self, app: &App) -> Result<bool, StoreError> {
        Ok(access::view(app, &self.principal).await?.judge_server() == Answer::Allowed)
    }

    /// Keeps a denial for whoever looks after the server; a challenge is no more than a step of the protocol.
    fn note(&self, app: &App, action: Action, on: &str, passed: Result<(), Refusal>) -> Result<(), Refusal> {
        if let Err(Refusal::Denied { message }) = &passed {
            app.observations.note(Observation::Refused(event::Refusal {
                at_ms: app.now_ms(),
                by: self.principal.name.clone(),
                action: action.name().to_owned(),
                resource: on.to_owned(),
                reason: message.clone(),
            }));
        }
        passed
    }

    fn answer(&self, answer: Answer, scope: &str, message: impl Fn() -> String) -> Result<(), Refusal> {
        match answer {
            Answer::Allowed => Ok(()),
            Answer::OutOfScope if self.proof == Proof::Bearer => {
                Err(challenge(&self.base, scope, Some("insufficient_scope"), &message()))
            }
            Answer::Refused if self.principal.is_anonymous() => {
                Err(challenge(&self.base, scope, None, "authentication required"))
            }
            Answer::OutOfScope => Err(Refusal::Denied { message: format!("{} with this token", message()) }),
            Answer::Refused => Err(Refusal::Denied { message: message() }),
        }
    }
}

/// Counts what proved nothing, and keeps a wrong password for whoever looks after the server.
pub(super) fn note_failure(app: &App, credentials: &Credentials, peer: IpAddr, error: &AuthError) {
    let reason = match error {
        AuthError::Wrong | AuthError::Suspended | AuthError::Token | AuthError::Bearer(_) => "wrong",
        AuthError::Throttled { .. } => "throttled",
        AuthError::Busy | AuthError::Hash(_) | AuthError::KeyFile(_) | AuthError::Store(_) => "unchecked",
    };
    metrics::counter!("wharf_login_failures_total", "reason" => reason).increment(1);
    let Credentials::Basic { user, .. } = credentials else { return };
    let reason = match error {
        // The answer does not say it: whoever guesses would learn that they have guessed right.
        AuthError::Suspended => "the user is suspended",
        AuthError::Wrong | AuthError::Token => "the user name or password is wrong",
        _ => return,
    };
    // What was typed as a name may be a password: it is kept where it has a name's form alone.
    let by =
        user.parse::<UserName>().map_or_else(|_| Principal::ANONYMOUS.to_owned(), |name| name.to_string());
    app.observations.note(Observation::Refused(event::Refusal {
        at_ms: app.now_ms(),
        by,
        action: "log-in".to_owned(),
        resource: format!("from {peer}"),
        reason: reason.to_owned(),
    }));
}

/// The scope as the token protocol writes it; to push, clients ask for both.
fn scope(action: Action, repository: &RepoName) -> String {
    let actions = match action {
        Action::Push => "pull,push",
        other => other.name(),
    };
    format!("repository:{repository}:{actions}")
}

fn refusal(error: AuthError, base: &str) -> Refusal {
    match error {
        AuthError::Wrong | AuthError::Suspended => challenge(base, "", None, &error.to_string()),
        AuthError::Bearer(_) | AuthError::Token => {
            challenge(base, "", Some("invalid_token"), &error.to_string())
        }
        AuthError::Throttled { retry_s } => Refusal::Throttled { retry_s },
        AuthError::Busy => Refusal::Busy,
        AuthError::Store(error) => Refusal::Store(error),
        AuthError::Hash(_) | AuthError::KeyFile(_) => {
            tracing::error!(%error, "credentials could not be checked");
            Refusal::Internal
        }
    }
}

/// `WWW-Authenticate: Bearer …` (RFC 6750, section 3; distribution's token specification).
fn challenge(base: &str, scope: &str, error: Option<&str>, message: &str) -> Refusal {
    let service = base.split_once("://").map_or(base, |(_, host)| host);
    let mut value = format!("Bearer realm=\"{base}/token\",service=\"{service}\"");
    if !scope.is_empty() {
        value.push_str(&format!(",scope=\"{scope}\""));
    }
    if let Some(error) = error {
        value.push_str(&format!(",error=\"{error}\""));
    }
    match HeaderValue::from_str(&value) {
        Ok(challenge) => Refusal::Unauthenticated { challenge, message: message.to_owned() },
        Err(_) => Refusal::Internal,
    }
}

/// How the client reaches this server: as configured, else as it says itself.
pub(super) fn base_url(app: &App, parts: &Parts) -> String {
    if let Some(url) = &app.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
    let scheme = if tls { "https" } else { "http" };
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok());
    // What is sent back inside a quoted header must be able to do nothing there.
    let plain = |host: &&str| {
        host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
    };
    match host.filter(plain) {
        Some(host) if !host.is_empty() => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{}", app.config.listen),
    }
}

/// The address that the request comes from: the other end's, or what a proxy that is trusted says of it.
pub(super) fn address(app: &App, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip());
    // A socket that takes IPv4 and IPv6 writes the one as part of the other.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.to_canonical());
    behind(peer, &app.config.trusted_proxies, &parts.headers)
}

/// Each proxy appends whom it heard from, so the list is believed from its end, as far as those who wrote it are trusted.
fn behind(peer: IpAddr, trusted: &[IpAddr], headers: &HeaderMap) -> IpAddr {
    if !trusted.contains(&peer) {
        return peer;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    let mut nearest = peer;
    for hop in hops.take(HOPS_MAX) {
        let Ok(hop) = hop.trim().parse() else { return nearest };
        nearest = hop;
        if !trusted.contains(&nearest) {
            break;
        }
    }
    nearest
}

/// What the request brings along; none where the header cannot be read.
pub(super) fn credentials(parts: &Parts) -> Option<Credentials> {
    let Some(header) = parts.headers.get(AUTHORIZATION) else { return Some(Credentials::None) };
    if header.len() > AUTHORIZATION_BYTES_MAX {
        return None;
    }
    let (scheme, value) = header.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Bearer(value.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Some clients send an empty Basic header for "no login".
    if user.is_empty() && password.is_empty() {
        return Some(Credentials::None);
    }
    Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn parts(headers: &[(HeaderName, &str)]) -> Parts {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn basic(text: &str) -> Option<Credentials> {
        credentials(&parts(&[(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(text)))]))
    }

    #[test]
    fn credentials_are_read_or_refused() {
        assert!(matches!(credentials(&parts(&[])), Some(Credentials::None)));
        assert!(matches!(basic(":"), Some(Credentials::None)));
        let Some(Credentials::Basic { user, password }) = basic("alice:with:colons") else { panic!() };
        assert_eq!((user.as_str(), password.as_str()), ("alice", "with:colons"));
        assert!(basic("no colon").is_none());
        let bearer = credentials(&parts(&[(AUTHORIZATION, "bEaReR  x.y.z ")]));
        assert!(matches!(bearer, Some(Credentials::Bearer(token)) if token == "x.y.z"));
        for wrong in ["Basic", "Basic !", "Digest a=b", "Bearer"] {
            assert!(credentials(&parts(&[(AUTHORIZATION, wrong)])).is_none(), "{wrong}");
        }
        let long = format!("Bearer {}", "x".repeat(AUTHORIZATION_BYTES_MAX));
        assert!(credentials(&parts(&[(AUTHORIZATION, &long)])).is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", basic("alice:secret"), Credentials::Bearer("secret".into()));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_comes_from() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let check = |peer: &str, forwarded: &str, expected: &str| {
            let headers = parts(&[(FORWARDED_FOR, forwarded)]).headers;
            let trusted = [ip("127.0.0.1"), ip("10.0.0.1")];
            assert_eq!(behind(ip(peer), &trusted, &headers), ip(expected), "{peer} {forwarded}");
        };
        check("192.0.2.1", "198.51.100.7", "192.0.2.1");
        check("127.0.0.1", "198.51.100.7", "198.51.100.7");
        // What a client wrote itself stands before what the proxies wrote.
        check("127.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.1", "198.51.100.7");
        check("127.0.0.1", "203.0.113.9, nonsense", "127.0.0.1");
        check("127.0.0.1", "", "127.0.0.1");
    }

    #[test]
    fn a_challenge_cannot_be_broken_out_of() {
        let refusal = challenge("https://a\r\nb", "", None, "no");
        assert!(matches!(refusal, Refusal::Internal));
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(text in "[ -~]{0,80}") {
            let _ = credentials(&parts(&[(AUTHORIZATION, &text)]));
            let _ = basic(&text);
            let _ = behind(IpAddr::V4(Ipv4Addr::LOCALHOST), &[IpAddr::V4(Ipv4Addr::LOCALHOST)], &parts(&[(FORWARDED_FOR, &text)]).headers);
        }
    }
}
