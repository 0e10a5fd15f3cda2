//! The server's life: open everything, listen, serve, stop.
//!
//! Entry: [`serve`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::api::{self, Limits, Server, TlsSource};
use crate::config::{self, Config};
use crate::flow;

/// How often metrics are tidied and the certificate's end is looked at.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(12 * 3600);

/// What `wharf serve` was told.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub data: PathBuf,
    /// Over what the settings file says.
    pub listen: Option<SocketAddr>,
    pub config: Option<PathBuf>,
    /// Over what the settings file says.
    pub tls: Option<config::Tls>,
}

/// Serves until SIGTERM or SIGINT, and ends what is running first. Blocks.
///
/// Prints `listening on URL` to standard error once requests are answered.
///
/// # Errors
/// Where something cannot be opened: the settings, the store, the certificate, the address.
pub fn serve(options: ServeOptions) -> Result<()> {
    let mut config = Config::new(&options.data, options.listen.unwrap_or(config::LISTEN));
    if let Some(tls) = options.tls {
        config.tls = tls;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> Result<()> {
    let metrics = api::install_metrics()?;
    let app = App::open(config).await?;
    let tls = open_tls(&app.config)?;
    let server = Server::listen(app.config.listen, tls.clone(), Limits::default()).await?;
    if let Some(first) = flow::account::first_start(&app).await? {
        say(&format!(
            "first start: log in as `admin` with the password {}\n  (also in {}, until you change it)",
            first.password,
            first.file.display()
        ));
    }
    let stop = CancellationToken::new();
    tokio::spawn(until_told(stop.clone(), tls.clone()));
    tokio::spawn(upkeep(metrics.clone(), tls.clone(), stop.clone()));
    if let Some(tls) = &tls {
        print_trust(tls, server.address());
    }
    say(&format!("listening on {}", server.url()));
    server.serve(api::router(app.clone(), metrics), stop.clone()).await;
    stop.cancel();
    tracing::info!("stopped");
    Ok(())
}

/// Lines for whoever started the server; the log is for whoever watches it.
fn say(text: &str) {
    eprintln!("{text}");
}

fn open_tls(config: &Config) -> Result<Option<Arc<api::Tls>>> {
    let source = match &config.tls {
        config::Tls::Off => return Ok(None),
        config::Tls::Files { certificate, key } => {
            TlsSource::Files { certificate: certificate.clone(), key: key.clone() }
        }
        config::Tls::Auto { names } => TlsSource::Auto {
            folder: config.data.join("tls"),
            names: api::default_names(config.listen.ip(), names),
        },
    };
    Ok(Some(Arc::new(api::Tls::open(source).context("TLS")?)))
}

/// What to paste on a client's machine so that it trusts the server's own authority.
fn print_trust(tls: &api::Tls, address: SocketAddr) {
    let Some(authority) = tls.authority() else { return };
    let authority = std::path::absolute(&authority).unwrap_or(authority);
    let (file, port) = (authority.display(), address.port());
    let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
    say(&format!(
        "this server's certificate is signed by its own authority; to trust it, on a client's machine:\n\
         \x20 docker:         sudo install -D -m 644 {file} /etc/docker/certs.d/{host}:{port}/ca.crt\n\
         \x20 podman, skopeo: sudo install -D -m 644 {file} /etc/containers/certs.d/{host}:{port}/ca.crt\n\
         \x20 wharf, curl:    wharf login --ca {file} https://{host}:{port}"
    ));
}

/// Cancels `stop` at SIGTERM or SIGINT; reads again what can be read again at SIGHUP.
async fn until_told(stop: CancellationToken, tls: Option<Arc<api::Tls>>) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be received: the server ends by SIGKILL only");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => reload(tls.clone()).await,
        }
    }
    tracing::info!("told to stop");
    stop.cancel();
}

async fn reload(tls: Option<Arc<api::Tls>>) {
    let Some(tls) = tls else { return };
    match tokio::task::spawn_blocking(move || tls.reload()).await {
        Ok(Ok(())) => tracing::info!("read the certificate again"),
        Ok(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    }
}

async fn upkeep(metrics: PrometheusHandle, tls: Option<Arc<api::Tls>>, stop: CancellationToken) {
    let mut tidy = tokio::time::interval(UPKEEP_EVERY);
    let mut renew = tokio::time::interval(RENEW_EVERY);
    renew.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tidy.tick() => metrics.run_upkeep(),
            _ = renew.tick() => reload(tls.clone()).await,
        }
    }
}
