use http::Method;
use wharf_oci::RepoName;

use crate::api::admin::BindingEntry;
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
/// one does not. One with a call that ran out of time, then or now, cannot be judged and is no difference. One that stands on
/// something that is lost (facts, a config, a trace, a plugin) cannot be judged either, and the exit status is 1.
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
    repository: Option<RepoName>,
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
            all.add(client.send(Method::POST, &["decisions", "replay"], &asked).await?);
            asked.after = all.next.clone();
            if asked.after.is_none() {
                break;
            }
            line.show(|| format!("{} decisions judged again", all.decisions));
        }
        drop(line);
        if let (true, 0, Some(binding)) = (is_empty(&all), asked.from_ms, &asked.binding) {
            // One that was taken away has left decisions, if older ones than were asked for; one that never was has none.
            let _: BindingEntry = client.get(&["bindings", binding]).await?;
        }
        output.show(&all, text)?;
        Ok(passed(&all, is_same)?)
    }
}

fn is_empty(all: &Replayed) -> bool {
    all.decisions + all.skipped + all.lost == 0
}

/// Whether all came out as it must. What no longer can be judged at all is no less of a failure than what comes out otherwise.
fn passed(all: &Replayed, is_same: bool) -> Result<(), Stop> {
    if is_same && all.same != all.decisions {
        return Err(Stop::failed("stored decisions came out otherwise"));
    }
    if all.lost > 0 {
        let text = format!("what {} stood on is lost or cannot be read", count(all.lost, "decision"));
        return Err(Stop::failed(text));
    }
    Ok(())
}

fn text(all: &Replayed) -> String {
    if is_empty(all) {
        return "no decision is kept of what was asked for: nothing was judged again\n".to_owned();
    }
    let head = format!(
        "{} judged again: {} the same, {} otherwise; {} could not be judged; {} stood on what is lost\n",
        count(all.decisions, "decision"),
        all.same,
        all.decisions - all.same.min(all.decisions),
        all.skipped,
        all.lost
    );
    if all.differences.is_empty() {
        return head;
    }
    format!("{head}\n{}", differences(&all.differences))
}

/// What it comes to now; nothing where it could not be judged.
fn now(one: &Difference) -> String {
    match (one.verdict, one.lost) {
        (Some(verdict), _) => verdict.to_string(),
        (None, true) => "lost".to_owned(),
        (None, false) => String::new(),
    }
}

fn differences(all: &[Difference]) -> String {
    let mut table = Table::new(&["~IMAGE", "DECISION", "WAS", "NOW", "~WHY"], "");
    for one in all.iter().take(DIFFERENCES_SHOWN) {
        table.row([
            format!("{}:{}", one.repository, one.tag),
            one.decision.to_string(),
            one.was.to_string(),
            now(one),
            one.why.clone(),
        ]);
    }
    let more = all.len().saturating_sub(DIFFERENCES_SHOWN);
    if more > 0 { format!("{}and {more} more\n", table.text()) } else { table.text() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promote::Verdict;

    fn replayed(decisions: u64, same: u64, skipped: u64, lost: u64) -> Replayed {
        Replayed { decisions, same, skipped, lost, ..Replayed::default() }
    }

    /// Regression: a replay that had lost what decisions stand on ended as one in which all was the same.
    #[test]
    fn what_is_lost_fails_and_what_ran_out_of_time_does_not() {
        let check = |all: Replayed, is_same, expected: Option<&str>| {
            let told = passed(&all, is_same).err().map(|stop| stop.to_string());
            assert_eq!(told.as_deref(), expected, "{all:?}");
        };
        check(replayed(45, 45, 4, 0), true, None);
        check(replayed(45, 44, 0, 0), true, Some("stored decisions came out otherwise"));
        check(replayed(45, 44, 0, 0), false, None);
        let lost = Some("what 4 decisions stood on is lost or cannot be read");
        check(replayed(45, 45, 0, 4), true, lost);
        check(replayed(45, 45, 0, 4), false, lost);
        check(replayed(0, 0, 0, 1), true, Some("what 1 decision stood on is lost or cannot be read"));
    }

    #[test]
    fn what_is_lost_is_counted_and_shown_apart() {
        let difference = |verdict, lost, why: &str| Difference {
            repository: "dev/app".to_owned(),
            tag: "1.4".to_owned(),
            decision: 7,
            was: Verdict::Hold,
            verdict,
            lost,
            why: why.to_owned(),
        };
        let differences = vec![
            difference(Some(Verdict::Approve), false, "would have been promoted"),
            difference(None, false, "its tag points elsewhere now"),
            difference(None, true, "its bytes are no longer kept"),
        ];
        let all = Replayed { differences, ..replayed(3, 2, 1, 1) };
        insta::assert_snapshot!(text(&all), @r"
        3 decisions judged again: 2 the same, 1 otherwise; 1 could not be judged; 1 stood on what is lost

        IMAGE        DECISION  WAS   NOW      WHY
        dev/app:1.4  7         hold  approve  would have been promoted
        dev/app:1.4  7         hold  -        its tag points elsewhere now
        dev/app:1.4  7         hold  lost     its bytes are no longer kept
        ");
    }

    #[test]
    fn nothing_to_judge_is_said() {
        assert!(text(&Replayed::default()).contains("nothing was judged again"));
    }
}
