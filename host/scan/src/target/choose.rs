//! Which of the images in a layout or archive is meant, and where its parts are.

use std::collections::BTreeSet;

use serde::Deserialize;
use wharf_oci::{Descriptor, Digest, MANIFEST_BYTES_MAX, Manifest, ManifestKind, MediaType, Platform};

use super::archive::NAME_BYTES;
use super::name::Asked;
use super::{Choice, Source, TargetError, blob_name};
use crate::layer::path;

const INDEX_DEPTH: u32 = 4;
/// Images shown in an error.
const SHOWN: usize = 10;
const CONFIG_BYTES: usize = 4 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image's parts: layers with the file that holds them, `None` for a foreign one.
pub(super) struct Chosen {
    pub(super) digest: Option<Digest>,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<(Descriptor, Option<String>)>,
}

/// Finds the image that `choice` means.
pub(super) fn image(source: &Source, choice: &Choice) -> Result<Chosen, TargetError> {
    if let Some(bytes) = source.document("index.json", MANIFEST_BYTES_MAX)? {
        return of_index(source, &bytes, choice);
    }
    match source.document("manifest.json", MANIFEST_BYTES_MAX)? {
        Some(bytes) => of_docker(source, &bytes, choice),
        None => Err(TargetError::Missing { name: "index.json".to_owned() }),
    }
}

struct Candidate {
    digest: Digest,
    manifest: Manifest,
    platform: Platform,
    shown: String,
}

fn of_index(source: &Source, bytes: &[u8], choice: &Choice) -> Result<Chosen, TargetError> {
    let index = manifest("index.json", bytes, MediaType::OCI_INDEX)?;
    let named = index.manifests.iter().flat_map(names_of);
    let asked = choice.tag.as_ref().map(|name| Asked::among(name, named));
    let is_meant = |descriptor: &&Descriptor| {
        asked.as_ref().is_none_or(|asked| names_of(descriptor).any(|name| asked.is(name)))
    };
    let meant: Vec<&Descriptor> = index.manifests.iter().filter(is_meant).collect();
    if let Some(tag) = choice.tag.as_ref().filter(|_| meant.is_empty()) {
        let tags: BTreeSet<&String> = index.manifests.iter().filter_map(tag_of).collect();
        return Err(TargetError::NoMatch { wanted: format!("tag `{tag}`"), found: shown(tags.into_iter()) });
    }
    let mut search = Search::new(source, choice.platform.as_ref());
    for descriptor in meant {
        search.collect(descriptor, tag_of(descriptor), INDEX_DEPTH)?;
    }
    let Search { mut candidates, missing, .. } = search;
    candidates.sort_by(|a, b| a.digest.cmp(&b.digest));
    let found = shown(candidates.iter().map(|c| &c.shown));
    if let Some(wanted) = &choice.platform {
        candidates.retain(|c| fits(wanted, &c.platform));
    } else if candidates.len() > 1 {
        let here = this_machine();
        if candidates.iter().filter(|c| fits(&here, &c.platform)).count() == 1 {
            candidates.retain(|c| fits(&here, &c.platform));
        }
    }
    let candidate = match candidates.len() {
        0 => return Err(missing.unwrap_or(TargetError::NoMatch { wanted: wanted(choice), found })),
        1 => candidates.remove(0),
        _ => return Err(TargetError::Ambiguous { found }),
    };
    let Some(config) = candidate.manifest.config else {
        return Err(TargetError::Missing { name: "config".to_owned() });
    };
    let layers = candidate.manifest.layers.into_iter().map(|layer| {
        let name = (!layer.media_type.is_foreign()).then(|| blob_name(&layer.digest));
        (layer, name)
    });
    Ok(Chosen {
        digest: Some(candidate.digest),
        config: source.blob(&config.digest, CONFIG_BYTES)?,
        layers: layers.collect(),
    })
}

fn tag_of(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations.get(REF_NAME)
}

/// All that an image is called by: its tag, and with docker and containerd its name beside that.
fn names_of(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, CONTAINERD_NAME].iter().filter_map(|key| descriptor.annotations.get(*key)).map(String::as_str)
}

/// The container images that an index names, itself or through others.
struct Search<'a> {
    source: &'a Source,
    wanted: Option<&'a Platform>,
    seen: BTreeSet<Digest>,
    candidates: Vec<Candidate>,
    /// Of the first manifest that may be the wanted one and is not here: layouts may be sparse, so others are looked for.
    missing: Option<TargetError>,
}

impl<'a> Search<'a> {
    fn new(source: &'a Source, wanted: Option<&'a Platform>) -> Self {
        Self { source, wanted, seen: BTreeSet::new(), candidates: Vec::new(), missing: None }
    }

