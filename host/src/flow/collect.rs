//! Collection, online: links that nothing needs, files that nothing names, uploads that nobody continues, and what those
//! have reserved.
//!
//! Each page is a commit of its own in the background class; pushes and pulls go on beside it. It may be stopped
//! anywhere and started again.

use wharf_oci::{Digest, RepoName};
use wharf_store::links::{self, CollectError};

use crate::App;
use crate::registry::collect::{self, Swept};
use crate::registry::{RegistryError, quota};

/// Files unlinked in one run at most, in pages of the store; the rest waits for the next run.
const REAP_PAGES_MAX: usize = 100_000;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// Links of blobs that nothing needed.
    pub links: u64,
    /// Manifests that had come along with another one and had lost it.
    pub manifests: u64,
    /// Blob files removed.
    pub files: u64,
    /// Files of crashes and abandoned uploads removed.
    pub orphans: u64,
}

/// Why a run stopped. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Files(#[from] CollectError),
}

/// Runs once over everything, as of `now_ms` (milliseconds since 1970): sweep, then reap, then orphans.
///
/// # Errors
/// Where the store or the disk fails; what was done stays done.
pub async fn run(app: &App, now_ms: u64) -> Result<Collected, CollectionError> {
    let mut done = Collected::default();
    let grace_ms = app.config.registry.grace_ms;
    sweep(app, now_ms, &mut done).await?;
    for _ in 0..REAP_PAGES_MAX {
        match links::reap(&app.store, &app.blobs).await? {
            0 => break,
            files => done.files += files as u64,
        }
    }
    reservations(app, now_ms).await?;
    for digit in 0..16 {
        done.orphans += links::orphans(&app.store, &app.blobs, digit, now_ms, grace_ms).await? as u64;
    }
    Ok(done)
}

async fn sweep(app: &App, now_ms: u64, done: &mut Collected) -> Result<(), RegistryError> {
    let store = app.store.background();
    let grace_ms = app.config.registry.grace_ms;
    let mut cursor = None;
    loop {
        let page = links::stale_page(&store, cursor.as_ref(), now_ms, grace_ms).await?;
        for (digest, repository) in &page.links {
            let (Ok(digest), Ok(repository)) = (digest.parse::<Digest>(), repository.parse::<RepoName>())
            else {
                // A link of a pseudo-repository such as `@trash`; whoever made it removes it.
                continue;
            };
            let (digest, repository) = (&digest, &repository);
            let act = store.act(|mut tx| async move {
                collect::sweep(&mut tx, repository, digest, now_ms, grace_ms).await
            });
            match act.await?.0 {
                Swept::Kept => {}
                Swept::Blob => done.links += 1,
                Swept::Manifest => done.manifests += 1,
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// What uploads that nobody continued have reserved is given back: their files go now.
async fn reservations(app: &App, now_ms: u64) -> Result<(), RegistryError> {
    let store = app.store.background();
    let mut cursor = None;
    loop {
        let (expired, next) = quota::expired(&store, cursor.as_ref(), now_ms).await?;
        for row in &expired {
            store.act(|mut tx| async move { quota::expire(&mut tx, row, now_ms).await }).await?;
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wharf_oci::{Algorithm, MediaType, Target};

    use super::*;
    use crate::access::Principal;
    use crate::config::{Config, LISTEN};
    use crate::flow::upload::Chunk;
    use crate::flow::{delete, push, repository, upload};

    async fn blob(app: &App, name: &RepoName, bytes: Bytes) -> Digest {
        let digest = Digest::sha256(&bytes);
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let who = Principal::user("alice");
        upload::whole(app, &who, name, &digest, Chunk { body, range: None, bytes: None }).await.unwrap();
        digest
    }

    #[tokio::test]
    async fn what_nothing_needs_goes_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let app = App::open(Config::new(data.path(), LISTEN)).await.unwrap();
        let (who, name) = (Principal::user("alice"), "dev/app".parse::<RepoName>().unwrap());
        let layer = Bytes::from(vec![7; 10_000]);
        let needed = blob(&app, &name, layer.clone()).await;
        blob(&app, &name, vec![8; 10_000].into()).await;
        upload::open(&app, &who, &name, Algorithm::Sha256).await.unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{needed}","size":10000}},"layers":[]}}"#
        );
        let push = push::Push {
            repository: name.clone(),
            target: Target::Tag("1.0".parse().unwrap()),
            tags: Vec::new(),
            content_type: Some(MediaType::OCI_MANIFEST.parse().unwrap()),
            bytes: manifest.into(),
        };
        let pushed = push::manifest(&app, &who, &push).await.unwrap();

        let (now_ms, grace_ms) = (app.now_ms(), app.config.registry.grace_ms);
        assert_eq!(run(&app, now_ms).await.unwrap(), Collected::default());
        let later_ms = now_ms + grace_ms + 60_000;
        let done = run(&app, later_ms).await.unwrap();
        assert_eq!(done, Collected { links: 1, files: 1, orphans: 1, manifests: 0 });

        delete::target(&app, &who, &name, &Target::Digest(pushed.digest)).await.unwrap();
        assert_eq!(run(&app, now_ms).await.unwrap(), Collected::default(), "it has just lost its manifest");
        let done = run(&app, later_ms).await.unwrap();
        assert_eq!(done, Collected { links: 1, files: 1, orphans: 0, manifests: 0 });
        assert_eq!(run(&app, later_ms).await.unwrap(), Collected::default());
    }

    #[tokio::test]
    async fn an_upload_that_nobody_continues_gives_back_what_it_reserved() {
        const MB: usize = 1 << 20;
        let data = tempfile::tempdir().unwrap();
        let app = App::open(Config::new(data.path(), LISTEN)).await.unwrap();
        let (who, name) = (Principal::user("alice"), "dev/app".parse::<RepoName>().unwrap());
        repository::limit(&app, &who, "dev", Some(20 * MB as u64)).await.unwrap();
        let id = upload::open(&app, &who, &name, Algorithm::Sha256).await.unwrap();
        let writer = crate::registry::upload::resume(&app.blobs, &name, &id).await.unwrap();
        let pieces = (0..12).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![1; MB])));
        let chunk = Chunk { body: futures_util::stream::iter(pieces), range: None, bytes: None };
        assert_eq!(upload::append(&app, &name, writer, chunk).await.unwrap(), 12 * MB as u64);
        let used = async || quota::usage(&app.store, "dev").await.unwrap().used;
        assert_eq!(
            used().await,
            8 * MB as u64,
            "what came without having been announced, but for the last of it"
        );
        let now_ms = app.now_ms();
        run(&app, now_ms).await.unwrap();
        assert_eq!(used().await, 8 * MB as u64);
        let later_ms = now_ms + app.config.registry.grace_ms + 60_000;
        assert_eq!(run(&app, later_ms).await.unwrap(), Collected { orphans: 1, ..Collected::default() });
        assert_eq!(used().await, 0);
    }
}
