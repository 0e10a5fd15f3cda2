//! Calls of a server's REST API.
//!
//! Invariant: a command knows nothing that the REST API does not say; whatever a command does, a script can do.
//! Invariant: passwords and tokens go nowhere but into the `Authorization` header of the server they are for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use http::header::LOCATION;
use http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::credentials::{self, Credentials, Secret};
use super::exit::is_untrusted;
use super::output::Output;
use crate::api::admin::Page;
use crate::api::{ErrorBody, ErrorText};

/// Where a server listens that nothing else is said of.
const SERVER_DEFAULT: &str = "http://127.0.0.1:5080";
/// For a connection to be there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// For an answer to begin and to go on: an import of vulnerability data answers when it is done. A server that is gone is
/// noticed by the connection's keep-alive before that.
const READ_WITHIN: Duration = Duration::from_secs(600);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest file of certificates that is read, in bytes.
const CA_BYTES_MAX: u64 = 1024 * 1024;
/// What helps against a certificate that is not trusted.
pub(super) const CA_HINT: &str = "`--ca FILE` names the authority that signed the server's certificate";
/// Rows that are asked for at once.
const PAGE_ROWS: usize = 500;
/// Most rows that a list shows: all of them are in memory before the first is shown.
const ROWS_MAX: u64 = 1_000_000;

/// Heading of the options that every command takes which calls a server.
pub(super) const SERVER_OPTIONS: &str = "Server options";

/// Which server, and as whom.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = SERVER_OPTIONS)]
pub(super) struct Remote {
    /// Server to talk to; without it, the one that `wharf login` was last used for
    #[arg(long, global = true, env = "WHARF_SERVER", hide_env_values = true, value_name = "URL")]
    server: Option<String>,
    /// User to log in as, with the password in WHARF_PASSWORD
    #[arg(long, global = true, env = "WHARF_USER", hide_env_values = true, value_name = "NAME")]
    user: Option<String>,
    // No options of their own: what is on a command line, other users of the machine can read.
    #[arg(long, global = true, env = "WHARF_PASSWORD", hide = true, hide_env_values = true)]
    password: Option<String>,
    #[arg(long, global = true, env = "WHARF_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
    /// Certificates (PEM) that the server's certificate must be signed by, instead of the system's
    #[arg(long, global = true, env = "WHARF_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: credentials::Place,
    #[command(flatten)]
    pub(super) output: Output,
}

/// What `--limit` of a list takes: rows, however many pages of the server's they are.
pub(super) fn rows() -> RangedU64ValueParser<usize> {
    rows_from(1)
}

/// The same of a list that may show fewer at first.
pub(super) fn rows_from(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::from(least..=ROWS_MAX)
}

/// Why the server's answer is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "`{0}` is not the address of a server; hint: `https://registry.example.com` or `http://127.0.0.1:5080`"
    )]
    Address(String),
    #[error("cannot use the certificates in `{}`: {why}", path.display())]
    Ca { path: PathBuf, why: String },
    #[error("cannot set up HTTP: {0}; hint: `--ca FILE` names certificates where the system has none")]
    Setup(reqwest::Error),
    #[error("`{user}` needs a password; hint: set WHARF_PASSWORD, or `wharf login` once")]
    NoPassword { user: String },
    #[error("cannot reach `{url}`: {why}; hint: {CA_HINT}")]
    Untrusted { url: String, why: String },
    #[error("cannot reach `{url}`: {why}; hint: {hint}")]
    Unreachable { url: String, why: String, hint: &'static str },
    #[error("{}{}", text.message, text.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default())]
    Answer { status: StatusCode, text: ErrorText },
    #[error("`{url}` does not answer as a wharf server does: {why}; hint: is this the right address?")]
    Foreign { url: String, why: String },
}

/// Calls one server as one user.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    secret: Option<Secret>,
}

impl Remote {
    /// A client as the options, the environment and the credentials file say, in this order.
    ///
    /// # Errors
    /// Where one of them is wrong.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let known = Credentials::load(&self.place.file()?)?;
        let base = base(self.server.as_deref().or(known.default_server()).unwrap_or(SERVER_DEFAULT))?;
        let entry = known.server(&base);
        let secret = match self.given_secret()? {
            Some(secret) => Some(secret),
            None => entry.map(credentials::Entry::secret),
        };
        let ca = self.ca.as_deref().or(entry.and_then(|entry| entry.ca.as_deref()));
        Ok(Client::new(base, secret, ca)?)
    }

    /// The same, for a server that is logged in to now.
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password that the environment holds, if it is one that is in use now.
    pub(super) fn given_password(&self) -> Option<&str> {
        self.password.as_deref().filter(|_| self.token.is_none())
    }

    pub(super) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// What the options and the environment say of who calls.
    pub(super) fn given_secret(&self) -> Result<Option<Secret>, ClientError> {
        if let Some(token) = &self.token {
            return Ok(Some(Secret::Token(token.clone())));
        }
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                Ok(Some(Secret::Password { user: user.clone(), password: password.clone() }))
            }
            (Some(user), None) => Err(ClientError::NoPassword { user: user.clone() }),
            (None, _) => Ok(None),
        }
    }
}

