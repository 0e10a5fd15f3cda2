//! Unit tests of a policy without Wharf and without WebAssembly: facts made by hand, asked by the same calls.
//!
//! ```
//! use wharf_sdk::prelude::*;
//! use wharf_sdk::testing::{Facts, finding};
//!
//! fn no_criticals(_: &NoConfig, image: &Image) -> Judgement {
//!     image.scanned()?;
//!     if image.findings().at_least(Severity::Critical).any() {
//!         return Ok(reject("critical", "the image has a critical finding"));
//!     }
//!     Ok(approve())
//! }
//!
//! let mut facts = Facts::scanned("dev/app", "1.4");
//! assert_eq!(no_criticals(&NoConfig {}, &facts.image()), Ok(approve()));
//! facts.add_finding(finding("CVE-2024-3094", Severity::Critical, "xz-utils", "5.6.0"));
//! assert_eq!(no_criticals(&NoConfig {}, &facts.image()).unwrap().verdict, Verdict::Reject);
//! ```
//!
//! Invariant: a query narrows as the interface says, with one difference that is stated: versions of every ecosystem are
//! compared in Debian's order, where Wharf uses each ecosystem's own.
//! Invariant: what Wharf refuses is refused here: a question past its bounds ends the test, as it would end the call.

mod bounds;
mod query;
mod version;

pub(crate) use version::check_range;

use bounds::MAX_PAGE;

use crate::image::{
    Approval, Component, ComponentCriterion, Confidence, Coverage, Finding, FindingCriterion, FixState,
    Image, Knowledge, Platform, Severity, Signature,
};
use crate::{Config, Outcome, Policy, policy};
use serde_json::Value;
use std::collections::BTreeMap;

/// A day, in milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Everything that an [`Image`] answers. Fill in what the test is about; the rest is empty, and the scan `none`.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub repository: String,
    pub tag: Option<String>,
    pub tag_revision: u64,
    pub digest: String,
    pub index_digest: Option<String>,
    pub media_type: String,
    pub artifact_type: Option<String>,
    pub size_bytes: u64,
    pub layer_count: u32,
    pub platform: Option<Platform>,
    pub platforms: Vec<Facts>,
    pub pushed_at_ms: u64,
    pub pushed_by: String,
    pub created_at_ms: Option<u64>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub evaluated_at_ms: u64,
    pub scan: Knowledge,
    pub vulnerability_data: Vec<Coverage>,
    pub distribution: Option<String>,
    pub end_of_life: Option<bool>,
    pub signature_check: Knowledge,
    pub signatures: Vec<Signature>,
    pub approvals: Vec<Approval>,
    pub components: Vec<Component>,
    pub findings: Vec<Finding>,
    /// By name, as [`Image::fact`] asks.
    pub facts: BTreeMap<String, String>,
    /// By the finding's index and a name.
    pub finding_facts: BTreeMap<(u32, String), String>,
    /// By the component's index and a name.
    pub component_facts: BTreeMap<(u32, String), String>,
}

impl Facts {
    /// An image that nobody has scanned, pushed by `ci` one day before the evaluation (2026-01-01, UTC).
    pub fn unscanned(repository: &str, tag: &str) -> Self {
        let evaluated_at_ms = 1_767_225_600_000;
        Facts {
            repository: repository.to_owned(),
            tag: Some(tag.to_owned()),
            tag_revision: 1,
            digest: format!("sha256:{}", "0".repeat(64)),
            index_digest: None,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            artifact_type: None,
            size_bytes: 0,
            layer_count: 1,
            platform: Some(platform("linux", "amd64")),
            platforms: Vec::new(),
            pushed_at_ms: evaluated_at_ms - DAY_MS,
            pushed_by: "ci".to_owned(),
            created_at_ms: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            evaluated_at_ms,
            scan: Knowledge::None,
            vulnerability_data: Vec::new(),
            distribution: None,
            end_of_life: None,
            signature_check: Knowledge::None,
            signatures: Vec::new(),
            approvals: Vec::new(),
            components: Vec::new(),
            findings: Vec::new(),
            facts: BTreeMap::new(),
            finding_facts: BTreeMap::new(),
            component_facts: BTreeMap::new(),
        }
    }

    /// The same, fully scanned and compared with vulnerability data; nothing was found in it yet.
    pub fn scanned(repository: &str, tag: &str) -> Self {
        let mut facts = Facts::unscanned(repository, tag);
        facts.scan = Knowledge::Complete;
        facts.vulnerability_data =
            vec![Coverage { source: "testing".to_owned(), as_of_ms: facts.evaluated_at_ms - DAY_MS }];
        facts
    }

