//! Request bodies, bounded.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::time::Duration;

use super::error::{Code, OciError};

/// Bytes of a refused body that are read and thrown away, so that the client gets to read why.
const DRAIN_BYTES_MAX: u64 = 128 << 20;
/// And for how long.
const DRAIN: Duration = Duration::from_secs(10);
/// A body of a manifest that takes longer is given up.
const READ: Duration = Duration::from_secs(60);

/// The whole body, at most `max` bytes; `None` where there is more. Memory is taken for what arrives, never for what is
/// announced.
pub(super) async fn read(body: Body, declared: Option<u64>, max: usize) -> Result<Option<Bytes>, OciError> {
    if declared.is_some_and(|declared| declared > max as u64) {
        drain(body).await;
        return Ok(None);
    }
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|e| OciError::new(Code::SizeInvalid, format!("the body ended early: {e}")))?;
            if whole.len() + chunk.len() > max {
                drain_stream(&mut stream).await;
                return Ok(None);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole.freeze()))
    };
    let late = || OciError::new(Code::SizeInvalid, "the body did not arrive within a minute");
    tokio::time::timeout(READ, reading).await.map_err(|_| late())?
}

/// Reads on for a bounded while, keeping nothing: a client that is still sending would see a reset connection instead
/// of the answer.
pub(super) async fn drain(body: Body) {
    drain_stream(&mut body.into_data_stream()).await;
}

async fn drain_stream(stream: &mut axum::body::BodyDataStream) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            read += chunk.len() as u64;
            if read > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever is slower than that is sent away without having been heard out.
    let _ = tokio::time::timeout(DRAIN, reading).await;
}
