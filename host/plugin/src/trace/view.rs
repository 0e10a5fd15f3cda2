//! What the facts answer. One function for each question; both the call and a later comparison come through here.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Answer, Ask, Item, Page};
use crate::facts::{
    Approval, Component, Coverage, Finding, ImageFacts, Knowledge, PlatformFacts, SealedFacts, Signature,
};
use crate::pattern::VersionOrder;
use crate::query::{Clock, ComponentMatcher, ComponentQuery, FindingMatcher, FindingQuery, step};

/// What a policy judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The image as a whole: of an index all platforms at once, of a plain image the image.
    Image,
    /// One platform of it, by its position in [`ImageFacts::platforms`].
    Platform(u32),
}

/// Where an `image` handle points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Index,
    Platform(u32),
}

impl Node {
    /// None: there is no such platform.
    pub(crate) fn of(facts: &SealedFacts, subject: Subject, platform: Option<u32>) -> Option<Self> {
        let facts = facts.facts();
        let position = match (platform, subject) {
            (Some(position), _) | (None, Subject::Platform(position)) => position,
            (None, Subject::Image) if facts.index => return Some(Self::Index),
            (None, Subject::Image) => 0,
        };
        facts.platforms.get(position as usize).map(|_| Self::Platform(position))
    }
}

/// A finding as it is answered: with its index, and what its component is called.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct FindingItem<'a> {
    pub(crate) index: u32,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) finding: &'a Finding,
}

/// A component as it is answered.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ComponentItem<'a> {
    pub(crate) index: u32,
    pub(crate) component: &'a Component,
}

impl Item for FindingItem<'_> {
    fn name(&self) -> String {
        format!("{} {} {}", self.finding.id, self.name, self.version)
    }
}

impl Item for ComponentItem<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.component.name, self.component.version.as_deref().unwrap_or("?"))
    }
}

impl Item for PlatformFacts {
    fn name(&self) -> String {
        self.digest.clone()
    }
}

impl Item for Coverage {
    fn name(&self) -> String {
        self.source.clone()
    }
}

impl Item for &Signature {
    fn name(&self) -> String {
        self.identity.clone()
    }
}

impl Item for Approval {
    fn name(&self) -> String {
        self.stage.clone()
    }
}

/// A licence.
impl Item for &str {
    fn name(&self) -> String {
        (*self).to_owned()
    }
}

