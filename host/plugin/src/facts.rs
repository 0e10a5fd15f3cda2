//! The facts document: everything that is known about one image at one moment, as a policy is judged on it and as the host
//! stores it beside the decision.
//!
//! The host fills an [`ImageFacts`], [seals](ImageFacts::seal) it and stores [`SealedFacts::bytes`] under
//! [`SealedFacts::digest`]. A replay reads the bytes back with [`SealedFacts::from_bytes`].
//!
//! Invariant: the bytes are canonical. Equal facts give equal bytes and an equal digest, on every machine: struct fields in the
//! order below, maps sorted by key, no floating point, lists in the order that the host filled them.
//! Invariant: a new field is optional with a default that is left out, so that old documents keep their digest.
//! Invariant: sealed facts never change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod sealed;
#[cfg(test)]
mod tests;

pub(crate) use sealed::{Column, NameKey, digest_text};
pub use sealed::{FactsError, SealedFacts, sha256};

/// The largest facts document that is sealed, in bytes of its canonical form.
pub const MAX_FACTS_BYTES: usize = 64 << 20;

/// How bad a finding is. Ordered, except that `unknown` is no rating at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The source gives no rating; not "harmless".
    #[default]
    Unknown,
    /// Hardly a risk.
    Negligible,
    /// CVSS 0.1–3.9.
    Low,
    /// CVSS 4.0–6.9.
    Medium,
    /// CVSS 7.0–8.9.
    High,
    /// CVSS 9.0–10.0.
    Critical,
}

/// How much is known of one subject. The order of the variants is that of the interface; see
/// [`Knowledge::least`] for which says less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// Nobody has looked. This is not "clean".
    #[default]
    None,
    /// Somebody is going to look, or is looking.
    Pending,
    /// Somebody looked, and could not see everything.
    Partial,
    /// Everything was looked at.
    Complete,
    /// It was tried, and failed.
    Failed,
    /// This kind of content cannot be looked at.
    Unsupported,
}

impl Knowledge {
    /// The name of the case in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Partial => "partial",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
        }
    }

    /// The one that says less.
    pub fn least(self, other: Self) -> Self {
        let rank = |k: Self| match k {
            Self::None => 0,
            Self::Pending => 1,
            Self::Failed => 2,
            Self::Unsupported => 3,
            Self::Partial => 4,
            Self::Complete => 5,
        };
        if rank(self) <= rank(other) { self } else { other }
    }
}

/// How sure it is that a component is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// One weak sign.
    Hint,
    /// More likely than not.
    Probable,
    /// Several signs that agree.
    Confirmed,
    /// A package database, a lock file or a build record says so.
    #[default]
    Exact,
}

/// What is known of a fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixState {
    /// Nothing, or it is still being looked into.
    #[default]
    Unknown,
    /// There is a version without the flaw.
    Fixed,
    /// There is none yet.
    NotFixed,
    /// There will be one later; the vendor waits on purpose.
    Deferred,
    /// The vendor will not make one.
    WontFix,
    /// The component is no longer maintained.
    EndOfLife,
}

/// What an image is for, in the terms of the OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `windows` …
    pub os: String,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `v8` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system; Windows images state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl std::fmt::Display for Platform {
    /// `linux/arm64/v8`, as image tools write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

/// A piece of software in the image. Its index is its position in [`PlatformFacts::components`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Component {
    /// The name that its ecosystem gives it.
    pub name: String,
    /// Its version, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where only a range is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_range: Option<String>,
    /// The package URL's type: `deb`, `apk`, `npm` …
    pub ecosystem: String,
    /// The package URL; empty where there is none.
    #[serde(default)]
    pub purl: String,
    /// The package that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// SPDX expressions, or the text that was found. Empty: not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<String>,
    /// The index of the layer that brought it, 0 for the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The file that it is, or that tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How sure it is.
    #[serde(default)]
    pub confidence: Confidence,
    /// What it was recognised by, for people.
    #[serde(default)]
    pub evidence: String,
    /// What `component-fact` answers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// A known flaw of a component. Its index is its position in [`PlatformFacts::findings`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// The identifier in its source.
    pub id: String,
    /// Other identifiers of the same flaw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The source that says so.
    pub source: String,
    /// How bad it is.
    pub severity: Severity,
    /// The CVSS base score in tenths, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvss_tenths: Option<u8>,
    /// The index of the component that has it.
    pub component: u32,
    /// What is known of a fix.
    #[serde(default)]
    pub fix: FixState,
    /// The first version without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_in: Option<String>,
    /// When it was published, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at_ms: Option<u64>,
    /// It is known to be used by attackers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub known_exploited: bool,
    /// It is not sure: the component's version is known as a range only, and not every version in it is affected, or the source
    /// does not say whether this version is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub possible_only: bool,
    /// An operator accepted it for this image.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waived: bool,
    /// What `finding-fact` answers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// A set of vulnerability data that the findings come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Its name: `osv/debian:12` …
    pub source: String,
    /// How new the data is, in ms since 1970.
    pub as_of_ms: u64,
}

