//! The facts about one image, as a policy asks for them.
//!
//! Invariant: nothing is cached here: each call is one question to the host, which records it with its answer. A page of an
//! iterator is one question.

use crate::bindings::wharf::plugin::facts;
use crate::outcome::{Outcome, hold};
use std::fmt;
use std::ops::Deref;

pub use facts::{
    Approval, Component, Confidence, Coverage, Finding, FixState, Knowledge, Platform, Severity, Signature,
};

#[cfg(not(target_family = "wasm"))]
use crate::testing::{ComponentQuery, Facts as Answers, FindingQuery};
#[cfg(target_family = "wasm")]
use facts::{ComponentQuery, FindingQuery, Image as Answers};

/// How many records one question fetches while iterating.
pub const PAGE: u32 = 100;

/// One image, or one platform of it.
pub struct Image<'a>(Handle<'a>);

enum Handle<'a> {
    Lent(&'a Answers),
    Owned(Box<Answers>),
}

impl Deref for Handle<'_> {
    type Target = Answers;
    fn deref(&self) -> &Answers {
        match self {
            Handle::Lent(answers) => answers,
            Handle::Owned(answers) => answers,
        }
    }
}

impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

impl<'a> Image<'a> {
    #[doc(hidden)]
    pub fn of(answers: &'a Answers) -> Self {
        Image(Handle::Lent(answers))
    }

    /// Where it was pushed, such as `dev/app`.
    pub fn repository(&self) -> String {
        self.0.repository()
    }

    /// The tag that is judged; none where an untagged image is.
    pub fn tag(&self) -> Option<String> {
        self.0.tag()
    }

    /// How often that tag was pointed at something; 0 without a tag.
    pub fn tag_revision(&self) -> u64 {
        self.0.tag_revision()
    }

    /// The digest of its manifest; for one platform of an index, of that platform's manifest.
    pub fn digest(&self) -> String {
        self.0.digest()
    }

    /// The digest of the index that it is a platform of.
    pub fn index_digest(&self) -> Option<String> {
        self.0.index_digest()
    }

    /// The media type of its manifest.
    pub fn media_type(&self) -> String {
        self.0.media_type()
    }

    /// The manifest's `artifactType`; none for a plain image.
    pub fn artifact_type(&self) -> Option<String> {
        self.0.artifact_type()
    }

    /// Config and layers as they are stored (compressed), each blob once.
    pub fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    /// The number of its layers.
    pub fn layer_count(&self) -> u32 {
        self.0.layer_count()
    }

    /// What it is for; none for an index, and for an image that does not say.
    pub fn platform(&self) -> Option<Platform> {
        self.0.platform()
    }

    /// The platforms of an index; empty for one platform, which is what a binding judges unless it says otherwise.
    pub fn platforms(&self) -> impl Iterator<Item = Image<'static>> + '_ {
        pages(|start, max| self.0.platforms(start, max))
            .map(|answers| Image(Handle::Owned(Box::new(answers))))
    }

    /// When the tag was pointed at it, Unix time in ms.
    pub fn pushed_at_ms(&self) -> u64 {
        self.0.pushed_at_ms()
    }

    /// Who did that: a user or a service account.
    pub fn pushed_by(&self) -> String {
        self.0.pushed_by()
    }

    /// When its builder says it was built; it may be absent, or wrong.
    pub fn created_at_ms(&self) -> Option<u64> {
        self.0.created_at_ms()
    }

    /// A label of the image's config.
    pub fn label(&self, key: &str) -> Option<String> {
        self.0.label(key)
    }

