//! The one settings file. Every setting has a default; `wharf serve` works without a file.
//!
//! An operator sees `wharf config check FILE`, which tells every problem at once, and `docs/config.md`, which is made
//! from the same definitions.
//!
//! Entry: [`load`]; [`reference`] is the page.
//!
//! Invariant: a file with a problem is refused whole; nothing is half in force.
//! Invariant: settings come from this file and from flags, never from the environment.

mod reader;
mod reference;
mod sections;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use http::uri::Authority;
use reader::Reader;
use rustls_pki_types::ServerName;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

pub use reference::reference;
pub use sections::{Limits, Log, LogFormat, Metrics, Plugin, Registry, Retention, Scan, Store, TlsMode};

/// Where the server listens unless told otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5080);
/// Largest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Problems told at once; a file with more is not a settings file.
const PROBLEMS_MAX: usize = 50;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one folder that holds everything.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Where plugins are dropped; `DATA/plugins` unless configured.
    pub plugins: PathBuf,
    /// How clients reach the server, where that is not what they say themselves: behind a proxy.
    pub public_url: Option<String>,
    /// Proxies whose word on where a request comes from is taken.
    pub trusted_proxies: Vec<IpAddr>,
    pub tls: Tls,
    pub limits: Limits,
    pub log: Log,
    pub metrics: Metrics,
    pub store: Store,
    pub registry: Registry,
    pub plugin: Plugin,
    pub scan: Scan,
    pub retention: Retention,
}

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    #[default]
    Off,
    /// A certificate authority of the server's own, for the names the server finds and these.
    Auto {
        names: Vec<String>,
    },
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

impl Config {
    /// Defaults over a data folder.
    pub fn new(data: &Path, listen: SocketAddr) -> Self {
        Config {
            data: data.to_owned(),
            listen,
            plugins: data.join("plugins"),
            public_url: None,
            trusted_proxies: Vec::new(),
            tls: Tls::Off,
            limits: Limits::default(),
            log: Log::default(),
            metrics: Metrics::default(),
            store: Store::default(),
            registry: Registry::default(),
            plugin: Plugin::default(),
            scan: Scan::default(),
            retention: Retention::default(),
        }
    }
}

/// One thing that is wrong with a settings file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Counted from 1; none for what the file lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    pub message: String,
}

/// Why a settings file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("`{}` is larger than 1 MiB, which no settings file is", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}", Listed { path, problems })]
    Wrong { path: PathBuf, problems: Vec<Problem> },
}

struct Listed<'a> {
    path: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match problem.line {
                Some(line) => write!(f, "{path}:{line}: {}", problem.message)?,
                None => write!(f, "{path}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

/// Reads a settings file for a server over `data`.
///
/// # Errors
/// [`ConfigError::Wrong`] lists every problem, in the order of the file's lines.
pub fn load(file: &Path, data: &Path) -> Result<Config, ConfigError> {
    let failed = |cause| ConfigError::Read { path: file.to_owned(), cause };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: file.to_owned() });
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    // What the file names is beside the file, wherever the server is started.
    let folder = file.parent().unwrap_or(Path::new(""));
    parse(&text, folder, data).map_err(|problems| ConfigError::Wrong { path: file.to_owned(), problems })
}

fn parse(text: &str, folder: &Path, data: &Path) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(text);
    let server = sections::Server::read(&mut reader);
    let tls = sections::TlsSection::read(&mut reader);
    let config = Config {
        data: data.to_owned(),
        listen: server.listen,
        plugins: match server.plugins {
            Some(path) => check_plugins(folder.join(path), &mut reader),
            None => data.join("plugins"),
        },
        tls: check_tls(tls, folder, &mut reader),
        limits: Limits::read(&mut reader),
        log: Log::read(&mut reader),
        metrics: Metrics::read(&mut reader),
        store: Store::read(&mut reader),
        registry: Registry::read(&mut reader),
        plugin: Plugin::read(&mut reader),
        scan: Scan::read(&mut reader),
        retention: Retention::read(&mut reader),
        public_url: server.public_url,
        trusted_proxies: server.trusted_proxies,
    };
    if config.public_url.as_deref().is_some_and(|url| !is_origin(url)) {
        let why = "it is not a URL such as `https://registry.example.com`, without a path";
        reader.problem_at("", "public_url", why);
    }
    if let Err(why) = log_filter(&config.log.level) {
        reader.problem_at("log", "level", &why);
    }
    reader.finish(&sections::known())?;
    Ok(config)
}

/// A scheme and a host, perhaps with a port, and nothing after it: clients look for `/v2/` at the root of a host.
fn is_origin(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let Ok(authority) = rest.strip_suffix('/').unwrap_or(rest).parse::<Authority>() else { return false };
    let is_whole = authority.as_str() == authority.host() || authority.port().is_some();
    is_whole && !authority.host().is_empty() && !authority.as_str().contains('@')
}

/// Whether the server's authority can sign for this: a host name, perhaps with `*` for its first label, or an address.
///
/// # Errors
/// Why not.
pub fn check_tls_name(name: &str) -> Result<(), String> {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    ServerName::try_from(plain).map(drop).map_err(|error| error.to_string())
}

/// What of the log is written: a level, or filters such as `wharf=debug,warn`.
///
/// # Errors
/// Why it is neither. A word that is no level would be taken as the name of a module, and silence all the others.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let wrong = |part: &str| {
        let hint = "hint: `error`, `warn`, `info`, `debug`, `trace`, or filters such as `wharf=debug,warn`";
        format!("`{}` is not a log level; {hint}", part.chars().take(100).collect::<String>())
    };
    for part in text.split(',') {
        let is_filter = part.contains(['=', '[']);
        if part.is_empty() || (!is_filter && part.parse::<LevelFilter>().is_err()) {
            return Err(wrong(part));
        }
    }
    EnvFilter::builder().parse(text).map_err(|_| wrong(text))
}

/// The server makes the folder, so that what is there of its path has to be one.
fn check_plugins(path: PathBuf, reader: &mut Reader<'_>) -> PathBuf {
    let there = path.ancestors().find(|path| path.exists());
    if let Some(file) = there.filter(|path| !path.is_dir()) {
        reader.problem_at("", "plugins", &format!("`{}` is not a folder", file.display()));
    }
    path
}

fn check_tls(tls: sections::TlsSection, folder: &Path, reader: &mut Reader<'_>) -> Tls {
    match (tls.mode, tls.certificate, tls.key) {
        (TlsMode::Auto, None, None) => {
            for name in &tls.names {
                if let Err(why) = check_tls_name(name) {
                    let why = format!("`{name}` is not a host name or an address: {why}");
                    reader.problem_at("tls", "names", &why);
                }
            }
            Tls::Auto { names: tls.names }
        }
        (TlsMode::Off, None, None) => Tls::Off,
        (TlsMode::Files, Some(certificate), Some(key)) => {
            let (certificate, key) = (folder.join(certificate), folder.join(key));
            for (name, path) in [("certificate", &certificate), ("key", &key)] {
                if let Err(error) = std::fs::read(path) {
                    reader.problem_at("tls", name, &format!("cannot read `{}`: {error}", path.display()));
                }
            }
            Tls::Files { certificate, key }
        }
        (TlsMode::Files, ..) => {
            reader.problem_at("tls", "mode", "`files` needs `certificate` and `key`");
            Tls::Off
        }
        (TlsMode::Auto | TlsMode::Off, ..) => {
            reader.problem_at("tls", "mode", "`certificate` and `key` go with the mode `files`");
            Tls::Off
        }
    }
}

#[cfg(test)]
mod tests;
