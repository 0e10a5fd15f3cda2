//! The bounds of a question. What is past one ends the call in Wharf, and so it ends the test here, with the same words.

use crate::image::{ComponentCriterion, FindingCriterion, MAX_PATTERN_BYTES};
use std::mem::discriminant;

/// The most criteria of one case in one question.
const MAX_CRITERIA: usize = 64;

/// The most records that one question returns, whatever was asked for.
pub(super) const MAX_PAGE: u32 = 1_000;

/// # Panics
/// If the question is past a bound.
pub(super) fn check_components(criteria: &[ComponentCriterion]) {
    use ComponentCriterion as By;
    check_counts(criteria);
    for criterion in criteria {
        match criterion {
            By::Name(text)
            | By::SourceName(text)
            | By::AnyName(text)
            | By::Version(text)
            | By::Ecosystem(text)
            | By::Licence(text)
            | By::Path(text) => check_text(text),
            By::Fact(fact) => [&fact.name, &fact.glob].into_iter().for_each(|text| check_text(text)),
            // Its entries were counted when it was made.
            By::LicenceOutside(_)
            | By::Unlicensed
            | By::Layer(_)
            | By::ConfidenceAtLeast(_)
            | By::IncludeHints
            | By::IncludeUndecided => {}
        }
    }
}

/// # Panics
/// If the question is past a bound.
pub(super) fn check_findings(criteria: &[FindingCriterion]) {
    use FindingCriterion as By;
    check_counts(criteria);
    for criterion in criteria {
        match criterion {
            By::Id(text) | By::Source(text) | By::ComponentName(text) => check_text(text),
            By::Fact(fact) => [&fact.name, &fact.glob].into_iter().for_each(|text| check_text(text)),
            By::AtLeast(_)
            | By::Severity(_)
            | By::CvssAtLeast(_)
            | By::CvssBelow(_)
            | By::Unscored
            | By::Fixable
            | By::KnownExploited
            | By::PublishedBeforeMs(_)
            | By::Layer(_)
            | By::Certain
            | By::IncludeWaived
            | By::IncludeHints => {}
        }
    }
}

fn check_counts<C>(criteria: &[C]) {
    let of_its_case =
        |one: &C| criteria.iter().filter(|other| discriminant(*other) == discriminant(one)).count();
    let within = criteria.iter().all(|one| of_its_case(one) <= MAX_CRITERIA);
    assert!(within, "a question may have {MAX_CRITERIA} criteria of one case");
}

fn check_text(text: &str) {
    assert!(
        text.len() <= MAX_PATTERN_BYTES,
        "the text of a criterion may have {MAX_PATTERN_BYTES} bytes, this has {}",
        text.len()
    );
}
