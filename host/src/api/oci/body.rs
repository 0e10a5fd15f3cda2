//! Request bodies, bounded.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::time::Duration;

use super::error::{Code, OciError};

/// A body of a manifest that takes longer is given up.
const READ: Duration = Duration::from_secs(60);

/// The whole body, at most `max` bytes; `None` where there is more. Memory is taken for what arrives, never for what is
/// announced.
pub(super) async fn read(body: Body, declared: Option<u64>, max: usize) -> Result<Option<Bytes>, OciError> {
    if declared.is_some_and(|declared| declared > max as u64) {
        return Ok(None);
    }
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|e| OciError::new(Code::SizeInvalid, format!("the body ended early: {e}")))?;
            if whole.len() + chunk.len() > max {
                return Ok(None);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole.freeze()))
    };
    let late = || OciError::new(Code::SizeInvalid, "the body did not arrive within a minute");
    tokio::time::timeout(READ, reading).await.map_err(|_| late())?
}
