//! `docker push`, its first requests: blobs, uploaded in one request or in several, or mounted from another repository.
//!
//! What a request brings is reserved in the namespace's quota before it is taken. The bytes are complete, verified and on
//! the disk before the one commit that links them to the repository and ends the reservation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::Mutex;
use wharf_oci::{Algorithm, Digest, RepoName};
use wharf_store::{BlobId, BlobWriter, StoreError};

use crate::App;
use crate::access::{self, Action, Principal};
use crate::registry::upload::{self, ChunkRange, UploadError};
use crate::registry::{RegistryError, blob, quota};

/// Repositories looked at for one that the principal may mount from, when it names none.
const MOUNT_SOURCES_MAX: usize = 64;

/// What one request brings of a blob.
#[derive(Debug)]
pub struct Chunk<S> {
    pub body: S,
    /// Where it says that its bytes lie; [`upload::check_chunk`] comes first.
    pub range: Option<ChunkRange>,
    /// How many it announces.
    pub bytes: Option<u64>,
}

/// Opens an upload that later requests continue.
///
/// # Errors
/// [`UploadError::TooMany`]; else where the disk is full or fails.
pub async fn open(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    algorithm: Algorithm,
) -> Result<BlobId, RegistryError> {
    let writer = upload::begin(&app.blobs, repository, &who.name, algorithm).await?;
    let id = writer.id().clone();
    app.uploads.open(&id, repository, &who.name, grace(app))?;
    if let Err(error) = writer.suspend().await {
        app.uploads.end(&id, repository);
        return Err(UploadError::from(error).into());
    }
    Ok(id)
}

/// Takes the next bytes of an upload. Returns how many there are now. What came before an error is kept for the client to
/// go on from, but for what the namespace has no room for: the upload is given up then.
///
/// # Errors
/// [`RegistryError::Quota`] and [`upload::receive`]'s.
pub async fn append<S, E>(
    app: &App,
    repository: &RepoName,
    mut writer: BlobWriter,
    chunk: Chunk<S>,
) -> Result<u64, RegistryError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let received = receive(app, repository, &mut writer, None, chunk).await;
    to_its_end(keep(app.clone(), repository.clone(), writer, received)).await
}

/// Takes the last bytes of an upload, verifies its digest and links the blob to the repository. Content that is stored
/// already is kept once.
///
/// # Errors
/// [`UploadError::Digest`] where the bytes are not what was promised (they are removed), [`RegistryError::Quota`] where
/// they do not fit, [`upload::receive`]'s; else where the disk or the store fails.
pub async fn finish<S, E>(
    app: &App,
    repository: &RepoName,
    mut writer: BlobWriter,
    digest: &Digest,
    chunk: Chunk<S>,
) -> Result<(), RegistryError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let received = receive(app, repository, &mut writer, Some(digest), chunk).await;
    let (app, repository) = (app.clone(), repository.clone());
    match received {
        Ok(()) => to_its_end(conclude(app, repository, writer, digest.clone())).await,
        Err(_) => to_its_end(keep(app, repository, writer, received)).await.map(drop),
    }
}

/// Takes a blob in one request. Nothing stays of one that fails.
///
/// # Errors
/// As [`finish`].
pub async fn whole<S, E>(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
    chunk: Chunk<S>,
) -> Result<(), RegistryError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut writer = upload::begin(&app.blobs, repository, &who.name, digest.algorithm()).await?;
    let received = receive(app, repository, &mut writer, Some(digest), chunk).await;
    let (app, repository) = (app.clone(), repository.clone());
    match received {
        Ok(()) => to_its_end(conclude(app, repository, writer, digest.clone())).await,
        Err(error) => to_its_end(give_up(app, repository, writer)).await.and(Err(error)),
    }
}

/// Gives an upload up.
///
/// # Errors
/// Where the disk fails.
pub async fn cancel(app: &App, repository: &RepoName, writer: BlobWriter) -> Result<(), RegistryError> {
    to_its_end(give_up(app.clone(), repository.clone(), writer)).await
}

async fn give_up(app: App, repository: RepoName, writer: BlobWriter) -> Result<(), RegistryError> {
    let id = writer.id().clone();
    writer.cancel().await.map_err(UploadError::from)?;
    app.uploads.end(&id, &repository);
    lower(&app, &repository, &id, 0).await;
    Ok(())
}

/// Runs what follows the last byte that a request brings, also where the client goes meanwhile and the request's own
/// future with it: the upload, its session and what it has reserved end together.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::spawn(work).await {
        Ok(ended) => ended,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The server stops.
            Err(_) => Err(StoreError::Unknown.into()),
        },
    }
}

