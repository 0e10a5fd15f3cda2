//! A connection that ends when the other side stalls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What tells HTTP/1.1 from HTTP/2: the length of the latter's preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// Input and output with two limits: the first bytes must come soon, and after that some byte must move, either way,
/// within the idle time.
#[derive(Debug)]
pub(super) struct Patience<IO> {
    io: IO,
    /// Bytes still to come before the short limit no longer counts.
    first: usize,
    idle: Duration,
    /// When the patience ends, as of the last byte that moved.
    ends: Instant,
    /// Fires at `ends` or earlier; set again only when it fires, as a byte moves far more often than that.
    timer: Pin<Box<Sleep>>,
}

impl<IO> Patience<IO> {
    pub(super) fn new(io: IO, first: Duration, idle: Duration) -> Self {
        let ends = Instant::now() + first;
        let timer = Box::pin(tokio::time::sleep_until(ends));
        Patience { io, first: PREFACE_BYTES, idle, ends, timer }
    }

    fn moved(&mut self, bytes: usize) {
        let was_first = self.first > 0;
        self.first = self.first.saturating_sub(bytes);
        if self.first == 0 {
            self.ends = Instant::now() + self.idle;
        }
        if was_first && self.first == 0 {
            // The idle time may be the shorter one.
            let ends = self.ends;
            self.timer.as_mut().reset(ends);
        }
    }

    /// What to say instead of "pending".
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.ends <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let ends = self.ends;
            self.timer.as_mut().reset(ends);
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Patience<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.pending(cx),
            ready => {
                self.moved(buf.filled().len() - before);
                ready
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Patience<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Pending => self.pending(cx),
            ready => {
                // An answer says that the protocol is known.
                self.moved(PREFACE_BYTES);
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Pending => self.pending(cx),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Pending => self.pending(cx),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.pending(cx),
            ready => {
                self.moved(PREFACE_BYTES);
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn whoever_says_too_little_at_first_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, SHORT, LONG);
        client.write_all(b"POST").await.unwrap();
        let mut buf = [0; 24];
        assert_eq!(server.read_exact(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_body_that_stops_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, LONG, SHORT);
        client.write_all(&[0; 24]).await.unwrap();
        let mut buf = [0; 24];
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(server.read_exact(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_cut_off() {
        let (_client, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, LONG, SHORT);
        let error = server.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn every_byte_renews_the_patience() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, LONG, LONG);
        client.write_all(&[0; 24]).await.unwrap();
        server.read_exact(&mut [0; 24]).await.unwrap();
        for _ in 0..3 {
            let ends = server.ends;
            client.write_all(&[0]).await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            assert!(server.ends > ends);
            // The timer was set before that byte, and fires while nothing comes.
            server.timer.as_mut().reset(Instant::now());
            let reader = tokio::spawn(async move { server.read_exact(&mut [0]).await.map(|_| server) });
            tokio::time::sleep(SHORT).await;
            client.write_all(&[0]).await.unwrap();
            server = reader.await.unwrap().unwrap();
        }
    }
}
