use serde::Serialize;

use super::question::words;
use crate::api::admin::{ExplainedEntry, ExplainedStanding, ExplainedTag, TagName};
use crate::cli::client::{Client, rows};
use crate::cli::output::{Output, Table, ago, note, now_ms, short, time};
use crate::cli::visible::plain;
use crate::promote::{Authority, Decision, Effect, Judged, Outcome, Reason};

/// Questions of one policy that are shown without --trace.
const QUESTIONS_SHOWN: usize = 12;

/// Show why an image was promoted, held or rejected: each verdict, its reasons, and what was asked and answered
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf policy explain dev/app:1.4
  wharf policy explain dev/app:1.4 --history
  wharf policy explain dev/app:1.4 --decision 1795352400000")]
pub(super) struct Explain {
    /// Image, as REPOSITORY:TAG
    image: String,
    /// List all decisions about it, the newest first
    #[arg(long, conflicts_with = "decision")]
    history: bool,
    /// Show this decision of the history
    #[arg(long, value_name = "NUMBER")]
    decision: Option<u64>,
    /// Show all questions, however many
    #[arg(long)]
    trace: bool,
    /// Rows of the history at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = rows())]
    limit: usize,
}

#[derive(Serialize)]
struct OfImage<'a> {
    image: &'a str,
}

impl Explain {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let query = OfImage { image: &self.image };
        if self.history {
            let (decisions, more): (Vec<Decision>, bool) =
                client.list(&["decisions"], &query, self.limit).await?;
            output.show(&decisions, |decisions| history(decisions, now_ms()))?;
            if more {
                note("there are more; hint: --limit N");
            }
            return Ok(());
        }
        let shown = if self.trace { usize::MAX } else { QUESTIONS_SHOWN };
        if let Some(number) = self.decision {
            let name = TagName { image: self.image.clone() };
            let found: ExplainedEntry = client.query(&["decisions", &number.to_string()], &name).await?;
            return output.show(&found, |found| explained(found, shown, now_ms()));
        }
        let found: ExplainedTag = client.query(&["decisions", "explain"], &query).await?;
        output.show(&found, |found| of_tag(&self.image, found, shown, now_ms()))
    }
}

/// How the image came there, what was decided by hand, and what each binding says.
fn of_tag(image: &str, found: &ExplainedTag, shown: usize, now_ms: u64) -> String {
    let came = found.came_by.iter().map(|decision| came(image, decision, now_ms));
    let by_hand = found.by_hand.iter().map(|decision| decided(decision, now_ms));
    let stands = found.standings.iter().map(|stands| standing(stands, shown, now_ms));
    let parts: Vec<String> = came.chain(by_hand).chain(stands).collect();
    if parts.is_empty() {
        return format!(
            "no binding has judged `{image}`; hint: `wharf policy ls`, `wharf jobs ls --queue judge`\n"
        );
    }
    parts.join("\n")
}

