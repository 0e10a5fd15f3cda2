use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use wharf_plugin::facts::sha256;
use wharf_store::{Expect, Key, KeyRange, Rev, Space, Store, StoreError, Tx, key};

/// Largest document, in bytes as it is read back.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Largest document as it is stored: a row must fit a commit with room to spare.
const STORED_BYTES_MAX: usize = 4 << 20;
/// Bytes of documents, as they are stored, that one commit writes, unless it is for one alone.
const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Documents that the commit which names them takes along: one is two of its operations while a search is on.
const ALONG_MAX: usize = 64;
/// Documents of one commit before that, which does nothing else.
const AHEAD_MAX: usize = 256;

/// Documents that one commit of a search looks at.
const SWEEP_PAGE: usize = 200;

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What a decision was judged on, without its lists.
    Facts,
    /// The scanner's report.
    Bom,
    /// Components as policies see them.
    Components,
    /// Findings as policies see them.
    Findings,
    /// The questions of one call.
    Trace,
    /// A policy's config, as the plugin got it.
    Config,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Facts, Kind::Bom, Kind::Components, Kind::Findings, Kind::Trace, Kind::Config];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Facts => "facts",
            Kind::Bom => "bom",
            Kind::Components => "components",
            Kind::Findings => "findings",
            Kind::Trace => "trace",
            Kind::Config => "config",
        }
    }
}

/// Why a document is not kept, or not read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("a {} document of {bytes} bytes is more than can be kept", .kind.name())]
    TooLarge { kind: Kind, bytes: usize },
    #[error("{} document `{digest}` is not here; hint: its retention may be over", .kind.name())]
    Missing { kind: Kind, digest: String },
    #[error("{} document `{digest}` is damaged: {why}", .kind.name())]
    Damaged { kind: Kind, digest: String, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn row_key(kind: Kind, digest: &str) -> Key {
    key(Space::Facts, &[kind.name(), digest])
}

/// Documents that a commit is going to name.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    /// Written by the commit, where they are not there.
    documents: Vec<(Kind, String, Vec<u8>)>,
    /// There already.
    named: Vec<(Kind, String)>,
    /// Taken care of by commits before this one; see [`Pending::split`].
    ahead: Vec<(Kind, String)>,
    /// The search that was on before those.
    sweep: Option<Rev>,
}

impl Pending {
    /// Takes a document in and returns its digest.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`].
    pub fn add(&mut self, kind: Kind, bytes: &[u8]) -> Result<String, DocumentError> {
        self.add_as(kind, sha256(bytes), bytes)
    }

    /// As [`Pending::add`], for a document whose name is not the digest of these bytes themselves.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`].
    pub fn add_as(&mut self, kind: Kind, digest: String, bytes: &[u8]) -> Result<String, DocumentError> {
        if self.documents.iter().any(|(k, d, _)| *k == kind && *d == digest) {
            return Ok(digest);
        }
        let too_large = || DocumentError::TooLarge { kind, bytes: bytes.len() };
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(too_large());
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|_| too_large())?;
        if packed.len() > STORED_BYTES_MAX {
            return Err(too_large());
        }
        self.documents.push((kind, digest.clone(), packed));
        Ok(digest)
    }

    /// Names a document that is kept already: the commit expects it to be there still.
    pub fn name(&mut self, kind: Kind, digest: &str) {
        self.named.push((kind, digest.to_owned()));
    }

    /// Leaves what one commit takes along, whatever else it does, and returns the rest for commits of their own before that: a
    /// decision about a large index names thousands. Where the last commit never comes, nothing names what those wrote, and
    /// a search removes it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn split(&mut self, store: &Store) -> Result<Vec<Pending>, StoreError> {
        let Pending { documents, mut named, .. } = std::mem::take(self);
        // Before the others: one that begins later may have missed what they do.
        self.sweep = store.get(&sweep_key()).await?.map(|row| row.rev);
        let mut before = Vec::new();
        for document in documents {
            let (kind, digest, packed) = &document;
            // One by one, as each may be large.
            if store.get(&row_key(*kind, digest)).await?.is_some() {
                named.push((*kind, digest.clone()));
            } else if self.takes(packed.len(), ALONG_MAX) {
                self.documents.push(document);
            } else {
                self.ahead.push((*kind, digest.clone()));
                with_room(&mut before, packed.len()).documents.push(document);
            }
        }
        for name in named {
            if self.takes(0, ALONG_MAX) {
                self.named.push(name);
                continue;
            }
            if self.sweep.is_some() {
                with_room(&mut before, 0).named.push(name.clone());
            }
            self.ahead.push(name);
        }
        Ok(before)
    }

    /// Whether one more of so many bytes fits a commit of at most `max`.
    fn takes(&self, bytes: usize, max: usize) -> bool {
        let taken: usize = self.documents.iter().map(|(_, _, packed)| packed.len()).sum();
        self.documents.len() + self.named.len() < max && taken + bytes <= COMMIT_BYTES_MAX
    }

    /// Adds the documents to the commit that names them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a search began since [`Pending::split`] that has missed more than this commit marks: the
    /// act begins again. Else only where the store fails.
    pub async fn write(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if let Some(sweep) = tx.get(&sweep_key()).await? {
            let missed: &[_] = if self.sweep == Some(sweep.rev) { &[] } else { &self.ahead };
            if missed.len() > ALONG_MAX {
                return Err(StoreError::Conflict(sweep.key));
            }
            let documents = self.documents.iter().map(|(kind, digest, _)| (kind, digest));
            let names = self.named.iter().chain(missed).map(|(kind, digest)| (kind, digest));
            for (kind, digest) in documents.chain(names) {
                tx.put(&named_key(*kind, digest), Vec::new());
            }
        }
        for (kind, digest, packed) in &self.documents {
            let key = row_key(*kind, digest);
            if tx.peek(&key).await?.is_some() {
                tx.expect(Expect::Present(key));
            } else {
                tx.put(&key, packed.clone());
            }
        }
        for (kind, digest) in self.named.iter().chain(&self.ahead) {
            tx.expect(Expect::Present(row_key(*kind, digest)));
        }
        Ok(())
    }
}

