//! The facts about one image, as a policy asks for them.
//!
//! Invariant: nothing is cached here: each call is one question to the host, which records it with its answer. A page of an
//! iterator is one question.

use crate::bindings::wharf::plugin::facts;
use crate::outcome::{Outcome, hold};
use std::fmt;
use std::ops::Deref;

mod components;
mod findings;
mod query;

pub use components::{MAX_ALLOWED_LICENCES, check_range};
use query::pages;
pub use query::{Ask, Components, Findings, MAX_PATTERN_BYTES, PAGE, Query};

pub use facts::{
    Approval, Component, Confidence, Coverage, Finding, FixState, Knowledge, Platform, Severity, Signature,
};
pub(crate) use facts::{ComponentCriterion, FactCriterion, FindingCriterion};

#[cfg(not(target_family = "wasm"))]
use crate::testing::Facts as Answers;
#[cfg(target_family = "wasm")]
use facts::Image as Answers;

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

    /// Whether it was compared with any vulnerability data. Prefer it to [`Image::vulnerability_data`]: newer data does not
    /// change this answer, so it does not call for a new verdict.
    pub fn has_vulnerability_data(&self) -> bool {
        self.0.has_vulnerability_data()
    }

    /// `Ok` if the image was fully scanned and compared with some vulnerability data; else a hold that says what is missing.
    ///
    /// # Errors
    /// The hold, for `image.scanned()?`.
    pub fn scanned(&self) -> Result<(), Outcome> {
        match self.scan() {
            Knowledge::Complete if !self.has_vulnerability_data() => Err(hold(
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
        Findings::new(&self.0)
    }

    /// All components; narrow it by what follows.
    pub fn components(&self) -> Components<'_> {
        Components::new(&self.0)
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
