use super::client::{Remote, rows};
use super::output::{Table, ago, note, now_ms};
use crate::api::admin::RefusalEntry;

/// Show what was refused: denied requests and wrong passwords, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf refusals
  wharf refusals --limit 1000 --output json")]
pub(super) struct Refusals {
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = rows())]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

impl Refusals {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let (refusals, more): (Vec<RefusalEntry>, bool) = client.list(&["refusals"], &(), self.limit).await?;
        self.remote.output.show(&refusals, |refusals| table(refusals, now_ms()))?;
        if more {
            note("there are more; hint: --limit N");
        }
        Ok(())
    }
}

fn table(refusals: &[RefusalEntry], now_ms: u64) -> String {
    let mut table = Table::new(&["WHEN", "~BY", "ACTION", "~ON", "~WHY"], "nothing was refused");
    for refusal in refusals {
        table.row([
            ago(refusal.at_ms, now_ms),
            refusal.by.clone(),
            refusal.action.clone(),
            refusal.resource.clone(),
            refusal.reason.clone(),
        ]);
    }
    table.text()
}
