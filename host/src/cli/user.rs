use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::client::{Client, Remote};
use super::exit::Stop;
use super::output::{Output, Table, ago, now_ms};
use super::prompt;
use crate::api::admin::{NewPassword, NewUser, Status, Suspension, UserEntry};

/// Accounts and their passwords
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a user; it may do nothing until it is granted something
    #[command(after_help = "Examples:
  wharf user add alice
  wharf user add alice --password-stdin < password
  wharf user add ci --service")]
    Add {
        /// Lower-case letters and digits, then also `.`, `_` and `-`
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Without a password: an account for machines, which acts by access tokens alone
        #[arg(long, conflicts_with = "password_stdin")]
        service: bool,
    },
    /// List the users
    #[command(after_help = "Examples:
  wharf user ls")]
    Ls {},
    /// Set a password; sessions that began with the old one end, access tokens go on
    #[command(after_help = "Examples:
  wharf user passwd
  wharf user passwd --password-stdin < present-and-new
  wharf user passwd alice --password-stdin < password")]
    Passwd {
        /// User [default: you]
        name: Option<String>,
        /// Read the new password from standard input; for your own, the present one on the line before it, unless
        /// WHARF_PASSWORD has it
        #[arg(long)]
        password_stdin: bool,
    },
    /// Keep a user from doing anything; grants and tokens stay for `enable`
    #[command(after_help = "Examples:
  wharf user disable alice")]
    Disable {
        /// User
        name: String,
    },
    /// End what `disable` did
    #[command(after_help = "Examples:
  wharf user enable alice")]
    Enable {
        /// User
        name: String,
    },
    /// Remove a user with all tokens and grants
    #[command(after_help = "Examples:
  wharf user rm alice")]
    Rm {
        /// User
        name: String,
    },
}

impl User {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Add { name, password_stdin, service } => {
                let password = match (service, password_stdin) {
                    (true, _) => None,
                    (_, true) => Some(prompt::line()?),
                    _ => Some(prompt::new_secret(&format!("password of {name}"))?),
                };
                let new = NewUser { name, password };
                let added: UserEntry = client.send(Method::POST, &["users"], &new).await?;
                let name = &added.name;
                let hint = format!("`wharf grant add {name} write 'dev/*'` grants something");
                output.done(&added, format!("added `{name}`; hint: {hint}"))
            }
            Verb::Ls {} => {
                let (users, _): (Vec<UserEntry>, bool) = client.list(&["users"], &(), usize::MAX).await?;
                output.show(&users, |users| table(users, now_ms()))
            }
            Verb::Passwd { name, password_stdin } => {
                set_password(&client, &self.remote, name, password_stdin).await
            }
            Verb::Disable { name } => suspend(&client, output, &name, true).await,
            Verb::Enable { name } => suspend(&client, output, &name, false).await,
            Verb::Rm { name } => {
                client.call(client.request(Method::DELETE, &["users", &name])).await?;
                let gone = json!({"name": name, "removed": true});
                output.done(&gone, format!("removed `{name}` with all tokens and grants"))
            }
        }
    }
}

async fn set_password(
    client: &Client,
    remote: &Remote,
    name: Option<String>,
    password_stdin: bool,
) -> anyhow::Result<()> {
    let caller = client.get::<Status>(&["status"]).await?.caller;
    let name = name.unwrap_or_else(|| caller.user.clone());
    let current = match remote.given_password() {
        _ if name != caller.user => None,
        Some(password) => Some(password.to_owned()),
        None if password_stdin => Some(prompt::line()?),
        None => Some(prompt::ask_secret(&format!("present password of {name}"))?),
    };
    let password = match password_stdin {
        true => prompt::line().map_err(|error| match (&current, remote.given_password()) {
            (Some(_), None) => Stop::usage(
                "there is no second line on standard input; hint: the present password, then the new one on a line of its own",
            )
            .into(),
            _ => error,
        })?,
        false => prompt::new_secret(&format!("new password of {name}"))?,
    };
    if password_stdin && prompt::has_more()? {
        return Err(Stop::usage(
            "there is a line too many on standard input; hint: WHARF_PASSWORD has the present password already, or it is another \
             user's, and then the new one stands there alone",
        )
        .into());
    }
    if current.as_ref() == Some(&password) {
        return Err(Stop::usage("the new password is the present one").into());
    }
    let request = client.request(Method::PUT, &["users", &name, "password"]);
    client.call(request.json(&NewPassword { password, current })).await?;
    remote.output.done(&json!({"name": name, "password": "changed"}), format!("`{name}` has a new password"))
}

async fn suspend(client: &Client, output: Output, name: &str, suspended: bool) -> anyhow::Result<()> {
    let path = ["users", name, "suspension"];
    let user: UserEntry = client.send(Method::PUT, &path, &Suspension { suspended }).await?;
    output.done(&user, format!("`{name}` {}", if suspended { "may do nothing now" } else { "may act again" }))
}

fn table(users: &[UserEntry], now_ms: u64) -> String {
    let mut table = Table::new(&["~NAME", "KIND", "STATE", "MADE", "?BY"], "no users");
    for user in users {
        table.row([
            user.name.clone(),
            if user.service { "service" } else { "person" }.to_owned(),
            if user.suspended { "disabled" } else { "active" }.to_owned(),
            ago(user.created_at_ms, now_ms),
            user.created_by.clone(),
        ]);
    }
    table.text()
}
