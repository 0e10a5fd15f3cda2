//! The nouns of the OCI specifications, parsed once at the edge.
//!
//! What an operator sees: `dev/app:1.4`, `sha256:…`, `linux/arm64`. A value of one of these types is valid by
//! construction, so nothing behind the edge checks it again.
//!
//! Invariant: parsing never panics and never allocates more than its input's size.
//! Invariant: `Display` of a parsed value parses to an equal value.

mod descriptor;
mod digest;
mod exact;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod platform;
mod reference;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub use exact::unambiguous_config;
pub use manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError, ManifestKind};
pub use media_type::MediaType;
pub use name::{RepoName, Tag};
pub use pattern::RepoPattern;
pub use platform::Platform;
pub use reference::{Reference, Target};

/// A text that is not what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        // An error must not carry a megabyte that a client sent.
        let text = text.chars().take(128).collect();
        ParseError { what, text, why }
    }

    /// Which noun was attempted: `digest`, `repository name`, `tag` …
    pub fn what(&self) -> &'static str {
        self.what
    }
}

/// Serde by way of `Display` and `FromStr`: the wire form is the text form.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

#[cfg(test)]
mod tests;
