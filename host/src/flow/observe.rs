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
            tracing::warn!(%error, "observations of the last second are lost");
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
/// Where the store fails; what was not written yet is lost.
pub async fn flush(app: &App) -> Result<(), StoreError> {
    for batch in &app.observations.take() {
        if batch.dropped() > 0 {
            metrics::counter!("wharf_observations_dropped_total").increment(batch.dropped());
            tracing::warn!(dropped = batch.dropped(), "more was seen than is kept");
        }
        app.store.background().act(|mut tx| async move { batch.write(&mut tx).await }).await?;
    }
    Ok(())
}
