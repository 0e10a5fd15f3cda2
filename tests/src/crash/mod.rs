//! `kill -9` under the load of pushes and promotions, fifty times: all that was acknowledged is there and pullable, nothing is
//! promoted twice, and nothing is left behind for ever.

mod audit;
mod load;
mod promotion;

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use wharf_tests::Server;

use self::load::Worker;
use self::promotion::Stager;

/// Times that the server is killed.
const KILLS: u64 = 50;
/// Clients that push at once.
const WORKERS: usize = 4;
/// Clients that push what is promoted.
const STAGERS: usize = 2;
/// Kills between two full audits of what is on the disk.
const AUDIT_EVERY: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_fifty_kills() -> Result<()> {
    let data = TempDir::new()?;
    promotion::install_policy(data.path())?;
    let mut server = Server::start_in(data.path(), &[])?;
    promotion::set_up(&server).await?;
    let mut workers: Vec<Worker> = (0..WORKERS).map(Worker::new).collect();
    let mut stagers: Vec<Stager> = (0..STAGERS).map(Stager::new).collect();
    for kill in 0..KILLS {
        let (url, password) = (&server.url.clone(), &server.admin_password.clone());
        let pushing = join_all(workers.iter_mut().map(|worker| worker.push_until_it_dies(url, password)));
        let staging =
            try_join_all(stagers.iter_mut().map(|stager| stager.stage_until_it_dies(url, password)));
        let killing = async {
            // Another instant of the pushes each time, from the very first request on.
            tokio::time::sleep(Duration::from_millis(20 + kill * 37 % 500)).await;
            server.kill()
        };
        let (_, staged, killed) = tokio::join!(pushing, staging, killing);
        staged?;
        killed?;
        if kill % AUDIT_EVERY == AUDIT_EVERY - 1 {
            audit::rows_and_files_agree(data.path()).await?;
        }
        server.restart()?;
        for worker in &mut workers {
            worker.check_newest(&server.url, password).await?;
        }
    }
    for worker in &workers {
        worker.check_all(&server.url, &server.admin_password).await?;
    }
    promotion::until_idle(&server).await?;
    for stager in &stagers {
        stager.check(&server).await?;
    }
    server.stop()?;
    audit::rows_and_files_agree(data.path()).await?;
    audit::decisions_stand_on_what_is_there(data.path()).await?;
    audit::collection_leaves_only_what_is_named(data.path()).await?;
    let pushed = workers.iter().map(Worker::acknowledged).sum::<usize>();
    let staged = stagers.iter().map(Stager::acknowledged).sum::<usize>();
    ensure!(
        pushed > KILLS as usize && staged > KILLS as usize,
        "only {pushed} and {staged} images were pushed: this tested nothing"
    );
    Ok(())
}