/// The address that all paths are joined to. Without a scheme it is `https`, on loopback `http`.
pub(super) fn base(server: &str) -> Result<Url, ClientError> {
    let wrong = || ClientError::Address(server.chars().take(200).collect());
    let full = if server.contains("://") {
        server.to_owned()
    } else {
        let host = server.split(['/', ':']).next().unwrap_or_default();
        let loopback = matches!(host, "localhost" | "127.0.0.1") || server.starts_with("[::1]");
        format!("{}://{server}", if loopback { "http" } else { "https" })
    };
    let url = Url::parse(&full).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    if !plain || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong());
    }
    Ok(url)
}

impl Client {
    pub(super) fn new(base: Url, secret: Option<Secret>, ca: Option<&Path>) -> Result<Self, ClientError> {
        // The first call of the process installs it, later ones find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(READ_WITHIN)
            // A redirect would carry the request, not its credentials, to a place that nobody named.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = ca {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if base.scheme() == "http" {
            // Nothing to verify, so a machine without system certificates will do.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Client { http, base, secret })
    }

    /// The server's address without a slash at its end.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to `/api/v1/…`; each part of the path is escaped.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let request = self.http.request(method, url);
        match &self.secret {
            Some(Secret::Password { user, password }) => request.basic_auth(user, Some(password)),
            Some(Secret::Token(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.receive(self.request(Method::GET, path)).await
    }

    pub(super) async fn query<Q: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Q,
    ) -> Result<T, ClientError> {
        self.receive(self.request(Method::GET, path).query(query)).await
    }

    pub(super) async fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        self.receive(self.request(method, path).json(body)).await
    }

    /// For what answers with nothing.
    pub(super) async fn call(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.respond(request).await.map(drop)
    }

    /// Rows of a list, page by page, at most `limit`; the flag tells whether there are more.
    pub(super) async fn list<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Q,
        limit: usize,
    ) -> Result<(Vec<T>, bool), ClientError> {
        self.list_of(path, query, limit, |page: Page<T>| page).await
    }

    /// The same of a list whose pages say more than their rows: `rows_of` takes that from each.
    pub(super) async fn list_of<Q: Serialize, P: DeserializeOwned, T>(
        &self,
        path: &[&str],
        query: &Q,
        limit: usize,
        mut rows_of: impl FnMut(P) -> Page<T>,
    ) -> Result<(Vec<T>, bool), ClientError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let rest = limit.saturating_sub(rows.len()).min(PAGE_ROWS);
            let request = self.request(Method::GET, path).query(query).query(&[("limit", rest)]);
            let request = match &cursor {
                Some(cursor) => request.query(&[("cursor", cursor)]),
                None => request,
            };
            let page = rows_of(self.receive(request).await?);
            rows.extend(page.items);
            match page.next {
                Some(next) if rows.len() < limit => cursor = Some(next),
                next => return Ok((rows, next.is_some())),
            }
        }
    }

    /// Sends a request and reads its answer.
    pub(super) async fn receive<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self.respond(request).await?;
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(error))
    }

    async fn respond(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let elsewhere = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let why = match elsewhere {
            Some(place) => format!("it answered {status}, which leads to `{place}`"),
            None => format!("it answered {status}"),
        };
        let bytes = self.body(response).await?;
        match (serde_json::from_slice::<ErrorBody>(&bytes), status) {
            (Ok(body), _) => Err(ClientError::Answer { status, text: body.error }),
            (
                Err(_),
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT,
            ) => {
                let hint = "a proxy answers there; is the server behind it running?";
                Err(ClientError::Unreachable { url: self.address().to_owned(), why, hint })
            }
            (Err(_), _) => Err(self.foreign(why)),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.foreign(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn foreign(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Foreign { url: self.address().to_owned(), why: why.to_string() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        // The innermost cause is what an operator can act on: `connection refused`, `unknown issuer`.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let why = cause.to_string();
        if is_untrusted(error) {
            return ClientError::Untrusted { url: self.address().to_owned(), why };
        }
        let hint = if self.base.scheme() == "https"
            && (why.contains("corrupt message") || why.contains("InvalidContentType"))
        {
            "this server speaks plain HTTP; use `http://`"
        } else if self.base.scheme() == "http" && why.contains("invalid HTTP version") {
            "this server speaks TLS; use `https://`"
        } else {
            "is the server running? `--server URL` or WHARF_SERVER names another"
        };
        ClientError::Unreachable { url: self.address().to_owned(), why, hint }
    }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let wrong = |why: String| ClientError::Ca { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > CA_BYTES_MAX {
        return Err(wrong(format!("it has {size} bytes, more than {CA_BYTES_MAX}")));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes).map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_secure_off_loopback() {
        let cases = [
            ("localhost:5080", "http://localhost:5080/"),
            ("127.0.0.1:5080", "http://127.0.0.1:5080/"),
            ("[::1]:5080", "http://[::1]:5080/"),
            ("registry.example.com", "https://registry.example.com/"),
            ("registry.example.com:5080", "https://registry.example.com:5080/"),
            ("http://registry.example.com", "http://registry.example.com/"),
        ];
        for (given, expected) in cases {
            assert_eq!(base(given).unwrap().as_str(), expected, "{given}");
        }
        for wrong in ["", "ftp://a", "https://", "https://user:pw@a", "https://a/?x=1", "a b"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_of_a_path_are_escaped() {
        let client = Client::new(base("http://127.0.0.1:1/below/").unwrap(), None, None).unwrap();
        let request = client.request(Method::GET, &["images", "dev/app", "tags"]).build().unwrap();
        assert_eq!(request.url().as_str(), "http://127.0.0.1:1/below/api/v1/images/dev%2Fapp/tags");
    }
}
