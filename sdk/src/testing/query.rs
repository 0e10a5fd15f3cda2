//! What a question narrows to, over facts in memory.

use super::version::Range;
use super::{Confidence, FixState, bounds};
use crate::glob;
use crate::image::{Component, ComponentCriterion, Finding, FindingCriterion};
use crate::testing::Facts;
use spdx::{Expression, LicenseItem, LicenseReq, Licensee, ParseMode};

impl Facts {
    pub(super) fn select_components(&self, criteria: &[ComponentCriterion]) -> Vec<Component> {
        bounds::check_components(criteria);
        self.worst(|facts| {
            let matching = facts.components.iter().filter(|component| facts.has(component, criteria));
            matching.cloned().collect()
        })
    }

    fn has(&self, component: &Component, criteria: &[ComponentCriterion]) -> bool {
        use ComponentCriterion as By;
        let source = component.source_name.as_ref().unwrap_or(&component.name);
        let hints = criteria.iter().any(|criterion| matches!(criterion, By::IncludeHints));
        let undecided = criteria.iter().any(|criterion| matches!(criterion, By::IncludeUndecided));
        let holds = |criterion: &By| match criterion {
            By::Name(pattern) => glob(pattern, &component.name),
            By::SourceName(pattern) => glob(pattern, source),
            By::AnyName(pattern) => glob(pattern, &component.name) || glob(pattern, source),
            By::Version(range) => match (&component.version, Range::parse(range)) {
                (Some(version), Ok(range)) => range.contains(version),
                (None, Ok(_)) => undecided,
                (_, Err(_)) => false,
            },
            By::Ecosystem(purl_type) => component.ecosystem == *purl_type,
            By::Licence(pattern) => {
                let pattern = pattern.to_lowercase();
                component.licences.iter().any(|text| names(text, &pattern))
            }
            By::LicenceOutside(allowed) => component.licences.iter().any(|text| !satisfied(text, allowed)),
            By::Unlicensed => component.licences.is_empty(),
            By::Layer(index) => component.layer == Some(*index),
            By::Path(pattern) => component.path.as_ref().is_some_and(|path| glob(pattern, path)),
            By::ConfidenceAtLeast(least) => component.confidence >= *least,
            By::Fact(fact) => {
                self.component_fact(component.index, &fact.name).is_some_and(|value| glob(&fact.glob, &value))
            }
            By::IncludeHints | By::IncludeUndecided => true,
        };
        (hints || component.confidence != Confidence::Hint) && criteria.iter().all(holds)
    }

    pub(super) fn select_findings(&self, criteria: &[FindingCriterion]) -> Vec<Finding> {
        bounds::check_findings(criteria);
        self.worst(|facts| {
            let matching = facts.findings.iter().filter(|finding| facts.found(finding, criteria));
            matching.cloned().collect()
        })
    }

