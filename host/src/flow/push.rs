//! `docker push`, its last request: a manifest, under tags or by its digest.
//!
//! Check the manifest, and the layers of an attestation, then one commit: its bytes, the repository's link to them, what it
//! refers to, its entry as a referrer, the quota, the tags and an event for each. A push that changes nothing commits nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use wharf_oci::{Digest, Manifest, MediaType, RepoName, Tag, Target};
use wharf_store::{BlobError, Stored, Tx};

use crate::App;
use crate::access::Principal;
use crate::event::{self, Event, Kind};
use crate::registry::manifest::{self, Checked, Sparse};
use crate::registry::tag::{self, Pointed};
use crate::registry::{RegistryError, blob, quota, statement};

/// What a client sent.
#[derive(Debug)]
pub struct Push {
    pub repository: RepoName,
    /// A tag, or the digest that the bytes have to have.
    pub target: Target,
    /// More tags to point here.
    pub tags: Vec<Tag>,
    pub content_type: Option<MediaType>,
    pub bytes: Bytes,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    pub digest: Digest,
    pub subject: Option<Digest>,
}

/// Takes a manifest. When this returns, it is durable and every client sees it.
///
/// # Errors
/// What is wrong with the manifest, what of it is missing, an immutable tag, an exhausted quota; see [`RegistryError`].
pub async fn manifest(app: &App, who: &Principal, push: &Push) -> Result<Pushed, RegistryError> {
    let checked = Checked::new(push.bytes.clone(), push.content_type.as_ref(), &push.target)?;
    if checked.manifest.is_attestation() {
        look_at_statements(app, push, &checked.manifest).await?;
    }
    let sparse = match app.config.registry.sparse.iter().any(|pattern| pattern.matches(&push.repository)) {
        true => Sparse::Images,
        false => Sparse::Indexes,
    };
    let act = app.store.act(async |mut tx| {
        let now_ms = app.now_ms();
        let is_new = manifest::put(&mut tx, &push.repository, &checked, &who.name, now_ms, sparse).await?;
        point_tags(&mut tx, who, push, &checked, is_new, now_ms).await
    });
    act.await.map_err(|error| quota::explain(error, &push.repository))?;
    Ok(Pushed { digest: checked.digest, subject: checked.manifest.subject.map(|subject| subject.digest) })
}

/// The layers of what is taken for nothing that runs are no archives. They have to be here, in a sparse repository, too.
async fn look_at_statements(app: &App, push: &Push, manifest: &Manifest) -> Result<(), RegistryError> {
    // Each once, of which there is a limit: a manifest may name one of them any number of times.
    let layers: BTreeSet<&Digest> = manifest.layers.iter().map(|layer| &layer.digest).collect();
    for digest in layers {
        let Some(head) = head(app, &push.repository, digest).await? else {
            let (repository, missing) = (push.repository.clone(), vec![digest.clone()]);
            return Err(RegistryError::ManifestBlobUnknown { repository, missing });
        };
        if !statement::may_be(&head) {
            return Err(RegistryError::NotAStatement(digest.clone()));
        }
    }
    Ok(())
}

/// What a blob begins with, at least; none where the repository does not have it.
async fn head(app: &App, repository: &RepoName, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
    let id = match blob::find(&app.store, repository, digest).await?.map(|blob| blob.stored) {
        None => return Ok(None),
        Some(Stored::Inline(bytes)) => return Ok(Some(bytes)),
        Some(Stored::File(id)) => id,
    };
    let reader = match app.blobs.open(&id).await {
        // Collected between the read of its row and here.
        Err(BlobError::NotFound(_)) => return Ok(None),
        opened => opened?,
    };
    let failed = |cause| BlobError::Io { what: "read", name: id.as_str().to_owned(), cause };
    Ok(Some(reader.bytes(0..statement::HEAD_BYTES as u64).await.map_err(failed)?))
}

/// Points every tag of the push and says so, once for each tag that moved; a manifest without a tag is told as well.
async fn point_tags(
    tx: &mut Tx,
    who: &Principal,
    push: &Push,
    checked: &Checked,
    is_new: bool,
    now_ms: u64,
) -> Result<(), RegistryError> {
    let first = match &push.target {
        Target::Tag(tag) => Some(tag),
        Target::Digest(_) => None,
    };
    let descriptor = checked.descriptor();
    let mut told = false;
    for tag in first.into_iter().chain(&push.tags) {
        let pointed = tag::point(tx, &push.repository, tag, &descriptor, &who.name, now_ms, &[]).await?;
        if pointed != Pointed::Unchanged {
            event::append(tx, &pushed(who, push, checked, Some(tag), now_ms))?;
            told = true;
        }
    }
    if is_new && !told {
        event::append(tx, &pushed(who, push, checked, None, now_ms))?;
    }
    Ok(())
}

fn pushed(who: &Principal, push: &Push, checked: &Checked, tag: Option<&Tag>, now_ms: u64) -> Event {
    let kind = Kind::ImagePushed {
        repository: push.repository.clone(),
        digest: checked.digest.clone(),
        tag: tag.cloned(),
        lineage: Vec::new(),
        subject: checked.manifest.subject.as_ref().map(|subject| subject.digest.clone()),
    };
    Event { at_ms: now_ms, by: who.name.clone(), kind }
}
