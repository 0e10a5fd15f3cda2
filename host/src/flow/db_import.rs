//! `wharf db import`: new vulnerability data is put in force, and what is known of every image is compared again.
//!
//! The file is replaced first and told of after: a crash between the two is made up for by the next look at the file, when
//! the data's version is not the one last told of.

use std::fs::File;
use std::sync::Arc;

use serde::Serialize;
use wharf_scan::vuln::{Db, DbError, Import, ImportError, ImportStats, Release, ReleaseData, SourceName};
use wharf_store::StoreError;

use crate::App;
use crate::event::{self, Event, Kind};
use crate::facts::vulnerability_data;

/// A file to import, and the name of the source whose earlier records it replaces.
#[derive(Debug)]
pub struct Export {
    pub source: SourceName,
    pub file: File,
    /// Releases that it is said to have everything about; a whole export covers its own without being told.
    pub covers: Vec<Release>,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Version of the data in force now.
    pub version: String,
    pub records: u64,
    pub kept: u64,
    /// Records among the kept that do not say of every version whether it is affected.
    pub undecided: u64,
    pub withdrawn: u64,
    pub malformed: u64,
    /// The first of what could not be read.
    pub described: Vec<String>,
    /// Records of ecosystems that are not matched, by ecosystem; they are not stored.
    pub others: std::collections::BTreeMap<String, u64>,
    pub exploited: u64,
    /// Sources that were there before, of which nothing was kept.
    pub removed: Vec<String>,
    /// Releases that there are records of.
    pub releases: Vec<(Release, ReleaseData)>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum DbImportError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(
        "the vulnerability database in force cannot be read: {0}; hint: remove it and import everything again"
    )]
    Db(DbError),
    #[error("the vulnerability database cannot be written: {0}")]
    Write(std::io::Error),
    #[error("the import was interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DbError> for DbImportError {
    fn from(error: DbError) -> Self {
        DbImportError::Db(error)
    }
}

/// Imports files, each in place of the earlier records of its source; other sources stay. `accepts_fewer`: also a file with
/// less than half the records of the one before; with nothing to keep it removes the source.
///
/// # Errors
/// [`DbImportError`]; what was in force stays so.
pub async fn import(
    app: &App,
    by: &str,
    exports: Vec<Export>,
    accepts_fewer: bool,
) -> Result<Imported, DbImportError> {
    // One at a time: each builds on the data that the one before put in force.
    let _turn = app.imports.lock().await;
    let build = {
        let app = app.clone();
        move || -> Result<(Arc<Db>, ImportStats), DbImportError> {
            let mut import = Import::new().accept_fewer(accepts_fewer);
            if let Some(db) = app.vulnerability_data.usable()? {
                let replaced: Vec<&str> = exports.iter().map(|export| export.source.as_str()).collect();
                import.carry(&db, &replaced)?;
            }
            for export in &exports {
                let source = export.source.as_str();
                import.add(source, &export.file)?;
                export.covers.iter().try_for_each(|release| import.covers(source, release))?;
            }
            let stats = import.stats().clone();
            let bytes = import.finish()?;
            app.vulnerability_data.replace(&bytes).map_err(DbImportError::Write)?;
            Ok((Arc::new(Db::from_bytes(bytes)?), stats))
        }
    };
    let (db, stats) = tokio::task::spawn_blocking(build).await.map_err(|_| DbImportError::Interrupted)??;
    tell(app, by, &db).await?;
    Ok(Imported {
        version: db.version().to_owned(),
        records: stats.records,
        kept: stats.kept,
        undecided: stats.undecided,
        withdrawn: stats.withdrawn,
        malformed: stats.malformed,
        described: stats.described,
        others: stats.others,
        exploited: stats.exploited,
        removed: stats.removed,
        releases: db.releases().map(|(release, data)| (release.clone(), data)).collect(),
    })
}

/// Tells of data that was put in force and not told of: by a server that was killed, or by `wharf db import` on the file.
///
/// # Errors
/// Where the store fails. A database that cannot be used is logged: nothing is compared with it.
pub async fn take_up(app: &App) -> Result<(), StoreError> {
    let looked = {
        let app = app.clone();
        tokio::task::spawn_blocking(move || app.vulnerability_data.current())
    };
    // A thread that ended is a server that stops.
    let Ok(current) = looked.await else { return Ok(()) };
    match current {
        Ok(Some(db)) => tell(app, crate::access::Principal::SYSTEM, &db).await,
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the vulnerability database cannot be used");
            Ok(())
        }
    }
}

async fn tell(app: &App, by: &str, db: &Db) -> Result<(), StoreError> {
    let coverage = db.coverage();
    let kind = &Kind::VulnerabilityDataImported {
        version: db.version().to_owned(),
        sources: coverage.iter().map(|source| source.source.clone()).collect(),
        advisories: coverage.iter().map(|source| source.records).sum(),
        as_of_ms: coverage.iter().map(|source| source.as_of_ms).max().unwrap_or_default(),
    };
    let at_ms = app.now_ms();
    app.store
        .act(|mut tx| async move {
            if vulnerability_data::told(&mut tx).await?.is_some_and(|told| told == db.version()) {
                return Ok(());
            }
            vulnerability_data::tell(&mut tx, db.version(), at_ms)?;
            event::append(&mut tx, &Event::new(at_ms, by, kind.clone()))
        })
        .await?;
    Ok(())
}