    /// The image to judge.
    pub fn image(&self) -> Image<'_> {
        Image::of(self)
    }

    /// Adds a component and gives its index.
    pub fn add_component(&mut self, mut component: Component) -> u32 {
        component.index = self.components.len() as u32;
        let index = component.index;
        self.components.push(component);
        index
    }

    /// Adds a finding and gives its index. Its component is found by name and version, or added.
    pub fn add_finding(&mut self, mut finding: Finding) -> u32 {
        let known = |c: &&Component| {
            c.name == finding.component_name && c.version.as_deref() == Some(&finding.component_version)
        };
        finding.component = match self.components.iter().find(known) {
            Some(found) => found.index,
            None => self.add_component(component(&finding.component_name, &finding.component_version)),
        };
        finding.index = self.findings.len() as u32;
        let index = finding.index;
        self.findings.push(finding);
        index
    }
}

/// A platform without a variant.
pub fn platform(os: &str, architecture: &str) -> Platform {
    Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: None, os_version: None }
}

/// A Debian package that its database names; change the fields that the test is about.
pub fn component(name: &str, version: &str) -> Component {
    Component {
        index: 0,
        name: name.to_owned(),
        version: Some(version.to_owned()),
        version_range: None,
        ecosystem: "deb".to_owned(),
        purl: format!("pkg:deb/debian/{name}@{version}"),
        source_name: None,
        licences: Vec::new(),
        layer: Some(0),
        path: None,
        confidence: Confidence::Exact,
        evidence: "dpkg".to_owned(),
    }
}

/// A finding without a fix, with a CVSS score in the middle of its severity; change the fields that the test is about.
pub fn finding(id: &str, severity: Severity, component: &str, version: &str) -> Finding {
    let cvss_tenths = match severity {
        Severity::Unknown => None,
        Severity::Negligible => Some(0),
        Severity::Low => Some(20),
        Severity::Medium => Some(55),
        Severity::High => Some(80),
        Severity::Critical => Some(95),
    };
    Finding {
        index: 0,
        id: id.to_owned(),
        aliases: Vec::new(),
        source: "testing".to_owned(),
        severity,
        cvss_tenths,
        component: 0,
        component_name: component.to_owned(),
        component_version: version.to_owned(),
        fix: FixState::NotFixed,
        fixed_in: None,
        published_at_ms: None,
        known_exploited: false,
        possible_only: false,
        waived: false,
    }
}

/// Makes a finding one that this version fixes.
pub fn fixed_in(mut finding: Finding, version: &str) -> Finding {
    finding.fix = FixState::Fixed;
    finding.fixed_in = Some(version.to_owned());
    finding
}

/// What Wharf does with a binding: checks the configuration, then judges.
///
/// # Errors
/// The problems of the configuration, or what the policy says went wrong.
pub fn judge<P: Policy>(config: &Value, facts: &Facts) -> Result<Outcome, String> {
    let config = config.to_string();
    policy::validate::<P>(&config).map_err(|problems| policy::unfit(&problems))?;
    policy::evaluate::<P>(&config, &facts.image())
}

/// Checks what the compiler could not: that the manifest is JSON, and that the defaults fit their fields.
///
/// # Panics
/// If they do not: this is the body of the test that [`policy!`](crate::policy!) makes.
#[allow(clippy::panic)]
pub fn check_manifest<P: Policy>() {
    let manifest: Value = match serde_json::from_str(P::MANIFEST) {
        Ok(manifest) => manifest,
        Err(why) => {
            panic!("the manifest is not JSON ({why}); is a default in `config!` JSON?\n{}", P::MANIFEST)
        }
    };
    for key in ["name", "version", "description"] {
        assert!(manifest[key].as_str().is_some_and(|text| !text.is_empty()), "the manifest lacks `{key}`");
    }
    let schema = &manifest["config_schema"];
    assert!(schema.is_object(), "the schema of the configuration is not an object");
    if schema["required"].as_array().is_none_or(Vec::is_empty)
        && let Err(problems) = P::Config::read("{}")
    {
        panic!("the schema requires nothing, but `{{}}` is refused: {}", policy::unfit(&problems));
    }
}

/// The items from `start` on, at most `max`, and never more than a page has.
fn page<T: Clone>(items: &[T], start: u32, max: u32) -> Vec<T> {
    items.iter().skip(start as usize).take(max.min(MAX_PAGE) as usize).cloned().collect()
}

