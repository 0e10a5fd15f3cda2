use std::path::{Path, PathBuf};

use http::Method;
use reqwest::Url;
use serde_json::json;

use super::client::{self, Client, ClientError, Remote};
use super::credentials::{Credentials, Entry, Secret};
use super::exit::Stop;
use super::output::{note, now_ms};
use super::{prompt, token};
use crate::api::admin::{NewTokenRequest, Status};

/// How long the access token of a login holds, in days.
const TOKEN_DAYS: u64 = 90;

/// Log in to a server: its later commands need no credentials
///
/// The password is used once, to make an access token that holds for 90 days; the token is kept in `credentials.toml`,
/// which only you can read. `wharf logout` revokes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf login https://registry.example.com
  wharf login --user ci --password-stdin https://registry.example.com < password
  wharf login --token-stdin https://registry.example.com < token")]
pub(super) struct Login {
    /// Server to log in to; without it, --server or the one of the last login
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "token_stdin")]
    password_stdin: bool,
    /// Read an access token from standard input and keep it as it is
    #[arg(long)]
    token_stdin: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Log out: revoke the access token of the login and forget it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf logout
  wharf logout https://registry.example.com")]
pub(super) struct Logout {
    /// Server to log out of; without it, --server or the one of the last login
    #[arg(value_name = "URL")]
    address: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Login {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let path = self.remote.place.file()?;
        let mut known = Credentials::load(&path)?;
        let address = address(self.address.as_deref(), &self.remote, &known)?;
        let secret = self.secret(&address)?;
        let base = client::base(&address)?;
        let before = known.server(&base).cloned();
        // A file named from here must be found from elsewhere.
        let ca = self.remote.ca().map(std::path::absolute).transpose()?;
        let ca: Option<PathBuf> = ca.or_else(|| before.as_ref().and_then(|entry| entry.ca.clone()));
        let client = Client::new(base.clone(), Some(secret.clone()), ca.as_deref())?;
        let status: Status = client.get(&["status"]).await?;
        let user = status.caller.user;
        let (token, token_name) = match secret {
            Secret::Token(token) => (token, None),
            Secret::Password { .. } => {
                let name = format!("wharf-login-{}", now_ms());
                let expires_s = Some(TOKEN_DAYS * 24 * 3600);
                let body = NewTokenRequest { name: name.clone(), scopes: None, expires_s };
                (token::create(&client, &user, &body).await?.text, Some(name))
            }
        };
        known.put(&base, Entry { user: user.clone(), token, token_name, ca });
        known.save(&path)?;
        if let Some(before) = before {
            // It may have expired or be revoked already, and nothing uses it any more.
            let _ = revoke(base, &before, self.remote.ca()).await;
        }
        let server = client.address();
        let remark = format!("logged in to `{server}` as `{user}`");
        self.remote.output.done(&json!({"server": server, "user": user}), remark)
    }

    fn secret(&self, address: &str) -> anyhow::Result<Secret> {
        if self.token_stdin {
            return Ok(Secret::Token(prompt::line()?));
        }
        if !self.password_stdin
            && let Ok(Some(secret)) = self.remote.given_secret()
        {
            return Ok(secret);
        }
        let user = match self.remote.user() {
            Some(user) => user.to_owned(),
            None => prompt::ask(
                &format!("user for {address}"),
                "`--user NAME --password-stdin`, or `--token-stdin` with an access token",
            )?,
        };
        let password = match self.password_stdin {
            true => prompt::line()?,
            false => prompt::ask_secret(&format!("password of {user}"))?,
        };
        Ok(Secret::Password { user, password })
    }
}

impl Logout {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let path = self.remote.place.file()?;
        let mut known = Credentials::load(&path)?;
        let address = address(self.address.as_deref(), &self.remote, &known)?;
        let base = client::base(&address)?;
        let Some(entry) = known.remove(&base) else {
            return Err(Stop::not_found(format!("not logged in to `{address}`")).into());
        };
        // Forgotten first: a server that is gone must not keep anybody logged in here.
        known.save(&path)?;
        let revoked = revoke(base, &entry, self.remote.ca()).await.unwrap_or_else(|error| {
            note(format!("its access token was not revoked: {error}"));
            false
        });
        let done = json!({"server": address, "user": entry.user, "token_revoked": revoked});
        self.remote.output.done(&done, format!("logged out of `{address}`"))
    }
}

/// Revokes the access token that a login made, and tells whether it did: one that was given to it is somebody else's to
/// revoke.
async fn revoke(base: Url, login: &Entry, ca: Option<&Path>) -> Result<bool, ClientError> {
    let Some(name) = &login.token_name else { return Ok(false) };
    let client = Client::new(base, Some(login.secret()), ca.or(login.ca.as_deref()))?;
    client.call(client.request(Method::DELETE, &["users", &login.user, "tokens", name])).await?;
    Ok(true)
}

fn address(given: Option<&str>, remote: &Remote, known: &Credentials) -> anyhow::Result<String> {
    let found = given.or(remote.server()).or(known.default_server());
    found
        .map(ToOwned::to_owned)
        .ok_or_else(|| Stop::usage("no server is named; hint: `wharf login http://127.0.0.1:5080`").into())
}
