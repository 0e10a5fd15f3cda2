//! Keys and values of the registry's rows (`docs/store.md`, "Registry").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, MediaType, RepoName, Tag};
use wharf_store::{Key, KeyRange, Space, key};

use crate::event::Stage;

/// `repo/<name>`: there has been a manifest in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoRow {
    pub created_at_ms: u64,
    pub created_by: String,
}

/// `manifest/<repo>/<digest>`: what is asked without reading the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRow {
    pub media_type: MediaType,
    /// Bytes of the manifest itself.
    pub size: u64,
    /// As the referrers API shows it: the declared type, else the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// It names manifests or blobs that the repository did not have at the push.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// It holds itself. False for what came along with a promoted image: the manifests of an index, which their index
    /// holds, and referrers, which live as long as their subject.
    pub kept: bool,
    pub pushed_at_ms: u64,
    pub pushed_by: String,
}

/// `tag/<repo>/<tag>`. The row's revision is the tag's revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRow {
    pub digest: Digest,
    pub media_type: MediaType,
    /// When it was pointed here, milliseconds since 1970.
    pub at_ms: u64,
    pub by: String,
    /// Promotions that led here, oldest first; empty for a push by a client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Stage>,
}

/// `referrer/<repo>/<subject>/<digest>`: one entry of the referrers API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferrerRow {
    pub media_type: MediaType,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// None where they are larger than `referrer::ANNOTATION_BYTES_MAX`; they are then read from the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

pub fn repo(name: &RepoName) -> Key {
    key(Space::Repo, &[name.as_str()])
}

pub fn manifest(name: &RepoName, digest: &Digest) -> Key {
    key(Space::Manifest, &[name.as_str(), digest.as_str()])
}

pub fn manifests(name: &RepoName) -> KeyRange {
    KeyRange::prefix(Space::Manifest, &[name.as_str()])
}

pub fn tag(name: &RepoName, tag: &Tag) -> Key {
    key(Space::Tag, &[name.as_str(), tag.as_str()])
}

pub fn tags(name: &RepoName) -> KeyRange {
    KeyRange::prefix(Space::Tag, &[name.as_str()])
}

pub fn referrer(name: &RepoName, subject: &Digest, digest: &Digest) -> Key {
    key(Space::Referrer, &[name.as_str(), subject.as_str(), digest.as_str()])
}

pub fn referrers(name: &RepoName, subject: &Digest) -> KeyRange {
    KeyRange::prefix(Space::Referrer, &[name.as_str(), subject.as_str()])
}
