//! The database: one immutable file, looked up by release and source package.
//!
//! ```text
//! "wharfvdb"  version u32  sha256 [32]  meta u64  index u64  data u64     (little endian; lengths in bytes)
//! meta   postcard of Meta, then of its `malformed`
//! index  20 bytes a group, sorted: hash u64, offset into data u64, length u32
//! data   postcard of Group, one for each (release, package)
//! ```
//! The sha256 is over all that follows the header, and is the data's version: equal input gives equal bytes.
//! The index is held in memory (20 bytes a package), the groups are read when they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::release::Release;
use super::row::{Coverage, ReleaseData, Row};
use crate::file;
use crate::report::hex;

/// Version of the file's form.
pub const DB_VERSION: u32 = 3;
const MAGIC: &[u8; 8] = b"wharfvdb";
const HEADER_BYTES: usize = 8 + 4 + 32 + 3 * 8;
const ENTRY_BYTES: usize = 20;
/// Bounds of what is held in memory at open.
const META_BYTES: u64 = 64 << 20;
const INDEX_BYTES: u64 = 256 << 20;
/// The largest group: the kernel of one release with every vulnerability it ever had.
const GROUP_BYTES: u32 = 64 << 20;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("cannot read the vulnerability database: {0}")]
    Io(io::Error),
    #[error("this is not a vulnerability database; hint: make one by `wharf db import`")]
    NotADatabase,
    #[error(
        "the vulnerability database has version {found}, this program reads {DB_VERSION}; hint: import again"
    )]
    Version { found: u32 },
    #[error("the vulnerability database is damaged: {0}; hint: import again")]
    Damaged(&'static str),
}

impl From<io::Error> for DbError {
    fn from(error: io::Error) -> Self {
        DbError::Io(error)
    }
}

/// What the whole file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Name and age of each source, in the order that rows refer to.
    pub(crate) sources: Vec<Coverage>,
    /// What there is of each release, by source.
    pub(crate) releases: BTreeMap<Release, BTreeMap<u16, ReleaseData>>,
    /// Known to be exploited (CISA's list), and that list's own age.
    pub(crate) exploited: BTreeSet<String>,
    pub(crate) exploited_from: Option<Coverage>,
    /// Records that could not be read, by source. Behind the rest in the file: older ones end there.
    #[serde(skip)]
    pub(crate) malformed: BTreeMap<String, u64>,
}

/// All rows of one package of one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) release: Release,
    pub(crate) package: String,
    pub(crate) rows: Vec<Row>,
}

/// An open database.
#[derive(Debug)]
pub struct Db {
    bytes: Bytes,
    version: String,
    pub(crate) meta: Meta,
    index: Vec<u8>,
    data_at: u64,
    data_bytes: u64,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

impl Bytes {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.metadata().map(|m| m.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        match self {
            Self::File(file) => {
                let mut out = vec![0; usize::try_from(length).map_err(|_| end())?];
                file.read_exact_at(&mut out, at)?;
                Ok(out)
            }
            Self::Memory(bytes) => {
                let range = usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(length)).ok());
                range.and_then(|(from, to)| bytes.get(from..to)).map(<[u8]>::to_vec).ok_or_else(end)
            }
        }
    }
}

impl Db {
    /// Opens the file, checks its digest, and keeps its index in memory.
    ///
    /// # Errors
    /// [`DbError`]
    pub fn open(path: &Path) -> Result<Self, DbError> {
        Self::of(Bytes::File(file::open(path)?))
    }

    /// As [`Db::open`], of bytes in memory ([`super::Import::finish`] gives them).
    ///
    /// # Errors
    /// [`DbError`]
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DbError> {
        Self::of(Bytes::Memory(bytes))
    }

    fn of(bytes: Bytes) -> Result<Self, DbError> {
        let length = bytes.length()?;
        let header = bytes.read_at(0, length.min(HEADER_BYTES as u64))?;
        if !header.starts_with(MAGIC) {
            return Err(DbError::NotADatabase);
        }
        if header.len() < HEADER_BYTES {
            return Err(DbError::Damaged("its header"));
        }
        let version = u32::from_le_bytes(array(&header[8..12]));
        if version != DB_VERSION {
            return Err(DbError::Version { found: version });
        }
        let part = |i: usize| u64::from_le_bytes(array(&header[44 + i * 8..52 + i * 8]));
        let (meta_bytes, index_bytes, data_bytes) = (part(0), part(1), part(2));
        if meta_bytes > META_BYTES || index_bytes > INDEX_BYTES || index_bytes % ENTRY_BYTES as u64 != 0 {
            return Err(DbError::Damaged("its header"));
        }
        let data_at = HEADER_BYTES as u64 + meta_bytes + index_bytes;
        if data_at.checked_add(data_bytes) != Some(length) {
            return Err(DbError::Damaged("its length"));
        }
        let digest = digest(&bytes, length)?;
        if header[12..44] != digest {
            return Err(DbError::Damaged("its digest"));
        }
        let described = bytes.read_at(HEADER_BYTES as u64, meta_bytes)?;
        let damaged = |_| DbError::Damaged("its description");
        let (mut meta, more) = postcard::take_from_bytes::<Meta>(&described).map_err(damaged)?;
        if !more.is_empty() {
            meta.malformed = postcard::from_bytes(more).map_err(damaged)?;
        }
        let index = bytes.read_at(HEADER_BYTES as u64 + meta_bytes, index_bytes)?;
        Ok(Self { bytes, version: format!("sha256:{}", hex(&digest)), meta, index, data_at, data_bytes })
    }