/// Links a complete upload and ends it.
async fn conclude(
    app: App,
    repository: RepoName,
    writer: BlobWriter,
    digest: Digest,
) -> Result<(), RegistryError> {
    let id = writer.id().clone();
    let linked = link(&app, &repository, writer, &digest).await;
    app.uploads.end(&id, &repository);
    if linked.is_err() {
        lower(&app, &repository, &id, 0).await;
    }
    linked
}

async fn receive<S, E>(
    app: &App,
    repository: &RepoName,
    writer: &mut BlobWriter,
    digest: Option<&Digest>,
    chunk: Chunk<S>,
) -> Result<(), RegistryError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let id = &writer.id().clone();
    let turn = Arc::default();
    let mut gone = Gone { app, repository, id: Some(id), had: writer.offset(), turn: Arc::clone(&turn) };
    let reserve = |bytes| reserve(app, repository, id, digest, bytes, &turn);
    let received = match reserve(gone.had.saturating_add(chunk.bytes.unwrap_or(0))).await {
        Ok(()) => upload::receive(writer, chunk.body, chunk.range, reserve).await,
        Err(error) => Err(error),
    };
    gone.id = None;
    received
}

/// A request whose bytes are being taken. Where it is dropped half-way, as the client has gone, the upload is what it was
/// before, and so is what it has reserved.
struct Gone<'a> {
    app: &'a App,
    repository: &'a RepoName,
    /// None once all was taken or refused.
    id: Option<&'a BlobId>,
    /// Bytes before this request.
    had: u64,
    /// Held while something is being reserved: that commit is made whoever waits for it.
    turn: Arc<Mutex<()>>,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id, tokio::runtime::Handle::try_current()) else { return };
        let (app, repository, id, had) = (self.app.clone(), self.repository.clone(), id.clone(), self.had);
        let turn = Arc::clone(&self.turn);
        runtime.spawn(async move {
            let _turn = turn.lock().await;
            lower(&app, &repository, &id, had).await;
        });
    }
}

/// Sees to it that an upload may have so many bytes in all.
async fn reserve(
    app: &App,
    repository: &RepoName,
    id: &BlobId,
    digest: Option<&Digest>,
    bytes: u64,
    turn: &Arc<Mutex<()>>,
) -> Result<(), RegistryError> {
    if !quota::must_reserve(&app.store, repository, id, digest, bytes).await? {
        return Ok(());
    }
    let turn = Arc::clone(turn).lock_owned().await;
    let (app, repository, id) = (app.clone(), repository.clone(), id.clone());
    to_its_end(async move {
        let (repository, id, grace) = (&repository, &id, grace(&app));
        let act = app.store.act(|mut tx| async move {
            Ok::<_, RegistryError>(quota::reserve(&mut tx, repository, id, bytes, grace).await?)
        });
        let reserved = act.await.map(drop).map_err(|error| quota::explain(error, repository));
        drop(turn);
        reserved
    })
    .await
}

/// Gives back what an upload has reserved above `bytes`. Where that fails, its expiry does.
async fn lower(app: &App, repository: &RepoName, id: &BlobId, bytes: u64) {
    let act =
        app.store.act(|mut tx| async move { quota::lower(&mut tx, repository, id, bytes, grace(app)).await });
    if let Err(error) = act.await {
        tracing::warn!(%error, upload = %id, "what an upload has reserved stays reserved until it expires");
    }
}

/// What a request that did not end the upload leaves of it.
async fn keep(
    app: App,
    repository: RepoName,
    writer: BlobWriter,
    received: Result<(), RegistryError>,
) -> Result<u64, RegistryError> {
    if matches!(received, Err(RegistryError::Quota { .. })) {
        give_up(app, repository, writer).await?;
        return received.map(|()| 0);
    }
    let id = writer.id().clone();
    let offset = writer.suspend().await.map_err(UploadError::from)?;
    if received.is_err() {
        // Whatever it announced, it has brought no more.
        lower(&app, &repository, &id, offset).await;
    }
    received.map(|()| offset)
}

/// As long as an upload may wait for its next request.
fn grace(app: &App) -> Duration {
    Duration::from_millis(app.config.registry.grace_ms)
}

