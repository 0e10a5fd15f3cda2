use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::client::{Remote, rows};
use super::output::{Table, ago, note, now_ms, pairs, span, time};
use crate::api::admin::{JobEntry, JobName};

/// What must happen next: scans, judgements, housekeeping
#[derive(Debug, clap::Args)]
pub(super) struct Jobs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List jobs by queue, what failed for good first
    #[command(after_help = "Examples:
  wharf jobs ls
  wharf jobs ls --queue scan --state dead")]
    Ls {
        /// Only of this queue: scan, judge, rejudge, follow, rematch, housekeeping
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// `live` (queued and running) or `dead` (failed for good)
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Rows at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = rows())]
        limit: usize,
    },
    /// Show one job with its last error
    #[command(after_help = "Examples:
  wharf jobs show judge/dev/dev/app:1.4")]
    Show {
        /// Id of the job, as the list shows it
        id: String,
    },
    /// Cancel a job: one that waits is gone, one that runs is told to stop
    #[command(after_help = "Examples:
  wharf jobs cancel judge/dev/dev/app:1.4")]
    Cancel {
        /// Id of the job, as the list shows it
        id: String,
    },
    /// Run a job again that failed for good
    #[command(after_help = "Examples:
  wharf jobs retry scan/dev/dev/app@sha256:4f53…")]
    Retry {
        /// Id of the job, as the list shows it
        id: String,
    },
}

/// What narrows a list of jobs.
#[derive(serde::Serialize)]
struct Query<'a> {
    queue: Option<&'a str>,
    state: Option<&'a str>,
}

impl Jobs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Ls { queue, state, limit } => {
                let query = Query { queue: queue.as_deref(), state: state.as_deref() };
                let (jobs, more): (Vec<JobEntry>, bool) = client.list(&["jobs"], &query, limit).await?;
                output.show(&jobs, |jobs| table(jobs, now_ms()))?;
                if more {
                    note("there are more; hint: --limit N");
                }
            }
            Verb::Show { id } => {
                let job: JobEntry = client.query(&["jobs", "show"], &JobName { id }).await?;
                output.show(&job, |job| details(job, now_ms()))?;
            }
            Verb::Cancel { id } => {
                let request = client.request(Method::POST, &["jobs", "cancel"]);
                client.call(request.json(&JobName { id: id.clone() })).await?;
                output.done(&json!({"id": id, "cancelled": true}), format!("cancelled `{id}`"))?;
            }
            Verb::Retry { id } => {
                let request = client.request(Method::POST, &["jobs", "retry"]);
                client.call(request.json(&JobName { id: id.clone() })).await?;
                output.done(&json!({"id": id, "state": "queued"}), format!("`{id}` runs again"))?;
            }
        }
        Ok(())
    }
}

fn table(jobs: &[JobEntry], now_ms: u64) -> String {
    let mut table = Table::new(
        &["~ID", "STATE", "SINCE", ">RUNS", "~LAST ERROR"],
        "no jobs: nothing waits, runs or failed",
    );
    for job in jobs {
        let error = job.last_error.clone().unwrap_or_default();
        let since = ago(job.since_ms, now_ms);
        table.row([job.id.clone(), state(job), since, job.attempts.to_string(), error]);
    }
    table.text()
}

fn state(job: &JobEntry) -> String {
    match (&*job.state, job.cancelled) {
        (_, true) => "stopping".to_owned(),
        (state, false) => state.to_owned(),
    }
}

fn details(job: &JobEntry, now_ms: u64) -> String {
    let at = |ms: u64| format!("{} ({})", time(ms), ago(ms, now_ms));
    pairs(&[
        ("id", job.id.clone()),
        ("queue", job.queue.clone()),
        ("subject", job.subject.clone()),
        ("state", state(job)),
        ("since", at(job.since_ms)),
        ("made", at(job.made_at_ms)),
        ("runs", job.attempts.to_string()),
        ("interrupted", job.interruptions.to_string()),
        ("lease left", job.lease_left_ms.map(span).unwrap_or_default()),
        ("runs again", if job.again { "yes, once more when it is done".into() } else { String::new() }),
        ("asked for by", job.cause.as_ref().map(|id| format!("event {id}")).unwrap_or_default()),
        ("last error", job.last_error.clone().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobEntry {
        JobEntry {
            id: "scan/dev/sha256:4f53".into(),
            queue: "scan".into(),
            namespace: "dev".into(),
            subject: "sha256:4f53".into(),
            state: "dead".into(),
            made_at_ms: 1_000_000,
            since_ms: 4_600_000,
            lease_left_ms: None,
            attempts: 8,
            interruptions: 1,
            again: false,
            cancelled: false,
            last_error: Some("the scanner's process ended with signal 9: more than 512 MiB of memory".into()),
            cause: Some("1204.0".into()),
        }
    }

    #[test]
    fn jobs_are_shown() {
        insta::assert_snapshot!(table(&[job()], 4_720_000));
        insta::assert_snapshot!(details(&job(), 4_720_000));
        insta::assert_snapshot!(table(&[], 0), @"no jobs: nothing waits, runs or failed");
    }
}
