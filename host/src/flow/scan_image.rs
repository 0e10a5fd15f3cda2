//! A pushed image is scanned; new vulnerability data is compared with what was found, without reading an image again.
//!
//! A platform's image that was read is not scanned again, whatever repositories hold it: what was found is kept by the digest of its
//! manifest. Pushed to two at once it may be scanned twice, and the first counts.
//! An index is a scan of each platform. The scan itself is a worker process ([`crate::scan`]); what ends it is in the
//! image's facts as `failed`, and the image is held.
//!
//! Invariant: nothing found is nothing known, unless the scan was complete and there was data to compare with.
//! Invariant: of a scan and an import, whichever ends last sees to it that the one is compared with the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use wharf_oci::{Descriptor, Digest, Manifest, ManifestKind, RepoName};
use wharf_plugin::facts::Knowledge;
use wharf_scan::Report;
use wharf_scan::vuln::{self, Db, DbError, Findings};
use wharf_store::{BlobError, BlobReader, StoreError, Stored};

use crate::App;
use crate::event::{self, Event, Kind};
use crate::facts::document::{self, Kind as Document};
use crate::facts::{DocumentError, Pending, Scanned, found, scanned, vulnerability_data};
use crate::jobs::{self, Work};
use crate::promote::standing;
use crate::registry::{blob, index, manifest, row};
use crate::scan::{Input, ScanFailure};

/// Largest configuration document that is read, in bytes; the scanner has a limit of its own.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Stored scans that one portion of a comparison takes.
const REMATCH_PAGE: usize = 50;