/// The facts, from where one handle points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) facts: &'a SealedFacts,
    pub(crate) node: Node,
    pub(crate) order: VersionOrder,
    /// Of the call that asks. Once its time is up, answers are worth nothing.
    pub(crate) clock: Clock<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn answer(&self, ask: &Ask) -> Answer {
        let image = self.image();
        let text = |text: &str| Answer::text(text);
        match ask {
            Ask::Repository => text(&image.repository),
            Ask::Tag => Answer::option(image.tag.as_deref()),
            Ask::TagRevision => Answer::Number(image.tag_revision),
            Ask::Digest => text(self.platform().map_or(&image.digest, |p| &p.digest)),
            Ask::IndexDigest => {
                Answer::option(self.platform().filter(|_| image.index).map(|_| image.digest.as_str()))
            }
            Ask::MediaType => text(self.platform().map_or(&image.media_type, |p| &p.media_type)),
            Ask::ArtifactType => Answer::option(self.platform().and_then(|p| p.artifact_type.as_deref())),
            Ask::SizeBytes => Answer::Number(self.platform().map_or(image.size_bytes, |p| p.size_bytes)),
            Ask::LayerCount => Answer::Number(self.platform().map_or(0, |p| p.layers.len() as u64)),
            Ask::Platform => self
                .platform()
                .and_then(|p| p.platform.as_ref())
                .map_or(Answer::Nothing(()), |platform| Answer::Text(platform.to_string())),
            Ask::Platforms(page) => Answer::page(self.platforms(*page)),
            Ask::PushedAtMs => Answer::Number(image.pushed_at_ms),
            Ask::PushedBy => text(&image.pushed_by),
            Ask::CreatedAtMs => number(self.platform().and_then(|p| p.created_at_ms)),
            Ask::Label { key } => {
                Answer::option(self.platform().and_then(|p| p.labels.get(key)).map(String::as_str))
            }
            Ask::Annotation { key } => {
                let annotations = self.platform().map_or(&image.annotations, |p| &p.annotations);
                Answer::option(annotations.get(key).map(String::as_str))
            }
            Ask::EvaluatedAtMs => Answer::Number(image.evaluated_at_ms),
            Ask::Scan => text(self.scan().as_str()),
            Ask::VulnerabilityData(page) => Answer::page(self.coverage(*page)),
            Ask::HasVulnerabilityData => Answer::Flag(!self.coverage(Page { start: 0, max: 1 }).is_empty()),
            Ask::Distribution => Answer::option(self.platform().and_then(|p| p.distribution.as_deref())),
            Ask::EndOfLife => self.end_of_life().map_or(Answer::Nothing(()), Answer::Flag),
            Ask::SignatureCheck => text(image.signature_check.as_str()),
            Ask::Signatures(page) => Answer::page(page.of(&self.signatures())),
            Ask::Approvals(page) => Answer::page(self.approvals(*page)),
            Ask::Licences(page) => Answer::page(page.of(&self.licences())),
            Ask::Fact { name } => Answer::option(self.fact(name)),
            Ask::CountFindings(query) => Answer::Number(self.count_findings(query).into()),
            Ask::Findings { query, start, max } => {
                Answer::page(&self.findings(query, Page { start: *start, max: *max }))
            }
            Ask::FindingFact { finding, name } => Answer::option(self.finding_fact(*finding, name)),
            Ask::CountComponents(query) => Answer::Number(self.count_components(query).into()),
            Ask::Components { query, start, max } => {
                Answer::page(&self.components(query, Page { start: *start, max: *max }))
            }
            Ask::ComponentFact { component, name } => Answer::option(self.component_fact(*component, name)),
        }
    }

    fn image(&self) -> &'a ImageFacts {
        self.facts.facts()
    }

    /// None for an index.
    pub(crate) fn platform(&self) -> Option<&'a PlatformFacts> {
        match self.node {
            Node::Index => None,
            Node::Platform(position) => self.image().platforms.get(position as usize),
        }
    }

    /// The platform itself, or all of an index, with their positions.
    fn each_platform(&self) -> impl Iterator<Item = (usize, &'a PlatformFacts)> + use<'a> {
        let all = self.image().platforms.iter().enumerate();
        let (skip, take) = match self.node {
            Node::Index => (0, usize::MAX),
            Node::Platform(position) => (position as usize, 1),
        };
        all.skip(skip).take(take)
    }

    pub(crate) fn platforms(&self, page: Page) -> &'a [PlatformFacts] {
        match self.node {
            Node::Index => page.of(&self.image().platforms),
            Node::Platform(_) => &[],
        }
    }

    pub(crate) fn approvals(&self, page: Page) -> &'a [Approval] {
        page.of(&self.image().approvals)
    }

    pub(crate) fn scan(&self) -> Knowledge {
        self.each_platform().map(|(_, p)| p.scan).reduce(Knowledge::least).unwrap_or(Knowledge::None)
    }

    /// Of an index, what the platform with the fewest sources has.
    pub(crate) fn coverage(&self, page: Page) -> &'a [Coverage] {
        let fewest = self.each_platform().min_by_key(|(_, p)| p.coverage.len());
        fewest.map_or(&[], |(_, p)| page.of(&p.coverage))
    }

    /// Of an index: true if one is, false only if none is and all are known.
    fn end_of_life(&self) -> Option<bool> {
        let mut known = Some(false);
        for (_, platform) in self.each_platform() {
            match platform.end_of_life {
                Some(true) => return Some(true),
                Some(false) => {}
                None => known = None,
            }
        }
        known
    }

    /// Those of the platform's own manifest first, then those of what the tag points at.
    pub(crate) fn signatures(&self) -> Vec<&'a Signature> {
        let own = self.platform().map_or(&[][..], |p| &p.signatures);
        own.iter().chain(&self.image().signatures).collect()
    }

    /// Each is a step of the clock's: once the time is up, the answer is worth nothing and there are no more.
    pub(crate) fn licences(&self) -> Vec<&'a str> {
        let texts = self.each_platform().flat_map(|(_, p)| &p.components).flat_map(|c| &c.licences);
        let set: BTreeSet<&str> = texts.take_while(|_| step(self.clock)).map(String::as_str).collect();
        set.into_iter().collect()
    }

    fn fact(&self, name: &str) -> Option<&'a str> {
        let own = self.platform().and_then(|p| p.facts.get(name));
        own.or_else(|| self.image().facts.get(name)).map(String::as_str)
    }

    fn count_findings(&self, query: &FindingQuery) -> u32 {
        let matcher = FindingMatcher::new(query, self.facts, self.clock);
        self.each_platform().map(|(position, _)| matcher.count(position)).max().unwrap_or(0)
    }

    pub(crate) fn findings(&self, query: &FindingQuery, page: Page) -> Vec<FindingItem<'a>> {
        let matcher = FindingMatcher::new(query, self.facts, self.clock);
        let Some((position, platform)) = self.worst(|position| matcher.count(position)) else {
            return Vec::new();
        };
        let item = |(index, finding): (u32, &'a Finding)| {
            let component = platform.components.get(finding.component as usize);
            FindingItem {
                index,
                name: component.map_or("", |c| &c.name),
                version: component.and_then(|c| c.version.as_deref()).unwrap_or(""),
                finding,
            }
        };
        matcher.select(position).skip(page.start as usize).take(limit(page)).map(item).collect()
    }

    fn finding_fact(&self, finding: u32, name: &str) -> Option<&'a str> {
        let finding = self.platform()?.findings.get(finding as usize)?;
        finding.facts.get(name).map(String::as_str)
    }

    fn count_components(&self, query: &ComponentQuery) -> u32 {
        let matcher = ComponentMatcher::new(query, self.facts, self.order, self.clock);
        self.each_platform().map(|(position, _)| matcher.count(position)).max().unwrap_or(0)
    }

    pub(crate) fn components(&self, query: &ComponentQuery, page: Page) -> Vec<ComponentItem<'a>> {
        let matcher = ComponentMatcher::new(query, self.facts, self.order, self.clock);
        let Some((position, _)) = self.worst(|position| matcher.count(position)) else { return Vec::new() };
        let selected = matcher.select(position).into_iter().skip(page.start as usize).take(limit(page));
        selected.map(|(index, component)| ComponentItem { index, component }).collect()
    }

    fn component_fact(&self, component: u32, name: &str) -> Option<&'a str> {
        let component = self.platform()?.components.get(component as usize)?;
        component.facts.get(name).map(String::as_str)
    }

    /// The platform where `count` is largest, the first of several. There is nothing to count where there is only one.
    fn worst(&self, count: impl Fn(usize) -> u32) -> Option<(usize, &'a PlatformFacts)> {
        if self.platform().is_some() {
            return self.each_platform().next();
        }
        self.each_platform()
            .map(|(position, p)| (count(position), position, p))
            .reduce(|worst, next| if next.0 > worst.0 { next } else { worst })
            .map(|(_, position, p)| (position, p))
    }
}

fn limit(page: Page) -> usize {
    page.max.min(super::MAX_PAGE) as usize
}

fn number(value: Option<u64>) -> Answer {
    value.map_or(Answer::Nothing(()), Answer::Number)
}
