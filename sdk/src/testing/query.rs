//! What a query narrows to, over facts in memory.

use super::version::Range;
use super::{Confidence, FixState};
use crate::glob;
use crate::image::{Component, Finding, Severity};
use crate::testing::Facts;
use std::cell::{Cell, RefCell};
use std::fmt;

type Test<T> = Box<dyn Fn(&T) -> bool>;

/// Stands in for the interface's `component-query`.
#[derive(Default)]
pub struct ComponentQuery {
    tests: RefCell<Vec<Test<Component>>>,
    ranges: RefCell<Vec<Range>>,
    hints: Cell<bool>,
    undecided: Cell<bool>,
}

impl ComponentQuery {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn add(&self, test: impl Fn(&Component) -> bool + 'static) {
        self.tests.borrow_mut().push(Box::new(test));
    }

    pub(crate) fn name(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.add(move |c| glob(&pattern, &c.name));
    }

    pub(crate) fn source_name(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.add(move |c| glob(&pattern, c.source_name.as_ref().unwrap_or(&c.name)));
    }

    pub(crate) fn any_name(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.add(move |c| {
            glob(&pattern, &c.name) || c.source_name.as_ref().is_some_and(|s| glob(&pattern, s))
        });
    }

    pub(crate) fn version(&self, range: &str) -> Result<(), String> {
        self.ranges.borrow_mut().push(Range::parse(range)?);
        Ok(())
    }

    pub(crate) fn ecosystem(&self, purl_type: &str) {
        let purl_type = purl_type.to_owned();
        self.add(move |c| c.ecosystem == purl_type);
    }

    pub(crate) fn licence(&self, pattern: &str) {
        let pattern = pattern.to_lowercase();
        self.add(move |c| c.licences.iter().any(|text| names(text, &pattern)));
    }

    pub(crate) fn licence_outside(&self, allowed: &[String]) -> Result<(), String> {
        let allowed = allowed.to_vec();
        let licensees: Vec<spdx::Licensee> =
            allowed.iter().filter_map(|text| spdx::Licensee::parse(text).ok()).collect();
        self.add(move |c| {
            c.licences.iter().any(|text| match spdx::Expression::parse(text) {
                Ok(expression) => !expression.evaluate(|req| licensees.iter().any(|l| l.satisfies(req))),
                Err(_) => !allowed.contains(text),
            })
        });
        Ok(())
    }

    pub(crate) fn unlicensed(&self) {
        self.add(|c| c.licences.is_empty());
    }

    pub(crate) fn layer(&self, index: u32) {
        self.add(move |c| c.layer == Some(index));
    }

    pub(crate) fn path(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.add(move |c| c.path.as_ref().is_some_and(|path| glob(&pattern, path)));
    }

    pub(crate) fn confidence_at_least(&self, least: Confidence) {
        self.add(move |c| c.confidence >= least);
    }

    pub(crate) fn include_hints(&self) {
        self.hints.set(true);
    }

    pub(crate) fn include_undecided(&self) {
        self.undecided.set(true);
    }

    fn matches(&self, component: &Component) -> bool {
        let in_ranges = || {
            self.ranges.borrow().iter().all(|range| match &component.version {
                Some(version) => range.contains(version),
                None => self.undecided.get(),
            })
        };
        (self.hints.get() || component.confidence != Confidence::Hint)
            && self.tests.borrow().iter().all(|test| test(component))
            && in_ranges()
    }

    pub(super) fn select(&self, facts: &Facts) -> Vec<Component> {
        worst(facts, |facts| facts.components.iter().filter(|c| self.matches(c)).cloned().collect())
    }
}

/// Whether a licence expression names a licence or exception that matches; a text that is none is compared as a whole.
fn names(text: &str, pattern: &str) -> bool {
    let named = |name: String| glob(pattern, &name.to_lowercase());
    match spdx::Expression::parse(text) {
        Ok(expression) => expression.requirements().any(|one| {
            let licence = &one.req.license;
            named(licence.id().map_or_else(|| licence.to_string(), |id| id.name.to_owned()))
                || one.req.addition.as_ref().is_some_and(|addition| named(addition.to_string()))
        }),
        Err(_) => named(text.to_owned()),
    }
}