/// Somebody let the image through a stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Approval {
    /// The target's repository, or the name that the binding gives the stage.
    pub stage: String,
    /// A user's name, or `policy:` and the binding's.
    pub by: String,
    /// When, in ms since 1970.
    pub at_ms: u64,
}

/// A signature of the image, or a signed statement about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signature {
    /// `cosign`, `notation`, `attestation` …
    pub kind: String,
    /// Who signed.
    pub identity: String,
    /// Who vouches for that identity; empty for a plain key.
    #[serde(default)]
    pub issuer: String,
    /// Valid, and trusted for this repository.
    pub trusted: bool,
    /// The in-toto predicate type of an attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
}

/// A decision of an operator to accept findings; [`Finding::waived`] says which it covers here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waiver {
    /// The identifier of the finding that is accepted, or a glob of identifiers.
    pub finding: String,
    /// Who accepted it.
    pub by: String,
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// Until when it counts, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// What is known of one platform's image: a plain image has one of these, an index several.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlatformFacts {
    /// The digest of its manifest.
    pub digest: String,
    /// The media type of its manifest.
    #[serde(default)]
    pub media_type: String,
    /// The manifest's `artifactType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Config and layers as they are stored, each blob once.
    pub size_bytes: u64,
    /// Digests of its layers, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// When its config says it was built, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<u64>,
    /// Labels of its config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How much is known of what is in it.
    #[serde(default)]
    pub scan: Knowledge,
    /// The vulnerability data that its components were compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Coverage>,
    /// `ID:VERSION_ID` of its `os-release`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// Whether that distribution is past its end of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_life: Option<bool>,
    /// The digest of its bill of materials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bom_digest: Option<String>,
    /// The digest of its list of findings as the scanner gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings_digest: Option<String>,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// What is wrong with that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Signatures of this manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
    /// What `image.fact` answers for this platform, by name; before those of the whole image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Everything that is known about one image at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The repository that it was pushed to.
    pub repository: String,
    /// The tag that is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How often that tag was pointed at something; 0 without a tag.
    #[serde(default)]
    pub tag_revision: u64,
    /// The digest that the tag points at: of the manifest, or of the index.
    pub digest: String,
    /// The media type of what the tag points at.
    pub media_type: String,
    /// The tag points at an index (or a manifest list), so that there may be several platforms.
    #[serde(default, skip_serializing_if = "is_false")]
    pub index: bool,
    /// Bytes of all platforms as they are stored, each blob once.
    pub size_bytes: u64,
    /// When the tag was pointed at it, in ms since 1970.
    pub pushed_at_ms: u64,
    /// Who did that.
    pub pushed_by: String,
    /// The moment of the evaluation, in ms since 1970: the only clock that a policy has.
    pub evaluated_at_ms: u64,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How much is known of its signatures.
    #[serde(default)]
    pub signature_check: Knowledge,
    /// Signatures of what the tag points at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
    /// The stages that let it through, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// The waivers that were in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// The version of the vulnerability data as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vulnerability_data_version: Option<String>,
    /// What `image.fact` answers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// Its platforms: exactly one where it is no index.
    pub platforms: Vec<PlatformFacts>,
}

fn is_false(value: &bool) -> bool {
    !*value
}
