use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::client::Remote;
use super::output::{Table, ago, now_ms};
use crate::api::admin::{GrantEntry, GrantText};

/// Who may do what to which repositories
#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Grant a role over repositories
    #[command(after_help = "Examples:
  wharf grant add alice write 'dev/*'
  wharf grant add authenticated read '**'
  wharf grant add alice admin '**'")]
    Add(Words),
    /// List the grants
    #[command(after_help = "Examples:
  wharf grant ls")]
    Ls {},
    /// Take a grant away
    #[command(after_help = "Examples:
  wharf grant rm alice write 'dev/*'")]
    Rm(Words),
}

/// The three parts of a grant.
#[derive(Debug, clap::Args)]
struct Words {
    /// A user's name, `authenticated` (whoever logs in) or `anonymous` (everybody)
    subject: String,
    /// read (pull), write (also push), maintain (also delete, promote, bind policies) or admin
    role: String,
    /// Repositories: `*` is within one part of the name, `**` any number of parts
    repository: String,
}

impl Words {
    fn text(self) -> GrantText {
        let plain = !self.subject.contains(':') && !matches!(&*self.subject, "authenticated" | "anonymous");
        let subject = if plain { format!("user:{}", self.subject) } else { self.subject };
        GrantText { subject, role: self.role, repository: self.repository }
    }
}

impl Grant {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Add(words) => {
                let grant = words.text();
                client.call(client.request(Method::POST, &["grants"]).json(&grant)).await?;
                let remark = format!("`{}` may {} in `{}`", grant.subject, grant.role, grant.repository);
                output.done(&grant, remark)
            }
            Verb::Ls {} => {
                let (grants, _): (Vec<GrantEntry>, bool) = client.list(&["grants"], &(), usize::MAX).await?;
                output.show(&grants, |grants| table(grants, now_ms()))
            }
            Verb::Rm(words) => {
                let grant = words.text();
                client.call(client.request(Method::DELETE, &["grants"]).query(&grant)).await?;
                let GrantText { subject, role, repository } = &grant;
                let gone =
                    json!({"subject": subject, "role": role, "repository": repository, "removed": true});
                output.done(&gone, format!("`{subject}` has `{role}` over `{repository}` no longer"))
            }
        }
    }
}

fn table(grants: &[GrantEntry], now_ms: u64) -> String {
    let mut table = Table::new(&["~SUBJECT", "ROLE", "~REPOSITORIES", "MADE", "?BY"], "no grants");
    for grant in grants {
        table.row([
            grant.subject.clone(),
            grant.role.clone(),
            grant.repository.clone(),
            ago(grant.at_ms, now_ms),
            grant.by.clone(),
        ]);
    }
    table.text()
}
