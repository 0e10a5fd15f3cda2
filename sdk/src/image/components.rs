//! What narrows a question about components.

use super::{ComponentCriterion, Components, Confidence, FactCriterion};

/// The most entries that [`Components::licence_outside`] takes.
pub const MAX_ALLOWED_LICENCES: usize = 1_024;

impl Components<'_> {
    /// Whose name matches: `openssl`, `lib*`.
    #[must_use]
    pub fn name(self, glob: &str) -> Self {
        self.by(ComponentCriterion::Name(glob.to_owned()))
    }

    /// Whose source package matches; where there is none, whose name does.
    #[must_use]
    pub fn source_name(self, glob: &str) -> Self {
        self.by(ComponentCriterion::SourceName(glob.to_owned()))
    }

    /// Whose name, or source package, matches: `openssl` finds `libssl3`.
    #[must_use]
    pub fn any_name(self, glob: &str) -> Self {
        self.by(ComponentCriterion::AnyName(glob.to_owned()))
    }

    /// Of this package URL type: `deb`, `apk`, `npm`.
    #[must_use]
    pub fn ecosystem(self, purl_type: &str) -> Self {
        self.by(ComponentCriterion::Ecosystem(purl_type.to_owned()))
    }

    /// With a licence expression that names a licence matching this, in whatever role.
    #[must_use]
    pub fn licence(self, glob: &str) -> Self {
        self.by(ComponentCriterion::Licence(glob.to_owned()))
    }

    /// Of which no licence is known.
    #[must_use]
    pub fn unlicensed(self) -> Self {
        self.by(ComponentCriterion::Unlicensed)
    }

    /// That came with this layer; 0 is the lowest.
    #[must_use]
    pub fn layer(self, index: u32) -> Self {
        self.by(ComponentCriterion::Layer(index))
    }

    /// Whose path matches (`*` crosses `/`).
    #[must_use]
    pub fn path(self, glob: &str) -> Self {
        self.by(ComponentCriterion::Path(glob.to_owned()))
    }

    /// That are at least this sure.
    #[must_use]
    pub fn confidence_at_least(self, least: Confidence) -> Self {
        self.by(ComponentCriterion::ConfidenceAtLeast(least))
    }

    /// Of which more is known by this name ([`Image::component_fact`](super::Image::component_fact)), and matches.
    #[must_use]
    pub fn fact(self, name: &str, glob: &str) -> Self {
        self.by(ComponentCriterion::Fact(FactCriterion { name: name.to_owned(), glob: glob.to_owned() }))
    }

    /// Those too that are mere hints.
    #[must_use]
    pub fn include_hints(self) -> Self {
        self.by(ComponentCriterion::IncludeHints)
    }

    /// Those too whose version cannot be compared: what a rule that forbids wants.
    #[must_use]
    pub fn include_undecided(self) -> Self {
        self.by(ComponentCriterion::IncludeUndecided)
    }

    /// Whose version is in the range, in the order of its ecosystem: `<3.0.9`, `>=3.0, <3.0.14 || >=3.1, <3.1.6`.
    ///
    /// # Errors
    /// That the range does not read; see [`check_range`].
    pub fn version(self, range: &str) -> Result<Self, String> {
        check_range(range)?;
        Ok(self.by(ComponentCriterion::Version(range.to_owned())))
    }

    /// With a licence expression that these SPDX identifiers alone cannot satisfy. Components without a known licence are
    /// left out: ask [`Components::unlicensed`] too.
    ///
    /// # Errors
    /// That there are more than [`MAX_ALLOWED_LICENCES`].
    pub fn licence_outside(self, allowed: &[String]) -> Result<Self, String> {
        if allowed.len() > MAX_ALLOWED_LICENCES {
            return Err(format!(
                "a list of licences may have {MAX_ALLOWED_LICENCES} entries, this has {}",
                allowed.len()
            ));
        }
        Ok(self.by(ComponentCriterion::LicenceOutside(allowed.to_vec())))
    }
}

/// Whether [`Components::version`] takes this range: for a policy's `validate`.
///
/// # Errors
/// What does not read.
pub fn check_range(range: &str) -> Result<(), String> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wharf::plugin::facts::check_range(range);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::check_range(range)
}