fn standing(stands: &ExplainedStanding, shown: usize, now_ms: u64) -> String {
    match &stands.explained {
        Some(entry) => {
            let mut text = explained(entry, shown, now_ms);
            if let Some(at_ms) = stands.recheck_at_ms {
                text.push_str(&format!("  judged again {} at the latest\n", ago(at_ms, now_ms)));
            }
            text
        }
        None => format!(
            "{} by binding `{}`; why is no longer kept\n",
            stands.verdict.to_uppercase(),
            stands.binding
        ),
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(&plain(text));
    out.push('\n');
}

/// By what an image came to a stage from the one before.
fn came(image: &str, decision: &Decision, now_ms: u64) -> String {
    let (from, mut out) = (decision.stage(), String::new());
    let (digest, by) = (short(decision.digest.as_str()), authority(&decision.authority));
    line(&mut out, 0, &format!("{image} {digest} came from {from} by {by}"));
    let hint = format!("hint: `wharf policy explain {from} --decision {}`", decision.number);
    line(&mut out, 1, &format!("{}; {hint}", when(decision, now_ms)));
    out
}

fn when(decision: &Decision, now_ms: u64) -> String {
    let (at, ago) = (time(decision.at_ms), ago(decision.at_ms, now_ms));
    format!("decided {at} ({ago}), decision {}", decision.number)
}

/// One decision, with what came of it.
fn decided(decision: &Decision, now_ms: u64) -> String {
    let (stage, mut out) = (decision.stage(), String::new());
    let (digest, verdict) = (short(decision.digest.as_str()), decision.verdict.name().to_uppercase());
    line(&mut out, 0, &format!("{stage} {digest} {verdict} by {}", authority(&decision.authority)));
    line(&mut out, 1, &when(decision, now_ms));
    for effect in &decision.effects {
        line(&mut out, 1, &effect_text(effect));
    }
    for reason in &decision.reasons {
        line(&mut out, 1, &reason_text(reason));
    }
    out
}

/// One decision, from what came of it down to each question.
fn explained(entry: &ExplainedEntry, shown: usize, now_ms: u64) -> String {
    let decision = &entry.decision;
    let mut out = decided(decision, now_ms);
    let mut line = |depth, text: &str| line(&mut out, depth, text);
    let nothing = Vec::new();
    for (at, judged) in decision.policies.iter().enumerate() {
        line(1, &judged_text(judged));
        for reason in judged.held_because.iter().chain(&judged.reasons) {
            line(2, &reason_text(reason));
        }
        let questions = entry.traces.get(at).unwrap_or(&nothing);
        if !questions.is_empty() {
            line(2, "it asked:");
        }
        let asked: Vec<(String, String)> = questions.iter().take(shown).map(words).collect();
        let width = asked.iter().map(|(asked, _)| asked.chars().count()).max().unwrap_or(0).min(56);
        for (asked, answer) in asked {
            line(3, &format!("{asked:width$}  {answer}"));
        }
        if questions.len() > shown {
            line(3, &format!("and {} more; hint: --trace", questions.len() - shown));
        }
    }
    out
}

fn authority(authority: &Authority) -> String {
    match authority {
        Authority::Binding { binding, binding_revision, owner, mode, .. } => {
            format!("binding `{binding}` (revision {binding_revision}, as {owner}, {})", super::mode(*mode))
        }
        Authority::Hand { by, note } if note.is_empty() => format!("{by}, by hand"),
        Authority::Hand { by, note } => format!("{by}, by hand: {note}"),
    }
}

fn effect_text(effect: &Effect) -> String {
    let to = effect.to.as_deref().unwrap_or("?");
    match &effect.outcome {
        Outcome::Promoted => format!("promoted to {to}"),
        Outcome::Already => format!("stands at {to} already"),
        Outcome::Held { reason } => format!("not promoted to {to}: {}", reason.text),
        Outcome::Shadow => format!("would be promoted to {to}, but the binding only watches"),
    }
}

fn judged_text(judged: &Judged) -> String {
    let platform = judged.platform.as_ref().map(|platform| format!(" about {platform}")).unwrap_or_default();
    let version = match &*judged.plugin_version {
        "" => String::new(),
        version => format!(" {version} ({})", short(&judged.plugin_digest)),
    };
    let verdict = judged.verdict;
    let said = match judged.said {
        Some(said) if said != verdict => format!("{said}, which counts as {verdict}"),
        Some(said) => said.to_string(),
        None => format!("nothing, which counts as {verdict}"),
    };
    format!("plugin `{}`{version} said {said}{platform}", judged.plugin)
}

fn reason_text(reason: &Reason) -> String {
    format!("{} [{}]", reason.text, reason.code)
}

fn history(decisions: &[Decision], now_ms: u64) -> String {
    let mut table =
        Table::new(&["DECISION", "WHEN", "VERDICT", "~BY", "?DIGEST", "~WHY"], "no decisions about it");
    for decision in decisions {
        let by = match &decision.authority {
            Authority::Binding { binding, .. } => binding.clone(),
            Authority::Hand { by, .. } => format!("{by} by hand"),
        };
        let why = match (&decision.authority, decision.first_reason()) {
            (Authority::Hand { note, .. }, reason) if reason.is_empty() => note.clone(),
            (_, reason) => reason,
        };
        table.row([
            decision.number.to_string(),
            ago(decision.at_ms, now_ms),
            decision.verdict.to_string(),
            by,
            short(decision.digest.as_str()),
            why,
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f53";

    fn entry() -> ExplainedEntry {
        let entry = serde_json::json!({
            "decision": {
                "number": 1_795_352_400_000_u64, "at-ms": 1_795_352_400_000_u64, "repository": "dev/app", "tag": "1.4",
                "tag-revision": 12, "digest": DIGEST, "authority": "binding", "binding": "to-qa",
                "binding-revision": 7, "owner": "alice", "mode": "enforce", "offered": ["default"],
                "verdict": "hold", "reasons": [],
                "policies": [
                    {"plugin": "criteria", "plugin-version": "0.1.0", "plugin-digest": DIGEST, "config": DIGEST,
                     "platform-index": 0, "said": "hold", "verdict": "hold", "trace": DIGEST,
                     "reasons": [{"code": "unmet", "text": "2 critical findings, 0 are allowed"}]},
                    {"plugin": "gone", "plugin-version": "", "plugin-digest": "", "config": DIGEST,
                     "platform-index": 0, "verdict": "hold", "reasons": [],
                     "held-because": {"code": "plugin-gone", "text": "plugin `gone` is gone"}},
                ],
                "effects": [{"target": "default", "to": "qa/app:1.4", "outcome": "held",
                             "reason": {"code": "quota", "text": "namespace `qa` is full"}}],
                "host": "0.1.0",
            },
            "traces": [[
                {"question": "scan", "answer": "complete"},
                {"question": "count-findings", "arguments": {"at-least": "critical"}, "answer": 2},
            ], []],
            "configs": {DIGEST: "{}"},
        });
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn a_decision_is_explained_down_to_its_questions() {
        insta::assert_snapshot!(explained(&entry(), 12, 1_795_352_520_000));
    }

    #[test]
    fn a_long_trace_is_cut_unless_asked_for() {
        assert!(explained(&entry(), 1, 0).contains("and 1 more; hint: --trace"));
    }

    #[test]
    fn a_history_is_a_table() {
        insta::assert_snapshot!(history(&[entry().decision], 1_795_352_520_000));
    }

    #[test]
    fn a_tag_without_a_judgement_says_where_to_look() {
        let nothing = ExplainedTag { came_by: None, by_hand: None, standings: Vec::new() };
        insta::assert_snapshot!(of_tag("dev/app:1.4", &nothing, 12, 0));
    }

    /// Regression: a promotion by hand was in the history alone, and at its target nothing said how the image had come there.
    #[test]
    fn a_promotion_by_hand_is_shown_at_both_ends() {
        let by_hand = serde_json::json!({
            "number": 1_795_352_400_000_u64, "at-ms": 1_795_352_400_000_u64, "repository": "dev/app", "tag": "1.3",
            "tag-revision": 12, "digest": DIGEST, "authority": "hand", "by": "ann", "note": "hot fix",
            "verdict": "approve", "reasons": [], "policies": [],
            "effects": [{"target": "", "to": "prod/app:1.3", "outcome": "promoted"}], "host": "0.1.0",
        });
        let by_hand: Option<Decision> = serde_json::from_value(by_hand).unwrap();
        let check = |image, came_by, by_hand, expected: &str| {
            let found = ExplainedTag { came_by, by_hand, standings: Vec::new() };
            assert_eq!(of_tag(image, &found, 12, 1_795_352_520_000), expected);
        };
        let source = "dev/app:1.3 sha256:4f5312ab34cd APPROVE by ann, by hand: hot fix
  decided 2026-11-22T13:00:00Z (2 min ago), decision 1795352400000
  promoted to prod/app:1.3
";
        let target = "prod/app:1.3 sha256:4f5312ab34cd came from dev/app:1.3 by ann, by hand: hot fix
  decided 2026-11-22T13:00:00Z (2 min ago), decision 1795352400000; hint: `wharf policy explain dev/app:1.3 --decision 1795352400000`
";
        check("dev/app:1.3", None, by_hand.clone(), source);
        check("prod/app:1.3", by_hand, None, target);
    }
}
