//! What narrows a question about findings.

use super::{Findings, Severity};

impl Findings<'_> {
    /// Of this severity or worse. Findings without a rating are left out: see [`Findings::severity`].
    #[must_use]
    pub fn at_least(self, least: Severity) -> Self {
        self.query.at_least(least);
        self
    }

    /// Of exactly this severity; called more than once: one of them.
    #[must_use]
    pub fn severity(self, which: Severity) -> Self {
        self.query.severity(which);
        self
    }

    /// With this CVSS score or more, 0.0 to 10.0; findings without a score are left out.
    #[must_use]
    pub fn cvss_at_least(self, score: f32) -> Self {
        self.query.cvss_at_least(tenths(score));
        self
    }

    /// With a CVSS score under this; findings without a score are left out.
    #[must_use]
    pub fn cvss_below(self, score: f32) -> Self {
        self.query.cvss_below(tenths(score));
        self
    }

    /// Without a CVSS score.
    #[must_use]
    pub fn unscored(self) -> Self {
        self.query.unscored();
        self
    }

    /// Whose id or an alias matches: `CVE-2024-6119`, `CVE-2024-*`; called more than once: one of them.
    #[must_use]
    pub fn id(self, glob: &str) -> Self {
        self.query.id(glob);
        self
    }

    /// That a source matching this reports.
    #[must_use]
    pub fn source(self, glob: &str) -> Self {
        self.query.source(glob);
        self
    }

    /// That a newer version of the component fixes.
    #[must_use]
    pub fn fixable(self) -> Self {
        self.query.fixable();
        self
    }

    /// Known to be used by attackers.
    #[must_use]
    pub fn known_exploited(self) -> Self {
        self.query.known_exploited();
        self
    }

    /// Published before this time; findings without a date are left out.
    #[must_use]
    pub fn published_before_ms(self, at: u64) -> Self {
        self.query.published_before_ms(at);
        self
    }

    /// Of a component whose name, or source package, matches.
    #[must_use]
    pub fn component_name(self, glob: &str) -> Self {
        self.query.component_name(glob);
        self
    }

    /// That came with this layer; 0 is the lowest.
    #[must_use]
    pub fn layer(self, index: u32) -> Self {
        self.query.layer(index);
        self
    }

    /// That are certain: without those of a component whose version is known as a range only.
    #[must_use]
    pub fn certain(self) -> Self {
        self.query.certain();
        self
    }

    /// Waived ones too.
    #[must_use]
    pub fn include_waived(self) -> Self {
        self.query.include_waived();
        self
    }

    /// Those too that rest on a mere hint of a component.
    #[must_use]
    pub fn include_hints(self) -> Self {
        self.query.include_hints();
        self
    }
}

/// A CVSS score as the interface counts it.
fn tenths(score: f32) -> u8 {
    (score * 10.0).round() as u8
}
