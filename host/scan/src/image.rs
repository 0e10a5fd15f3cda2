//! What is scanned: a configuration and layers, each a way to read its bytes.

use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use wharf_oci::{Descriptor, Digest};

use crate::ScanError;
use crate::limits::Limits;
use crate::report::ImageFacts;

/// Characters kept of a build step.
const STEP_CHARS: usize = 256;

/// Opens a layer's stored bytes. Called once, when the scan comes to it.
pub type Open<'a> = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send + 'a>> + Send + 'a>;

/// One image of one platform.
#[derive(Debug)]
pub struct Image<'c, 'l> {
    /// The configuration document (`application/vnd.oci.image.config.v1+json` or Docker's).
    pub config: &'c [u8],
    /// As the manifest orders them, base first.
    pub layers: Vec<Layer<'l>>,
}

/// One layer to be read.
pub struct Layer<'a> {
    pub descriptor: Descriptor,
    /// `None` if the bytes are not here (a foreign layer); the report says so.
    pub open: Option<Open<'a>>,
}

impl fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// What the scanner needs of the configuration.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(default)]
    history: Option<Vec<Step>>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    empty_layer: Option<bool>,
}

impl Config {
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ScanError> {
        if bytes.len() > limits.config_bytes as usize {
            return Err(ScanError::ConfigTooLarge { bytes: bytes.len(), max: limits.config_bytes });
        }
        serde_json::from_slice(bytes).map_err(ScanError::Config)
    }

    pub(crate) fn facts(&self) -> ImageFacts {
        let short = |text: &str| text.chars().take(64).collect();
        ImageFacts {
            os: short(&self.os),
            architecture: short(&self.architecture),
            variant: self.variant.as_deref().map(short),
        }
    }

    /// Declared digests of the uncompressed layers.
    pub(crate) fn diff_ids(&self) -> Vec<Option<Digest>> {
        self.rootfs.diff_ids.iter().flatten().map(|text| text.parse().ok()).collect()
    }

    /// The build step of each layer, where the history names as many as there are layers.
    pub(crate) fn steps(&self, layers: usize) -> Vec<Option<String>> {
        let steps: Vec<Option<String>> = self
            .history
            .iter()
            .flatten()
            .filter(|step| step.empty_layer != Some(true))
            .map(|step| step.created_by.as_ref().map(|text| text.chars().take(STEP_CHARS).collect()))
            .collect();
        if steps.len() == layers { steps } else { vec![None; layers] }
    }
}
