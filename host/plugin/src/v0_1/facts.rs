//! `wharf:plugin/facts`: every question goes through [`CallState::ask`], which answers it and puts it on record.

use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::bindings::wharf::plugin::facts as wit;
use crate::facts::{self, Knowledge};
use crate::pattern::Range;
use crate::sandbox::{CallState, ImageHandle, LimitHit};
use crate::trace::{Answer, Ask, ComponentItem, FindingItem, Item, Node, Page, View};

mod queries;

type Image = Resource<ImageHandle>;

impl CallState {
    fn node(&self, platform: Option<u32>) -> Node {
        platform.map_or(self.subject, Node::Platform)
    }

    fn look(&self, node: Node) -> Result<View<'_>> {
        Ok(View { facts: self.facts()?, node, order: self.order(), clock: Some(&self.deadline) })
    }

    /// Lets `answer` look at the facts, puts its question and answer on record, and returns what it has for the plugin;
    /// `bytes` are those of the texts in the question.
    fn answered<T>(
        &mut self,
        image: &Image,
        bytes: usize,
        answer: impl FnOnce(&View<'_>) -> (Ask, Answer, T),
    ) -> Result<T> {
        self.charge()?;
        let platform = ImageHandle::position(image);
        let (ask, answer, told) = answer(&self.look(self.node(platform))?);
        if self.deadline.is_up() {
            return Err(Error::new(LimitHit::Time));
        }
        self.record(ask, platform, answer, bytes)?;
        Ok(told)
    }

    /// A question whose answer on record is also what the plugin gets.
    fn ask(&mut self, image: &Image, ask: Ask, bytes: usize) -> Result<Answer> {
        self.answered(image, bytes, |view| {
            let answer = view.answer(&ask);
            (ask, answer.clone(), answer)
        })
    }

    fn text(&mut self, image: &Image, ask: Ask) -> Result<String> {
        match self.ask(image, ask, 0)? {
            Answer::Text(text) => Ok(text),
            other => Err(odd(&other)),
        }
    }

    fn optional_text(&mut self, image: &Image, ask: Ask, bytes: usize) -> Result<Option<String>> {
        match self.ask(image, ask, bytes)? {
            Answer::Text(text) => Ok(Some(text)),
            Answer::Nothing(()) => Ok(None),
            other => Err(odd(&other)),
        }
    }

    fn number(&mut self, image: &Image, ask: Ask, bytes: usize) -> Result<u64> {
        match self.ask(image, ask, bytes)? {
            Answer::Number(number) => Ok(number),
            other => Err(odd(&other)),
        }
    }
}

/// The question for a page, the page as it goes on record, and as the plugin gets it.
fn listed<I: Item, T>(ask: Ask, items: &[I], record: impl FnMut(&I) -> T) -> (Ask, Answer, Vec<T>) {
    (ask, Answer::page(items), items.iter().map(record).collect())
}

/// [`View::answer`] gives each question one type of answer.
fn odd(answer: &Answer) -> Error {
    Error::msg(format!("a question has the unexpected answer {answer:?}"))
}

impl wit::Host for CallState {
    fn check_range(&mut self, range: String) -> Result<Result<(), String>> {
        self.charge()?;
        Ok(Range::parse(&range).map(|_| ()))
    }
}