/// The last of the commits, or another one where that does not take so many bytes more.
fn with_room(commits: &mut Vec<Pending>, bytes: usize) -> &mut Pending {
    if !commits.last().is_some_and(|last| last.takes(bytes, AHEAD_MAX)) {
        commits.push(Pending::default());
    }
    let last = commits.len() - 1;
    &mut commits[last]
}

/// There while documents that nothing names are searched for and removed: whoever names one meanwhile leaves a mark, so
/// that what was not yet named when the search went past it stays.
fn sweep_key() -> Key {
    key(Space::Facts, &["sweep"])
}

fn named_key(kind: Kind, digest: &str) -> Key {
    key(Space::Facts, &["named", kind.name(), digest])
}

/// Begins a search; every commit that names a document from now on says so.
pub fn begin_sweep(tx: &mut Tx) {
    tx.put(&sweep_key(), Vec::new());
}

/// A page of the documents of a kind that `is_named` does not know, from behind `after`, and where to go on.
///
/// # Errors
/// Only where the store fails.
pub async fn unnamed(
    store: &Store,
    kind: Kind,
    after: Option<&Key>,
    is_named: impl Fn(&str) -> bool,
) -> Result<(Vec<String>, Option<Key>), StoreError> {
    let all = KeyRange::prefix(Space::Facts, &[kind.name()]);
    let page = store.scan(after.map_or(all.clone(), |after| all.after(after)), SWEEP_PAGE).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    let digests = page.rows.iter().filter_map(|row| row.key.part(1));
    Ok((digests.filter(|digest| !is_named(digest)).collect(), next))
}

/// Removes documents, but those that were named since the search began. Returns how many.
///
/// # Errors
/// Only where the store fails.
pub async fn sweep(tx: &mut Tx, kind: Kind, unnamed: &[String]) -> Result<usize, StoreError> {
    let mut removed = 0;
    for digest in unnamed {
        if tx.get(&named_key(kind, digest)).await?.is_none() {
            tx.delete(&row_key(kind, digest));
            removed += 1;
        }
    }
    Ok(removed)
}

/// Ends a search: the marks go, a page at a time. Returns whether some are left.
///
/// # Errors
/// Only where the store fails.
pub async fn end_sweep(tx: &mut Tx) -> Result<bool, StoreError> {
    let marks = tx.peek_scan(KeyRange::prefix(Space::Facts, &["named"]), SWEEP_PAGE).await?;
    for row in &marks.rows {
        tx.delete(&row.key);
    }
    if !marks.more {
        tx.delete(&sweep_key());
    }
    Ok(marks.more)
}

/// A document's bytes.
///
/// # Errors
/// [`DocumentError::Missing`], [`DocumentError::Damaged`], or the store's.
pub async fn read(store: &Store, kind: Kind, digest: &str) -> Result<Vec<u8>, DocumentError> {
    let missing = || DocumentError::Missing { kind, digest: digest.to_owned() };
    let row = store.get(&row_key(kind, digest)).await?.ok_or_else(missing)?;
    let mut bytes = Vec::new();
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    let damaged = |why: String| DocumentError::Damaged { kind, digest: digest.to_owned(), why };
    ZlibDecoder::new(row.val.as_ref())
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(error.to_string()))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(damaged("it is larger than any that is written".to_owned()));
    }
    Ok(bytes)
}

/// A document as its type.
///
/// # Errors
/// As [`read`].
pub async fn read_json<T: serde::de::DeserializeOwned>(
    store: &Store,
    kind: Kind,
    digest: &str,
) -> Result<T, DocumentError> {
    let bytes = read(store, kind, digest).await?;
    serde_json::from_slice(&bytes).map_err(|e| DocumentError::Damaged {
        kind,
        digest: digest.to_owned(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests;
