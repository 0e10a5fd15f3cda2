//! A question that is narrowed before it is asked, and the pages of its answer.

use super::{Answers, Component, ComponentQuery, Finding, FindingQuery};
use std::fmt;

/// How many records one question fetches while iterating.
pub const PAGE: u32 = 100;

/// A question about one sort of records; every condition narrows it. Nothing is asked before [`count`](Query::count) and its
/// like.
pub struct Query<'a, Q> {
    pub(super) answers: &'a Answers,
    pub(super) query: Q,
}

/// A question about findings.
pub type Findings<'a> = Query<'a, FindingQuery>;

/// A question about components.
pub type Components<'a> = Query<'a, ComponentQuery>;

impl<Q: Ask> Query<'_, Q> {
    /// How many there are. On an index, those of its worst platform.
    pub fn count(&self) -> u32 {
        self.query.count(self.answers)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// All of them, fetched a page at a time.
    pub fn iter(&self) -> impl Iterator<Item = Q::Record> + '_ {
        pages(|start, max| self.query.page(self.answers, start, max))
    }

    /// The first few.
    pub fn first(&self, max: u32) -> Vec<Q::Record> {
        self.query.page(self.answers, 0, max)
    }
}

impl<Q> fmt::Debug for Query<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").finish_non_exhaustive()
    }
}

/// What there is a query for: findings and components.
pub trait Ask {
    /// What it finds.
    type Record;
    #[doc(hidden)]
    fn count(&self, answers: &Answers) -> u32;
    #[doc(hidden)]
    fn page(&self, answers: &Answers, start: u32, max: u32) -> Vec<Self::Record>;
}

impl Ask for FindingQuery {
    type Record = Finding;
    fn count(&self, answers: &Answers) -> u32 {
        answers.count_findings(self)
    }
    fn page(&self, answers: &Answers, start: u32, max: u32) -> Vec<Finding> {
        answers.findings(self, start, max)
    }
}

impl Ask for ComponentQuery {
    type Record = Component;
    fn count(&self, answers: &Answers) -> u32 {
        answers.count_components(self)
    }
    fn page(&self, answers: &Answers, start: u32, max: u32) -> Vec<Component> {
        answers.components(self, start, max)
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
