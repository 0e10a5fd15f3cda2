use clap::Subcommand;
use http::Method;
use serde::Serialize;
use serde_json::json;

use super::client::{Remote, rows};
use super::events;
use super::output::{Table, ago, bytes, now_ms, pairs, short, time};
use super::schema;
use super::visible::plain;
use crate::api::admin::{EventPage, PluginEntry, PluginLimits, PluginList};

/// The plugins in force, and the files that were refused
///
/// A plugin is a `.wasm` file in the server's plugin folder. It is in force within a second of being dropped there; one
/// that is refused is remembered with the reason, and the one before it stays in force.
#[derive(Debug, clap::Args)]
pub(super) struct Plugin {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what is in force and what was refused
    #[command(after_help = "Examples:
  wharf plugin ls
  wharf plugin ls --all")]
    Ls {
        /// The newest refusals that are remembered, not only those of files that are there as they were refused
        #[arg(long)]
        all: bool,
    },
    /// Show one plugin: what it asks for, what it was granted, its limits, the schema of its config
    #[command(after_help = "Examples:
  wharf plugin inspect criteria")]
    Inspect {
        /// Name of the plugin
        name: String,
    },
    /// Show when plugins were loaded, refused and removed
    #[command(after_help = "Examples:
  wharf plugin events
  wharf plugin events criteria")]
    Events {
        /// Only of this plugin
        name: Option<String>,
        /// Events at most
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = rows())]
        limit: usize,
    },
    /// Look at the plugin folder now, as SIGHUP to the server does
    #[command(after_help = "Examples:
  wharf plugin rescan")]
    Rescan {},
}

impl Plugin {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Ls { all } => {
                let list: PluginList = client.get(&["plugins"]).await?;
                output.show(&list, |list| table(list, all, now_ms()))
            }
            Verb::Inspect { name } => {
                let entry: PluginEntry = client.get(&["plugins", &name]).await?;
                output.show(&entry, |entry| details(entry, now_ms()))
            }
            Verb::Events { name, limit } => {
                let mut found = Vec::new();
                let mut cursor = None;
                while found.len() < limit {
                    let query = EventQuery { order: "newest", limit: 1000, cursor };
                    let page: EventPage = client.query(&["events"], &query).await?;
                    found.extend(page.items.into_iter().filter(|event| {
                        let named = event.about.get("plugin").and_then(serde_json::Value::as_str);
                        event.kind.starts_with("plugin-") && (name.is_none() || named == name.as_deref())
                    }));
                    cursor = page.next;
                    if cursor.is_none() {
                        break;
                    }
                }
                found.truncate(limit);
                found.reverse();
                let mut lines = events::Lines::new(output);
                lines.show(&found)?;
                lines.end();
                Ok(())
            }
            Verb::Rescan {} => {
                client.call(client.request(Method::POST, &["plugins", "rescan"])).await?;
                let remark = "the folder is looked at; hint: `wharf plugin ls` shows what came of it";
                output.done(&json!({"rescan": "asked"}), remark)
            }
        }
    }
}

#[derive(Serialize)]
struct EventQuery {
    order: &'static str,
    limit: usize,
    cursor: Option<String>,
}

fn table(list: &PluginList, all: bool, now_ms: u64) -> String {
    let empty = "no plugin is in force; hint: drop a `.wasm` file into the server's plugin folder";
    let mut active = Table::new(&["~NAME", "VERSION", "~FILE", "?DIGEST", "SINCE"], empty);
    for row in &list.active {
        let since = ago(row.at_ms, now_ms);
        active.row([row.name.clone(), row.version.clone(), row.file.clone(), short(&row.digest), since]);
    }
    let mut out = active.text();
    for row in list.quarantine.iter().filter(|refused| all || refused.standing) {
        // A reason is a sentence with a hint: it would not fit a column.
        let when = ago(row.at_ms, now_ms);
        let kept =
            row.kept.as_ref().map(|kept| format!("; {} stays in force", short(kept))).unwrap_or_default();
        let digest = if row.digest.is_empty() { String::new() } else { format!(" ({})", short(&row.digest)) };
        let head = format!("refused `{}`{digest} at {}, {when}{kept}", row.file, row.stage);
        out.push_str(&format!("\n{}\n  {}\n", plain(&head), plain(&row.reason)));
    }
    if all && list.more_quarantine {
        out.push_str("\nmore was refused before; hint: `wharf plugin events` shows it\n");
    }
    out
}

fn limits(limits: &PluginLimits) -> String {
    let of = |n: usize, what: &str| format!("{} of {what}", bytes(n as u64));
    [
        format!("{} ms of processor time", limits.time_ms),
        of(limits.memory_bytes, "memory"),
        format!("{} host calls", limits.host_calls),
        of(limits.output_bytes, "output"),
        of(limits.log_bytes, "log"),
        of(limits.trace_bytes, "trace"),
    ]
    .join(", ")
}

fn details(entry: &PluginEntry, now_ms: u64) -> String {
    let none = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    let head = pairs(&[
        ("name", entry.name.clone()),
        ("version", entry.version.clone()),
        ("kind", format!("{}, interface {}", entry.kind, entry.interface)),
        ("description", entry.description.clone()),
        ("file", entry.file.clone()),
        ("digest", entry.digest.clone()),
        ("in force", format!("since {} ({})", time(entry.at_ms), ago(entry.at_ms, now_ms))),
        ("before", entry.previous.join("\n")),
        ("asks for", none(&entry.asked)),
        ("granted", none(&entry.granted)),
        ("each call", limits(&entry.limits)),
        ("bindings", none(&entry.bindings)),
    ]);
    let fields = schema::outline(&entry.config_schema);
    if fields.is_empty() {
        return format!("{head}\nit takes no config\n");
    }
    format!("{head}\nits config (* is needed; `--output json` has the schema):\n{fields}")
}