/// Verifies a complete upload and links it.
async fn link(
    app: &App,
    repository: &RepoName,
    writer: BlobWriter,
    digest: &Digest,
) -> Result<(), RegistryError> {
    let wants_sha512 = digest.algorithm() == Algorithm::Sha512;
    let finished = writer.finish(wants_sha512).await.map_err(UploadError::from)?;
    let actual = match digest.algorithm() {
        Algorithm::Sha256 => Some(&finished.sha256),
        Algorithm::Sha512 => finished.sha512.as_ref(),
    };
    if actual.map(String::as_str) != Some(digest.as_str()) {
        let actual = actual.cloned().unwrap_or_default();
        finished.discard().await.map_err(UploadError::from)?;
        return Err(UploadError::Digest { expected: digest.clone(), actual }.into());
    }
    let upload = &finished;
    let act = app.store.act(|mut tx| async move {
        quota::lower(&mut tx, repository, &upload.id, 0, grace(app)).await?;
        Ok::<_, RegistryError>(blob::put(&mut tx, repository, digest, upload, app.now_ms()).await?)
    });
    let outcome = act.await.map_err(|error| quota::explain(error, repository));
    match outcome {
        Ok((true, _)) => Ok(()),
        // The blob was there before; this copy is not needed.
        Ok((false, _)) => Ok(finished.discard().await.map_err(UploadError::from)?),
        // The commit may have been made: a named file must stay, and an orphan is collected later.
        Err(error @ RegistryError::Store(StoreError::Unknown)) => Err(error),
        Err(error) => {
            finished.discard().await.map_err(UploadError::from)?;
            Err(error)
        }
    }
}

/// Links a blob of another repository, without its bytes moving. Without `from`, of any repository that the principal
/// may pull from. Returns whether there was one.
///
/// # Errors
/// [`RegistryError::Quota`] where it does not fit; else where the store fails.
pub async fn mount(
    app: &App,
    who: &Principal,
    repository: &RepoName,
    digest: &Digest,
    from: Option<&RepoName>,
) -> Result<bool, RegistryError> {
    let sources = match from {
        Some(from) => vec![from.clone()],
        None => blob::repositories(&app.store, digest, MOUNT_SOURCES_MAX).await?,
    };
    for source in sources {
        if !access::may(app, who, Action::Pull, &source).await? {
            continue;
        }
        let source = &source;
        let act = app.store.act(|mut tx| async move {
            Ok::<_, RegistryError>(blob::mount(&mut tx, source, repository, digest, app.now_ms()).await?)
        });
        let (mounted, _) = act.await.map_err(|error| quota::explain(error, repository))?;
        if mounted {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use wharf_store::{Model, Store};

    use super::*;
    use crate::config::{Config, LISTEN};
    use crate::registry::session::USER_MAX;

    /// Each start opened as many again to whoever had left the most.
    #[tokio::test]
    async fn uploads_of_before_a_restart_count_after_it() {
        let data = tempfile::tempdir().unwrap();
        let start =
            || App::over(Config::new(data.path(), LISTEN), Store::new(Arc::new(Model::default()))).unwrap();
        let (alice, bob) = (Principal::user("alice"), Principal::user("bob"));
        let name = &"dev/app".parse::<RepoName>().unwrap();
        let app = start();
        let first = open(&app, &alice, name, Algorithm::Sha256).await.unwrap();
        for _ in 1..USER_MAX {
            open(&app, &alice, name, Algorithm::Sha256).await.unwrap();
        }
        let app = start();
        let refused = open(&app, &alice, name, Algorithm::Sha256).await;
        let too_many = |by: &Option<String>| by.as_deref() == Some("alice");
        assert!(
            matches!(&refused, Err(RegistryError::Upload(UploadError::TooMany { by, .. })) if too_many(by)),
            "{refused:?}"
        );
        open(&app, &bob, name, Algorithm::Sha256).await.unwrap();
        cancel(&app, name, upload::resume(&app.blobs, name, &first).await.unwrap()).await.unwrap();
        open(&app, &alice, name, Algorithm::Sha256).await.unwrap();
    }

    /// What the namespace is charged is what it holds, whenever a client goes.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_goes_at_the_end_leaves_no_reservation() {
        const BYTES: usize = 9 << 20;
        let data = tempfile::tempdir().unwrap();
        let app = App::open(Config::new(data.path(), LISTEN)).await.unwrap();
        let (alice, name) = (Principal::user("alice"), "dev/app".parse::<RepoName>().unwrap());
        let limit = |mut tx: wharf_store::Tx| async move {
            quota::limit(&mut tx, "dev", Some(1 << 30));
            Ok::<_, StoreError>(())
        };
        app.store.act(limit).await.unwrap();
        let mut digests = Vec::new();
        for n in 0..12u8 {
            let bytes = Bytes::from(vec![n; BYTES]);
            let digest = Digest::sha256(&bytes);
            let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
            let chunk = Chunk { body, range: None, bytes: Some(BYTES as u64) };
            let patience = Duration::from_millis(u64::from(n) * 15);
            let _ = tokio::time::timeout(patience, whole(&app, &alice, &name, &digest, chunk)).await;
            digests.push(digest);
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            let mut held = 0;
            for digest in &digests {
                held += blob::find(&app.store, &name, digest).await.unwrap().map_or(0, |blob| blob.size);
            }
            let used = quota::usage(&app.store, "dev").await.unwrap().used;
            if used == held {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{used} bytes are charged, {held} are there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
