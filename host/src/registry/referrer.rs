//! Referrers: manifests that name another as their `subject`, such as signatures and bills of materials
//! (distribution specification, "Listing Referrers").

use wharf_oci::{Descriptor, Digest, Manifest, MediaType, RepoName};
use wharf_store::{Space, Store, StoreError, Tx, key};

use super::manifest;
use super::row::{self, ReferrerRow};

/// Annotations up to this many bytes are kept in the referrer's row; larger ones are read from the manifest.
pub const ANNOTATION_BYTES_MAX: usize = 16 << 10;
/// Rows read at once.
const ROWS_AT_ONCE: usize = 64;
/// A page ends after the entry that takes its annotations over this many bytes.
const PAGE_BYTES: usize = 2 << 20;
/// Rows looked at for one page: a rare artifact type among many referrers takes several pages, some of them empty.
const PAGE_ROWS_MAX: usize = 4096;

/// One page of a subject's referrers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers {
    pub descriptors: Vec<Descriptor>,
    /// Where the next page starts, if there is more.
    pub next: Option<Digest>,
}

/// Notes a pushed manifest as a referrer of its subject, which may be missing.
pub(super) fn put(
    tx: &mut Tx,
    repository: &RepoName,
    manifest: &Manifest,
    digest: &Digest,
    size: u64,
) -> Result<(), StoreError> {
    let Some(subject) = &manifest.subject else { return Ok(()) };
    let bytes: usize = manifest.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    let row = ReferrerRow {
        media_type: manifest.media_type.clone(),
        size,
        artifact_type: manifest.effective_artifact_type().cloned(),
        annotations: (bytes <= ANNOTATION_BYTES_MAX).then(|| manifest.annotations.clone()),
    };
    tx.put_value(&row::referrer(repository, &subject.digest, digest), &row)
}

/// Forgets a manifest as a referrer.
pub(super) fn remove(tx: &mut Tx, repository: &RepoName, subject: &Digest, digest: &Digest) {
    tx.delete(&row::referrer(repository, subject, digest));
}

/// Referrers of `subject` by digest, from behind `last` on, of one artifact type if asked. At most `n`.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list(
    store: &Store,
    repository: &RepoName,
    subject: &Digest,
    artifact_type: Option<&MediaType>,
    last: Option<&Digest>,
    n: usize,
) -> Result<Referrers, StoreError> {
    let mut range = row::referrers(repository, subject);
    if let Some(last) = last {
        range = range.after(&key(Space::Referrer, &[repository.as_str(), subject.as_str(), last.as_str()]));
    }
    let mut found = Referrers::default();
    let (mut bytes, mut looked_at) = (0, 0);
    loop {
        let page = store.scan(range.clone(), ROWS_AT_ONCE).await?;
        let Some(end) = page.rows.last().map(|row| row.key.clone()) else { return Ok(found) };
        let count = page.rows.len();
        for (i, row) in page.rows.into_iter().enumerate() {
            let Some(digest) = row.key.part(2).and_then(|part| part.parse::<Digest>().ok()) else { continue };
            let value: ReferrerRow = row.value()?;
            looked_at += 1;
            if artifact_type.is_none_or(|wanted| value.artifact_type.as_ref() == Some(wanted)) {
                let descriptor = describe(store, repository, digest.clone(), value).await?;
                bytes += descriptor.annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
                found.descriptors.push(descriptor);
            }
            let full = found.descriptors.len() >= n || bytes >= PAGE_BYTES || looked_at >= PAGE_ROWS_MAX;
            if full {
                found.next = (i + 1 < count || page.more).then_some(digest);
                return Ok(found);
            }
        }
        if !page.more {
            return Ok(found);
        }
        range = range.after(&end);
    }
}

async fn describe(
    store: &Store,
    repository: &RepoName,
    digest: Digest,
    row: ReferrerRow,
) -> Result<Descriptor, StoreError> {
    let annotations = match row.annotations {
        Some(annotations) => annotations,
        None => {
            manifest::parsed(store, repository, &digest).await?.map(|m| m.annotations).unwrap_or_default()
        }
    };
    Ok(Descriptor {
        annotations,
        artifact_type: row.artifact_type,
        ..Descriptor::new(row.media_type, digest, row.size)
    })
}
