//! What is past its time goes: events and refusals, the quarantine, decisions, promotion keys of tags that moved on, destinations
//! that have lost their image, and then the documents and plugins that nothing names any more.
//!
//! Invariant: no event goes that the router has not read, and no decision that a tag stands by.
//! Invariant: a document goes only if nothing named it when it was looked for and nothing has named it since.
//! Invariant: a plugin goes only if it was out of force before the first decision was looked at, and ever since; one that is being
//! loaded does not.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use wharf_store::StoreError;

use crate::App;
use crate::event;
use crate::facts::document::{self, Kind};
use crate::facts::{DocumentError, scanned, stored};
use crate::jobs;
use crate::plugin::state;
use crate::promote::standing::{self, Place};
use crate::promote::{Authority, Decision, decision, destination};
use crate::registry::row;

/// Rows that are read at once.
const PAGE: usize = 200;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What one run removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub events: usize,
    pub quarantine: usize,
    pub decisions: usize,
    pub promotions: usize,
    pub destinations: usize,
    pub documents: usize,
    pub plugins: usize,
}

/// Why a run stopped. The next one begins again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error("it was stopped")]
    Stopped,
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Archive(#[from] wharf_plugin::archive::ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs once over everything, as of `now_ms` (milliseconds since 1970).
///
/// # Errors
/// [`RetentionError`]; what was removed stays so.
pub async fn run(app: &App, now_ms: u64, stop: &CancellationToken) -> Result<Trimmed, RetentionError> {
    let keep = &app.config.retention;
    let mut trimmed =
        Trimmed { events: events(app, now_ms, keep.events_days, stop).await?, ..Trimmed::default() };
    trimmed.quarantine = quarantine(app, now_ms.saturating_sub(keep.events_days * DAY_MS), stop).await?;
    // Before the search begins, which must end: an archive that cannot be read keeps its plugins, and nothing else.
    let idle = match Idle::find(app, Instant::now()).await {
        Ok(idle) => Some(idle),
        Err(RetentionError::Archive(error)) => {
            tracing::warn!(%error, "no plugin is removed from the archive");
            None
        }
        Err(error) => return Err(error),
    };
    // From here on whoever names a document leaves a mark, and what is named already is found.
    let begin = |mut tx| async move {
        document::begin_sweep(&mut tx);
        Ok::<_, StoreError>(())
    };
    app.store.background().act(begin).await?;
    let mut named = Named::default();
    let cutoff_ms = now_ms.saturating_sub(keep.decisions_days * DAY_MS);
    trimmed.decisions = decisions(app, cutoff_ms, &mut named, stop).await?;
    trimmed.promotions = promotions(app, stop).await?;
    trimmed.destinations = destinations(app, stop).await?;
    scans(app, &mut named, stop).await?;
    trimmed.documents = documents(app, &named, stop).await?;
    let store = app.store.background();
    while store.act(|mut tx| async move { document::end_sweep(&mut tx).await }).await?.0 {}
    if let Some(idle) = idle {
        trimmed.plugins = idle.remove(app, &named).await?;
    }
    Ok(trimmed)
}

/// What is named, by hash: a collision keeps a document that could go, and no more.
#[derive(Debug, Default)]
pub(super) struct Named {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Named {
    fn add(&mut self, kind: &str, digest: &str) {
        let hash = self.hasher.hash_one((kind, digest));
        self.hashes.insert(hash);
    }

    fn has(&self, kind: &str, digest: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one((kind, digest)))
    }
}

/// What plugins are named by among documents.
const PLUGIN: &str = "plugin";

fn go_on(stop: &CancellationToken) -> Result<(), RetentionError> {
    if stop.is_cancelled() { Err(RetentionError::Stopped) } else { Ok(()) }
}

async fn events(
    app: &App,
    now_ms: u64,
    days: u64,
    stop: &CancellationToken,
) -> Result<usize, RetentionError> {
    let floor = jobs::cursor(&app.store, jobs::ROUTER).await?;
    let keep_ms = days * DAY_MS;
    let keep_ms = keep_ms.max(u64::try_from(event::RETENTION_FLOOR.as_millis()).unwrap_or(u64::MAX));
    let cutoff_ms = now_ms.saturating_sub(keep_ms);
    let mut removed = 0;
    loop {
        go_on(stop)?;
        let trim = async |mut tx| event::trim(&mut tx, cutoff_ms, floor).await;
        let (trimmed, _) = app.store.background().act(trim).await?;
        removed += trimmed.rows;
        if !trimmed.more || trimmed.rows == 0 {
            return Ok(removed);
        }
    }
}

async fn quarantine(app: &App, cutoff_ms: u64, stop: &CancellationToken) -> Result<usize, RetentionError> {
    let store = app.store.background();
    let mut forgotten = 0;
    let mut after = None;
    loop {
        go_on(stop)?;
        let from = &after;
        let trim = async |mut tx| state::trim_quarantine(&mut tx, from.as_ref(), cutoff_ms).await;
        let ((rows, next), _) = store.act(trim).await?;
        forgotten += rows;
        after = next;
        if after.is_none() {
            return Ok(forgotten);
        }
    }
}

/// Removes old decisions and takes in what the others name.
async fn decisions(
    app: &App,
    cutoff_ms: u64,
    named: &mut Named,
    stop: &CancellationToken,
) -> Result<usize, RetentionError> {
    let mut removed = 0;
    let mut after = None;
    loop {
        go_on(stop)?;
        let (page, next) = decision::page(&app.store, after.as_ref(), PAGE).await?;
        let mut old = Vec::new();
        for decision in page {
            if decision.at_ms < cutoff_ms && !stands(app, &decision).await? {
                old.push(decision);
            } else {
                take_in(app, &decision, named).await?;
            }
        }
        removed += old.len();
        let old = &old;
        app.store
            .background()
            .act(|mut tx| async move {
                old.iter().for_each(|decision| decision::remove(&mut tx, decision));
                Ok::<_, StoreError>(())
            })
            .await?;
        after = next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}

async fn stands(app: &App, decision: &Decision) -> Result<bool, StoreError> {
    let Authority::Binding { binding, .. } = &decision.authority else { return Ok(false) };
    let (repository, tag) = (decision.repository.clone(), decision.tag.clone());
    let place = Place { binding: binding.clone(), repository, tag };
    Ok(standing::find(&app.store, &place).await?.is_some_and(|standing| standing.decision == decision.number))
}

async fn take_in(app: &App, decision: &Decision, named: &mut Named) -> Result<(), RetentionError> {
    for judged in &decision.policies {
        named.add(PLUGIN, &judged.plugin_digest);
        named.add(Kind::Config.name(), &judged.config);
        if let Some(trace) = &judged.trace {
            named.add(Kind::Trace.name(), trace);
        }
    }
    let Some(facts) = &decision.facts else { return Ok(()) };
    if named.has(Kind::Facts.name(), facts) {
        return Ok(());
    }
    named.add(Kind::Facts.name(), facts);
    match stored::names(&app.store, facts).await {
        Ok(lists) => lists.iter().for_each(|(kind, digest)| named.add(kind.name(), digest)),
        // The decision stays readable without them; a replay says that they are gone.
        Err(error @ (DocumentError::Missing { .. } | DocumentError::Damaged { .. })) => {
            tracing::warn!(%error, "a decision names facts that cannot be read");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Keys of tags that moved on: no judgement can ask for them again, as a revision never comes back.
async fn promotions(app: &App, stop: &CancellationToken) -> Result<usize, RetentionError> {
    let store = app.store.background();
    let mut removed = 0;
    let mut after = None;
    loop {
        go_on(stop)?;
        let (page, next) = decision::promotions(&store, after.as_ref()).await?;
        let mut stale = Vec::new();
        for (key, stage, revision) in page {
            let tag = store.get(&row::tag(&stage.repository, &stage.tag)).await?;
            // A key of a later revision than was read is of a tag that has just moved.
            if tag.is_none_or(|tag| revision < tag.rev.0) {
                stale.push(key);
            }
        }
        removed += stale.len();
        let stale = &stale;
        let remove = async |mut tx: wharf_store::Tx| {
            stale.iter().for_each(|key| tx.delete(key));
            Ok::<_, StoreError>(())
        };
        store.act(remove).await?;
        after = next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}

/// Where images went that are there no more: nothing can follow them. A promotion that is being made anew is met in the commit.
async fn destinations(app: &App, stop: &CancellationToken) -> Result<usize, RetentionError> {
    let store = app.store.background();
    let mut removed = 0;
    let mut after = None;
    loop {
        go_on(stop)?;
        let (page, next) = destination::all(&store, after.as_ref()).await?;
        let page = &page;
        let remove = async |mut tx: wharf_store::Tx| {
            let mut lost = 0;
            for destination in page {
                let image = row::manifest(&destination.to, &destination.digest);
                if !tx.present(&image).await? {
                    destination::remove(&mut tx, destination);
                    lost += 1;
                }
            }
            Ok::<_, StoreError>(lost)
        };
        removed += store.act(remove).await?.0;
        after = next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}

/// What scans name stays as long as they do.
async fn scans(app: &App, named: &mut Named, stop: &CancellationToken) -> Result<(), RetentionError> {
    let mut after = None;
    loop {
        go_on(stop)?;
        let (page, next) = scanned::page(&app.store, after.as_deref(), PAGE).await?;
        for (_, scanned) in &page {
            let lists = [
                (Kind::Bom, &scanned.bom),
                (Kind::Components, &scanned.components),
                (Kind::Findings, &scanned.findings),
            ];
            for (kind, digest) in lists {
                digest.iter().for_each(|digest| named.add(kind.name(), digest));
            }
        }
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn documents(app: &App, named: &Named, stop: &CancellationToken) -> Result<usize, RetentionError> {
    let store = app.store.background();
    let mut removed = 0;
    for kind in Kind::ALL {
        let mut after = None;
        loop {
            go_on(stop)?;
            let is_named = |digest: &str| named.has(kind.name(), digest);
            let (unnamed, next) = document::unnamed(&store, kind, after.as_ref(), is_named).await?;
            if !unnamed.is_empty() {
                let unnamed = &unnamed;
                let sweep = async |mut tx| document::sweep(&mut tx, kind, unnamed).await;
                removed += store.act(sweep).await?.0;
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(removed)
}

/// Plugins that were not in force, nor before what was, when a run looked.
#[derive(Debug)]
pub(super) struct Idle {
    plugins: Vec<state::Archived>,
    looked: Instant,
}

impl Idle {
    /// As of `looked`, when nothing was read yet.
    pub(super) async fn find(app: &App, looked: Instant) -> Result<Idle, RetentionError> {
        let mut plugins = state::archived(&app.store).await?;
        let mut kept = app.plugins.archive().digests()?;
        let rows: HashSet<&str> = plugins.iter().map(|plugin| plugin.digest.as_str()).collect();
        kept.retain(|digest| !rows.contains(digest.as_str()));
        plugins.extend(kept.into_iter().map(state::Archived::without_row));
        // The rows first: what they do not say yet of a plugin that has just been loaded, the catalog does.
        let active = state::active(&app.store).await?;
        let catalog = app.plugins.catalog().current();
        let in_force = catalog.plugins().values().map(|plugin| plugin.digest());
        let of_rows = active.iter().flat_map(|row| row.previous.iter().chain([&row.digest]));
        let used: HashSet<&str> = in_force.chain(of_rows.map(String::as_str)).collect();
        plugins.retain(|plugin| !used.contains(plugin.digest.as_str()));
        Ok(Idle { plugins, looked })
    }

    /// Removes those that decided nothing that is kept, but what was loaded since or was being loaded. Returns how many.
    pub(super) async fn remove(&self, app: &App, named: &Named) -> Result<usize, RetentionError> {
        let (archive, store) = (app.plugins.archive(), app.store.background());
        let mut removed = 0;
        for plugin in self.plugins.iter().filter(|plugin| !named.has(PLUGIN, &plugin.digest)) {
            let is_as_listed = async |mut tx| state::is_as_listed(&mut tx, plugin).await;
            if store.act(is_as_listed).await?.0 && archive.remove(&plugin.digest, self.looked)? {
                let forget = async |mut tx| state::forget_archived(&mut tx, plugin).await;
                store.act(forget).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
