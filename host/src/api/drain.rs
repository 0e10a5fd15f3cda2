//! What a client goes on sending after its answer.
//!
//! A socket that is closed over bytes which nobody read resets its connection (RFC 1122, section 4.2.2.13), and the reset
//! takes along the answer that the client has not read yet: it would hear "connection reset" in place of "wrong password".

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body as AnyBody;
use http::header::EXPECT;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use crate::registry::upload::BLOB_BYTES_MAX;

/// Bytes of one body that are read for nothing; a client that sends more may lose its answer.
const DRAINED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long that may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// A body that is read on, within bounds, when it is dropped before its end.
struct Drained<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// None once it has ended.
    body: Option<B>,
}

/// The request with a body that is drained. Not where the client waits for `100 Continue`, as reading would ask it to send;
/// and HTTP/2 ends one stream without the rest of its connection.
pub(super) fn drained(request: Request<Incoming>) -> Request<AnyBody> {
    if request.version() >= Version::HTTP_2 || request.headers().contains_key(EXPECT) {
        return request.map(AnyBody::new);
    }
    request.map(|body| AnyBody::new(Drained { body: Some(body) }))
}

impl<B: Body<Data = Bytes> + Send + Unpin> Body for Drained<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin> Drop for Drained<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // No push is that large, so nobody will ever stop sending by having read the answer.
        if body.size_hint().lower() > BLOB_BYTES_MAX {
            return;
        }
        // None at the very end of a server, when nobody is answered any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAINED_WITHIN, drain(body)));
        }
    }
}

async fn drain<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = DRAINED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;
    use tokio::sync::mpsc;

    use super::*;

    const CHUNK: usize = 1024 * 1024;

    /// A body of so many chunks, and what tells of each that is taken, until nobody holds the body.
    fn body(
        chunks: usize,
    ) -> (impl Body<Data = Bytes, Error = Infallible> + Send + Unpin, mpsc::UnboundedReceiver<()>) {
        let (taken, told) = mpsc::unbounded_channel();
        let frames = stream::iter(0..chunks).map(move |_| {
            let _ = taken.send(());
            Ok(Frame::data(Bytes::from_static(&[0; CHUNK])))
        });
        (StreamBody::new(frames), told)
    }

    async fn count(mut told: mpsc::UnboundedReceiver<()>) -> usize {
        let mut n = 0;
        while told.recv().await.is_some() {
            n += 1;
        }
        n
    }

    #[tokio::test]
    async fn what_is_dropped_is_read_to_its_end_or_the_bound() {
        let check = async |chunks: usize, expected: usize| {
            let (body, told) = body(chunks);
            drop(Drained { body: Some(body) });
            assert_eq!(count(told).await, expected, "{chunks}");
        };
        check(0, 0).await;
        check(5, 5).await;
        // The one that goes over the bound is the last.
        check(1000, DRAINED_BYTES_MAX / CHUNK + 1).await;
    }

    #[tokio::test]
    async fn what_is_read_is_passed_on() {
        let (body, told) = body(3);
        let read = Drained { body: Some(body) }.collect().await.unwrap().to_bytes();
        assert_eq!((read.len(), count(told).await), (3 * CHUNK, 3));
    }
}
