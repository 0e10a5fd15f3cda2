use super::client::Remote;
use super::output::{Table, ago, now_ms, pairs};
use crate::api::admin::{QueueStatus, Status};

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
            let head = pairs(&[
                ("server", client.address().to_owned()),
                ("version", status.version.clone()),
                ("logged in as", format!("{}{role}", caller.user)),
                ("commits", status.commits.to_string()),
            ]);
            format!("{head}\n{}", queues(&status.queues, now_ms()))
        })
    }
}

fn queues(queues: &[QueueStatus], now_ms: u64) -> String {
    let mut table = Table::new(&["QUEUE", ">WAITING OR RUNNING", ">FAILED", "OLDEST"], "no queues");
    for queue in queues {
        let oldest = queue.oldest_ms.map(|ms| ago(ms, now_ms)).unwrap_or_default();
        table.row([queue.queue.clone(), queue.live.to_string(), queue.dead.to_string(), oldest]);
    }
    table.text()
}