impl wit::HostImage for CallState {
    fn repository(&mut self, image: Image) -> Result<String> {
        self.text(&image, Ask::Repository)
    }
    fn tag(&mut self, image: Image) -> Result<Option<String>> {
        self.optional_text(&image, Ask::Tag, 0)
    }
    fn tag_revision(&mut self, image: Image) -> Result<u64> {
        self.number(&image, Ask::TagRevision, 0)
    }
    fn digest(&mut self, image: Image) -> Result<String> {
        self.text(&image, Ask::Digest)
    }
    fn index_digest(&mut self, image: Image) -> Result<Option<String>> {
        self.optional_text(&image, Ask::IndexDigest, 0)
    }
    fn media_type(&mut self, image: Image) -> Result<String> {
        self.text(&image, Ask::MediaType)
    }
    fn artifact_type(&mut self, image: Image) -> Result<Option<String>> {
        self.optional_text(&image, Ask::ArtifactType, 0)
    }
    fn size_bytes(&mut self, image: Image) -> Result<u64> {
        self.number(&image, Ask::SizeBytes, 0)
    }
    fn layer_count(&mut self, image: Image) -> Result<u32> {
        Ok(u32::try_from(self.number(&image, Ask::LayerCount, 0)?)?)
    }
    fn platform(&mut self, image: Image) -> Result<Option<wit::Platform>> {
        self.answered(&image, 0, |view| {
            let known = view.platform().and_then(|p| p.platform.as_ref());
            (Ask::Platform, view.answer(&Ask::Platform), known.map(platform))
        })
    }
    fn platforms(&mut self, image: Image, start: u32, max: u32) -> Result<Vec<Image>> {
        let page = Page { start, max };
        let ask = Ask::Platforms(page);
        let count = self.answered(&image, 0, |view| listed(ask, view.platforms(page), |_| ()))?.len();
        let positions = start..start.saturating_add(u32::try_from(count)?);
        let handle = |position| {
            // Each handle counts: it takes memory of the host's.
            self.charge()?;
            Ok(ImageHandle::platform(position))
        };
        positions.map(handle).collect()
    }
    fn pushed_at_ms(&mut self, image: Image) -> Result<u64> {
        self.number(&image, Ask::PushedAtMs, 0)
    }
    fn pushed_by(&mut self, image: Image) -> Result<String> {
        self.text(&image, Ask::PushedBy)
    }
    fn created_at_ms(&mut self, image: Image) -> Result<Option<u64>> {
        match self.ask(&image, Ask::CreatedAtMs, 0)? {
            Answer::Number(at) => Ok(Some(at)),
            Answer::Nothing(()) => Ok(None),
            other => Err(odd(&other)),
        }
    }
    fn label(&mut self, image: Image, key: String) -> Result<Option<String>> {
        let bytes = key.len();
        self.optional_text(&image, Ask::Label { key }, bytes)
    }
    fn annotation(&mut self, image: Image, key: String) -> Result<Option<String>> {
        let bytes = key.len();
        self.optional_text(&image, Ask::Annotation { key }, bytes)
    }
    fn evaluated_at_ms(&mut self, image: Image) -> Result<u64> {
        self.number(&image, Ask::EvaluatedAtMs, 0)
    }
    fn scan(&mut self, image: Image) -> Result<wit::Knowledge> {
        self.answered(&image, 0, |view| (Ask::Scan, view.answer(&Ask::Scan), knowledge(view.scan())))
    }
    fn vulnerability_data(&mut self, image: Image, start: u32, max: u32) -> Result<Vec<wit::Coverage>> {
        let page = Page { start, max };
        self.answered(&image, 0, |view| listed(Ask::VulnerabilityData(page), view.coverage(page), coverage))
    }
    fn has_vulnerability_data(&mut self, image: Image) -> Result<bool> {
        match self.ask(&image, Ask::HasVulnerabilityData, 0)? {
            Answer::Flag(flag) => Ok(flag),
            other => Err(odd(&other)),
        }
    }
    fn distribution(&mut self, image: Image) -> Result<Option<String>> {
        self.optional_text(&image, Ask::Distribution, 0)
    }
    fn end_of_life(&mut self, image: Image) -> Result<Option<bool>> {
        match self.ask(&image, Ask::EndOfLife, 0)? {
            Answer::Flag(flag) => Ok(Some(flag)),
            Answer::Nothing(()) => Ok(None),
            other => Err(odd(&other)),
        }
    }
    fn signature_check(&mut self, image: Image) -> Result<wit::Knowledge> {
        self.ask(&image, Ask::SignatureCheck, 0)?;
        Ok(knowledge(self.facts()?.facts().signature_check))
    }
    fn signatures(&mut self, image: Image, start: u32, max: u32) -> Result<Vec<wit::Signature>> {
        let page = Page { start, max };
        self.answered(&image, 0, |view| {
            listed(Ask::Signatures(page), page.of(&view.signatures()), |one| signature(one))
        })
    }
    fn approvals(&mut self, image: Image, start: u32, max: u32) -> Result<Vec<wit::Approval>> {
        let page = Page { start, max };
        self.answered(&image, 0, |view| listed(Ask::Approvals(page), view.approvals(page), approval))
    }
    fn count_findings(&mut self, image: Image, criteria: Vec<wit::FindingCriterion>) -> Result<u32> {
        let (query, bytes) = queries::findings(criteria)?;
        Ok(u32::try_from(self.number(&image, Ask::CountFindings(Box::new(query)), bytes)?)?)
    }
    fn findings(
        &mut self,
        image: Image,
        criteria: Vec<wit::FindingCriterion>,
        start: u32,
        max: u32,
    ) -> Result<Vec<wit::Finding>> {
        let (query, bytes) = queries::findings(criteria)?;
        let query = Box::new(query);
        self.answered(&image, bytes, |view| {
            let found = view.findings(&query, Page { start, max });
            listed(Ask::Findings { query, start, max }, &found, finding)
        })
    }
    fn finding_fact(&mut self, image: Image, finding: u32, name: String) -> Result<Option<String>> {
        let bytes = name.len();
        self.optional_text(&image, Ask::FindingFact { finding, name }, bytes)
    }
    fn count_components(&mut self, image: Image, criteria: Vec<wit::ComponentCriterion>) -> Result<u32> {
        let (query, bytes) = queries::components(criteria)?;
        Ok(u32::try_from(self.number(&image, Ask::CountComponents(Box::new(query)), bytes)?)?)
    }
    fn components(
        &mut self,
        image: Image,
        criteria: Vec<wit::ComponentCriterion>,
        start: u32,
        max: u32,
    ) -> Result<Vec<wit::Component>> {
        let (query, bytes) = queries::components(criteria)?;
        let query = Box::new(query);
        self.answered(&image, bytes, |view| {
            let found = view.components(&query, Page { start, max });
            listed(Ask::Components { query, start, max }, &found, component)
        })
    }
    fn component_fact(&mut self, image: Image, component: u32, name: String) -> Result<Option<String>> {
        let bytes = name.len();
        self.optional_text(&image, Ask::ComponentFact { component, name }, bytes)
    }
    fn licences(&mut self, image: Image, start: u32, max: u32) -> Result<Vec<String>> {
        let page = Page { start, max };
        self.answered(&image, 0, |view| {
            listed(Ask::Licences(page), page.of(&view.licences()), |text| (*text).to_owned())
        })
    }
    fn fact(&mut self, image: Image, name: String) -> Result<Option<String>> {
        let bytes = name.len();
        self.optional_text(&image, Ask::Fact { name }, bytes)
    }
    fn drop(&mut self, _: Image) -> Result<()> {
        Ok(())
    }
}

