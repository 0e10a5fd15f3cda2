use http::Method;

use crate::cli::client::Client;
use crate::cli::exit::Stop;
use crate::cli::output::{Output, Table, count, now_ms};
use crate::cli::progress::Progress;
use crate::cli::token::seconds;
use crate::flow::promote::replay::{Difference, Instead, Known, Replay as Asked, Replayed};

/// Decisions that one request judges again.
const PORTION: usize = 200;
/// Differences that are shown.
const DIFFERENCES_SHOWN: usize = 200;

/// Judge stored decisions again: by the same policies, or by what another would have said
///
/// Without --plugin every decision must come out as it did, with the same bytes in every trace; the exit status is 1 if
/// one does not. One with a call that ran out of time, then or now, cannot be judged and is no difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf policy replay --since 30d
  wharf policy replay --binding to-qa --known now
  wharf policy replay --binding to-qa --plugin criteria --config rules.json")]
pub(super) struct Replay {
    /// Only decisions of this binding
    #[arg(long, value_name = "NAME")]
    binding: Option<String>,
    /// Only decisions about this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only decisions of this last time: a number with s, min, h or d
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    since: Option<u64>,
    /// Facts to judge on: as known `then`, or as known `now`
    #[arg(long, value_name = "then|now", default_value = "then", value_parser = ["then", "now"])]
    known: String,
    /// Ask this plugin in place of those that were asked
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Config of that plugin: a file or JSON itself [default: what the decisions have]
    #[arg(long, value_name = "FILE|JSON", requires = "plugin")]
    config: Option<String>,
}

impl Replay {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let config = self.config.as_deref().map(super::bind::config).transpose()?;
        let is_same = self.plugin.is_none() && self.known == "then";
        let mut asked = Asked {
            binding: self.binding,
            repository: self.repository,
            from_ms: self.since.map_or(0, |s| now_ms().saturating_sub(s.saturating_mul(1000))),
            until_ms: None,
            known: if self.known == "now" { Known::Now } else { Known::Then },
            instead: self.plugin.map(|plugin| Instead { plugin, config }),
            after: None,
            limit: Some(PORTION),
        };
        let (mut all, mut line) = (Replayed::default(), Progress::new());
        loop {
            let part: Replayed = client.send(Method::POST, &["decisions", "replay"], &asked).await?;
            all.decisions += part.decisions;
            all.same += part.same;
            all.skipped += part.skipped;
            all.differences.extend(part.differences);
            asked.after = part.next;
            if asked.after.is_none() {
                break;
            }
            line.show(|| format!("{} decisions judged again", all.decisions));
        }
        drop(line);
        output.show(&all, text)?;
        if is_same && all.same != all.decisions {
            return Err(Stop::failed("stored decisions came out otherwise").into());
        }
        Ok(())
    }
}

fn text(all: &Replayed) -> String {
    let head = format!(
        "{} judged again: {} the same, {} otherwise; {} could not be judged\n",
        count(all.decisions, "decision"),
        all.same,
        all.decisions - all.same.min(all.decisions),
        all.skipped
    );
    if all.differences.is_empty() {
        return head;
    }
    format!("{head}\n{}", differences(&all.differences))
}

fn differences(all: &[Difference]) -> String {
    let mut table = Table::new(&["~IMAGE", "DECISION", "WAS", "NOW", "~WHY"], "");
    for one in all.iter().take(DIFFERENCES_SHOWN) {
        table.row([
            format!("{}:{}", one.repository, one.tag),
            one.decision.to_string(),
            one.was.to_string(),
            one.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
            one.why.clone(),
        ]);
    }
    let more = all.len().saturating_sub(DIFFERENCES_SHOWN);
    if more > 0 { format!("{}and {more} more\n", table.text()) } else { table.text() }
}
