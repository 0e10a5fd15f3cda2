use http::Method;
use serde::Serialize;

use crate::api::admin::Portion;
use crate::cli::client::Client;
use crate::cli::output::{Output, Table, short};
use crate::cli::progress::Progress;
use crate::flow::promote::dry_run::{DryRun as Run, Would};

/// Tags that one request judges.
pub(super) const PORTION: usize = 100;

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
        let ask = |after| Portion { limit: Some(PORTION), after };
        let mut tags = judge(client, &["bindings", &self.name, "dry-run"], ask).await?;
        if self.differing {
            tags.retain(|would| would.to.is_empty());
        }
        output.show(&tags, |tags| table(tags))
    }
}

/// Judges everything that the binding matches, portion by portion: `ask` says what is asked for behind a place.
///
/// # Errors
/// As the server says.
pub(super) async fn judge<T: Serialize>(
    client: &Client,
    path: &[&str],
    ask: impl Fn(Option<String>) -> T,
) -> anyhow::Result<Vec<Would>> {
    let (mut tags, mut after, mut line) = (Vec::new(), None, Progress::new());
    loop {
        let run: Run = client.send(Method::POST, path, &ask(after)).await?;
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
