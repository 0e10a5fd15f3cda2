//! What `wharf scan` can be pointed at on this machine: an OCI layout, an archive of an image, a root file system.
//!
//! Entry: [`Target::open`], then [`Target::scan`]. A registry reference is fetched by the caller, who has a network.
//!
//! Invariant: documents are read up to a bound and compared with their digests before they are believed.

mod archive;
mod choose;
mod name;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_oci::{Digest, ManifestError, Platform};

pub use choose::{fits, this_machine};

use self::archive::Members;
use crate::directory::scan_directory;
use crate::file;
use crate::image::{Image, Layer, Open};
use crate::limits::Limits;
use crate::report::Report;
use crate::{Progress, ScanError};

/// Why a target cannot be scanned.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("cannot read `{path}`: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error("`{path}` is neither an OCI layout, an image archive nor a directory; hint: {hint}")]
    Unknown { path: PathBuf, hint: &'static str },
    #[error("`{name}` is missing in the target")]
    Missing { name: String },
    #[error("`manifest.json` names `{name}`, which is no path inside the target")]
    Outside { name: String },
    #[error("`{name}` has more than {max} bytes")]
    TooLarge { name: String, max: usize },
    #[error("`{name}` does not have the digest that names it")]
    Digest { name: String },
    #[error("`{name}` is not a manifest: {cause}")]
    Manifest { name: String, cause: ManifestError },
    #[error("`{name}` is not valid: {cause}")]
    Json { name: String, cause: serde_json::Error },
    #[error("no image for {wanted}; there are: {found}")]
    NoMatch { wanted: String, found: String },
    #[error("there are several images: {found}; hint: choose by `--platform` or by `PATH:TAG`")]
    Ambiguous { found: String },
    #[error("indexes are nested deeper than {0}")]
    Depth(u32),
    #[error("the archive is damaged: {0}")]
    Archive(String),
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// Something on this machine that holds an image.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    Image(Arc<Source>),
}

/// Where the files of a layout are.
#[derive(Debug)]
enum Source {
    Layout(PathBuf),
    Archive(Members),
}

/// One image on this machine.
#[derive(Debug)]
pub struct Local {
    /// Of the manifest; `None` for an archive of old `docker save`, which has none.
    pub digest: Option<Digest>,
    pub config: Vec<u8>,
    pub layers: Vec<Layer<'static>>,
}

/// Which image of several.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Such as `linux/arm64`; where absent, the only image or the one for this machine.
    pub platform: Option<Platform>,
    /// Tag or name of the image, as short as docker and podman take it: of `org.opencontainers.image.ref.name` in a layout, or of
    /// `RepoTags` in a docker archive.
    pub tag: Option<String>,
}

impl Target {
    /// Tells what `path` is by what it holds.
    ///
    /// # Errors
    /// [`TargetError::Io`] and [`TargetError::Unknown`].
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let io = |cause| TargetError::Io { path: path.to_owned(), cause };
        let kind = if fs::metadata(path).map_err(io)?.is_dir() {
            if path.join("oci-layout").is_file() {
                Kind::Image(Arc::new(Source::Layout(path.to_owned())))
            } else {
                Kind::Directory
            }
        } else {
            Kind::Image(Arc::new(Source::Archive(Members::index(path)?)))
        };
        Ok(Self { path: path.to_owned(), kind })
    }

    /// The chosen image, to be scanned here or by a worker; `None` for a directory, which [`scan_directory`] reads.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn image(&self, choice: &Choice) -> Result<Option<Local>, TargetError> {
        let Kind::Image(source) = &self.kind else { return Ok(None) };
        let chosen = choose::image(source, choice)?;
        let layers = chosen.layers.into_iter().map(|(descriptor, name)| {
            let open = name.map(|name| {
                let source = Arc::clone(source);
                Box::new(move || source.open(&name).map(|(reader, _)| reader)) as Open<'static>
            });
            Layer { descriptor, open }
        });
        Ok(Some(Local { digest: chosen.digest, config: chosen.config, layers: layers.collect() }))
    }

    /// Scans the chosen image in this process.
    ///
    /// # Errors
    /// [`TargetError`]; what is wrong with a layer is in the report instead.
    pub fn scan(
        &self,
        choice: &Choice,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, TargetError> {
        let Some(local) = self.image(choice)? else {
            let io = |cause| TargetError::Io { path: self.path.clone(), cause };
            return scan_directory(&self.path, limits, progress).map_err(io);
        };
        let image = Image { config: &local.config, layers: local.layers };
        Ok(crate::scan(image, limits, progress)?)
    }
}

impl Source {
    /// A file of the layout and its size in bytes.
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        match self {
            Self::Layout(root) => {
                let file = file::open(&root.join(name))?;
                let bytes = file.metadata()?.len();
                Ok((Box::new(file), bytes))
            }
            Self::Archive(members) => members.open(name),
        }
    }

    /// A whole document of at most `max` bytes; `None` if there is no such file.
    fn document(&self, name: &str, max: usize) -> Result<Option<Vec<u8>>, TargetError> {
        let io = |cause| TargetError::Io { path: name.into(), cause };
        let reader = match self.open(name) {
            Ok((reader, _)) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut data = Vec::new();
        reader.take(max as u64 + 1).read_to_end(&mut data).map_err(io)?;
        if data.len() > max {
            return Err(TargetError::TooLarge { name: name.to_owned(), max });
        }
        Ok(Some(data))
    }

    /// The blob `digest`, compared with it.
    fn blob(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, TargetError> {
        let name = blob_name(digest);
        let Some(data) = self.document(&name, max)? else { return Err(TargetError::Missing { name }) };
        if digest.matches(&data) { Ok(data) } else { Err(TargetError::Digest { name }) }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests;
