//! Manifests and indexes: what a push writes, what a pull reads, what a delete takes away.
//!
//! Rows of a push besides its tag and event: the bytes (a blob row), the repository's link to them, the manifest row, and
//! one reference for each descriptor.

use std::collections::BTreeSet;

use bytes::Bytes;
use wharf_oci::{Algorithm, Descriptor, Digest, Manifest, ManifestKind, MediaType, RepoName, Target};
use wharf_store::{Rev, Store, StoreError, Tx};

use super::row::{self, ManifestRow, RepoRow, TagRow};
use super::{RegistryError, blob, referrer, tag, untag};

/// Most distinct blobs and manifests that one manifest may name. Each is an operation of the push's commit and two of the
/// delete's, of which the store takes 1,024.
pub const DESCRIPTORS_MAX: usize = 480;

/// A manifest whose bytes were looked at, before anything is read from the store.
#[derive(Debug, Clone)]
pub struct Checked {
    pub manifest: Manifest,
    pub bytes: Bytes,
    pub digest: Digest,
}

impl Checked {
    /// Parses `bytes` and computes their digest: with the algorithm of `target` where that is a digest, else sha256.
    ///
    /// # Errors
    /// [`RegistryError::Manifest`], [`RegistryError::ManifestDigest`] and [`RegistryError::TooManyDescriptors`].
    pub fn new(
        bytes: Bytes,
        content_type: Option<&MediaType>,
        target: &Target,
    ) -> Result<Checked, RegistryError> {
        let manifest = Manifest::parse(&bytes, content_type)?;
        let digest = match target {
            Target::Tag(_) => Algorithm::Sha256.digest(&bytes),
            Target::Digest(expected) => {
                let actual = expected.algorithm().digest(&bytes);
                if actual != *expected {
                    return Err(RegistryError::ManifestDigest { expected: expected.clone(), actual });
                }
                actual
            }
        };
        let checked = Checked { manifest, bytes, digest };
        let descriptors = checked.needs().count();
        if descriptors > DESCRIPTORS_MAX {
            return Err(RegistryError::TooManyDescriptors { descriptors, max: DESCRIPTORS_MAX });
        }
        Ok(checked)
    }

    /// Bytes of the manifest.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What names this manifest in a tag.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.manifest.media_type.clone(), self.digest.clone(), self.size())
    }

    /// What it refers to, each digest once: blobs it needs, then manifests of an index. Never the subject, which
    /// may be missing, and never a foreign layer.
    fn needs(&self) -> impl Iterator<Item = &Descriptor> {
        let mut seen = BTreeSet::new();
        let all = self.manifest.blobs().chain(&self.manifest.manifests);
        all.filter(move |descriptor| seen.insert(&descriptor.digest))
    }
}

/// Which descriptors may name what is not in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sparse {
    /// None: a copy of what is complete is complete, or it is not made.
    Nothing,
    /// Manifests of an index: the usual case, as a mirror of two platforms out of ten is.
    Indexes,
    /// Layers and configs of an image, too.
    Images,
}

/// Writes a manifest that a client pushed. Nothing is written where it is there already, but for what a sparse one
/// lacked before. Returns whether that is news: it was not there, or lacks nothing any more.
///
/// # Errors
/// [`RegistryError::ManifestBlobUnknown`] and [`RegistryError::DescriptorSize`] where what it refers to is not there or
/// not as it says; else only where the store fails.
pub async fn put(
    tx: &mut Tx,
    repository: &RepoName,
    checked: &Checked,
    by: &str,
    now_ms: u64,
    sparse: Sparse,
) -> Result<bool, RegistryError> {
    let known = refresh(tx, repository, checked, true).await?;
    if known != Known::Absent {
        if blob::peek(tx, &checked.digest).await?.is_none_or(|blob| blob.damaged) {
            // A scrub found its bytes to be others: these are the right ones.
            blob::put_inline(tx, repository, &checked.digest, &checked.bytes, now_ms).await?;
        }
        return Ok(known == Known::Completed);
    }
    blob::put_inline(tx, repository, &checked.digest, &checked.bytes, now_ms).await?;
    write(tx, repository, checked, by, now_ms, sparse, true).await?;
    Ok(true)
}

