use super::client::Remote;
use super::output::{Table, ago, bytes, count, now_ms, pairs};
use crate::api::admin::{COUNTED_MAX, DatabaseEntry, DiskStatus, QueueStatus, Status};

/// Show how the server is and what keeps it busy
#[derive(Debug, clap::Args)]
#[command(
    name = "status",
    after_help = "Examples:
  wharf status
  wharf status --output json"
)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    remote: Remote,
}

impl StatusCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let status: Status = client.get(&["status"]).await?;
        self.remote.output.show(&status, |status| {
            let caller = &status.caller;
            let role = if caller.administers { " (administrator)" } else { "" };
            let now_ms = now_ms();
            let head = pairs(&[
                ("server", format!("{} is ready", client.address())),
                ("version", status.version.clone()),
                ("logged in as", format!("{}{role}", caller.user)),
                ("store", status.commits.map(|n| format!("at commit {n}")).unwrap_or_default()),
                ("disk", status.disk.as_ref().map(disk).unwrap_or_default()),
                ("plugins", plugins(status)),
                ("vulnerability data", data(&status.vulnerability_data, now_ms)),
            ]);
            match status.queues.is_empty() {
                true => head,
                false => format!("{head}\n{}", queues(&status.queues, now_ms)),
            }
        })
    }
}

fn disk(disk: &DiskStatus) -> String {
    let left = bytes(disk.free_bytes);
    match disk.full {
        true => {
            format!("full: {left} left, uploads are refused; hint: delete images, or give it more room")
        }
        false => format!("{left} left"),
    }
}

fn plugins(status: &Status) -> String {
    let mut lines = match status.plugins.is_empty() {
        true => vec!["none in force".to_owned()],
        false => vec![status.plugins.join(", ")],
    };
    if !status.refused.is_empty() {
        lines.push(format!("refused: {}; hint: `wharf plugin ls` says why", status.refused.join(", ")));
    }
    lines.join("\n")
}

fn data(data: &DatabaseEntry, now_ms: u64) -> String {
    let sources: Vec<String> = data
        .sources
        .iter()
        .map(|source| {
            let malformed = match source.malformed {
                0 => String::new(),
                some => format!(" ({} malformed)", count(some, "record")),
            };
            format!("{} of {}{malformed}", source.source, ago(source.as_of_ms, now_ms))
        })
        .collect();
    match sources.is_empty() {
        true => "none: nothing is known of any image; hint: `wharf db import FILE`".to_owned(),
        false => sources.join(", "),
    }
}

fn queues(queues: &[QueueStatus], now_ms: u64) -> String {
    let mut table = Table::new(&["QUEUE", ">WAITING OR RUNNING", ">FAILED", "OLDEST"], "no queues");
    let counted = |n: usize| if n < COUNTED_MAX { n.to_string() } else { format!("{n}+") };
    for queue in queues {
        let oldest = queue.oldest_ms.map(|ms| ago(ms, now_ms)).unwrap_or_default();
        table.row([queue.queue.clone(), counted(queue.live), counted(queue.dead), oldest]);
    }
    table.text()
}
