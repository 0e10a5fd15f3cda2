//! Scans of images, each in a worker process.
//!
//! An operator sees `wharf scan-worker` among the processes while an image is scanned, and in the image's facts what was found
//! or why the scan failed. A worker is this program again with one hidden command: it limits its own memory and CPU time and
//! gives up every system call but those a scan needs, gets an image through a pipe, and answers with a report. Whatever an
//! image does to it, the server goes on.
//!
//! Entry: [`Scanner::scan`].
//!
//! Invariant: a worker is ended when its scan is dropped, takes too long, or breaks the protocol.
//! Invariant: no more than [`Settings::workers`] run at once; others wait.
//! Invariant: what an image does is [`ScanFailure::is_final`]; what this machine does is not, and is worth another try.

mod database;
mod input;
mod process;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wharf_scan::worker::{Confine, FrameError};
use wharf_scan::{Limits, Progress, Report};

pub use database::Database;
pub use input::{Input, LayerStream};
pub use worker::{WORKER, run as run_worker};

/// This program as the kernel holds it open: the same version even after an upgrade replaced the file.
const SELF: &str = "/proc/self/exe";

/// Limits of scans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Workers at once.
    pub workers: usize,
    /// Longest time of one scan, from its first byte. Seconds.
    pub wall_s: u64,
    /// CPU time of one worker. Seconds.
    pub cpu_s: u64,
    /// Address space of one worker beyond the program's own. MiB.
    pub memory_mib: u64,
    /// What one image may hold.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { workers: 2, wall_s: 900, cpu_s: 600, memory_mib: 512, limits: Limits::default() }
    }
}

impl Settings {
    fn confine(&self) -> Confine {
        Confine { memory_bytes: self.memory_mib << 20, cpu_seconds: self.cpu_s }
    }
}

/// Why a scan has no report.
#[derive(Debug, thiserror::Error)]
pub enum ScanFailure {
    #[error("cannot start a scan worker: {0}")]
    Start(std::io::Error),
    #[error("cannot talk to the scan worker: {0}")]
    Pipe(std::io::Error),
    #[error("layer `{digest}` cannot be read here: {cause}")]
    Layer { digest: String, cause: std::io::Error },
    #[error("the image cannot be sent to a worker: {0}")]
    Request(FrameError),
    #[error("the image cannot be scanned: {0}")]
    Refused(String),
    #[error("the scan worker answered nonsense: {0}")]
    Answer(FrameError),
    #[error("the scan took more than {0} s; hint: `scan.time_ms`")]
    Time(u64),
    #[error("the scan worker {how}")]
    Killed { how: String },
    #[error("the scan worker {how}{}", said(.stderr))]
    Crash { how: String, stderr: String },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl ScanFailure {
    /// Whether the image is the reason, so that another try would end alike.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Start(_) | Self::Pipe(_) | Self::Layer { .. } | Self::Killed { .. } => false,
            Self::Request(_) | Self::Refused(_) | Self::Answer(_) | Self::Time(_) | Self::Crash { .. } => {
                true
            }
        }
    }
}

/// Starts workers and counts them.
#[derive(Debug, Clone)]
pub struct Scanner {
    settings: Arc<Settings>,
    program: PathBuf,
    free: Arc<Semaphore>,
}

impl Scanner {
    pub fn new(settings: Settings) -> Self {
        let free = Arc::new(Semaphore::new(settings.workers.max(1)));
        Scanner { settings: Arc::new(settings), program: PathBuf::from(SELF), free }
    }

    /// Scans one image of one platform: its configuration document and its layers, base first.
    ///
    /// # Errors
    /// [`ScanFailure`]. What is wrong with a layer's contents is in the report instead.
    pub async fn scan(
        &self,
        config: &[u8],
        layers: Vec<Input>,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Report, ScanFailure> {
        // The semaphore is never closed; if it were, a scan more would be the lesser evil.
        let _slot = self.free.acquire().await.ok();
        let wall = Duration::from_secs(self.settings.wall_s);
        let scan = process::scan(&self.program, &self.settings, config, layers, progress);
        match tokio::time::timeout(wall, scan).await {
            Ok(done) => done,
            // The worker goes with the future that held it.
            Err(_) => Err(ScanFailure::Time(self.settings.wall_s)),
        }
    }
}

#[cfg(test)]
mod tests;