/// What a repository has of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Absent,
    Present,
    /// It was sparse, and has now got all that it lacked.
    Completed,
}

/// Brings a manifest that is there up to date: a sparse one may have got what it lacked, one that came along with
/// another may now be wanted for its own sake.
pub(super) async fn refresh(
    tx: &mut Tx,
    repository: &RepoName,
    checked: &Checked,
    keep: bool,
) -> Result<Known, RegistryError> {
    let key = row::manifest(repository, &checked.digest);
    let Some(row) = tx.get(&key).await? else { return Ok(Known::Absent) };
    let old: ManifestRow = row.value()?;
    let mut new = old.clone();
    if old.sparse {
        new.sparse = !hold_needs(tx, repository, checked).await?.is_empty();
    }
    if keep && !old.kept {
        blob::hold(tx, repository, &checked.digest, &checked.digest).await?;
        new.kept = true;
    }
    if new != old {
        tx.put_value(&key, &new)?;
    }
    Ok(if old.sparse && !new.sparse { Known::Completed } else { Known::Present })
}

/// The rows of a manifest besides its bytes: its references, its own row, its entry as a referrer, its repository. With
/// `keep` it holds itself: what a client pushed stays until a client deletes it, tagged or not.
pub(super) async fn write(
    tx: &mut Tx,
    repository: &RepoName,
    checked: &Checked,
    by: &str,
    now_ms: u64,
    sparse: Sparse,
    keep: bool,
) -> Result<(), RegistryError> {
    let missing = hold_needs(tx, repository, checked).await?;
    let manifest = &checked.manifest;
    let may_lack = match sparse {
        Sparse::Nothing => false,
        Sparse::Indexes => manifest.kind == ManifestKind::Index,
        Sparse::Images => true,
    };
    if !missing.is_empty() && !may_lack {
        return Err(RegistryError::ManifestBlobUnknown { repository: repository.clone(), missing });
    }
    if keep {
        blob::hold(tx, repository, &checked.digest, &checked.digest).await?;
    }
    let new = ManifestRow {
        media_type: manifest.media_type.clone(),
        size: checked.size(),
        artifact_type: manifest.effective_artifact_type().cloned(),
        subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
        sparse: !missing.is_empty(),
        kept: keep,
        pushed_at_ms: now_ms,
        pushed_by: by.to_owned(),
    };
    tx.put_value(&row::manifest(repository, &checked.digest), &new)?;
    referrer::put(tx, repository, manifest, &checked.digest, checked.size())?;
    if tx.peek(&row::repo(repository)).await?.is_none() {
        let created = RepoRow { created_at_ms: now_ms, created_by: by.to_owned() };
        tx.put_value(&row::repo(repository), &created)?;
    }
    Ok(())
}

/// Holds what the manifest needs, as long as it is there and has the size that the descriptor says. Returns the rest.
async fn hold_needs(
    tx: &mut Tx,
    repository: &RepoName,
    checked: &Checked,
) -> Result<Vec<Digest>, RegistryError> {
    let mut missing = Vec::new();
    for descriptor in checked.needs() {
        match blob::hold(tx, repository, &descriptor.digest, &checked.digest).await? {
            Some(actual) if actual != descriptor.size => {
                let (digest, declared) = (descriptor.digest.clone(), descriptor.size);
                return Err(RegistryError::DescriptorSize { digest, declared, actual });
            }
            Some(_) => {}
            None => missing.push(descriptor.digest.clone()),
        }
    }
    Ok(missing)
}

/// Takes a manifest away with its references and its entry as a referrer. Tags that name it are the flow's; its own
/// referrers stay, as their subject may come back.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where it is not there, [`RegistryError::InUse`] where an index of the repository
/// holds it; else only where the store fails.
pub async fn remove(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    now_ms: u64,
) -> Result<ManifestRow, RegistryError> {
    let unknown = || RegistryError::ManifestUnknown {
        repository: repository.clone(),
        target: Target::Digest(digest.clone()),
    };
    let key = row::manifest(repository, digest);
    let old: ManifestRow = tx.get(&key).await?.ok_or_else(unknown)?.value()?;
    if let Some(by) = blob::holder(tx, repository, digest, Some(digest)).await? {
        return Err(RegistryError::InUse { repository: repository.clone(), digest: digest.clone(), by });
    }
    take_away(tx, repository, digest, &old, now_ms).await?;
    Ok(old)
}

