use std::fmt::Write as _;

use http::StatusCode;
use serde_json::{Map, Value};

use super::client::{Client, ClientError, Remote, rows_from};
use super::exit::Stop;
use super::output::{Output, note, short, time};
use super::visible::plain;
use crate::api::admin::{EventEntry, EventPage};
use crate::event::Kind;

/// How long one request waits for the next event, in seconds.
const WAIT_S: u64 = 25;
/// How long a follower rests after the server went away, in milliseconds: it may be restarting.
const REST_MS: u64 = 2000;
/// Columns are not widened beyond this: whoever has a longer name pushes their own line alone.
const KIND_WIDTH_MAX: usize = 27;
const BY_WIDTH_MAX: usize = 16;

/// Show what happened: pushes, scans, decisions, promotions, changes of settings
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub(super) struct Events {
    /// Go on with what happens from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only behind this event, oldest first; without it, the newest ones
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Only of this kind, one of those below
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only about repositories of this pattern, such as `dev/*`, or of promotions to them
    #[arg(long, value_name = "PATTERN")]
    repository: Option<String>,
    /// Events at most; with --follow, of the newest ones that are there already
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = rows_from(0))]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

fn after_help() -> String {
    let examples = "Examples:
  wharf events
  wharf events --follow
  wharf events --kind image-promoted --repository 'qa/**'
  wharf events --after 1204.0 --output json";
    format!("Kinds: {}\n\n{examples}", Kind::NAMES.join(", "))
}

#[derive(Debug, serde::Serialize)]
struct Query<'a> {
    order: &'a str,
    kind: Option<&'a str>,
    repository: Option<&'a str>,
    limit: usize,
    cursor: Option<&'a str>,
    wait_s: u64,
}

impl Events {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.limit == 0 && !self.follow {
            let message = "--limit 0 shows nothing; hint: with --follow it leaves out what is there already";
            return Err(Stop::usage(message).into());
        }
        let client = self.remote.client()?;
        let mut lines = Lines::new(self.remote.output);
        match self.after.clone() {
            // Whatever comes behind it, be it there already or not.
            Some(after) if self.follow => return self.follow(&client, &mut lines, Some(after)).await,
            Some(after) => self.from(&client, &mut lines, after).await?,
            None => {
                let cursor = self.newest(&client, &mut lines).await?;
                if self.follow {
                    return self.follow(&client, &mut lines, cursor).await;
                }
            }
        }
        lines.end();
        Ok(())
    }

    async fn page(
        &self,
        client: &Client,
        order: &str,
        cursor: Option<&str>,
        limit: usize,
        wait_s: u64,
    ) -> Result<EventPage, ClientError> {
        let (kind, repository) = (self.kind.as_deref(), self.repository.as_deref());
        let limit = limit.clamp(1, 1000);
        client.query(&["events"], &Query { order, kind, repository, limit, cursor, wait_s }).await
    }

    /// Shows the newest ones, the last at the bottom; returns where to go on.
    async fn newest(&self, client: &Client, lines: &mut Lines) -> anyhow::Result<Option<String>> {
        let (mut found, mut cursor, mut latest) = (Vec::new(), None, None);
        // Also where none is to be shown: a follower needs to know where to go on.
        loop {
            let page = self.page(client, "newest", cursor.as_deref(), self.limit - found.len(), 0).await?;
            found.extend(page.items);
            found.truncate(self.limit);
            latest = latest.or(page.latest);
            cursor = page.next;
            if cursor.is_none() || found.len() == self.limit {
                break;
            }
        }
        found.reverse();
        lines.show(&found)?;
        Ok(latest)
    }

    /// Shows those behind an event, and says where they go on if that is not all.
    async fn from(&self, client: &Client, lines: &mut Lines, after: String) -> anyhow::Result<()> {
        let (mut left, mut cursor) = (self.limit, after);
        loop {
            // One more than is shown tells whether there are more: a page of the oldest always says where to go on.
            let page = self.page(client, "oldest", Some(&cursor), left + 1, 0).await?;
            let (shown, beyond) = page.items.split_at(left.min(page.items.len()));
            lines.show(shown)?;
            left -= shown.len();
            if !beyond.is_empty() {
                let last = shown.last().map_or(cursor, |event| event.id.clone());
                note(format!("there are more; hint: --limit N, or --after {last}"));
                return Ok(());
            }
            match page.next {
                Some(next) if next != cursor => cursor = next,
                _ => return Ok(()),
            }
        }
    }

    /// Shows what happens, also across a restart of the server: the cursor is in the log, not in the connection.
    async fn follow(
        &self,
        client: &Client,
        lines: &mut Lines,
        mut cursor: Option<String>,
    ) -> anyhow::Result<()> {
        let mut away = false;
        loop {
            let page = match self.page(client, "oldest", cursor.as_deref(), 1000, WAIT_S).await {
                Ok(page) => page,
                Err(
                    error @ (ClientError::Unreachable { .. }
                    | ClientError::Answer { status: StatusCode::SERVICE_UNAVAILABLE, .. }),
                ) => {
                    if !away {
                        note(format!("{error}\nwaiting for the server …"));
                    }
                    away = true;
                    tokio::time::sleep(std::time::Duration::from_millis(REST_MS)).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            away = false;
            lines.show(&page.items)?;
            cursor = page.next.or(cursor);
        }
    }
}

/// Events under each other, in columns that are as wide as what was shown so far: what comes later may be wider.
pub(super) struct Lines {
    output: Output,
    kind: usize,
    by: usize,
    is_empty: bool,
}

impl Lines {
    pub(super) fn new(output: Output) -> Self {
        Lines { output, kind: 0, by: 0, is_empty: true }
    }

    /// Shows some more.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(super) fn show(&mut self, events: &[EventEntry]) -> anyhow::Result<()> {
        self.widen(events);
        events.iter().try_for_each(|event| self.output.line(event, |event| self.line(event)))
    }

    /// Says so where nothing was shown.
    pub(super) fn end(&self) {
        if self.is_empty {
            note("no events");
        }
    }

    fn widen(&mut self, events: &[EventEntry]) {
        for event in events {
            self.kind = self.kind.max(event.kind.chars().count().min(KIND_WIDTH_MAX));
            self.by = self.by.max(event.by.chars().count().min(BY_WIDTH_MAX));
            self.is_empty = false;
        }
    }

    /// `2026-11-22T13:00:00Z  image-pushed  alice  dev/app:1.4 sha256:4f5312ab34cd`.
    fn line(&self, event: &EventEntry) -> String {
        let (at, about) = (time(event.at_ms), about(&event.kind, &event.about));
        plain(&format!("{at}  {:<2$}  {:<3$}  {about}", event.kind, event.by, self.kind, self.by))
    }
}