    /// The data's version: a digest of its contents.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What data there is, by source.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.meta.sources.iter().chain(&self.meta.exploited_from).cloned().collect()
    }

    /// Records of `source` that could not be read, and are in nothing that is known of any release.
    pub fn malformed(&self, source: &str) -> u64 {
        self.meta.malformed.get(source).copied().unwrap_or_default()
    }

    /// The sources that cover one release, with what they have of it; empty if none does, whatever single records there are.
    pub fn coverage_of(&self, release: &Release) -> Vec<Coverage> {
        let sources = self.meta.releases.get(release).into_iter().flatten();
        let mut coverage: Vec<Coverage> = sources
            .filter(|(_, data)| data.covered)
            .filter_map(|(source, data)| {
                let source = self.meta.sources.get(usize::from(*source))?.source.clone();
                Some(Coverage { source, as_of_ms: data.as_of_ms, records: data.records })
            })
            .collect();
        if !coverage.is_empty() {
            coverage.extend(self.meta.exploited_from.clone());
        }
        coverage
    }

    /// What all sources together have of one release.
    pub fn release(&self, release: &Release) -> ReleaseData {
        self.meta.releases.get(release).map(joined).unwrap_or_default()
    }

    /// The same of each release that there are records for.
    pub fn releases(&self) -> impl Iterator<Item = (&Release, ReleaseData)> {
        self.meta.releases.iter().map(|(release, by)| (release, joined(by)))
    }

    /// Rows of one source package.
    pub(crate) fn rows(&self, release: &Release, package: &str) -> Result<Vec<Row>, DbError> {
        let wanted = key(release, package);
        let entries = self.index.len() / ENTRY_BYTES;
        let entry = |i: usize| &self.index[i * ENTRY_BYTES..(i + 1) * ENTRY_BYTES];
        let hash = |i: usize| u64::from_le_bytes(array(&entry(i)[..8]));
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if hash(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        // Different packages may share a hash.
        for i in (low..entries).take_while(|i| hash(*i) == wanted) {
            let group = self.group(entry(i))?;
            if group.release == *release && group.package == package {
                return Ok(group.rows);
            }
        }
        Ok(Vec::new())
    }

    /// Every group, in no order that means anything.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Result<Group, DbError>> {
        self.index.chunks_exact(ENTRY_BYTES).map(|entry| self.group(entry))
    }

    fn group(&self, entry: &[u8]) -> Result<Group, DbError> {
        let at = u64::from_le_bytes(array(&entry[8..16]));
        let length = u32::from_le_bytes(array(&entry[16..20]));
        if length > GROUP_BYTES || at.saturating_add(length.into()) > self.data_bytes {
            return Err(DbError::Damaged("its index"));
        }
        let data = self.bytes.read_at(self.data_at + at, length.into())?;
        postcard::from_bytes(&data).map_err(|_| DbError::Damaged("its rows"))
    }
}

fn joined(by: &BTreeMap<u16, ReleaseData>) -> ReleaseData {
    let mut all = ReleaseData::default();
    by.values().for_each(|data| all.join(*data));
    all
}

/// The file's bytes.
pub(crate) fn write(meta: &Meta, groups: &[Group]) -> Result<Vec<u8>, postcard::Error> {
    let mut data = Vec::new();
    let mut entries = Vec::with_capacity(groups.len());
    for group in groups {
        let at = data.len() as u64;
        data = postcard::to_extend(group, data)?;
        let length = data.len() as u64 - at;
        let length = u32::try_from(length).ok().filter(|l| *l <= GROUP_BYTES);
        entries.push((
            key(&group.release, &group.package),
            at,
            length.ok_or(postcard::Error::SerializeBufferFull)?,
        ));
    }
    entries.sort_unstable();
    let meta = postcard::to_extend(&meta.malformed, postcard::to_stdvec(meta)?)?;
    let mut body = meta.clone();
    for (hash, at, length) in &entries {
        body.extend(hash.to_le_bytes());
        body.extend(at.to_le_bytes());
        body.extend(length.to_le_bytes());
    }
    body.extend(&data);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend(MAGIC);
    out.extend(DB_VERSION.to_le_bytes());
    out.extend(Sha256::digest(&body));
    for length in [meta.len(), entries.len() * ENTRY_BYTES, data.len()] {
        out.extend((length as u64).to_le_bytes());
    }
    out.extend(body);
    Ok(out)
}

fn key(release: &Release, package: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(release.as_str());
    hash.update([0]);
    hash.update(package);
    u64::from_le_bytes(array(&hash.finalize()[..8]))
}

fn digest(bytes: &Bytes, length: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    match bytes {
        Bytes::Memory(bytes) => hash.update(&bytes[HEADER_BYTES..]),
        Bytes::File(file) => {
            let mut piece = vec![0; 256 << 10];
            let mut at = HEADER_BYTES as u64;
            while at < length {
                let n = file.read_at(&mut piece, at)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                hash.update(&piece[..n]);
                at += n as u64;
            }
        }
    }
    Ok(hash.finalize().into())
}

/// `slice` is of `N` bytes by construction; zeros stand for what would be missing.
fn array<const N: usize>(mut slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let _ = slice.read(&mut out);
    out
}
