//! `kill -9` under load, fifty times: all that was acknowledged is there, and nothing is left behind for ever.

mod audit;
mod load;

use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use wharf_tests::Server;

use self::load::Worker;

/// Times that the server is killed.
const KILLS: u64 = 50;
/// Clients that push at once.
const WORKERS: usize = 4;
/// Kills between two full audits of what is on the disk.
const AUDIT_EVERY: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_fifty_kills() -> Result<()> {
    let data = TempDir::new()?;
    let mut server = Server::start_in(data.path(), &[])?;
    let mut workers: Vec<Worker> = (0..WORKERS).map(Worker::new).collect();
    for kill in 0..KILLS {
        let url = server.url.clone();
        let password = server.admin_password.clone();
        let running: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let (url, password) = (url.clone(), password.clone());
                tokio::spawn(async move {
                    worker.push_until_it_dies(&url, &password).await;
                    worker
                })
            })
            .collect();
        // Another instant of the pushes each time, from the very first request on.
        tokio::time::sleep(Duration::from_millis(20 + kill * 37 % 500)).await;
        server.kill()?;
        workers = Vec::new();
        for worker in running {
            workers.push(worker.await?);
        }
        if kill % AUDIT_EVERY == AUDIT_EVERY - 1 {
            audit::rows_and_files_agree(data.path()).await?;
        }
        server.restart()?;
        for worker in &mut workers {
            worker.check_newest(&server.url, &password).await?;
        }
    }
    for worker in &workers {
        worker.check_all(&server.url, &server.admin_password).await?;
    }
    server.stop()?;
    audit::rows_and_files_agree(data.path()).await?;
    audit::collection_leaves_only_what_is_named(data.path()).await?;
    let all = workers.iter().map(Worker::acknowledged).sum::<usize>();
    ensure!(all > KILLS as usize, "only {all} images were pushed: this tested nothing");
    Ok(())
}
