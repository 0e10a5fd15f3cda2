use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, Manifest, ManifestKind};
use wharf_plugin::facts::{Coverage, Knowledge};
use wharf_store::{Key, KeyRange, Rev, Space, Store, StoreError, Tx, key};

/// What the scan of one platform's image found: `scan/DIGEST` of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Scanned {
    /// How far the list of components can be trusted.
    pub scan: Knowledge,
    /// How far the list of findings can be: `none` without data about this image's distribution.
    pub matched: Knowledge,
    /// Why either is not complete, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub scanned_at_ms: u64,
    /// When the findings were last compared.
    pub matched_at_ms: u64,
    pub scanner: String,
    /// Digest of the scanner's report; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bom: Option<String>,
    /// Digest of the components as policies see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<String>,
    pub packages: u64,
    /// Digest of the findings as policies see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<String>,
    /// Findings of each severity: unknown, negligible, low, medium, high, critical.
    pub counts: [u64; 6],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Coverage>,
    /// Version of the vulnerability data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_of_life_ms: Option<u64>,
}

impl Scanned {
    /// Of a platform that nobody has looked at: it waits for its scan, unless there is none to come.
    pub fn not_yet(manifest: Option<&Manifest>) -> Scanned {
        let (scan, why) = match manifest.map(|manifest| manifest.kind) {
            Some(ManifestKind::Image) => (Knowledge::Pending, None),
            Some(ManifestKind::Index) => (Knowledge::None, Some("an index within an index is not scanned")),
            None => (Knowledge::None, Some("its manifest is not here")),
        };
        Scanned { scan, matched: scan, why: why.map(str::to_owned), ..Scanned::default() }
    }

    /// Whether the image was read. What failed, and what was an artifact by the type that it was pushed with, is looked at again
    /// wherever it is pushed: another repository may have what was missing.
    pub fn is_read(&self) -> bool {
        self.scan != Knowledge::Failed && self.bom.is_some()
    }

    /// How many findings there are. Where nothing could be compared, none found is nothing known.
    pub fn known_findings(&self) -> Option<u64> {
        let found = self.counts.iter().sum();
        let is_compared = matches!(self.matched, Knowledge::Complete | Knowledge::Partial);
        (is_compared || found > 0).then_some(found)
    }
}

fn scan_key(digest: &Digest) -> Key {
    key(Space::Scan, &[digest.as_str()])
}

/// What is known of a platform's image; none if nobody has looked.
pub async fn find(store: &Store, digest: &Digest) -> Result<Option<Scanned>, StoreError> {
    Ok(find_at(store, digest).await?.map(|(scanned, _)| scanned))
}

/// The same, with its revision.
pub async fn find_at(store: &Store, digest: &Digest) -> Result<Option<(Scanned, Rev)>, StoreError> {
    store.get(&scan_key(digest)).await?.map(|row| Ok((row.value()?, row.rev))).transpose()
}

/// The same for several, in the order asked for.
pub async fn find_many(store: &Store, digests: &[Digest]) -> Result<Vec<Option<Scanned>>, StoreError> {
    let rows = store.get_many(digests.iter().map(scan_key).collect()).await?;
    rows.into_iter().map(|row| row.map(|row| row.value()).transpose()).collect()
}

/// What is known, expected to stay so.
pub async fn expect(tx: &mut Tx, digest: &Digest) -> Result<Option<(Scanned, Rev)>, StoreError> {
    tx.get(&scan_key(digest)).await?.map(|row| Ok((row.value()?, row.rev))).transpose()
}

pub fn put(tx: &mut Tx, digest: &Digest, scanned: &Scanned) -> Result<(), StoreError> {
    tx.put_value(&scan_key(digest), scanned)
}

/// A page of all scans behind `after` (a digest), in the order of digests, and where to go on.
pub async fn page(
    store: &Store,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<(Digest, Scanned)>, Option<String>), StoreError> {
    let mut range = KeyRange::all(Space::Scan);
    if let Some(after) = after {
        range = range.after(&key(Space::Scan, &[after]));
    }
    let page = store.scan(range, limit).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        if let Some(digest) = row.key.part(0).and_then(|digest| digest.parse().ok()) {
            found.push((digest, row.value()?));
        }
    }
    let next = page.rows.last().filter(|_| page.more).and_then(|row| row.key.part(0));
    Ok((found, next))
}
