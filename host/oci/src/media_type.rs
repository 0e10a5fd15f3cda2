use std::fmt;
use std::str::FromStr;

use crate::{ParseError, serde_as_text};

/// Longest media type, in bytes (RFC 6838 section 4.2: 127 for each of type and subtype).
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// With all that is below them (moby `daemon/internal/distribution/registry.go`, `supportedMediaTypes`).
const TAKEN_BY_DOCKERD: [&str; 5] = [
    "application/vnd.oci.image",
    "application/vnd.docker",
    "application/octet-stream",
    "application/json",
    "text/html",
];

/// A media type without parameters (RFC 6838 section 4.2), as in a descriptor's `mediaType`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaType(Box<str>);

impl MediaType {
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A layer that its publisher forbids to redistribute: accepted without its bytes, never fetched.
    /// OCI image specification, "Non-Distributable Layers", and Docker's `foreign` layers.
    pub fn is_foreign(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || &*self.0 == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    }

    /// A layer that a runtime unpacks into a container's file system, whatever it is packed with: those that containerd takes
    /// for one (`core/images/mediatypes.go`, `IsLayerType`).
    pub fn is_image_layer(&self) -> bool {
        ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.", "application/vnd.erofs"]
            .iter()
            .any(|beginning| self.0.starts_with(beginning))
    }

    /// What dockerd with graph drivers takes for the type of a config and of a layer alike, in any case of its letters (moby
    /// `daemon/internal/distribution/pull_v2.go`, `checkSupportedMediaType`).
    pub fn is_taken_by_dockerd(&self) -> bool {
        let name = self.0.to_ascii_lowercase();
        let is_below = |beginning: &&str| {
            name.strip_prefix(*beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !name.starts_with("application/vnd.docker.ai.") && TAKEN_BY_DOCKERD.iter().any(is_below)
    }

    /// An index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(&*self.0, Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// A manifest of one image or artifact.
    pub fn is_manifest(&self) -> bool {
        matches!(&*self.0, Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// A manifest or a manifest list of Docker's.
    pub fn is_docker(&self) -> bool {
        matches!(&*self.0, Self::DOCKER_MANIFEST | Self::DOCKER_LIST)
    }

    /// A statement of in-toto, which is what BuildKit's attestations carry in place of layers.
    pub fn is_statement(&self) -> bool {
        &*self.0 == "application/vnd.in-toto+json"
    }

    /// A container image's configuration, as opposed to an artifact's.
    pub fn is_image_config(&self) -> bool {
        matches!(&*self.0, Self::OCI_CONFIG | Self::DOCKER_CONFIG)
    }
}

/// A restricted name of RFC 6838 section 4.2.
fn is_restricted_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(b))
}

impl FromStr for MediaType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why| ParseError::new("media type", text, why);
        if text.len() > MEDIA_TYPE_BYTES_MAX {
            return Err(wrong("it is longer than 255 bytes"));
        }
        match text.split_once('/') {
            Some((kind, subtype)) if is_restricted_name(kind) && is_restricted_name(subtype) => {
                Ok(MediaType(text.into()))
            }
            _ => Err(wrong("it is not `type/subtype`")),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(MediaType);