    /// Adds the container images under `descriptor`, each once: one may be named by several tags, and indexes that name each
    /// other many times would have no end.
    fn collect(
        &mut self,
        descriptor: &Descriptor,
        tag: Option<&String>,
        depth: u32,
    ) -> Result<(), TargetError> {
        if descriptor.platform.as_ref().is_some_and(Platform::is_unknown)
            || !self.seen.insert(descriptor.digest.clone())
        {
            return Ok(());
        }
        let bytes = match self.source.blob(&descriptor.digest, MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(missing @ TargetError::Missing { .. }) => {
                let platforms = self.wanted.zip(descriptor.platform.as_ref());
                if platforms.is_none_or(|(wanted, found)| fits(wanted, found)) {
                    self.missing.get_or_insert(missing);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let name = blob_name(&descriptor.digest);
        let found = manifest(&name, &bytes, descriptor.media_type.as_str())?;
        if found.kind == ManifestKind::Index {
            let Some(depth) = depth.checked_sub(1) else { return Err(TargetError::Depth(INDEX_DEPTH)) };
            return found.manifests.iter().try_for_each(|inner| self.collect(inner, tag, depth));
        }
        if !found.is_container_image() {
            return Ok(());
        }
        let platform = match (&descriptor.platform, &found.config) {
            (Some(platform), _) => platform.clone(),
            (None, Some(config)) => {
                let bytes = self.source.blob(&config.digest, CONFIG_BYTES)?;
                serde_json::from_slice(&bytes)
                    .map_err(|cause| TargetError::Json { name: blob_name(&config.digest), cause })?
            }
            (None, None) => return Ok(()),
        };
        let shown = match tag {
            Some(tag) => format!("{tag} ({platform})"),
            None => platform.to_string(),
        };
        self.candidates.push(Candidate {
            digest: descriptor.digest.clone(),
            manifest: found,
            platform,
            shown,
        });
        Ok(())
    }
}

fn manifest(name: &str, bytes: &[u8], media_type: &str) -> Result<Manifest, TargetError> {
    // The constant and the descriptor's own type parse; a document without its own type takes this one.
    let header = media_type.parse::<MediaType>().ok();
    let own = Manifest::parse(bytes, None);
    let parsed = if own.is_ok() { own } else { Manifest::parse(bytes, header.as_ref()) };
    parsed.map_err(|cause| TargetError::Manifest { name: name.to_owned(), cause })
}

/// An entry of `manifest.json` as `docker save` writes it.
#[derive(Debug, Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

fn of_docker(source: &Source, bytes: &[u8], choice: &Choice) -> Result<Chosen, TargetError> {
    let json = |name: &str| {
        let name = name.to_owned();
        |cause| TargetError::Json { name, cause }
    };
    let mut saved: Vec<Saved> = serde_json::from_slice(bytes).map_err(json("manifest.json"))?;
    let names = |s: &Saved| s.tags.iter().flatten().next().unwrap_or(&s.config).clone();
    let found = shown(saved.iter().map(names));
    if let Some(name) = &choice.tag {
        let named = saved.iter().flat_map(|s| s.tags.iter().flatten());
        let asked = Asked::among(name, named.map(String::as_str));
        saved.retain(|s| s.tags.iter().flatten().any(|name| asked.is(name)));
    }
    let saved = match saved.len() {
        0 => return Err(TargetError::NoMatch { wanted: wanted(choice), found }),
        1 => saved.remove(0),
        _ => return Err(TargetError::Ambiguous { found }),
    };
    let name = inside(&saved.config)?;
    let Some(config) = source.document(&name, CONFIG_BYTES)? else {
        return Err(TargetError::Missing { name });
    };
    let facts: Facts = serde_json::from_slice(&config).map_err(json(&name))?;
    if choice.platform.as_ref().is_some_and(|p| !fits(p, &facts.platform)) {
        let found = facts.platform.to_string();
        return Err(TargetError::NoMatch { wanted: wanted(choice), found });
    }
    let mut layers = Vec::new();
    for (index, name) in saved.layers.iter().enumerate() {
        let name = inside(name)?;
        // The oldest form names its layers by something else and stores them uncompressed: the diff id is the digest.
        let digest = digest_in(&name).or_else(|| facts.rootfs.diff_ids.get(index)?.parse().ok());
        let (Some(digest), Ok(media_type)) = (digest, LAYER_TAR.parse()) else {
            return Err(TargetError::Missing { name: format!("rootfs.diff_ids[{index}]") });
        };
        let bytes = source.open(&name).map(|(_, bytes)| bytes).unwrap_or_default();
        layers.push((Descriptor::new(media_type, digest, bytes), Some(name)));
    }
    Ok(Chosen { digest: None, config, layers })
}

/// A name in `manifest.json`, as a path below the target: it is the image's word, and around a folder lie other files.
fn inside(name: &str) -> Result<String, TargetError> {
    path::normal(name, NAME_BYTES).ok_or_else(|| TargetError::Outside { name: name.to_owned() })
}

/// The digest of its stored bytes that a layer is named by: `blobs/sha256/HEX`, `HEX.tar` or `HEX.tar.gz`.
fn digest_in(name: &str) -> Option<Digest> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let hex = file.trim_end_matches(".gz").trim_end_matches(".tar");
    let algorithm = folder.strip_prefix("blobs/").unwrap_or("sha256");
    format!("{algorithm}:{hex}").parse().ok()
}

#[derive(Deserialize)]
struct Facts {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Whether an image for `found` is what `wanted` asks for; a variant counts only where it is asked for.
pub fn fits(wanted: &Platform, found: &Platform) -> bool {
    wanted.os == found.os
        && wanted.architecture == found.architecture
        && (wanted.variant.is_none() || wanted.variant == found.variant)
}

/// The platform whose images run here.
pub fn this_machine() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
        os_version: None,
        os_features: None,
    }
}

fn wanted(choice: &Choice) -> String {
    let platform = choice.platform.as_ref().map(|p| format!("platform `{p}`"));
    let tag = choice.tag.as_ref().map(|t| format!("tag `{t}`"));
    let parts: Vec<String> = tag.into_iter().chain(platform).collect();
    if parts.is_empty() { "any platform".to_owned() } else { parts.join(", ") }
}

fn shown(names: impl Iterator<Item = impl ToString>) -> String {
    let mut names: Vec<String> = names.map(|n| format!("`{}`", n.to_string())).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if more > 0 { format!("{list} and {more} more") } else { list }
}
