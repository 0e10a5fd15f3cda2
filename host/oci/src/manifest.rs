use std::collections::BTreeMap;

use serde::Deserialize;

use crate::descriptor::null_as_default;
use crate::exact;
use crate::{Descriptor, MediaType};

/// Largest manifest or index that is accepted, in bytes (the specification asks for at least 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// The content of the empty descriptor (OCI image specification, `manifest.md`, "Guidance for an Empty Descriptor").
const EMPTY_CONFIG: &[u8] = b"{}";

/// What a manifest describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image or artifact: a config and layers.
    Image,
    /// A list of manifests, one for each platform or purpose.
    Index,
}

/// A parsed manifest or index, OCI or Docker schema 2. The bytes as pushed stay the truth: this is a view of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub kind: ManifestKind,
    pub media_type: MediaType,
    /// Present in an image, absent in an index.
    pub config: Option<Descriptor>,
    pub layers: Vec<Descriptor>,
    pub manifests: Vec<Descriptor>,
    pub subject: Option<Descriptor>,
    /// The declared `artifactType`; see [`Manifest::effective_artifact_type`].
    pub artifact_type: Option<MediaType>,
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest that this registry takes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {bytes} bytes is larger than the limit of {MANIFEST_BYTES_MAX} bytes")]
    TooLarge { bytes: usize },
    #[error("the manifest is not valid JSON of its kind: {0}")]
    Json(serde_json::Error),
    #[error("`schemaVersion` is {0}, not 2; hint: push with a client that writes Docker schema 2 or OCI")]
    SchemaVersion(u64),
    #[error("the manifest's `mediaType` is `{body}` but it was sent as `{header}`")]
    MediaTypeMismatch { body: MediaType, header: MediaType },
    #[error("media type `{0}` is not a manifest or index that this registry knows")]
    Unsupported(MediaType),
    #[error("the manifest names no media type, in its body or in `Content-Type`")]
    NoMediaType,
    /// Docker's specification has it in the body ("Image Manifest V 2, Schema 2").
    #[error("a manifest of type `{0}` says so in its body, as `mediaType`")]
    Unnamed(MediaType),
    #[error("a manifest of type `{media_type}` needs `{field}`")]
    Missing { media_type: MediaType, field: &'static str },
    #[error("a manifest of type `{media_type}` has no field `{field}`")]
    Unexpected { media_type: MediaType, field: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a manifest")]
struct Wire {
    schema_version: u64,
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<ArtifactType>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

/// Clients write an absent artifact type as an empty text, too.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`artifactType` is no media type")]
enum ArtifactType {
    Type(MediaType),
    Empty(#[allow(dead_code)] Empty),
}

#[derive(Deserialize)]
enum Empty {
    #[serde(rename = "")]
    Empty,
}

impl Manifest {
    /// Parses the bytes of a manifest sent with `Content-Type: header` (without parameters).
    ///
    /// # Errors
    /// [`ManifestError`] where the bytes exceed [`MANIFEST_BYTES_MAX`], are not JSON, name a field in other letters, are of a
    /// kind other than the four known ones, or contradict the header.
    pub fn parse(bytes: &[u8], header: Option<&MediaType>) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        exact::manifest(bytes).map_err(ManifestError::Json)?;
        if wire.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(wire.schema_version));
        }
        let media_type = match (wire.media_type.clone(), header) {
            (Some(body), Some(header)) if body != *header => {
                return Err(ManifestError::MediaTypeMismatch { body, header: header.clone() });
            }
            (Some(body), _) => body,
            // What a client calls it must not decide whether the same bytes are an artifact or, as Docker's, run.
            (None, Some(header)) if header.is_docker() => return Err(ManifestError::Unnamed(header.clone())),
            (None, Some(header)) => header.clone(),
            (None, None) => return Err(ManifestError::NoMediaType),
        };
        let kind = match &media_type {
            kind if kind.is_index() => ManifestKind::Index,
            kind if kind.is_manifest() => ManifestKind::Image,
            _ => return Err(ManifestError::Unsupported(media_type)),
        };
        wire.check(kind, &media_type)?;
        Ok(Manifest {
            kind,
            media_type,
            config: wire.config,
            layers: wire.layers.unwrap_or_default(),
            manifests: wire.manifests.unwrap_or_default(),
            subject: wire.subject,
            artifact_type: match wire.artifact_type {
                Some(ArtifactType::Type(media_type)) => Some(media_type),
                Some(ArtifactType::Empty(_)) | None => None,
            },
            annotations: wire.annotations,
        })
    }

    /// The artifact type that the referrers API shows: the declared one, else the config's media type
    /// (distribution specification, "Listing Referrers").
    pub fn effective_artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref().or(self.config.as_ref().map(|config| &config.media_type))
    }

    /// Descriptors of blobs whose bytes this registry must hold: the config and all layers but foreign ones.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).filter(|descriptor| !descriptor.media_type.is_foreign())
    }

    /// Whether a runtime may unpack this and run it, as opposed to an artifact such as a signature. What the configuration's type
    /// calls an image is one, but for an attestation, which has no layer that could be unpacked. So is what some runtime takes
    /// beside a configuration of another type:
    /// - a Docker manifest: podman asks its configuration nothing, and takes layers that are called configs or manifests
    ///   (containers/image `manifest/manifest.go`, `SupportedSchema2MediaType`);
    /// - what has an image's layers: containerd reads its configuration whatever the type of that is (`client/image.go`, `Unpack`);
    /// - what dockerd takes, by a list of types of its own.
    pub fn is_container_image(&self) -> bool {
        if self.has_image_config() {
            return !self.is_attestation();
        }
        if self.media_type.as_str() == MediaType::DOCKER_MANIFEST {
            return true;
        }
        let has_image_layer = self.layers.iter().any(|layer| layer.media_type.is_image_layer());
        (has_image_layer || self.is_taken_by_dockerd()) && !self.has_empty_config()
    }

    /// Whether this is an attestation as BuildKit makes one: an image's configuration, and statements in place of layers. That they
    /// are statements is what their type says: a registry has to look at their bytes.
    pub fn is_attestation(&self) -> bool {
        let is_statement = |layer: &Descriptor| layer.media_type.is_statement();
        self.has_image_config() && !self.layers.is_empty() && self.layers.iter().all(is_statement)
    }

    fn has_image_config(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.media_type.is_image_config())
    }

    /// Of an index nothing is: it has no configuration. Without a layer there is nothing to run.
    fn is_taken_by_dockerd(&self) -> bool {
        let is_taken = |part: &Descriptor| part.media_type.is_taken_by_dockerd();
        self.config.as_ref().is_some_and(is_taken)
            && !self.layers.is_empty()
            && self.layers.iter().all(is_taken)
    }

    /// Whether its configuration is `{}`, beside which ORAS attaches files as layers of an image: it names no layer, so containerd
    /// unpacks none, and dockerd refuses it. By the digest, as the type is only what a pusher says.
    fn has_empty_config(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.digest.matches(EMPTY_CONFIG))
    }

    /// Whether this is a container image, or an index, which may hold some: what must come nowhere unjudged.
    pub fn may_run(&self) -> bool {
        self.kind == ManifestKind::Index || self.is_container_image()
    }
}

impl Wire {
    /// A document that is both an image and an index is read differently by different clients (CVE-2021-41190).
    fn check(&self, kind: ManifestKind, media_type: &MediaType) -> Result<(), ManifestError> {
        let missing = |field| ManifestError::Missing { media_type: media_type.clone(), field };
        let unexpected = |field| ManifestError::Unexpected { media_type: media_type.clone(), field };
        match kind {
            ManifestKind::Image if self.manifests.is_some() => Err(unexpected("manifests")),
            ManifestKind::Image if self.config.is_none() => Err(missing("config")),
            ManifestKind::Image if self.layers.is_none() => Err(missing("layers")),
            ManifestKind::Index if self.config.is_some() => Err(unexpected("config")),
            ManifestKind::Index if self.layers.is_some() => Err(unexpected("layers")),
            ManifestKind::Index if self.manifests.is_none() => Err(missing("manifests")),
            ManifestKind::Image | ManifestKind::Index => Ok(()),
        }
    }
}
