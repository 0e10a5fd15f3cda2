//! The one settings file. Every setting has a default; `wharf serve` works without a file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the server listens unless told otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5080);

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
    /// Whether `/metrics` answers without a login.
    pub metrics_public: bool,
    pub tls: Tls,
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
            metrics_public: false,
            tls: Tls::Off,
        }
    }
}