/// Removes the rows of a manifest that nothing needs any more.
pub(super) async fn take_away(
    tx: &mut Tx,
    repository: &RepoName,
    digest: &Digest,
    old: &ManifestRow,
    now_ms: u64,
) -> Result<(), RegistryError> {
    if let Some(bytes) = blob::peek(tx, digest).await?.and_then(blob::inline) {
        for held in held_by(tx, repository, digest, old, bytes).await? {
            blob::release(tx, repository, &held, digest, now_ms).await?;
        }
    }
    if let Some(subject) = &old.subject {
        referrer::remove(tx, repository, subject, digest);
    }
    tx.delete(&row::manifest(repository, digest));
    tx.delete(&tag::tagged(repository, digest));
    blob::release(tx, repository, digest, digest, now_ms).await?;
    Ok(blob::unlink(tx, repository, digest).await?)
}

/// What a stored manifest holds: what it names. One that an older version took and this one refuses goes all the same: what
/// it holds is then looked for among all digests in its text.
async fn held_by(
    tx: &Tx,
    repository: &RepoName,
    digest: &Digest,
    old: &ManifestRow,
    bytes: Bytes,
) -> Result<BTreeSet<Digest>, StoreError> {
    let text = bytes.clone();
    if let Ok(checked) = Checked::new(bytes, Some(&old.media_type), &Target::Digest(digest.clone())) {
        return Ok(checked.needs().map(|descriptor| descriptor.digest.clone()).collect());
    }
    let text = String::from_utf8_lossy(&text);
    let named: BTreeSet<Digest> = text.split('"').filter_map(|part| part.parse().ok()).collect();
    let mut held = BTreeSet::new();
    for named in named {
        if blob::is_held_by(tx, repository, &named, digest).await? {
            held.insert(named);
        }
    }
    Ok(held)
}

/// A manifest as a pull finds it.
#[derive(Debug, Clone)]
pub struct Found {
    pub digest: Digest,
    pub row: ManifestRow,
    /// The tag it was asked by and that row's revision.
    pub tag: Option<(TagRow, Rev)>,
}

/// A manifest with its bytes; `None` where the repository has none by this tag or digest.
///
/// # Errors
/// Where the store cannot be read, or the tag moves at each look.
pub async fn read(
    store: &Store,
    repository: &RepoName,
    target: &Target,
) -> Result<Option<(Found, Bytes)>, StoreError> {
    match target {
        Target::Digest(digest) => at(store, repository, digest.clone(), None).await,
        Target::Tag(tag) => {
            let at = |row: TagRow, revision| at(store, repository, row.digest.clone(), Some((row, revision)));
            tag::look_up(store, repository, tag, at).await
        }
    }
}

/// The manifest of that digest, unless a large delete of it hides the tag that it is asked by.
async fn at(
    store: &Store,
    repository: &RepoName,
    digest: Digest,
    tag: Option<(TagRow, Rev)>,
) -> Result<Option<(Found, Bytes)>, StoreError> {
    let keys = vec![row::manifest(repository, &digest), untag::row(repository, &digest), blob::key(&digest)];
    let mut rows = store.get_many(keys).await?.into_iter();
    let (row, mark, blob) = (rows.next().flatten(), rows.next().flatten(), rows.next().flatten());
    let hidden = tag.as_ref().zip(mark).is_some_and(|((_, tag), mark)| untag::hides(mark.rev, *tag));
    let Some(row) = row.filter(|_| !hidden) else { return Ok(None) };
    let found = Found { row: row.value()?, digest, tag };
    let blob = blob.as_ref().map(blob::Blob::decode).transpose()?;
    Ok(blob.and_then(blob::inline).map(|bytes| (found, bytes)))
}

/// A manifest of the repository, parsed.
///
/// # Errors
/// Where the store cannot be read.
pub async fn parsed(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<Manifest>, StoreError> {
    let Some((found, bytes)) = read(store, repository, &Target::Digest(digest.clone())).await? else {
        return Ok(None);
    };
    // What is stored was parsed at its push; a later version may be stricter, so it is not an error here.
    Ok(Manifest::parse(&bytes, Some(&found.row.media_type)).ok())
}