/// What an event is about: the fields that people look for first, then the rest as `name=value`.
fn about(kind: &str, fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let stage = |name: &str| {
        let part = |part: &str| fields.get(name).and_then(|stage| stage.get(part)).and_then(Value::as_str);
        format!("{}:{}", part("repository").unwrap_or("?"), part("tag").unwrap_or("?"))
    };
    // Lineage repeats what the promotions before said; digest and reason come at the end.
    let (mut out, told): (String, &[&str]) = match kind {
        "image-promoted" => (format!("{} -> {}", stage("from"), stage("to")), &["from", "to"]),
        "referrer-promoted" | "referrer-held" => {
            (format!("{} -> {}", text("from"), text("to")), &["from", "to"])
        }
        "verdict-changed" => {
            (format!("{} {} -> {}", subject(fields), text("was"), text("verdict")), &["was", "verdict"])
        }
        "binding-changed" | "binding-removed" => (text("binding"), &["binding"]),
        "grant-added" | "grant-removed" => {
            let words = ["subject", "role", "resource"];
            (words.map(text).join(" "), &["subject", "role", "resource"])
        }
        _ => ([subject(fields), text("verdict")].join(" ").trim().to_owned(), &["verdict"]),
    };
    let elsewhere = ["repository", "tag", "plugin", "user", "namespace", "lineage", "reason", "digest"];
    if let Some(digest) = fields.get("digest").and_then(Value::as_str) {
        let _ = write!(out, " {}", short(digest));
    }
    let is_left = |name: &str| !told.contains(&name) && !elsewhere.contains(&name);
    for (name, value) in fields.iter().filter(|(name, _)| is_left(name)) {
        let _ = match value {
            Value::String(text) if text.contains(' ') => write!(out, " {name}={text:?}"),
            Value::String(text) => write!(out, " {name}={}", short(text)),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                write!(out, " {name}={}", items.join(","))
            }
            Value::Null => continue,
            other => match (name.strip_suffix("_ms"), other.as_u64()) {
                (Some(name), Some(ms)) => write!(out, " {name}={}", time(ms)),
                _ => write!(out, " {name}={other}"),
            },
        };
    }
    if matches!(kind, "image-scanned" | "findings-changed") && !fields.contains_key("findings") {
        out.push_str(" findings=unknown");
    }
    let out = out.trim().to_owned();
    match text("reason") {
        reason if reason.is_empty() => out,
        reason => format!("{out}: {reason}"),
    }
}

