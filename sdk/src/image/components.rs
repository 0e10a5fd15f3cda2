//! What narrows a question about components.

use super::{ComponentQuery, Components, Confidence};

impl Components<'_> {
    /// Whose name matches: `openssl`, `lib*`.
    #[must_use]
    pub fn name(self, glob: &str) -> Self {
        self.query.name(glob);
        self
    }

    /// Whose source package matches; where there is none, whose name does.
    #[must_use]
    pub fn source_name(self, glob: &str) -> Self {
        self.query.source_name(glob);
        self
    }

    /// Whose name, or source package, matches: `openssl` finds `libssl3`.
    #[must_use]
    pub fn any_name(self, glob: &str) -> Self {
        self.query.any_name(glob);
        self
    }

    /// Of this package URL type: `deb`, `apk`, `npm`.
    #[must_use]
    pub fn ecosystem(self, purl_type: &str) -> Self {
        self.query.ecosystem(purl_type);
        self
    }

    /// With a licence expression that names a licence matching this, in whatever role.
    #[must_use]
    pub fn licence(self, glob: &str) -> Self {
        self.query.licence(glob);
        self
    }

    /// Of which no licence is known.
    #[must_use]
    pub fn unlicensed(self) -> Self {
        self.query.unlicensed();
        self
    }

    /// That came with this layer; 0 is the lowest.
    #[must_use]
    pub fn layer(self, index: u32) -> Self {
        self.query.layer(index);
        self
    }

    /// Whose path matches (`*` crosses `/`).
    #[must_use]
    pub fn path(self, glob: &str) -> Self {
        self.query.path(glob);
        self
    }

    /// That are at least this sure.
    #[must_use]
    pub fn confidence_at_least(self, least: Confidence) -> Self {
        self.query.confidence_at_least(least);
        self
    }

    /// Those too that are mere hints.
    #[must_use]
    pub fn include_hints(self) -> Self {
        self.query.include_hints();
        self
    }

    /// Those too whose version cannot be compared: what a rule that forbids wants.
    #[must_use]
    pub fn include_undecided(self) -> Self {
        self.query.include_undecided();
        self
    }

    /// Whose version is in the range, in the order of its ecosystem: `<3.0.9`, `>=3.0, <3.0.14 || >=3.1, <3.1.6`.
    ///
    /// # Errors
    /// That the range does not read; see [`check_range`].
    pub fn version(self, range: &str) -> Result<Self, String> {
        self.query.version(range)?;
        Ok(self)
    }

    /// With a licence expression that these SPDX identifiers alone cannot satisfy. Components without a known licence are
    /// left out: ask [`Components::unlicensed`] too.
    ///
    /// # Errors
    /// That there are more than 1,024.
    pub fn licence_outside(self, allowed: &[String]) -> Result<Self, String> {
        self.query.licence_outside(allowed)?;
        Ok(self)
    }
}

/// Whether [`Components::version`] takes this range: for a policy's `validate`.
///
/// # Errors
/// What does not read.
pub fn check_range(range: &str) -> Result<(), String> {
    ComponentQuery::new().version(range)
}