    fn found(&self, finding: &Finding, criteria: &[FindingCriterion]) -> bool {
        use FindingCriterion as By;
        let component = self.components.get(finding.component as usize);
        let is_hint = component.is_some_and(|c| c.confidence == Confidence::Hint);
        let source = component.and_then(|c| c.source_name.as_ref());
        let ids = || finding.aliases.iter().chain([&finding.id]);
        let holds = |criterion: &By| match criterion {
            By::AtLeast(least) => finding.severity >= *least,
            By::Severity(which) => finding.severity == *which,
            By::CvssAtLeast(tenths) => finding.cvss_tenths.is_some_and(|score| score >= *tenths),
            By::CvssBelow(tenths) => finding.cvss_tenths.is_some_and(|score| score < *tenths),
            By::Unscored => finding.cvss_tenths.is_none(),
            By::Id(pattern) => ids().any(|id| glob(pattern, id)),
            By::Source(pattern) => glob(pattern, &finding.source),
            By::Fixable => finding.fix == FixState::Fixed,
            By::KnownExploited => finding.known_exploited,
            By::PublishedBeforeMs(at) => finding.published_at_ms.is_some_and(|published| published < *at),
            By::ComponentName(pattern) => {
                glob(pattern, &finding.component_name) || source.is_some_and(|source| glob(pattern, source))
            }
            By::Layer(layer) => component.and_then(|c| c.layer) == Some(*layer),
            By::Fact(fact) => {
                self.finding_fact(finding.index, &fact.name).is_some_and(|value| glob(&fact.glob, &value))
            }
            By::Certain => !finding.possible_only,
            By::IncludeWaived | By::IncludeHints => true,
        };
        let one_of = |these: fn(&By) -> bool| {
            let mut these = criteria.iter().filter(|criterion| these(criterion)).peekable();
            these.peek().is_none() || these.any(holds)
        };
        let is_severity = |criterion: &By| matches!(criterion, By::Severity(_));
        let is_id = |criterion: &By| matches!(criterion, By::Id(_));
        let asked = |which: By| criteria.contains(&which);
        (asked(By::IncludeWaived) || !finding.waived)
            && (asked(By::IncludeHints) || !is_hint)
            && one_of(is_severity)
            && one_of(is_id)
            && criteria.iter().filter(|one| !is_severity(one) && !is_id(one)).all(holds)
    }

    /// An index answers as its worst platform: the first one where most match.
    fn worst<T>(&self, select: impl Fn(&Facts) -> Vec<T>) -> Vec<T> {
        self.platforms
            .iter()
            .map(&select)
            .reduce(|a, b| if b.len() > a.len() { b } else { a })
            .unwrap_or_else(|| select(self))
    }
}

/// Without the guesses of the crate, for which `GPL` is version 2 and `BSD` has two clauses.
const SURE: ParseMode = ParseMode { allow_imprecise_license_names: false, ..ParseMode::LAX };

/// Whether a licence expression names a licence or exception that matches; a text that is none is compared as a whole, and by what
/// it may mean.
fn names(text: &str, pattern: &str) -> bool {
    let named = |name: String| glob(pattern, &name.to_lowercase());
    let in_expression = |expression: Expression| {
        expression.requirements().any(|one| {
            let licence = &one.req.license;
            named(licence.id().map_or_else(|| licence.to_string(), |id| id.name.to_owned()))
                || one.req.addition.as_ref().is_some_and(|addition| named(addition.to_string()))
        })
    };
    match Expression::parse_mode(text, SURE) {
        Ok(expression) => in_expression(expression),
        Err(_) => {
            named(text.to_owned()) || Expression::parse_mode(text, ParseMode::LAX).is_ok_and(in_expression)
        }
    }
}

/// Whether a licence expression can be satisfied with these alone.
fn satisfied(text: &str, allowed: &[String]) -> bool {
    let listed: Vec<Licensee> =
        allowed.iter().filter_map(|text| Licensee::parse_mode(text, SURE).ok()).flat_map(names_of).collect();
    let one_satisfies = |required: &LicenseReq| listed.iter().any(|one| one.satisfies(required));
    let granted = |required: &LicenseReq| {
        one_satisfies(required) || today(required).is_some_and(|required| one_satisfies(&required))
    };
    allowed.iter().any(|entry| entry == text)
        || Expression::parse_mode(text, SURE).is_ok_and(|expression| expression.evaluate(granted))
}

/// A licence that is allowed, by its own name and by the one it has today.
fn names_of(allowed: Licensee) -> impl Iterator<Item = Licensee> {
    let now = today(&allowed.clone().into_req()).map(|now| Licensee::new(now.license, now.addition));
    [Some(allowed), now].into_iter().flatten()
}

/// What an old identifier of GNU's is today: `GPL-2.0` is `GPL-2.0-only`. Those with a `+` are read so already.
fn today(old: &LicenseReq) -> Option<LicenseReq> {
    let name = old.license.id().filter(|id| id.is_gnu())?.name;
    let license = LicenseItem::Spdx { id: spdx::gnu_license_id(name, false)?, or_later: false };
    Some(LicenseReq { license, addition: old.addition.clone() })
}
