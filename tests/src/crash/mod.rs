//! `kill -9` under the load of pushes and promotions, fifty times: all that was acknowledged is there and pullable, nothing is
//! promoted twice, and nothing is left behind for ever.

mod audit;
mod load;
mod promotion;

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use wharf_tests::Server;

use self::load::Worker;
use self::promotion::Stager;

/// Times that the server is killed, and the most where the machine is too slow to push an image each time.
const KILLS: u64 = 50;
const KILLS_MAX: u64 = 200;
/// How much longer it lives at most on such a machine.
const PACE_MAX: u64 = 32;
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
    let (mut kill, mut pace) = (0, 1);
    while kill < KILLS || (kill < KILLS_MAX && acknowledged(&workers, &stagers) <= KILLS) {
        let (url, password) = (&server.url.clone(), &server.admin_password.clone());
        let pushing = try_join_all(workers.iter_mut().map(|worker| worker.push_until_it_dies(url, password)));
        let staging =
            try_join_all(stagers.iter_mut().map(|stager| stager.stage_until_it_dies(url, password)));
        let killing = async {
            // Another instant of the pushes each time, from the very first request on.
            tokio::time::sleep(Duration::from_millis((20 + kill * 37 % 500) * pace)).await;
            server.kill()
        };
        let (pushed, staged, killed) = tokio::join!(pushing, staging, killing);
        pushed?;
        staged?;
        killed?;
        if kill % AUDIT_EVERY == AUDIT_EVERY - 1 {
            audit::rows_and_files_agree(data.path()).await?;
        }
        server.restart()?;
        for worker in &mut workers {
            worker.check_newest(&server.url, password).await?;
        }
        kill += 1;
        let is_slow = acknowledged(&workers, &stagers) <= kill;
        pace = if is_slow { (pace + 1).min(PACE_MAX) } else { 1 };
    }
    for worker in &workers {
        worker.check_all(&server.url, &server.admin_password).await?;
    }
    promotion::until_right(&server, &stagers).await?;
    server.stop()?;
    audit::rows_and_files_agree(data.path()).await?;
    audit::decisions_stand_on_what_is_there(data.path()).await?;
    audit::collection_leaves_only_what_is_named(data.path()).await?;
    let images = acknowledged(&workers, &stagers);
    ensure!(images > KILLS, "only {images} images were pushed by each kind of client: this tested nothing");
    Ok(())
}

/// Images that were acknowledged, of the kind of client that has fewer.
fn acknowledged(workers: &[Worker], stagers: &[Stager]) -> u64 {
    let pushed = workers.iter().map(Worker::acknowledged).sum::<usize>();
    pushed.min(stagers.iter().map(Stager::acknowledged).sum()) as u64
}

/// Asks again and again until a request has no answer, or part of one. Any other answer than the right one is an error.
async fn until_it_dies(mut ask: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    loop {
        match ask().await {
            Ok(()) => {}
            Err(error) if error.is::<reqwest::Error>() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
