//! Listens, and serves connections until told to stop.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::drain::drained;
use super::patience::Patience;
use super::tls::Tls;

/// Pause after a failed accept: most often the process is out of file descriptors, and only time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Largest header block of a request, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Requests at the same time on one HTTP/2 connection. Clients pull or push a handful of layers at once; a proxy that has more
/// opens another connection.
const STREAMS_MAX: u32 = 32;
/// HTTP/2 flow-control window of one stream and of a connection, in bytes: a layer is sent without a pause at a round
/// trip of a few milliseconds, and what one connection has received and nobody has read yet is no more than this.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of an HTTP/2 stream's answer that wait to be sent before its body is asked for more. The chunk that goes over it and the
/// next one come on top: of a blob 64 KiB each, so that a client that reads nothing makes [`STREAMS_MAX`] × 192 KiB, 6 MiB, wait
/// on its connection. Answers that are made whole, manifests of up to 4 MiB, are one chunk.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Pings of HTTP/2, so that connections whose other end is gone are noticed.
const PING_EVERY: Duration = Duration::from_secs(30);

/// What the server bears with.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; more wait in the kernel's queue.
    pub connections: usize,
    /// For the TLS handshake, the first bytes and each request's header.
    pub header: Duration,
    /// For a connection on which nothing moves.
    pub idle: Duration,
    /// For what is running when the server stops.
    pub stop: Duration,
}

/// The other end of a connection; an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
    pub tls: bool,
}

/// Cancelled when the server stops; an extension of each request. What waits for something ends its wait.
#[derive(Debug, Clone)]
pub struct Stopping(pub CancellationToken);

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on `{address}`: {cause}; hint: `--listen ADDR` chooses another address")]
    Listen { address: SocketAddr, cause: io::Error },
}

/// A socket that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    limits: Limits,
}

impl Server {
    /// Opens the socket, so that the address is known before anything is served.
    ///
    /// # Errors
    /// Where the address is taken or not this machine's.
    pub async fn listen(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let wrong = |cause| ServerError::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Server { listener, address, tls, limits })
    }

    /// The address, with the port that the kernel picked where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:5080`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Serves until `stop`, then gives what is running [`Limits::stop`] to end.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let builder = Arc::new(builder(&self.limits));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let Some((stream, address, place)) = accepted else { continue };
            let peer = Peer { address, tls: self.tls.is_some() };
            let connection = Connection {
                router: router.clone(),
                builder: builder.clone(),
                watcher: graceful.watcher(),
                peer,
                stopping: Stopping(stop.clone()),
            };
            let (tls, limits) = (self.tls.clone(), self.limits.clone());
            tokio::spawn(async move {
                let _place = place;
                connection.run(stream, tls, &limits).await;
            });
        }
        drop(self.listener);
        tracing::info!(connections = graceful.count(), "stopping: no new connections");
        if tokio::time::timeout(self.limits.stop, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open at the end of the stop time");
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection and its place among those open; none where accepting failed.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_BYTES_MAX * 2)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(limits.header);
    builder
}

/// One connection on its way from accepted to closed.
struct Connection {
    router: Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    watcher: hyper_util::server::graceful::Watcher,
    peer: Peer,
    stopping: Stopping,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<Tls>>, limits: &Limits) {
        // Small answers must not wait for more.
        let _ = stream.set_nodelay(true);
        let address = self.peer.address;
        let Some(tls) = tls else { return self.http(stream, limits).await };
        match tokio::time::timeout(limits.header, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, limits).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(%address, "the TLS handshake took too long"),
        }
    }

    async fn http<IO>(self, io: IO, limits: &Limits)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { router, builder, watcher, peer, stopping } = self;
        let io = TokioIo::new(Patience::new(io, limits.header, limits.idle));
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = drained(request);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(stopping.clone());
            let mut router = router.clone();
            async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
        });
        let connection = builder.serve_connection(io, service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(address = %peer.address, error, "a connection ended badly");
        }
    }
}