    /// An annotation of the manifest.
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.0.annotation(key)
    }

    /// The only clock a policy has: the moment that this evaluation is about, Unix time in ms.
    pub fn evaluated_at_ms(&self) -> u64 {
        self.0.evaluated_at_ms()
    }

    /// How long ago it was pushed, in ms.
    pub fn age_ms(&self) -> u64 {
        self.evaluated_at_ms().saturating_sub(self.pushed_at_ms())
    }

    /// What is known of its contents. Only [`Knowledge::Complete`] lets a count of zero mean "none".
    pub fn scan(&self) -> Knowledge {
        self.0.scan()
    }

    /// The vulnerability data it was compared with; none means that there can be no findings.
    pub fn vulnerability_data(&self) -> impl Iterator<Item = Coverage> + '_ {
        pages(|start, max| self.0.vulnerability_data(start, max))
    }

    /// `Ok` if the image was fully scanned and compared with some vulnerability data; else a hold that says what is missing.
    ///
    /// # Errors
    /// The hold, for `image.scanned()?`.
    pub fn scanned(&self) -> Result<(), Outcome> {
        match self.scan() {
            Knowledge::Complete if self.vulnerability_data().next().is_none() => Err(hold(
                "no-vulnerability-data",
                "the image was scanned, but compared with no vulnerability data",
            )),
            Knowledge::Complete => Ok(()),
            other => Err(hold("not-scanned", format!("the image {}", knowledge_text(other)))),
        }
    }

    /// The distribution that it is built on: `debian:12`.
    pub fn distribution(&self) -> Option<String> {
        self.0.distribution()
    }

    /// Whether that distribution is past its end of life; none if nobody knows.
    pub fn end_of_life(&self) -> Option<bool> {
        self.0.end_of_life()
    }

    /// Whether signatures were looked for; a list from an incomplete check proves nothing.
    pub fn signature_check(&self) -> Knowledge {
        self.0.signature_check()
    }

    /// The signatures found, trusted or not.
    pub fn signatures(&self) -> impl Iterator<Item = Signature> + '_ {
        pages(|start, max| self.0.signatures(start, max))
    }

    /// The stages that let it through, oldest first.
    pub fn approvals(&self) -> impl Iterator<Item = Approval> + '_ {
        pages(|start, max| self.0.approvals(start, max))
    }

    /// The licence expressions of all components, each once, in alphabetical order.
    pub fn licences(&self) -> impl Iterator<Item = String> + '_ {
        pages(|start, max| self.0.licences(start, max))
    }

    /// More about a finding, by name: `epss`, `cwe` …
    pub fn finding_fact(&self, finding: &Finding, name: &str) -> Option<String> {
        self.0.finding_fact(finding.index, name)
    }

    /// More about a component, by name.
    pub fn component_fact(&self, component: &Component, name: &str) -> Option<String> {
        self.0.component_fact(component.index, name)
    }

    /// Any other fact, by name.
    pub fn fact(&self, name: &str) -> Option<String> {
        self.0.fact(name)
    }

    /// All findings that are not waived and not mere hints; narrow it by what follows.
    pub fn findings(&self) -> Findings<'_> {
        Findings { answers: &self.0, query: FindingQuery::new() }
    }

    /// All components; narrow it by what follows.
    pub fn components(&self) -> Components<'_> {
        Components { answers: &self.0, query: ComponentQuery::new() }
    }
}

/// What a [`Knowledge`] means, as the end of a sentence that begins with "the image".
pub fn knowledge_text(knowledge: Knowledge) -> &'static str {
    match knowledge {
        Knowledge::None => "has not been scanned",
        Knowledge::Pending => "is still waiting for its scan",
        Knowledge::Partial => "was scanned only in part",
        Knowledge::Complete => "was scanned",
        Knowledge::Failed => "could not be scanned: the scan failed",
        Knowledge::Unsupported => "is of a kind that the scanner does not support",
    }
}

/// A question about findings; every condition narrows it.
pub struct Findings<'a> {
    answers: &'a Answers,
    query: FindingQuery,
}

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

    /// How many there are. On an index, those of its worst platform.
    pub fn count(&self) -> u32 {
        self.answers.count_findings(&self.query)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// All of them, fetched a page at a time.
    pub fn iter(&self) -> impl Iterator<Item = Finding> + '_ {
        pages(|start, max| self.answers.findings(&self.query, start, max))
    }

    /// The first few.
    pub fn first(&self, max: u32) -> Vec<Finding> {
        self.answers.findings(&self.query, 0, max)
    }
}

/// A CVSS score as the interface counts it.
fn tenths(score: f32) -> u8 {
    (score * 10.0).round() as u8
}

/// A question about components; every condition narrows it.
pub struct Components<'a> {
    answers: &'a Answers,
    query: ComponentQuery,
}

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
    /// That an identifier does not read.
    pub fn licence_outside(self, allowed: &[String]) -> Result<Self, String> {
        self.query.licence_outside(allowed)?;
        Ok(self)
    }

    /// How many there are. On an index, those of its worst platform.
    pub fn count(&self) -> u32 {
        self.answers.count_components(&self.query)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// All of them, fetched a page at a time.
    pub fn iter(&self) -> impl Iterator<Item = Component> + '_ {
        pages(|start, max| self.answers.components(&self.query, start, max))
    }

    /// The first few.
    pub fn first(&self, max: u32) -> Vec<Component> {
        self.answers.components(&self.query, 0, max)
    }
}

/// Whether [`Components::version`] takes this range: for a policy's `validate`.
///
/// # Errors
/// What does not read.
pub fn check_range(range: &str) -> Result<(), String> {
    ComponentQuery::new().version(range)
}

macro_rules! opaque_debug {
    ($($name:ident),*) => { $( impl fmt::Debug for $name<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct(stringify!($name)).finish_non_exhaustive()
        }
    } )* };
}
opaque_debug!(Findings, Components);

/// Calls `fetch` until a page comes back short.
fn pages<T>(fetch: impl Fn(u32, u32) -> Vec<T>) -> impl Iterator<Item = T> {
    let mut next = Some(0_u32);
    std::iter::from_fn(move || {
        let from = next?;
        let page = fetch(from, PAGE);
        next = (page.len() as u32 == PAGE).then(|| from.saturating_add(PAGE));
        Some(page)
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_with_a_short_one() {
        for len in [0_u32, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let all: Vec<u32> = (0..len).collect();
            let fetch =
                |from: u32, max: u32| all.iter().skip(from as usize).take(max as usize).copied().collect();
            assert_eq!(pages(fetch).collect::<Vec<_>>(), all);
        }
    }
}
