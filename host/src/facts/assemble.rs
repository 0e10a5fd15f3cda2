use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use wharf_oci::{Descriptor, Digest, Manifest, MediaType, RepoName, Tag};
use wharf_plugin::facts::{Approval, Component, Finding, ImageFacts, Knowledge, Platform, PlatformFacts};

use super::scanned::Scanned;

/// The tag that is judged, and what it points at.
#[derive(Debug, Clone)]
pub struct TagInput {
    pub repository: RepoName,
    pub tag: Tag,
    /// The revision of the tag's row.
    pub revision: u64,
    pub digest: Digest,
    pub media_type: MediaType,
    pub at_ms: u64,
    pub by: String,
    /// Of the index, where it is one.
    pub annotations: BTreeMap<String, String>,
    pub is_index: bool,
    /// The stages that let it through, oldest first.
    pub approvals: Vec<Approval>,
}

/// One platform's image.
#[derive(Debug, Clone)]
pub struct PlatformInput {
    pub digest: Digest,
    /// None where an index names what the repository does not have.
    pub manifest: Option<Manifest>,
    /// What the index says it is for.
    pub platform: Option<wharf_oci::Platform>,
    /// The image's configuration; none of an artifact, nor where the manifest is not there.
    pub config: Option<ImageConfig>,
    pub scanned: Scanned,
    pub components: Vec<Component>,
    pub findings: Vec<Finding>,
}

/// What the facts take from an image's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    created: Option<String>,
    config: Option<Run>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Run {
    labels: Option<BTreeMap<String, String>>,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

impl ImageConfig {
    /// Reads a configuration document.
    ///
    /// # Errors
    /// Where it is no JSON, or a field is of another type.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// Joins what is known into one document. No text is cut: what is too large as a whole is not judged.
pub fn assemble(tag: &TagInput, platforms: Vec<PlatformInput>, evaluated_at_ms: u64) -> ImageFacts {
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for manifest in platforms.iter().filter_map(|platform| platform.manifest.as_ref()) {
        sizes.extend(blobs(manifest).map(|blob| (blob.digest.to_string(), blob.size)));
    }
    let versions = platforms.iter().filter_map(|p| p.scanned.data_version.clone());
    let data_version = versions.max();
    ImageFacts {
        repository: tag.repository.to_string(),
        tag: Some(tag.tag.to_string()),
        tag_revision: tag.revision,
        digest: tag.digest.to_string(),
        media_type: tag.media_type.to_string(),
        index: tag.is_index,
        size_bytes: total_size(&sizes),
        pushed_at_ms: tag.at_ms,
        pushed_by: tag.by.clone(),
        evaluated_at_ms,
        annotations: tag.annotations.clone(),
        signature_check: Knowledge::None,
        signatures: Vec::new(),
        approvals: tag.approvals.clone(),
        waivers: Vec::new(),
        vulnerability_data_version: data_version,
        facts: BTreeMap::new(),
        platforms: platforms.into_iter().map(|platform| one(platform, evaluated_at_ms)).collect(),
    }
}

/// Bytes of blobs, each once, by what manifests declare: of layers that are not here that may be any numbers.
pub fn total_size<K>(sizes: &BTreeMap<K, u64>) -> u64 {
    sizes.values().copied().fold(0, u64::saturating_add)
}

/// Config and layers, each once.
fn blobs(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    manifest.config.iter().chain(&manifest.layers)
}

fn one(input: PlatformInput, evaluated_at_ms: u64) -> PlatformFacts {
    let config = input.config.unwrap_or_default();
    let run = config.config.as_ref();
    let labels = run.and_then(|run| run.labels.as_ref()).cloned().unwrap_or_default();
    let facts = run.map(run_facts).unwrap_or_default();
    let manifest = input.manifest.as_ref();
    let sizes: BTreeMap<&Digest, u64> =
        manifest.into_iter().flat_map(blobs).map(|blob| (&blob.digest, blob.size)).collect();
    let scanned = input.scanned;
    // Findings that could not all be compared are not all known, whatever is known of the components.
    let scan = match scanned.matched {
        Knowledge::Partial | Knowledge::Failed | Knowledge::Unsupported => {
            scanned.scan.least(scanned.matched)
        }
        _ => scanned.scan,
    };
    PlatformFacts {
        digest: input.digest.to_string(),
        media_type: manifest.map(|m| m.media_type.to_string()).unwrap_or_default(),
        artifact_type: manifest.and_then(|m| m.artifact_type.as_ref()).map(ToString::to_string),
        platform: platform(input.platform.as_ref(), &config),
        size_bytes: total_size(&sizes),
        layers: manifest.iter().flat_map(|m| &m.layers).map(|layer| layer.digest.to_string()).collect(),
        created_at_ms: config.created.as_deref().and_then(milliseconds),
        labels,
        annotations: manifest.map(|m| m.annotations.clone()).unwrap_or_default(),
        scan,
        coverage: scanned.coverage,
        distribution: scanned.distribution,
        end_of_life: scanned.end_of_life_ms.map(|at_ms| at_ms <= evaluated_at_ms),
        bom_digest: scanned.bom,
        findings_digest: scanned.findings,
        components: input.components,
        findings: input.findings,
        signatures: Vec::new(),
        facts,
    }
}

/// What an index says goes before what the image's own configuration says: runtimes choose by it, too. That it is unknown goes
/// behind.
fn platform(declared: Option<&wharf_oci::Platform>, config: &ImageConfig) -> Option<Platform> {
    let of_config = || {
        Some(Platform {
            os: config.os.clone().filter(|os| !os.is_empty())?,
            architecture: config.architecture.clone()?,
            variant: config.variant.clone().filter(|variant| !variant.is_empty()),
            os_version: config.os_version.clone(),
        })
    };
    let of_index = declared.map(|platform| Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
    });
    match declared.is_some_and(wharf_oci::Platform::is_unknown) {
        true => of_config().or(of_index),
        false => of_index.or_else(of_config),
    }
}

fn run_facts(run: &Run) -> BTreeMap<String, String> {
    let list = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| serde_json::to_string(list).ok());
    let ports = run.exposed_ports.as_ref().map(|ports| ports.keys().cloned().collect::<Vec<_>>().join(","));
    let found = [
        ("config.user", run.user.clone()),
        ("config.working-dir", run.working_dir.clone()),
        ("config.entrypoint", list(&run.entrypoint)),
        ("config.cmd", list(&run.cmd)),
        ("config.exposed-ports", ports),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// RFC 3339, as image configurations write times.
fn milliseconds(text: &str) -> Option<u64> {
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}
