//! What narrows a question about findings.

use super::{FactCriterion, FindingCriterion, Findings, Severity};

impl Findings<'_> {
    /// Of this severity or worse. Findings without a rating are left out: see [`Findings::severity`].
    #[must_use]
    pub fn at_least(self, least: Severity) -> Self {
        self.by(FindingCriterion::AtLeast(least))
    }

    /// Of exactly this severity; called more than once: one of them.
    #[must_use]
    pub fn severity(self, which: Severity) -> Self {
        self.by(FindingCriterion::Severity(which))
    }

    /// With this CVSS score or more, 0.0 to 10.0; findings without a score are left out.
    #[must_use]
    pub fn cvss_at_least(self, score: f32) -> Self {
        self.by(FindingCriterion::CvssAtLeast(tenths(score)))
    }

    /// With a CVSS score under this; findings without a score are left out.
    #[must_use]
    pub fn cvss_below(self, score: f32) -> Self {
        self.by(FindingCriterion::CvssBelow(tenths(score)))
    }

    /// Without a CVSS score.
    #[must_use]
    pub fn unscored(self) -> Self {
        self.by(FindingCriterion::Unscored)
    }

    /// Whose id or an alias matches: `CVE-2024-6119`, `CVE-2024-*`; called more than once: one of them.
    #[must_use]
    pub fn id(self, glob: &str) -> Self {
        self.by(FindingCriterion::Id(glob.to_owned()))
    }

    /// That a source matching this reports.
    #[must_use]
    pub fn source(self, glob: &str) -> Self {
        self.by(FindingCriterion::Source(glob.to_owned()))
    }

    /// That a newer version of the component fixes.
    #[must_use]
    pub fn fixable(self) -> Self {
        self.by(FindingCriterion::Fixable)
    }

    /// Known to be used by attackers.
    #[must_use]
    pub fn known_exploited(self) -> Self {
        self.by(FindingCriterion::KnownExploited)
    }

    /// Published before this time; findings without a date are left out.
    #[must_use]
    pub fn published_before_ms(self, at: u64) -> Self {
        self.by(FindingCriterion::PublishedBeforeMs(at))
    }

    /// Of a component whose name, or source package, matches.
    #[must_use]
    pub fn component_name(self, glob: &str) -> Self {
        self.by(FindingCriterion::ComponentName(glob.to_owned()))
    }

    /// That came with this layer; 0 is the lowest.
    #[must_use]
    pub fn layer(self, index: u32) -> Self {
        self.by(FindingCriterion::Layer(index))
    }

    /// Of which more is known by this name ([`Image::finding_fact`](super::Image::finding_fact)), and matches.
    #[must_use]
    pub fn fact(self, name: &str, glob: &str) -> Self {
        self.by(FindingCriterion::Fact(FactCriterion { name: name.to_owned(), glob: glob.to_owned() }))
    }

    /// That are certain: without those that are only possible, for what is known of the component's version, or of the flaw.
    #[must_use]
    pub fn certain(self) -> Self {
        self.by(FindingCriterion::Certain)
    }

    /// Waived ones too.
    #[must_use]
    pub fn include_waived(self) -> Self {
        self.by(FindingCriterion::IncludeWaived)
    }

    /// Those too that rest on a mere hint of a component.
    #[must_use]
    pub fn include_hints(self) -> Self {
        self.by(FindingCriterion::IncludeHints)
    }
}

/// A CVSS score as the interface counts it.
fn tenths(score: f32) -> u8 {
    (score * 10.0).round() as u8
}