/// Why there is no result yet. What the image itself is to blame for is a result.
#[derive(Debug, thiserror::Error)]
pub enum ScanImageError {
    #[error(transparent)]
    Scan(#[from] ScanFailure),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("the thread that compared ended")]
    Thread,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is left to scan elsewhere.
pub type Platforms = Vec<Digest>;

/// Scans what a repository holds under a digest, unless that was done; what failed is tried again. Of an index, returns the platforms to scan instead.
/// On the `last` try, what keeps it from being scanned is its result.
///
/// # Errors
/// [`ScanImageError`]: worth another try.
pub async fn image(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
    last: bool,
) -> Result<Platforms, ScanImageError> {
    if scanned::find(&app.store, digest).await?.is_some_and(|known| known.is_read()) {
        tell_who_waits(app, repository, digest).await?;
        return Ok(Vec::new());
    }
    // Deleted since: there is nothing to scan, and its next push asks again.
    let Some(manifest) = manifest::parsed(&app.store, repository, digest).await? else {
        return Ok(Vec::new());
    };
    if manifest.kind == ManifestKind::Index {
        return platforms(app, repository, &manifest).await;
    }
    if !manifest.is_container_image() {
        artifact(app, repository, digest).await?;
        return Ok(Vec::new());
    }
    match scan(app, repository, &manifest).await {
        Ok(report) => finish(app, repository, digest, report).await?,
        Err(ScanImageError::Scan(failure)) if last || failure.is_final() => {
            let failed = Scanned {
                scan: Knowledge::Failed,
                why: Some(failure.to_string()),
                scanned_at_ms: app.now_ms(),
                scanner: wharf_scan::SCANNER.to_owned(),
                ..Scanned::default()
            };
            store(app, repository, digest, failed, Pending::default()).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Vec::new())
}

/// It is known, of another repository: what waits for it to come into this one is judged again.
async fn tell_who_waits(app: &App, repository: &RepoName, digest: &Digest) -> Result<(), StoreError> {
    let tell = app.store.act(|mut tx| async move {
        let is_here = tx.get(&row::manifest(repository, digest)).await?.is_some();
        if is_here && standing::is_awaited(&mut tx, &standing::missing(repository, digest)).await? {
            let repository = Some(repository.clone());
            let work =
                Work::RejudgeImage { digest: digest.clone(), repository, scanned_in: None, from: None };
            jobs::enqueue(&mut tx, work, None).await?;
        }
        Ok::<_, StoreError>(())
    });
    tell.await.map(drop)
}

/// Notes that there is nothing to scan. Of most artifacts, as signatures are, nobody waits to hear that: where no judgement does,
/// no event asks for another.
async fn artifact(app: &App, repository: &RepoName, digest: &Digest) -> Result<(), StoreError> {
    let unsupported = &Scanned {
        scan: Knowledge::Unsupported,
        why: Some("it is an artifact, not a container image".to_owned()),
        scanned_at_ms: app.now_ms(),
        ..Scanned::default()
    };
    let event = &scan_ended(app, repository, digest, unsupported);
    let note = app.store.act(|mut tx| async move {
        if scanned::expect(&mut tx, digest).await?.is_some() {
            return Ok(());
        }
        scanned::put(&mut tx, digest, unsupported)?;
        match standing::is_awaited(&mut tx, digest.as_str()).await? {
            true => event::append(&mut tx, event),
            false => Ok(()),
        }
    });
    note.await?;
    tell_who_waits(app, repository, digest).await
}

/// Platforms of an index that nobody has looked at. Who waits for the others to come is told, attestations too: they may have come
/// with the index, by a promotion.
async fn platforms(app: &App, repository: &RepoName, index: &Manifest) -> Result<Platforms, ScanImageError> {
    let entries = index::platforms(&app.store, repository, index).await?;
    let run: BTreeSet<&Digest> = entries.into_iter().map(|entry| &entry.digest).collect();
    // An index may name one manifest thousands of times.
    let mut seen = BTreeSet::new();
    let entries = index.manifests.iter().filter(|entry| seen.insert(&entry.digest));
    let digests: Vec<Digest> = entries.map(|entry| entry.digest.clone()).collect();
    let known = scanned::find_many(&app.store, &digests).await?;
    let mut unread = Vec::new();
    for (digest, known) in digests.into_iter().zip(known) {
        if run.contains(&digest) && !known.as_ref().is_some_and(Scanned::is_read) {
            unread.push(digest);
        } else if known.is_some() {
            tell_who_waits(app, repository, &digest).await?;
        }
    }
    Ok(unread)
}

async fn scan(app: &App, repository: &RepoName, manifest: &Manifest) -> Result<Report, ScanImageError> {
    let config = match &manifest.config {
        Some(config) => config_bytes(app, repository, config).await?,
        None => Vec::new(),
    };
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for descriptor in &manifest.layers {
        let reader = open(app, repository, &descriptor.digest).await?;
        layers.push(match reader {
            Bytes::File(reader) => Input::of_blob(descriptor.clone(), Some(reader)),
            Bytes::Here(bytes) => {
                let stream = futures_util::stream::iter([Ok(bytes)]).boxed();
                Input::of_stream(descriptor.clone(), async move { Ok(stream) })
            }
            Bytes::Missing if descriptor.media_type.is_foreign() => Input::of_blob(descriptor.clone(), None),
            // Of a sparse image. It may be here the next time, or in another repository.
            Bytes::Missing => {
                let why = format!("its layer `{}` is not here", descriptor.digest);
                return Err(ScanFailure::Refused(why).into());
            }
        });
    }
    Ok(app.scanner.scan(&config, layers, |_| {}).await?)
}

/// Where a blob's bytes are.
enum Bytes {
    File(BlobReader),
    Here(bytes::Bytes),
    Missing,
}

async fn open(app: &App, repository: &RepoName, digest: &Digest) -> Result<Bytes, ScanImageError> {
    Ok(match blob::find(&app.store, repository, digest).await?.map(|blob| blob.stored) {
        Some(Stored::File(id)) => Bytes::File(app.blobs.open(&id).await?),
        Some(Stored::Inline(bytes)) => Bytes::Here(bytes),
        None => Bytes::Missing,
    })
}

async fn config_bytes(
    app: &App,
    repository: &RepoName,
    config: &Descriptor,
) -> Result<Vec<u8>, ScanImageError> {
    if config.size > CONFIG_BYTES_MAX {
        let why = format!("its configuration has {} bytes, more than {CONFIG_BYTES_MAX}", config.size);
        return Err(ScanFailure::Refused(why).into());
    }
    let lost = |cause| ScanFailure::Layer { digest: config.digest.to_string(), cause };
    let reader = match open(app, repository, &config.digest).await? {
        Bytes::File(reader) => reader,
        Bytes::Here(bytes) => return Ok(bytes.to_vec()),
        Bytes::Missing => return Err(ScanFailure::Refused("its configuration is not here".to_owned()).into()),
    };
    Ok(reader.bytes(0..reader.size()).await.map_err(lost)?.into())
}

/// Takes in what a scan found, compares it with the data in force, and keeps both.
///
/// # Errors
/// [`ScanImageError`].
pub async fn finish(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
    report: Report,
) -> Result<(), ScanImageError> {
    let db = data(app).await?;
    let now_ms = app.now_ms();
    let compare = move || -> Result<(Scanned, Pending), ScanImageError> {
        let mut pending = Pending::default();
        let scanned = take_in(&report, db.as_deref(), now_ms, &mut pending)?;
        Ok((scanned, pending))
    };
    let compared = tokio::task::spawn_blocking(compare).await.map_err(|_| ScanImageError::Thread)?;
    match compared {
        Ok((scanned, pending)) => store(app, repository, digest, scanned, pending).await,
        // What cannot be kept cannot be judged: it is said, and held.
        Err(ScanImageError::Document(error @ DocumentError::TooLarge { .. })) => {
            let failed = Scanned {
                scan: Knowledge::Failed,
                why: Some(error.to_string()),
                scanned_at_ms: now_ms,
                scanner: wharf_scan::SCANNER.to_owned(),
                ..Scanned::default()
            };
            store(app, repository, digest, failed, Pending::default()).await
        }
        Err(error) => Err(error),
    }
}

/// The data in force. Looks at its file: not for a thread that serves.
async fn data(app: &App) -> Result<Option<Arc<Db>>, ScanImageError> {
    let app = app.clone();
    let current = tokio::task::spawn_blocking(move || app.vulnerability_data.usable());
    Ok(current.await.map_err(|_| ScanImageError::Thread)??)
}

/// A report with what the data says of it, ready to be kept. Blocks.
fn take_in(
    report: &Report,
    db: Option<&Db>,
    now_ms: u64,
    pending: &mut Pending,
) -> Result<Scanned, ScanImageError> {
    let why = report.why();
    let bytes = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    let components = found::components(report);
    let mut scanned = Scanned {
        scan: found::knowledge(report.knowledge),
        why,
        scanned_at_ms: now_ms,
        scanner: report.scanner.clone(),
        bom: Some(pending.add(Document::Bom, &bytes(report.to_json()))?),
        components: Some(pending.add(Document::Components, &bytes(serde_json::to_vec(&components)))?),
        packages: report.packages.len() as u64,
        distribution: found::distribution(report),
        ..Scanned::default()
    };
    compare(report, db, now_ms, &mut scanned, pending)?;
    Ok(scanned)
}

/// Sets all that depends on the vulnerability data.
fn compare(
    report: &Report,
    db: Option<&Db>,
    now_ms: u64,
    scanned: &mut Scanned,
    pending: &mut Pending,
) -> Result<(), ScanImageError> {
    let findings = match db {
        Some(db) => vuln::match_report(report, db)?,
        None => Findings::without_data(report),
    };
    let list = found::findings(report, &findings);
    let bytes = serde_json::to_vec(&list).unwrap_or_default();
    scanned.findings = Some(pending.add(Document::Findings, &bytes)?);
    scanned.matched = found::knowledge(findings.knowledge);
    scanned.matched_at_ms = now_ms;
    scanned.counts = findings.counts();
    scanned.coverage = found::coverage(&findings);
    scanned.end_of_life_ms = findings.end_of_life_ms;
    scanned.data_version = findings.data_version;
    if let Some(why) = findings.why.filter(|_| scanned.why.is_none()) {
        scanned.why = Some(why);
    }
    Ok(())
}

async fn store(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
    scanned: Scanned,
    mut pending: Pending,
) -> Result<(), ScanImageError> {
    for before in &pending.split(&app.store).await? {
        app.store.act(|mut tx| async move { before.write(&mut tx).await }).await?;
    }
    let (scanned, pending) = (&scanned, &pending);
    let event = &scan_ended(app, repository, digest, scanned);
    app.store
        .act(|mut tx| async move {
            let known = scanned::expect(&mut tx, digest).await?;
            if known.is_some_and(|(known, _)| known.is_read()) {
                // Another scan of the same image was first.
                return Ok(());
            }
            pending.write(&mut tx).await?;
            scanned::put(&mut tx, digest, scanned)?;
            // What was told of meanwhile was compared with all that was stored by then, and so not with this. A comparison asks
            // for no other, so that a file which is not the one told of costs no more than one for each scan.
            let told = vulnerability_data::told(&mut tx).await?;
            if scanned.bom.is_some() && told.is_some() && told != scanned.data_version {
                jobs::enqueue(&mut tx, Work::Rematch { from: None }, None).await?;
            }
            event::append(&mut tx, event)
        })
        .await?;
    Ok(())
}

fn scan_ended(app: &App, repository: &RepoName, digest: &Digest, scanned: &Scanned) -> Event {
    let ended = Kind::ImageScanned {
        repository: repository.clone(),
        digest: digest.clone(),
        scan: scanned.scan.as_str().to_owned(),
        packages: scanned.packages,
        matched: scanned.matched.as_str().to_owned(),
        findings: scanned.known_findings(),
    };
    Event::system(app.now_ms(), ended)
}

/// Compares a portion of all stored reports with the data in force. Returns where to go on.
///
/// # Errors
/// [`ScanImageError`].
pub async fn rematch(app: &App, from: Option<&str>) -> Result<Option<String>, ScanImageError> {
    let Some(db) = data(app).await? else { return Ok(None) };
    let (scans, next) = scanned::page(&app.store, from, REMATCH_PAGE).await?;
    let stale = |scanned: &Scanned| scanned.data_version.as_deref() != Some(db.version());
    let mut reports = Vec::new();
    for (digest, scanned) in scans.into_iter().filter(|(_, scanned)| stale(scanned)) {
        let Some(bom) = &scanned.bom else { continue };
        let report: Report = document::read_json(&app.store, Document::Bom, bom).await?;
        reports.push((digest, scanned, report));
    }
    if reports.is_empty() {
        return Ok(next);
    }
    let now_ms = app.now_ms();
    let compared = tokio::task::spawn_blocking(move || compare_all(reports, &db, now_ms));
    let (changes, mut pending) = compared.await.map_err(|_| ScanImageError::Thread)??;
    for before in &pending.split(&app.store).await? {
        app.store.act(|mut tx| async move { before.write(&mut tx).await }).await?;
    }
    let (changes, pending) = (&changes, &pending);
    app.store
        .background()
        .act(|mut tx| async move {
            pending.write(&mut tx).await?;
            for Change { digest, old, new } in changes {
                let known = scanned::expect(&mut tx, digest).await?.map(|(known, _)| known);
                // A newer scan, or a newer comparison, stays.
                if known.as_ref() != Some(old) {
                    continue;
                }
                scanned::put(&mut tx, digest, new)?;
                if answers_differ(old, new) {
                    let kind = Kind::FindingsChanged {
                        digest: digest.clone(),
                        matched: new.matched.as_str().to_owned(),
                        findings: new.known_findings(),
                    };
                    event::append(&mut tx, &Event::system(now_ms, kind))?;
                }
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(next)
}

/// What a comparison changes.
#[derive(Debug)]
struct Change {
    digest: Digest,
    old: Scanned,
    new: Scanned,
}

fn compare_all(
    reports: Vec<(Digest, Scanned, Report)>,
    db: &Arc<Db>,
    now_ms: u64,
) -> Result<(Vec<Change>, Pending), ScanImageError> {
    let mut pending = Pending::default();
    let mut changes = Vec::with_capacity(reports.len());
    for (digest, old, report) in reports {
        let mut new = Scanned { why: report.why(), ..old.clone() };
        compare(&report, Some(db), now_ms, &mut new, &mut pending)?;
        changes.push(Change { digest, old, new });
    }
    Ok((changes, pending))
}

/// Whether a policy may be answered otherwise than before.
fn answers_differ(old: &Scanned, new: &Scanned) -> bool {
    old.findings != new.findings
        || old.coverage != new.coverage
        || old.matched != new.matched
        || old.end_of_life_ms != new.end_of_life_ms
}

#[cfg(test)]
mod tests;
