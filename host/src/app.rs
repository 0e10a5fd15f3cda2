//! All that a flow needs, wired once.

use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use wharf_plugin::archive::{Archive, ArchiveError};
use wharf_plugin::catalog::Catalog;
use wharf_plugin::{CallLimits, Engine, EngineConfig, EngineError};
use wharf_scan::vuln::version::Scheme;
use wharf_store::{BlobError, Blobs, OpenError, Options, Store};

use crate::access::Grants;
use crate::auth::{Auth, AuthError};
use crate::config::Config;
use crate::event::Observations;
use crate::plugin::{self, Plugins};
use crate::registry::cache::ManifestCache;
use crate::registry::session::Sessions;
use crate::scan::{self, Database, Scanner};

/// A running host's parts. Cheap to clone; every surface and job holds one.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What an [`App`] derefs to.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub store: Store,
    pub blobs: Blobs,
    pub auth: Auth,
    pub grants: Grants,
    pub plugins: Plugins,
    pub scanner: Scanner,
    pub vulnerability_data: Database,
    /// Held by an import of vulnerability data: one at a time.
    pub imports: Mutex<()>,
    pub observations: Observations,
    /// Unfinished uploads, counted.
    pub uploads: Sessions,
    /// What is pulled over and over.
    pub manifests: ManifestCache,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("cannot make `{}`: {cause}", path.display())]
    Folder { path: PathBuf, cause: std::io::Error },
    #[error("opening the data folder was interrupted")]
    Interrupted,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    pub fn new(parts: Parts) -> Self {
        App(Arc::new(parts))
    }

    /// Opens all that is in the data folder, or makes it.
    ///
    /// # Errors
    /// Where another process holds it, or it cannot be read or written.
    pub async fn open(config: Config) -> Result<Self, AppError> {
        let open = move || {
            let options = Options {
                cache_bytes: usize::try_from(config.store.cache_bytes).unwrap_or(usize::MAX),
                ballast_bytes: config.store.ballast_bytes,
                ..Options::default()
            };
            make_private(&config.data)
                .map_err(|cause| AppError::Folder { path: config.data.clone(), cause })?;
            let store = Store::open(&config.data, &options)?;
            App::over(config, store)
        };
        tokio::task::spawn_blocking(open).await.map_err(|_| AppError::Interrupted)?
    }

    /// Opens everything else in the data folder, over a store that is open.
    ///
    /// # Errors
    /// Where something cannot be read or written.
    pub fn over(config: Config, store: Store) -> Result<Self, AppError> {
        let blobs = Blobs::open_dir(&config.data, config.store.watermark_bytes)?;
        let grace = Duration::from_millis(config.registry.grace_ms);
        let uploads = Sessions::of(&blobs, store.now_ms(), grace)?;
        let auth = Auth::open(&config.data)?;
        let plugins = open_plugins(&config)?;
        let vulnerability_data = Database::of_data(&config.data);
        let scanner = Scanner::new(scan_settings(&config));
        Ok(App::new(Parts {
            config,
            store,
            blobs,
            auth,
            grants: Grants::default(),
            plugins,
            scanner,
            vulnerability_data,
            imports: Mutex::default(),
            observations: Observations::default(),
            uploads,
            manifests: ManifestCache::default(),
        }))
    }

    /// Whether pushes are refused for want of room on the disk: uploads below the watermark, everything but what frees space
    /// once the ballast is spent.
    pub fn is_full(&self) -> bool {
        self.store.is_full() || matches!(self.blobs.check_space(), Err(BlobError::Full { .. }))
    }

    /// Milliseconds since 1970 by the store's clock: one for whatever is written down, whichever host writes it.
    pub fn now_ms(&self) -> u64 {
        self.store.now_ms()
    }
}

/// Makes the data folder for its owner alone; one that is there keeps the rights it was given.
fn make_private(data: &Path) -> std::io::Result<()> {
    if data.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)
}

fn open_plugins(config: &Config) -> Result<Plugins, AppError> {
    let mut engine = EngineConfig::new(version_order);
    engine.cache_dir = Some(config.data.join("cache/plugins"));
    let usize_of = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let limits = CallLimits {
        time_ms: config.plugin.time_ms,
        memory_bytes: usize_of(config.plugin.memory_bytes),
        host_calls: u32::try_from(config.plugin.host_calls).unwrap_or(u32::MAX),
        output_bytes: usize_of(config.plugin.output_bytes),
        log_bytes: usize_of(config.plugin.log_bytes),
        trace_bytes: usize_of(config.plugin.trace_bytes),
    };
    engine.max_memory_bytes = engine.max_memory_bytes.max(limits.memory_bytes);
    Ok(Plugins::new(plugin::Parts {
        engine: Engine::new(engine)?,
        catalog: Arc::new(Catalog::default()),
        archive: Archive::open(&config.data.join("plugin-archive"))?,
        limits,
    }))
}

fn scan_settings(config: &Config) -> scan::Settings {
    scan::Settings {
        workers: usize::try_from(config.scan.at_once).unwrap_or(usize::MAX),
        wall_s: config.scan.time_ms.div_ceil(1000),
        memory_mib: config.scan.memory_bytes >> 20,
        ..scan::Settings::default()
    }
}

/// How versions of an ecosystem compare, for policies: as the scanner compares them.
fn version_order(ecosystem: &str, left: &str, right: &str) -> Option<std::cmp::Ordering> {
    let scheme = match ecosystem {
        "deb" => Scheme::Debian,
        "apk" => Scheme::Alpine,
        _ => return None,
    };
    Some(scheme.compare(left, right))
}
