//! Facts that no longer change, with what is derived from them once: the bytes, the digest and the columns that counting
//! runs over.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use super::{Component, FixState, ImageFacts, MAX_FACTS_BYTES, PlatformFacts, Severity};
use crate::licence::Licence;
use crate::query::{Clock, step};

/// Why facts cannot be sealed, or stored facts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The document is not JSON of this shape.
    #[error("facts document: {0}")]
    Json(serde_json::Error),
    /// The document is larger than [`MAX_FACTS_BYTES`].
    #[error("facts document of {bytes} bytes is larger than {MAX_FACTS_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A plain image must have one platform, an index at most 1,024.
    #[error("facts document has {found} platforms, {expected} wanted")]
    Platforms {
        /// How many it has.
        found: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// A finding names a component that is not there.
    #[error("finding `{finding}` of `{digest}` names component {component}, there are {components}")]
    Component {
        /// The finding's identifier.
        finding: String,
        /// The platform's manifest.
        digest: String,
        /// The index that it names.
        component: u32,
        /// How many components there are.
        components: usize,
    },
    /// A CVSS score over 10.
    #[error("finding `{finding}` has a CVSS score of {tenths} tenths, at most 100 wanted")]
    Score {
        /// The finding's identifier.
        finding: String,
        /// Its score.
        tenths: u8,
    },
    /// The bytes are valid JSON, but not the canonical form of it: they were not written by this program.
    #[error("facts document is not canonical")]
    NotCanonical,
}

/// The most platforms of one index.
const MAX_PLATFORMS: usize = 1_024;

/// Licence texts with what they say.
type Licences = BTreeMap<String, Licence>;

/// What counting looks at, 4 bytes a finding, so that most questions never touch the findings themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Column {
    pub(crate) severity: Severity,
    /// 255: no score.
    pub(crate) cvss_tenths: u8,
    pub(crate) flags: u8,
}

impl Column {
    pub(crate) const UNSCORED: u8 = u8::MAX;
    pub(crate) const WAIVED: u8 = 1;
    pub(crate) const POSSIBLE: u8 = 2;
    pub(crate) const FIXABLE: u8 = 4;
    pub(crate) const EXPLOITED: u8 = 8;
    pub(crate) const HINT: u8 = 16;
}

/// Facts that no longer change. Cheap to share: clone the `Arc`.
#[derive(Debug)]
pub struct SealedFacts {
    facts: ImageFacts,
    bytes: Vec<u8>,
    digest: String,
    columns: Vec<Vec<Column>>,
    /// For each platform the columns that occur, with how many findings have each. There are few, however many findings there
    /// are, and most questions want a count.
    tallies: Vec<Vec<(Column, u32)>>,
    /// For each platform the indices of its components in the order of each key.
    names: Vec<[Vec<u32>; 2]>,
    licences: OnceLock<Licences>,
}