/// What [`Image`] asks, under the names of the interface.
impl Facts {
    pub(crate) fn repository(&self) -> String {
        self.repository.clone()
    }
    pub(crate) fn tag(&self) -> Option<String> {
        self.tag.clone()
    }
    pub(crate) fn tag_revision(&self) -> u64 {
        self.tag_revision
    }
    pub(crate) fn digest(&self) -> String {
        self.digest.clone()
    }
    pub(crate) fn index_digest(&self) -> Option<String> {
        self.index_digest.clone()
    }
    pub(crate) fn media_type(&self) -> String {
        self.media_type.clone()
    }
    pub(crate) fn artifact_type(&self) -> Option<String> {
        self.artifact_type.clone()
    }
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    pub(crate) fn layer_count(&self) -> u32 {
        self.layer_count
    }
    pub(crate) fn platform(&self) -> Option<Platform> {
        self.platform.clone()
    }
    pub(crate) fn platforms(&self, start: u32, max: u32) -> Vec<Facts> {
        page(&self.platforms, start, max)
    }
    pub(crate) fn pushed_at_ms(&self) -> u64 {
        self.pushed_at_ms
    }
    pub(crate) fn pushed_by(&self) -> String {
        self.pushed_by.clone()
    }
    pub(crate) fn created_at_ms(&self) -> Option<u64> {
        self.created_at_ms
    }
    pub(crate) fn label(&self, key: &str) -> Option<String> {
        self.labels.get(key).cloned()
    }
    pub(crate) fn annotation(&self, key: &str) -> Option<String> {
        self.annotations.get(key).cloned()
    }
    pub(crate) fn evaluated_at_ms(&self) -> u64 {
        self.evaluated_at_ms
    }
    /// Of an index: of the platform that is known least.
    pub(crate) fn scan(&self) -> Knowledge {
        least(self.platforms.iter().map(Facts::scan)).unwrap_or(self.scan)
    }
    pub(crate) fn vulnerability_data(&self, start: u32, max: u32) -> Vec<Coverage> {
        page(&self.vulnerability_data, start, max)
    }
    pub(crate) fn has_vulnerability_data(&self) -> bool {
        !self.vulnerability_data.is_empty()
    }
    pub(crate) fn distribution(&self) -> Option<String> {
        self.distribution.clone()
    }
    pub(crate) fn end_of_life(&self) -> Option<bool> {
        self.end_of_life
    }
    pub(crate) fn signature_check(&self) -> Knowledge {
        least(self.platforms.iter().map(Facts::signature_check)).unwrap_or(self.signature_check)
    }
    pub(crate) fn signatures(&self, start: u32, max: u32) -> Vec<Signature> {
        page(&self.signatures, start, max)
    }
    pub(crate) fn approvals(&self, start: u32, max: u32) -> Vec<Approval> {
        page(&self.approvals, start, max)
    }
    pub(crate) fn licences(&self, start: u32, max: u32) -> Vec<String> {
        let all = self.platforms.iter().chain([self]).flat_map(|facts| &facts.components);
        let distinct: std::collections::BTreeSet<&String> = all.flat_map(|c| &c.licences).collect();
        page(&distinct.into_iter().cloned().collect::<Vec<_>>(), start, max)
    }
    pub(crate) fn count_findings(&self, criteria: &[FindingCriterion]) -> u32 {
        self.select_findings(criteria).len() as u32
    }
    pub(crate) fn findings(&self, criteria: &[FindingCriterion], start: u32, max: u32) -> Vec<Finding> {
        page(&self.select_findings(criteria), start, max)
    }
    pub(crate) fn count_components(&self, criteria: &[ComponentCriterion]) -> u32 {
        self.select_components(criteria).len() as u32
    }
    pub(crate) fn components(&self, criteria: &[ComponentCriterion], start: u32, max: u32) -> Vec<Component> {
        page(&self.select_components(criteria), start, max)
    }
    pub(crate) fn finding_fact(&self, finding: u32, name: &str) -> Option<String> {
        self.finding_facts.get(&(finding, name.to_owned())).cloned()
    }
    pub(crate) fn component_fact(&self, component: u32, name: &str) -> Option<String> {
        self.component_facts.get(&(component, name.to_owned())).cloned()
    }
    pub(crate) fn fact(&self, name: &str) -> Option<String> {
        self.facts.get(name).cloned()
    }
}

fn least(all: impl Iterator<Item = Knowledge>) -> Option<Knowledge> {
    all.min_by_key(|knowledge| match knowledge {
        Knowledge::None => 0,
        Knowledge::Pending => 1,
        Knowledge::Failed => 2,
        Knowledge::Unsupported => 3,
        Knowledge::Partial => 4,
        Knowledge::Complete => 5,
    })
}

#[cfg(test)]
mod tests;
