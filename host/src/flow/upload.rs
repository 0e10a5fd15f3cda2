//! `docker push`, its first requests: blobs, uploaded or mounted from another repository.
//!
//! The bytes are complete, verified and on the disk before the one commit that links them to the repository.

use wharf_oci::{Algorithm, Digest, RepoName};
use wharf_store::{BlobWriter, StoreError};

use crate::App;
use crate::access::{self, Action, Principal};
use crate::registry::upload::UploadError;
use crate::registry::{RegistryError, blob, quota};

/// Repositories looked at for one that the principal may mount from, when it names none.
const MOUNT_SOURCES_MAX: usize = 64;

/// Ends an upload: verifies its digest and links the blob to the repository. Content that is stored already is kept
/// once.
///
/// # Errors
/// [`UploadError::Digest`] where the bytes are not what was promised (they are removed), [`RegistryError::Quota`] where
/// they do not fit; else where the disk or the store fails.
pub async fn finish(
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