fn platform(platform: &facts::Platform) -> wit::Platform {
    let facts::Platform { os, architecture, variant, os_version } = platform.clone();
    wit::Platform { os, architecture, variant, os_version }
}

fn knowledge(knowledge: Knowledge) -> wit::Knowledge {
    match knowledge {
        Knowledge::None => wit::Knowledge::None,
        Knowledge::Pending => wit::Knowledge::Pending,
        Knowledge::Partial => wit::Knowledge::Partial,
        Knowledge::Complete => wit::Knowledge::Complete,
        Knowledge::Failed => wit::Knowledge::Failed,
        Knowledge::Unsupported => wit::Knowledge::Unsupported,
    }
}

fn coverage(coverage: &facts::Coverage) -> wit::Coverage {
    wit::Coverage { source: coverage.source.clone(), as_of_ms: coverage.as_of_ms }
}

fn approval(approval: &facts::Approval) -> wit::Approval {
    wit::Approval { stage: approval.stage.clone(), by: approval.by.clone(), at_ms: approval.at_ms }
}

fn signature(signature: &facts::Signature) -> wit::Signature {
    let facts::Signature { kind, identity, issuer, trusted, predicate_type } = signature.clone();
    wit::Signature { kind, identity, issuer, trusted, predicate_type }
}

fn component(item: &ComponentItem<'_>) -> wit::Component {
    let c = item.component.clone();
    wit::Component {
        index: item.index,
        name: c.name,
        version: c.version,
        version_range: c.version_range,
        ecosystem: c.ecosystem,
        purl: c.purl,
        source_name: c.source_name,
        licences: c.licences,
        layer: c.layer,
        path: c.path,
        confidence: match c.confidence {
            facts::Confidence::Hint => wit::Confidence::Hint,
            facts::Confidence::Probable => wit::Confidence::Probable,
            facts::Confidence::Confirmed => wit::Confidence::Confirmed,
            facts::Confidence::Exact => wit::Confidence::Exact,
        },
        evidence: c.evidence,
    }
}

fn finding(item: &FindingItem<'_>) -> wit::Finding {
    let f = item.finding.clone();
    wit::Finding {
        index: item.index,
        id: f.id,
        aliases: f.aliases,
        source: f.source,
        severity: match f.severity {
            facts::Severity::Unknown => wit::Severity::Unknown,
            facts::Severity::Negligible => wit::Severity::Negligible,
            facts::Severity::Low => wit::Severity::Low,
            facts::Severity::Medium => wit::Severity::Medium,
            facts::Severity::High => wit::Severity::High,
            facts::Severity::Critical => wit::Severity::Critical,
        },
        cvss_tenths: f.cvss_tenths,
        component: f.component,
        component_name: item.name.to_owned(),
        component_version: item.version.to_owned(),
        fix: match f.fix {
            facts::FixState::Unknown => wit::FixState::Unknown,
            facts::FixState::Fixed => wit::FixState::Fixed,
            facts::FixState::NotFixed => wit::FixState::NotFixed,
            facts::FixState::Deferred => wit::FixState::Deferred,
            facts::FixState::WontFix => wit::FixState::WontFix,
            facts::FixState::EndOfLife => wit::FixState::EndOfLife,
        },
        fixed_in: f.fixed_in,
        published_at_ms: f.published_at_ms,
        known_exploited: f.known_exploited,
        possible_only: f.possible_only,
        waived: f.waived,
    }
}
