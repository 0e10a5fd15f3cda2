//! The server's life: open everything, listen, serve, stop.
//!
//! Entry: [`serve`].

mod trust;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::api::{self, Limits, Server, TlsSource};
use crate::config::{self, Config, LogFormat};
use crate::flow;
use crate::flow::account::FirstAdmin;
use crate::work::Work;

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
    /// Level and form of the log, over what the settings file says; see [`config::Log`].
    pub log: Option<String>,
    pub log_format: Option<LogFormat>,
}

/// Serves until SIGTERM or SIGINT, and ends what is running first; a second one ends it at once. Blocks.
///
/// Prints `listening on URL` to standard error once requests are answered.
///
/// # Errors
/// Where something cannot be opened: the settings, the store, the certificate, the address.
pub fn serve(options: ServeOptions) -> Result<()> {
    let mut config = match &options.config {
        Some(file) => config::load(file, &options.data)?,
        None => Config::new(&options.data, config::LISTEN),
    };
    config.listen = options.listen.unwrap_or(config.listen);
    config.tls = match (options.tls, config.tls) {
        // An option says how; for which names, the settings file.
        (Some(config::Tls::Auto { .. }), auto @ config::Tls::Auto { .. }) => auto,
        (option, set) => option.unwrap_or(set),
    };
    config.log.level = options.log.unwrap_or(config.log.level);
    config.log.format = options.log_format.unwrap_or(config.log.format);
    install_log(&config.log)?;
    keep_files_private();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(run(config));
    // Nothing is waited for any more: what still runs on a thread was told to end, or is to end with the process.
    runtime.shutdown_background();
    served
}

/// What this process makes from here on, its owner alone reads: the data folder may be one that others look into.
fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Gives `admin` a new password, and its rights back; in a folder without a store it makes one. The server must not run: the store is open in one process only.
/// Blocks.
///
/// # Errors
/// Where the store is in use or cannot be opened.
pub fn reset_admin(data: &Path) -> Result<FirstAdmin> {
    keep_files_private();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::open(Config::new(data, config::LISTEN)).await?;
        Ok(flow::account::reset_admin(&app).await?)
    })
}

async fn run(config: Config) -> Result<()> {
    let metrics = api::install_metrics()?;
    let app = App::open(config).await?;
    let tls = open_tls(&app.config)?;
    let server = Server::listen(app.config.listen, tls.clone(), limits(&app.config.limits)).await?;
    let say = Say { format: app.config.log.format };
    if let Some(first) = flow::account::first_start(&app).await? {
        say.first_admin(&first);
    }
    let (stop, at_once) = (CancellationToken::new(), CancellationToken::new());
    // Received from here on, however late the task begins that waits for them.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    tokio::spawn(until_told(signals, app.clone(), stop.clone(), at_once.clone(), tls.clone()));
    tokio::spawn(upkeep(metrics.clone(), tls.clone(), stop.clone()));
    if let config::Tls::Auto { names } = &app.config.tls {
        let fingerprint = api::fingerprint(&app.config.data.join("tls/ca.crt"))?;
        say.line(&trust::lines(names, server.address(), &fingerprint));
    }
    let work = Work::start(&app).await?;
    say.line(&format!("listening on {}", server.url()));
    let router = api::router(app.clone(), metrics);
    let requests = tokio::spawn({
        let stop = stop.clone();
        async move {
            // However it ends, the server does.
            let _stop = stop.clone().drop_guard();
            server.serve(router, stop).await;
        }
    });
    stop.cancelled().await;
    tokio::select! {
        () = work.stop(async { requests.await.unwrap_or_default() }) => tracing::info!("stopped"),
        () = at_once.cancelled() => anyhow::bail!("told twice to stop: what was running is taken up at the next start"),
    }
    Ok(())
}

fn limits(limits: &config::Limits) -> Limits {
    Limits {
        connections: usize::try_from(limits.connections).unwrap_or(usize::MAX),
        header: Duration::from_millis(limits.header_ms),
        idle: Duration::from_millis(limits.idle_ms),
        stop: Duration::from_millis(limits.stop_ms),
    }
}

/// The log goes to standard error; standard output stays free.
fn install_log(log: &config::Log) -> Result<()> {
    let filter = config::log_filter(&log.level).map_err(anyhow::Error::msg)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!("the log cannot be set up: {e}"))
}

/// Lines for whoever started the server, among those of the log; where the log is for a machine, they are part of it.
#[derive(Debug, Clone, Copy)]
struct Say {
    format: LogFormat,
}

impl Say {
    fn line(self, text: &str) {
        match self.format {
            LogFormat::Text => eprintln!("{text}"),
            LogFormat::Json => tracing::info!("{text}"),
        }
    }

    /// The password is shown to a person and never logged.
    fn first_admin(self, first: &FirstAdmin) {
        let file = std::path::absolute(&first.file).unwrap_or_else(|_| first.file.clone());
        let file = file.display();
        match self.format {
            LogFormat::Text => self.line(&format!(
                "first start: log in as `admin` with the password {}\n  (also in {file}, until you change it)",
                first.password
            )),
            LogFormat::Json => self.line(&format!("first start: the password of `admin` is in {file}")),
        }
    }
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

/// Cancels `stop` at SIGTERM or SIGINT and `at_once` at the next; reads again what can be read again at SIGHUP.
async fn until_told(
    signals: [io::Result<Signal>; 3],
    app: App,
    stop: CancellationToken,
    at_once: CancellationToken,
    tls: Option<Arc<api::Tls>>,
) {
    let [Ok(mut term), Ok(mut int), Ok(mut hup)] = signals else {
        tracing::error!("signals cannot be received: the server ends by SIGKILL only");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {
                app.plugins.rescan();
                reload(tls.clone()).await;
                continue;
            }
        }
        if stop.is_cancelled() {
            return at_once.cancel();
        }
        tracing::info!("told to stop: ending what runs; once more ends it at once");
        stop.cancel();
    }
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
