//! A question that is narrowed before it is asked, and the pages of its answer.

use super::{Answers, Component, ComponentCriterion, Finding, FindingCriterion};
use std::fmt;

/// The longest text that narrows a question, in bytes: a longer one ends the call. Whoever passes on what a configuration says
/// refuses such a configuration.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// How many records one question fetches while iterating.
pub const PAGE: u32 = 100;

/// A question about one sort of records; every condition narrows it. Nothing is asked before [`count`](Query::count) and its
/// like.
pub struct Query<'a, C> {
    answers: &'a Answers,
    criteria: Vec<C>,
}

/// A question about findings.
pub type Findings<'a> = Query<'a, FindingCriterion>;

/// A question about components.
pub type Components<'a> = Query<'a, ComponentCriterion>;

impl<'a, C> Query<'a, C> {
    pub(super) fn new(answers: &'a Answers) -> Self {
        Query { answers, criteria: Vec::new() }
    }

    pub(super) fn by(mut self, criterion: C) -> Self {
        self.criteria.push(criterion);
        self
    }
}

impl<C: Ask> Query<'_, C> {
    /// How many there are. On an index, those of its worst platform.
    pub fn count(&self) -> u32 {
        C::count(self.answers, &self.criteria)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// All of them, fetched a page at a time.
    pub fn iter(&self) -> impl Iterator<Item = C::Record> + '_ {
        pages(|start, max| C::page(self.answers, &self.criteria, start, max))
    }

    /// The first few.
    pub fn first(&self, max: u32) -> Vec<C::Record> {
        C::page(self.answers, &self.criteria, 0, max)
    }
}

impl<C> fmt::Debug for Query<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").finish_non_exhaustive()
    }
}

/// What there are questions about: findings and components, each with its criteria.
pub trait Ask: Sized {
    /// What it finds.
    type Record;
    #[doc(hidden)]
    fn count(answers: &Answers, criteria: &[Self]) -> u32;
    #[doc(hidden)]
    fn page(answers: &Answers, criteria: &[Self], start: u32, max: u32) -> Vec<Self::Record>;
}

impl Ask for FindingCriterion {
    type Record = Finding;
    fn count(answers: &Answers, criteria: &[Self]) -> u32 {
        answers.count_findings(criteria)
    }
    fn page(answers: &Answers, criteria: &[Self], start: u32, max: u32) -> Vec<Finding> {
        answers.findings(criteria, start, max)
    }
}

impl Ask for ComponentCriterion {
    type Record = Component;
    fn count(answers: &Answers, criteria: &[Self]) -> u32 {
        answers.count_components(criteria)
    }
    fn page(answers: &Answers, criteria: &[Self], start: u32, max: u32) -> Vec<Component> {
        answers.components(criteria, start, max)
    }
}

/// Calls `fetch` until a page comes back short.
pub(super) fn pages<T>(fetch: impl Fn(u32, u32) -> Vec<T>) -> impl Iterator<Item = T> {
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
