//! What a scan says about an image. Stored, compared and replayed, so its form is versioned and its bytes canonical.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Problems that [`Report::why`] names.
const TOLD: usize = 3;

/// Version of [`Report`]'s form. A reader refuses a greater one.
pub const REPORT_VERSION: u32 = 1;

/// How much is known. `None` is not "clean": it means that nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// Nothing was looked at, or there was no data to compare with.
    None,
    /// Something could not be read; what is listed is true, but more may be there.
    Partial,
    /// Everything that this version of the scanner looks for was read.
    Complete,
    /// The scan itself broke (a limit of the worker, a crash, a bad configuration).
    Failed,
    /// The image is of a kind that this version of the scanner cannot judge.
    Unsupported,
}

impl fmt::Display for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
        })
    }
}

/// The result of one scan: what is in the image, by layer, and what could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`] of the writer.
    pub version: u32,
    /// Name and version of the scanner, such as `wharf-scan/0.1.0`.
    pub scanner: String,
    /// What the image's configuration declares.
    pub image: ImageFacts,
    /// The distribution that the image's files name.
    pub distro: Option<Distro>,
    /// How far the list of packages can be trusted.
    pub knowledge: Knowledge,
    /// In the order of the image, base first.
    pub layers: Vec<LayerFacts>,
    /// Sorted by kind, name, version, architecture.
    pub packages: Vec<Package>,
    /// What went wrong, bounded by [`crate::Limits::problems`].
    pub problems: Vec<Problem>,
    /// Problems beyond that bound.
    pub problems_dropped: u64,
}

/// Platform fields of an image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// From `os-release` (and `debian_version` where that names no version).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distro {
    /// `ID`, such as `debian` or `alpine`.
    pub id: String,
    /// `VERSION_ID`, such as `12` or `3.20.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// `VERSION_CODENAME`, such as `bookworm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codename: Option<String>,
    /// `PRETTY_NAME`, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One layer as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Of the stored bytes, as the manifest names it; absent for a plain directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Digest of the uncompressed bytes as computed here, by the configuration's algorithm (sha256 where it names none); absent
    /// if the layer was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<String>,
    /// Stored bytes.
    pub size: u64,
    /// Uncompressed bytes that were read.
    pub uncompressed: u64,
    /// Regular files and hard links.
    pub files: u64,
    /// Whiteouts and opaque directories.
    pub whiteouts: u64,
    /// The build step that made it, cut to 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// Which package database a package was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageKind {
    /// Debian and its derivatives: `dpkg`.
    Deb,
    /// Alpine and its derivatives: `apk`.
    Apk,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub kind: PackageKind,
    pub name: String,
    pub version: String,
    /// The architecture as the database writes it: `amd64`, `all`, `x86_64`, `noarch`.
    pub arch: String,
    /// The source package (Debian `Source`, Alpine `origin`); the same as `name` where the database names none.
    pub source: String,
    /// Differs from `version` for Debian's binary rebuilds (`+b1`) and packages that number themselves.
    pub source_version: String,
    /// Package URL, <https://github.com/package-url/purl-spec>.
    pub purl: String,
    /// SPDX expressions, or `LicenseRef-` names where the declared name is not in SPDX's list.
    pub licences: Vec<String>,
    /// Index into [`Report::layers`] of the layer that brought this version.
    pub layer: u32,
    /// Path of the database inside the image: the evidence.
    pub path: String,
}

/// Why the report is not complete, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: ProblemCode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub message: String,
}

/// Kinds of problem. All but [`ProblemCode::NoPackages`] and [`ProblemCode::UnsupportedDistro`] make knowledge `partial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// The layer's stored bytes do not have the digest that the manifest names.
    DigestMismatch,
    /// The layer's stored bytes are not as many as the manifest says.
    SizeMismatch,
    /// The uncompressed bytes do not have the digest that the configuration names.
    DiffIdMismatch,
    /// The layer could not be opened or read.
    Unreadable,
    /// The compressed stream is damaged or asks for too much memory.
    Compression,
    /// The archive is damaged.
    Archive,
    /// A bound of [`crate::Limits`] was reached.
    Limit,
    /// A path that no honest archive has (`..`, too long).
    Path,
    /// A layer of a kind that is not an archive of files, or whose bytes are not here.
    UnsupportedLayer,
    /// A package database or `os-release` that does not parse.
    Database,
    /// A link that leads nowhere the scanner looked.
    Link,
    /// No package database was found.
    NoPackages,
    /// A package database that this version does not read (rpm, pacman …).
    UnsupportedDistro,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.layer) {
            (Some(path), _) => write!(f, "`{path}`: ")?,
            (None, Some(layer)) => write!(f, "layer {layer}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

impl Report {
    /// Why knowledge is not `complete`: the first problems, and how many more there are; `None` without any.
    pub fn why(&self) -> Option<String> {
        let told: Vec<String> = self.problems.iter().take(TOLD).map(ToString::to_string).collect();
        let more = (self.problems.len() - told.len()) as u64 + self.problems_dropped;
        match (told.is_empty(), more) {
            (true, 0) => None,
            (_, 0) => Some(told.join("; ")),
            (_, more) => Some(format!("{}; and {more} more", told.join("; "))),
        }
    }

    /// The canonical bytes: one line of JSON, fields in the order of the type, lists in their defined order.
    ///
    /// # Errors
    /// Only if serialization itself fails, which no value of this type does.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// `sha256:…` of [`Report::to_json`], without holding those bytes.
    ///
    /// # Errors
    /// As [`Report::to_json`].
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let mut hash = HashWriter(Sha256::new());
        serde_json::to_writer(&mut hash, self)?;
        Ok(format!("sha256:{}", hex(&hash.0.finalize())))
    }
}

struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