/// The image, plugin, user or namespace that an event is about.
fn subject(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match (text("repository"), text("tag")) {
        (Some(repository), Some(tag)) => format!("{repository}:{tag}"),
        (Some(repository), None) => repository.to_owned(),
        _ => {
            ["plugin", "user", "namespace"].iter().find_map(|name| text(name)).unwrap_or_default().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let digest = "sha256:4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f53";
        let events = serde_json::json!([
            {"id": "1.0", "at_ms": 1_795_352_400_000_u64, "by": "alice", "kind": "image-pushed",
             "repository": "dev/app", "tag": "1.4", "digest": digest},
            {"id": "2.0", "at_ms": 1_795_352_401_000_u64, "by": "system", "kind": "image-promoted",
             "from": {"repository": "dev/app", "tag": "1.4"}, "to": {"repository": "qa/app", "tag": "1.4"},
             "digest": digest, "binding": "to-qa", "decision": 7,
             "lineage": [{"repository": "dev/app", "tag": "1.4"}]},
            {"id": "3.0", "at_ms": 1_795_352_402_000_u64, "by": "system", "kind": "image-judged",
             "repository": "dev/app", "tag": "1.5", "digest": digest, "binding": "to-qa", "verdict": "hold",
             "decision": 8, "reason": "no vulnerability data"},
            {"id": "4.0", "at_ms": 1_795_352_403_000_u64, "by": "system", "kind": "plugin-quarantined",
             "plugin": "criteria", "digest": digest, "stage": "inspect", "reason": "not a component\u{1b}[2J"},
            {"id": "4.1", "at_ms": 1_795_352_403_500_u64, "by": "admin", "kind": "grant-added",
             "subject": "user:bob", "role": "write", "resource": "dev/*"},
            {"id": "4.2", "at_ms": 1_795_352_403_600_u64, "by": "admin", "kind": "vulnerability-data-imported",
             "version": digest, "sources": ["debian", "own"], "advisories": 9, "as_of_ms": 1_795_352_000_000_u64},
            {"id": "4.3", "at_ms": 1_795_352_403_700_u64, "by": "admin", "kind": "binding-changed", "binding": "to-qa"},
            {"id": "4.4", "at_ms": 1_795_352_403_800_u64, "by": "admin", "kind": "referrer-promoted",
             "from": "dev/app", "to": "qa/app", "digest": digest, "subject": digest, "decision": 7},
            {"id": "4.5", "at_ms": 1_795_352_403_900_u64, "by": "system", "kind": "referrer-held",
             "from": "dev/app", "to": "qa/app", "digest": digest, "reason": "`ben` may not promote into `qa/app`"},
            {"id": "4.6", "at_ms": 1_795_352_403_950_u64, "by": "system", "kind": "image-scanned",
             "repository": "dev/app", "digest": digest, "scan": "complete", "packages": 4, "matched": "none"},
            {"id": "5.0", "at_ms": 1_795_352_404_000_u64, "by": "bob", "kind": "of-a-newer-server", "what": 3},
        ]);
        let events: Vec<EventEntry> = serde_json::from_value(events).unwrap();
        let lines: Vec<String> = shown(&events);
        insta::assert_snapshot!(lines.join("\n"));
    }

    fn shown(events: &[EventEntry]) -> Vec<String> {
        let mut lines = Lines::new(Output::default());
        lines.widen(events);
        events.iter().map(|event| lines.line(event)).collect()
    }

    /// `vulnerability-data-imported` is longer than the column once was.
    #[test]
    fn columns_stand_under_each_other_whatever_the_kind() {
        let kinds = ["user-added", "vulnerability-data-imported", "image-pushed"];
        let event = |kind: &str| serde_json::json!({"id": "1.0", "at_ms": 0, "by": "alice", "kind": kind, "user": "bob"});
        let events: Vec<EventEntry> = serde_json::from_value(kinds.into_iter().map(event).collect()).unwrap();
        let columns: Vec<_> =
            shown(&events).iter().map(|line| (line.find("alice"), line.find("bob"))).collect();
        assert_eq!(columns, [(Some(51), Some(58)); 3]);
    }
}
