//! All that a flow needs, wired once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use wharf_store::Store;

use crate::config::Config;

/// A running host's parts. Cheap to clone; every surface and job holds one.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What an [`App`] derefs to.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub store: Store,
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

    /// Milliseconds since 1970 by this machine's clock. What a lease is judged by is the store's clock instead.
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
