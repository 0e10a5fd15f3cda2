//! The scanning kernel: an image's bytes in, a report out.
//!
//! What an operator sees: `wharf scan TARGET`, and the scan of every pushed image. Entry: [`scan`].
//!
//! Invariant: pure. No network, no clock, no temporary file, no thread that outlives a call; the same bytes give the same report.
//! Invariant: bounded. Memory does not grow with the image, and every limit is a field of [`Limits`].
//! Invariant: a hostile file or layer costs itself alone; the rest is scanned and the report says `partial` and why.
//! Invariant: what is not known is said. An empty list is `complete` only if a database was read that held nothing.

mod assembly;
mod directory;
mod file;
mod image;
mod layer;
mod limits;
mod overlay;
mod packages;
mod purl;
mod report;
mod sbom;
pub mod target;
pub mod vuln;
pub mod worker;

pub use directory::scan_directory;
pub use image::{Image, Layer, Open};
pub use limits::Limits;
pub use report::{
    Distro, ImageFacts, Knowledge, LayerFacts, Package, PackageKind, Problem, ProblemCode, REPORT_VERSION,
    Report,
};
pub use sbom::cyclonedx;

use assembly::Assembly;
use image::Config;
use layer::Course;

/// Name and version that reports carry.
pub const SCANNER: &str = concat!("wharf-scan/", env!("CARGO_PKG_VERSION"));

/// Why there is no report at all. What is wrong with a layer is in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the image's configuration is not valid JSON of its kind: {0}")]
    Config(serde_json::Error),
    #[error("the image's configuration has {bytes} bytes, more than {max}")]
    ConfigTooLarge { bytes: usize, max: u32 },
    #[error("the image has {layers} layers, more than {max}")]
    TooManyLayers { layers: usize, max: u32 },
}

/// How far a scan is, told every few MiB and at both ends of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Index of the layer that is being read.
    pub layer: u32,
    /// Number of layers.
    pub of: u32,
    /// Stored bytes of this layer read so far.
    pub stored: u64,
    /// Uncompressed bytes of this layer read so far.
    pub uncompressed: u64,
}

/// Reads every layer once, in order, and reports what is in the image.
///
/// # Errors
/// [`ScanError`] if the configuration cannot be used or there are too many layers. Nothing that a layer holds is an error.
pub fn scan(
    image: Image<'_, '_>,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, ScanError> {
    let config = Config::parse(image.config, limits)?;
    let count = image.layers.len();
    let Some(of) = u32::try_from(count).ok().filter(|n| *n <= limits.layers) else {
        return Err(ScanError::TooManyLayers { layers: count, max: limits.layers });
    };
    let diff_ids = config.diff_ids();
    let mut steps = config.steps(count);
    let mut assembly = Assembly::new(limits);
    if diff_ids.len() != count {
        let message = format!("the configuration names {} layers, the manifest {count}", diff_ids.len());
        assembly.note(Problem { code: ProblemCode::DiffIdMismatch, layer: None, path: None, message });
    }
    let mut course = Course { limits, image_left: limits.image_bytes, progress, of };
    let mut layers = Vec::with_capacity(count);
    for (index, layer) in (0..of).zip(image.layers) {
        let diff_id = diff_ids.get(index as usize).and_then(Option::as_ref);
        let mut facts = one_layer(layer, diff_id, index, &mut course, &mut assembly);
        facts.created_by = steps[index as usize].take();
        assembly.end_layer();
        layers.push(facts);
    }
    Ok(conclude(config.facts(), layers, assembly))
}

fn one_layer(
    layer: Layer<'_>,
    diff_id: Option<&wharf_oci::Digest>,
    index: u32,
    course: &mut Course<'_>,
    assembly: &mut Assembly<'_>,
) -> LayerFacts {
    let descriptor = layer.descriptor;
    let unread = LayerFacts {
        digest: Some(descriptor.digest.to_string()),
        size: descriptor.size,
        ..LayerFacts::default()
    };
    let Some(open) = layer.open else {
        let text = "the layer's bytes are not here (a foreign layer)".to_owned();
        assembly.problem(ProblemCode::UnsupportedLayer, None, text);
        return unread;
    };
    match open() {
        Ok(reader) => layer::read(reader, &descriptor, diff_id, index, course, assembly),
        Err(error) => {
            assembly.problem(ProblemCode::Unreadable, None, format!("the layer cannot be opened: {error}"));
            unread
        }
    }
}

fn conclude(image: ImageFacts, layers: Vec<LayerFacts>, mut assembly: Assembly<'_>) -> Report {
    let (distro, packages, knowledge) = assembly.finish();
    Report {
        version: REPORT_VERSION,
        scanner: SCANNER.to_owned(),
        image,
        distro,
        knowledge,
        layers,
        packages,
        problems: assembly.problems,
        problems_dropped: assembly.problems_dropped,
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