impl ImageFacts {
    /// The canonical JSON of this document; see the module's invariants.
    ///
    /// # Errors
    /// [`FactsError::TooLarge`].
    pub fn to_canonical_bytes(&self) -> Result<Vec<u8>, FactsError> {
        let bytes = serde_json::to_vec(self).map_err(FactsError::Json)?;
        if bytes.len() > MAX_FACTS_BYTES {
            return Err(FactsError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Checks the document, and fixes its bytes and its digest.
    ///
    /// # Errors
    /// Every [`FactsError`] but `Json` and `NotCanonical`.
    pub fn seal(self) -> Result<Arc<SealedFacts>, FactsError> {
        let bytes = self.to_canonical_bytes()?;
        self.check()?;
        let columns: Vec<Vec<Column>> = self.platforms.iter().map(columns).collect();
        let tallies = columns.iter().map(|columns| tally(columns)).collect();
        let names = self.platforms.iter().map(names).collect();
        let digest = sha256(&bytes);
        let licences = OnceLock::new();
        Ok(Arc::new(SealedFacts { facts: self, bytes, digest, columns, tallies, names, licences }))
    }

    fn check(&self) -> Result<(), FactsError> {
        let found = self.platforms.len();
        match (self.index, found) {
            (false, 1) | (true, 0..=MAX_PLATFORMS) => {}
            (false, _) => return Err(FactsError::Platforms { found, expected: "exactly 1" }),
            (true, _) => return Err(FactsError::Platforms { found, expected: "at most 1024" }),
        }
        self.platforms.iter().try_for_each(check_platform)
    }
}

fn check_platform(platform: &PlatformFacts) -> Result<(), FactsError> {
    let components = platform.components.len();
    for finding in &platform.findings {
        if finding.component as usize >= components {
            return Err(FactsError::Component {
                finding: finding.id.clone(),
                digest: platform.digest.clone(),
                component: finding.component,
                components,
            });
        }
        if let Some(tenths) = finding.cvss_tenths.filter(|t| *t > 100) {
            return Err(FactsError::Score { finding: finding.id.clone(), tenths });
        }
    }
    Ok(())
}

fn columns(platform: &PlatformFacts) -> Vec<Column> {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let column = |f: &super::Finding| {
        let hint = platform
            .components
            .get(f.component as usize)
            .is_some_and(|c| c.confidence == super::Confidence::Hint);
        Column {
            severity: f.severity,
            cvss_tenths: f.cvss_tenths.unwrap_or(Column::UNSCORED),
            flags: flag(f.waived, Column::WAIVED)
                | flag(f.possible_only, Column::POSSIBLE)
                | flag(f.fix == FixState::Fixed, Column::FIXABLE)
                | flag(f.known_exploited, Column::EXPLOITED)
                | flag(hint, Column::HINT),
        }
    };
    platform.findings.iter().map(column).collect()
}

fn tally(columns: &[Column]) -> Vec<(Column, u32)> {
    let mut sorted = columns.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|one, next| one == next);
    runs.filter_map(|run| Some((*run.first()?, u32::try_from(run.len()).ok()?))).collect()
}

/// What components are sorted by, so that questions about one name look at few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKey {
    /// The component's own name.
    Own,
    /// Its source package's, or its own where there is none.
    Source,
}

impl NameKey {
    pub(crate) fn of(self, component: &Component) -> &str {
        match self {
            Self::Own => &component.name,
            Self::Source => component.source_name.as_deref().unwrap_or(&component.name),
        }
    }
}

fn names(platform: &PlatformFacts) -> [Vec<u32>; 2] {
    [NameKey::Own, NameKey::Source].map(|key| {
        let mut indices: Vec<u32> = (0u32..).zip(&platform.components).map(|(index, _)| index).collect();
        indices.sort_by_key(|index| key_of(platform, key, *index));
        indices
    })
}

fn key_of(platform: &PlatformFacts, key: NameKey, index: u32) -> &str {
    platform.components.get(index as usize).map_or("", |component| key.of(component))
}

impl SealedFacts {
    /// Reads a stored document back.
    ///
    /// # Errors
    /// Every [`FactsError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Arc<Self>, FactsError> {
        if bytes.len() > MAX_FACTS_BYTES {
            return Err(FactsError::TooLarge { bytes: bytes.len() });
        }
        let sealed = serde_json::from_slice::<ImageFacts>(bytes).map_err(FactsError::Json)?.seal()?;
        if sealed.bytes != bytes {
            return Err(FactsError::NotCanonical);
        }
        Ok(sealed)
    }

    /// The document.
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// Its canonical bytes, to be stored under [`SealedFacts::digest`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `sha256:` and the hex digest of [`SealedFacts::bytes`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn columns(&self, platform: usize) -> &[Column] {
        self.columns.get(platform).map_or(&[], Vec::as_slice)
    }

    /// How many findings of a platform have which column.
    pub(crate) fn tally(&self, platform: usize) -> &[(Column, u32)] {
        self.tallies.get(platform).map_or(&[], Vec::as_slice)
    }

    /// The components of a platform whose key starts with `prefix`, in the key's order; if `exact`, whose key it is.
    pub(crate) fn named(&self, position: usize, key: NameKey, prefix: &str, exact: bool) -> &[u32] {
        let (Some(platform), Some(names)) = (self.facts.platforms.get(position), self.names.get(position))
        else {
            return &[];
        };
        let [own, source] = names;
        let names = if key == NameKey::Own { own } else { source };
        let start = names.partition_point(|index| key_of(platform, key, *index) < prefix);
        let rest = names.get(start..).unwrap_or(&[]);
        let len = rest.partition_point(|index| match exact {
            true => key_of(platform, key, *index) == prefix,
            false => key_of(platform, key, *index).starts_with(prefix),
        });
        rest.get(..len).unwrap_or(&[])
    }

    /// Every licence text of every platform, each parsed once; none where it is no SPDX expression. Each is a step of the
    /// clock's: if the time is up before the last, nothing is kept, and the answer, which is worth nothing then, is empty.
    pub(crate) fn licences(&self, clock: Clock<'_>) -> &Licences {
        if let Some(licences) = self.licences.get() {
            return licences;
        }
        let mut licences = Licences::new();
        for component in self.facts.platforms.iter().flat_map(|platform| &platform.components) {
            for text in &component.licences {
                if !step(clock) {
                    return const { &Licences::new() };
                }
                if !licences.contains_key(text) {
                    licences.insert(text.clone(), Licence::read(text));
                }
            }
        }
        self.licences.get_or_init(|| licences)
    }
}

/// `sha256:` and the hex digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// `sha256:` and the bytes of a digest in hex.
pub(crate) fn digest_text(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(7 + 2 * digest.len());
    text.push_str("sha256:");
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
