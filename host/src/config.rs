//! The one settings file. Every setting has a default; `wharf serve` works without a file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one folder that holds everything.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Where plugins are dropped; `DATA/plugins` unless configured.
    pub plugins: PathBuf,
}

impl Config {
    /// Defaults over a data folder.
    pub fn new(data: &Path, listen: SocketAddr) -> Self {
        Config { data: data.to_owned(), listen, plugins: data.join("plugins") }
    }
}
