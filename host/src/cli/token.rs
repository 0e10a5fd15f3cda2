use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::client::{Client, Remote};
use super::exit::Stop;
use super::output::{Table, ago, note, now_ms};
use crate::api::admin::{MadeToken, NewTokenRequest, Status, TokenEntry};

/// Access tokens: for CI and other machines, narrowed and expiring
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(subcommand)]
    verb: Verb,
    /// Whose tokens [default: yours]
    #[arg(long = "of", global = true, value_name = "USER")]
    owner: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token; its text goes to standard output and is never shown again
    #[command(after_help = "Examples:
  wharf token create ci --scope 'dev/*:pull,push' --expires 30d
  wharf token create ci --of build-bot > token")]
    Create {
        /// Name to revoke it by
        name: String,
        /// What it is narrowed to, PATTERN:ACTION,…; more than one may be given [default: all that the user may do]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// How long it holds: a number with s, min, h or d
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// List the tokens, without their texts
    #[command(after_help = "Examples:
  wharf token ls
  wharf token ls --of build-bot")]
    Ls {},
    /// Revoke a token: it is refused from the next request on
    #[command(after_help = "Examples:
  wharf token revoke ci")]
    Revoke {
        /// Name of the token
        name: String,
    },
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let user = match self.owner {
            Some(user) => user,
            None => client.get::<Status>(&["status"]).await?.caller.user,
        };
        match self.verb {
            Verb::Create { name, scope, expires } => {
                let scopes = (!scope.is_empty()).then_some(scope);
                let body = NewTokenRequest { name, scopes, expires_s: Some(expires) };
                let made = create(&client, &user, &body).await?;
                note(format!("token `{}` of `{user}`, shown this once:", made.token.name));
                self.remote.output.show(&made, |made| format!("{}\n", made.text))
            }
            Verb::Ls {} => {
                let path = ["users", &user, "tokens"];
                let (tokens, _): (Vec<TokenEntry>, bool) = client.list(&path, &(), usize::MAX).await?;
                self.remote.output.show(&tokens, |tokens| table(tokens, now_ms()))
            }
            Verb::Revoke { name } => {
                client.call(client.request(Method::DELETE, &["users", &user, "tokens", &name])).await?;
                let gone = json!({"name": name, "user": user, "removed": true});
                self.remote.output.done(&gone, format!("revoked `{name}`"))
            }
        }
    }
}

/// Makes an access token of a user.
///
/// # Errors
/// As the server says.
pub(super) async fn create(client: &Client, user: &str, body: &NewTokenRequest) -> anyhow::Result<MadeToken> {
    Ok(client.send(Method::POST, &["users", user, "tokens"], body).await?)
}

fn table(tokens: &[TokenEntry], now_ms: u64) -> String {
    let empty = "no tokens; hint: `wharf token create NAME` makes one";
    let mut table = Table::new(&["~NAME", "~SCOPES", "MADE", "EXPIRES"], empty);
    for token in tokens {
        let scopes = token.scopes.as_ref().map(|scopes| scopes.join(" "));
        let expires = if token.expired { "expired".to_owned() } else { ago(token.expires_at_ms, now_ms) };
        table.row([
            token.name.clone(),
            scopes.unwrap_or_else(|| "all that the user may do".to_owned()),
            ago(token.created_at_ms, now_ms),
            expires,
        ]);
    }
    table.text()
}

/// `90d` in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, Stop> {
    let wrong = || Stop::usage("it is a number with s, min, h or d, such as `90d`");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let unit = match &text[at..] {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(seconds("90d").unwrap(), 7_776_000);
        assert_eq!(seconds("15min").unwrap(), 900);
        for wrong in ["", "90", "d", "1w", "-1d", "99999999999999999999d", "9999999999999999d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