/// Stands in for the interface's `finding-query`.
#[derive(Default)]
pub struct FindingQuery {
    tests: RefCell<Vec<Test<Finding>>>,
    severities: RefCell<Vec<Severity>>,
    ids: RefCell<Vec<String>>,
    layer: Cell<Option<u32>>,
    component: RefCell<Vec<String>>,
    waived: Cell<bool>,
    hints: Cell<bool>,
}

impl FindingQuery {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn add(&self, test: impl Fn(&Finding) -> bool + 'static) {
        self.tests.borrow_mut().push(Box::new(test));
    }

    pub(crate) fn at_least(&self, least: Severity) {
        self.add(move |f| f.severity >= least);
    }

    pub(crate) fn severity(&self, which: Severity) {
        self.severities.borrow_mut().push(which);
    }

    pub(crate) fn cvss_at_least(&self, tenths: u8) {
        self.add(move |f| f.cvss_tenths.is_some_and(|score| score >= tenths));
    }

    pub(crate) fn cvss_below(&self, tenths: u8) {
        self.add(move |f| f.cvss_tenths.is_some_and(|score| score < tenths));
    }

    pub(crate) fn unscored(&self) {
        self.add(|f| f.cvss_tenths.is_none());
    }

    pub(crate) fn id(&self, pattern: &str) {
        self.ids.borrow_mut().push(pattern.to_owned());
    }

    pub(crate) fn source(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.add(move |f| glob(&pattern, &f.source));
    }

    pub(crate) fn fixable(&self) {
        self.add(|f| f.fix == FixState::Fixed);
    }

    pub(crate) fn known_exploited(&self) {
        self.add(|f| f.known_exploited);
    }

    pub(crate) fn published_before_ms(&self, at: u64) {
        self.add(move |f| f.published_at_ms.is_some_and(|published| published < at));
    }

    pub(crate) fn component_name(&self, pattern: &str) {
        self.component.borrow_mut().push(pattern.to_owned());
    }

    pub(crate) fn layer(&self, index: u32) {
        self.layer.set(Some(index));
    }

    pub(crate) fn certain(&self) {
        self.add(|f| !f.possible_only);
    }

    pub(crate) fn include_waived(&self) {
        self.waived.set(true);
    }

    pub(crate) fn include_hints(&self) {
        self.hints.set(true);
    }

    fn matches(&self, facts: &Facts, finding: &Finding) -> bool {
        let component = facts.components.get(finding.component as usize);
        let is_hint = component.is_some_and(|c| c.confidence == Confidence::Hint);
        let named = |pattern: &String| {
            let source = component.and_then(|c| c.source_name.as_ref());
            glob(pattern, &finding.component_name) || source.is_some_and(|source| glob(pattern, source))
        };
        let identified =
            |pattern: &String| finding.aliases.iter().chain([&finding.id]).any(|id| glob(pattern, id));
        let (severities, ids) = (self.severities.borrow(), self.ids.borrow());
        (self.waived.get() || !finding.waived)
            && (self.hints.get() || !is_hint)
            && (severities.is_empty() || severities.contains(&finding.severity))
            && (ids.is_empty() || ids.iter().any(identified))
            && self.component.borrow().iter().all(named)
            && self.layer.get().is_none_or(|layer| component.and_then(|c| c.layer) == Some(layer))
            && self.tests.borrow().iter().all(|test| test(finding))
    }

    pub(super) fn select(&self, facts: &Facts) -> Vec<Finding> {
        worst(facts, |facts| facts.findings.iter().filter(|f| self.matches(facts, f)).cloned().collect())
    }
}

/// An index answers as its worst platform: the first one where most match.
fn worst<T>(facts: &Facts, select: impl Fn(&Facts) -> Vec<T>) -> Vec<T> {
    facts
        .platforms
        .iter()
        .map(&select)
        .reduce(|a, b| if b.len() > a.len() { b } else { a })
        .unwrap_or_else(|| select(facts))
}

macro_rules! opaque_debug {
    ($($name:ident),*) => { $( impl fmt::Debug for $name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct(stringify!($name)).finish_non_exhaustive()
        }
    } )* };
}
opaque_debug!(ComponentQuery, FindingQuery);
