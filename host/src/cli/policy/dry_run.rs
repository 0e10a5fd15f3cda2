use http::Method;

use crate::api::admin::{BindingEntry, NewBinding, NewDryRun};
use crate::cli::client::Client;
use crate::cli::output::{Output, Table, short};
use crate::cli::progress::Progress;
use crate::flow::promote::dry_run::{DryRun as Run, Would};

/// Tags that one request judges.
const PORTION: usize = 100;

/// Show what a binding would do about what is in the registry now; nothing is written
///
/// `wharf policy bind … --dry-run` does so for a binding that is not there yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf policy dry-run to-qa
  wharf policy dry-run to-qa --differing")]
pub(super) struct DryRun {
    /// Name of the binding
    name: String,
    /// Only tags that would be held or rejected
    #[arg(long)]
    differing: bool,
}

impl DryRun {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let entry: BindingEntry = client.get(&["bindings", &self.name]).await?;
        let binding = NewBinding {
            repositories: entry.repositories,
            tags: Some(entry.tags),
            policies: entry.policies,
            targets: entry.targets,
            owner: Some(entry.owner),
            mode: entry.mode,
            platforms: entry.platforms,
        };
        let mut tags = judge(client, binding).await?;
        if self.differing {
            tags.retain(|would| would.to.is_empty());
        }
        output.show(&tags, |tags| table(tags))
    }
}

/// Judges everything that the binding matches, portion by portion.
///
/// # Errors
/// As the server says.
pub(super) async fn judge(client: &Client, binding: NewBinding) -> anyhow::Result<Vec<Would>> {
    let (mut tags, mut after, mut line) = (Vec::new(), None, Progress::new());
    loop {
        let body = NewDryRun { binding: binding.clone(), limit: Some(PORTION), after };
        let run: Run = client.send(Method::POST, &["bindings", "dry-run"], &body).await?;
        tags.extend(run.tags);
        after = run.next;
        if after.is_none() {
            return Ok(tags);
        }
        line.show(|| format!("{} tags judged", tags.len()));
    }
}

pub(super) fn table(tags: &[Would]) -> String {
    let empty = "it matches nothing that is in the registry now";
    let mut table = Table::new(&["~IMAGE", "?DIGEST", "VERDICT", "~WOULD GO TO", "~WHY"], empty);
    for would in tags {
        table.row([
            format!("{}:{}", would.repository, would.tag),
            short(&would.digest),
            would.verdict.to_string(),
            would.to.join(", "),
            why(would),
        ]);
    }
    table.text()
}

/// The first reason that explains the verdict.
fn why(would: &Would) -> String {
    let deciding = would.policies.iter().filter(|judged| judged.verdict == would.verdict);
    let theirs = deciding.flat_map(|judged| judged.held_because.iter().chain(&judged.reasons));
    let all = would.reasons.iter().chain(theirs);
    all.map(|reason| reason.text.clone()).next().unwrap_or_default()
}
