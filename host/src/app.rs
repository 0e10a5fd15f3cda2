//! All that a flow needs, wired once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use wharf_store::{BlobError, Blobs, OpenError, Options, Store};

use crate::access::Grants;
use crate::auth::{Auth, AuthError};
use crate::config::Config;

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
            let store = Store::open(&config.data, &options)?;
            let blobs = Blobs::open_dir(&config.data, config.store.watermark_bytes)?;
            let auth = Auth::open(&config.data)?;
            Ok(App::new(Parts { config, store, blobs, auth, grants: Grants::default() }))
        };
        tokio::task::spawn_blocking(open).await.map_err(|_| AppError::Interrupted)?
    }

    /// Milliseconds since 1970 by this machine's clock. What a lease is judged by is the store's clock instead.
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
