//! What was seen is written once a second: pulls, logins, refusals.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharf_store::StoreError;

use crate::App;

/// How long an observation may wait; what a crash may lose.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Writes what waits, and once more at the stop.
pub async fn run(app: App, stop: CancellationToken) {
    loop {
        let last = stop.is_cancelled();
        if let Err(error) = flush(&app).await {
            tracing::warn!(%error, "observations cannot be written; they wait");
        }
        if last {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
    }
}

/// Writes what waits now. What comes meanwhile waits for the next flush: under load there is always something, and each turn
/// would be a durable write of the same few rows.
///
/// # Errors
/// Where the store takes nothing now; what was not written waits for the next flush.
pub async fn flush(app: &App) -> Result<(), StoreError> {
    let mut batches = app.observations.take().into_iter();
    while let Some(batch) = batches.next() {
        if batch.dropped() > 0 {
            metrics::counter!("wharf_observations_dropped_total").increment(batch.dropped());
            tracing::warn!(dropped = batch.dropped(), "more was seen than is kept");
        }
        let write = async |mut tx| batch.write(&mut tx).await;
        match app.store.background().act(write).await {
            Ok(_) => {}
            // With a row that is damaged it would wait for ever.
            Err(error @ (StoreError::Damaged { .. } | StoreError::Encode(_) | StoreError::TooLarge)) => {
                tracing::warn!(%error, "observations are lost");
            }
            Err(error) => {
                app.observations.put_back([batch].into_iter().chain(batches).collect());
                return Err(error);
            }
        }
    }
    Ok(())
}
