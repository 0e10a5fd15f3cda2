//! What a plugin asked and what it was answered: the explanation of its verdict, and the exact set of things that, when they
//! change, call for a new one.
//!
//! A question is data, so the same code answers it during the call, [again over other facts](Trace::first_changed), and
//! byte for byte the same in a replay.
//!
//! Invariant: the order is that of the calls; nothing is left out, or the call ends with
//! [`Cause::TraceLimit`](crate::Cause::TraceLimit).
//! Invariant: pages of records are kept as count, digest and the names of the first few, never as the records.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::facts::{SealedFacts, digest_text};
use crate::pattern::VersionOrder;
use crate::query::{ComponentQuery, FindingQuery};

mod view;

pub use view::Subject;
pub(crate) use view::{ComponentItem, FindingItem, Node, View};

/// The most items that one page returns, whatever was asked for.
pub const MAX_PAGE: u32 = 1_000;

/// How many items of a page are named in the trace.
const SHOWN: usize = 8;

/// What every question weighs besides its texts, in bytes.
const QUESTION_BYTES: usize = 48;

/// The digest of a page without items.
const NOTHING: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How many questions there is room for from the start: what most calls ask, and little enough for a small block of the heap.
const USUAL_QUESTIONS: usize = 8;

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The index of the first wanted item.
    pub start: u32,
    /// How many are wanted.
    pub max: u32,
}

impl Page {
    pub(crate) fn of<T>(self, items: &[T]) -> &[T] {
        let start = (self.start as usize).min(items.len());
        let end = start.saturating_add(self.max.min(MAX_PAGE) as usize).min(items.len());
        &items[start..end]
    }
}

/// A question of the interface `wharf:plugin/facts`, named as there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", content = "arguments", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the interface documents each")]
pub enum Ask {
    Repository,
    Tag,
    TagRevision,
    Digest,
    IndexDigest,
    MediaType,
    ArtifactType,
    SizeBytes,
    LayerCount,
    Platform,
    Platforms(Page),
    PushedAtMs,
    PushedBy,
    CreatedAtMs,
    Label { key: String },
    Annotation { key: String },
    EvaluatedAtMs,
    Scan,
    VulnerabilityData(Page),
    HasVulnerabilityData,
    Distribution,
    EndOfLife,
    SignatureCheck,
    Signatures(Page),
    Approvals(Page),
    CountFindings(Box<FindingQuery>),
    Findings { query: Box<FindingQuery>, start: u32, max: u32 },
    FindingFact { finding: u32, name: String },
    CountComponents(Box<ComponentQuery>),
    Components { query: Box<ComponentQuery>, start: u32, max: u32 },
    ComponentFact { component: u32, name: String },
    Licences(Page),
    Fact { name: String },
}

/// What a question was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Not known, or absent.
    Nothing(()),
    /// Yes or no.
    Flag(bool),
    /// A count, a size or a time in ms.
    Number(u64),
    /// A text, or the name of an enum's case.
    Text(String),
    /// A page of a list.
    Page {
        /// How many items the page has.
        count: u32,
        /// `sha256:` and the digest of the items' canonical JSON.
        digest: String,
        /// The first items by name, for people.
        first: Vec<String>,
    },
}

impl Answer {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn option(text: Option<&str>) -> Self {
        text.map_or(Self::Nothing(()), Self::text)
    }

    pub(crate) fn page<T: Item>(items: &[T]) -> Self {
        if items.is_empty() {
            return Self::Page { count: 0, digest: NOTHING.to_owned(), first: Vec::new() };
        }
        let mut hash = HashWriter(Sha256::new());
        for item in items {
            // Neither these types nor a hash can fail to be written.
            let _ = serde_json::to_writer(&mut hash, item);
        }
        let digest = digest_text(&hash.0.finalize());
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        Self::Page { count, digest, first: items.iter().take(SHOWN).map(Item::name).collect() }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Page { first, .. } => 96 + first.iter().map(|text| text.len() + 3).sum::<usize>(),
            _ => 8,
        }
    }
}

/// What a page lists.
pub(crate) trait Item: Serialize {
    /// What a person would call it.
    fn name(&self) -> String;
}

struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What was asked.
    #[serde(flatten)]
    pub ask: Ask,
    /// Asked of this platform of the subject, rather than of the subject itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<u32>,
    /// What was answered.
    pub answer: Answer,
}

/// The questions of one call, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace {
    questions: Vec<Question>,
}

impl Trace {
    /// The questions, in the order in which they were asked.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Canonical JSON; equal traces give equal bytes.
    ///
    /// # Errors
    /// None that occurs; the signature is `serde_json`'s.
    pub fn to_canonical_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The first question that `facts` answer otherwise. The time of the evaluation is left out: age rules say when they
    /// want to be asked again. None means that an evaluation over `facts` would come to the same verdict.
    pub fn first_changed(
        &self,
        facts: &SealedFacts,
        subject: Subject,
        order: VersionOrder,
    ) -> Option<&Question> {
        self.questions.iter().find(|question| {
            let node = Node::of(facts, subject, question.platform);
            question.ask != Ask::EvaluatedAtMs
                && node.is_none_or(|node| {
                    View { facts, node, order, clock: None }.answer(&question.ask) != question.answer
                })
        })
    }
}

/// A trace that is being written, with its limit.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) trace: Trace,
    pub(crate) bytes: usize,
    pub(crate) max_bytes: usize,
}

impl Recorder {
    /// False: the limit is reached and nothing was recorded.
    pub(crate) fn push(&mut self, question: Question, ask_bytes: usize) -> bool {
        let bytes = self.bytes + QUESTION_BYTES + ask_bytes + question.answer.weight();
        if bytes > self.max_bytes {
            return false;
        }
        self.bytes = bytes;
        if self.trace.questions.is_empty() {
            self.trace.questions.reserve(USUAL_QUESTIONS);
        }
        self.trace.questions.push(question);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_what_hashing_gives() {
        assert_eq!(NOTHING, crate::facts::sha256(b""));
    }
}
