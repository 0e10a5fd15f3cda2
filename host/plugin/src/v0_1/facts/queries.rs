//! From lists of criteria to queries. What is past a bound, or does not read, ends the call.

use wasmtime::{Error, Result};

use super::super::bindings::wharf::plugin::facts as wit;
use crate::facts;
use crate::pattern::{MAX_PATTERN_BYTES, Range};
use crate::query::{ComponentQuery, FactGlob, FindingQuery, MAX_ALLOWED_LICENCES, MAX_CRITERIA};

/// What every criterion, and every entry of a list in one, weighs besides its text, in bytes.
const CRITERION_BYTES: usize = 16;

/// The query, and what it weighs on record in bytes.
pub(super) fn components(criteria: Vec<wit::ComponentCriterion>) -> Result<(ComponentQuery, usize)> {
    use wit::ComponentCriterion as By;
    let (mut query, mut bytes) = (ComponentQuery::default(), 0);
    for criterion in criteria {
        bytes += CRITERION_BYTES;
        match criterion {
            By::Name(glob) => add_text(&mut query.name, glob, &mut bytes)?,
            By::SourceName(glob) => add_text(&mut query.source_name, glob, &mut bytes)?,
            By::AnyName(glob) => add_text(&mut query.any_name, glob, &mut bytes)?,
            By::Version(range) => {
                Range::parse(&range).map_err(Error::msg)?;
                add_text(&mut query.version, range, &mut bytes)?;
            }
            By::Ecosystem(purl_type) => add_text(&mut query.ecosystem, purl_type, &mut bytes)?,
            By::Licence(glob) => add_text(&mut query.licence, glob, &mut bytes)?,
            By::LicenceOutside(allowed) => {
                if allowed.len() > MAX_ALLOWED_LICENCES {
                    return Err(Error::msg(format!(
                        "a list of licences may have {MAX_ALLOWED_LICENCES} entries, this has {}",
                        allowed.len()
                    )));
                }
                bytes += allowed.iter().map(|id| id.len() + CRITERION_BYTES).sum::<usize>();
                add(&mut query.licence_outside, allowed.into_iter().collect())?;
            }
            By::Unlicensed => query.unlicensed = true,
            By::Layer(index) => add(&mut query.layer, index)?,
            By::Path(glob) => add_text(&mut query.path, glob, &mut bytes)?,
            By::ConfidenceAtLeast(least) => {
                query.confidence_at_least = query.confidence_at_least.max(Some(confidence(least)));
            }
            By::Fact(fact) => add(&mut query.fact, fact_glob(fact, &mut bytes)?)?,
            By::IncludeHints => query.include_hints = true,
            By::IncludeUndecided => query.include_undecided = true,
        }
    }
    Ok((query, bytes))
}

/// The query, and what it weighs on record in bytes.
pub(super) fn findings(criteria: Vec<wit::FindingCriterion>) -> Result<(FindingQuery, usize)> {
    use wit::FindingCriterion as By;
    let (mut query, mut bytes) = (FindingQuery::default(), 0);
    for criterion in criteria {
        bytes += CRITERION_BYTES;
        match criterion {
            By::AtLeast(least) => query.at_least = query.at_least.max(Some(severity(least))),
            By::Severity(which) => {
                query.severity.insert(severity(which));
            }
            By::CvssAtLeast(tenths) => query.cvss_at_least = query.cvss_at_least.max(Some(tenths)),
            By::CvssBelow(tenths) => query.cvss_below = least(query.cvss_below, tenths),
            By::Unscored => query.unscored = true,
            By::Id(glob) => add_text(&mut query.id, glob, &mut bytes)?,
            By::Source(glob) => add_text(&mut query.source, glob, &mut bytes)?,
            By::Fixable => query.fixable = true,
            By::KnownExploited => query.known_exploited = true,
            By::PublishedBeforeMs(at) => query.published_before_ms = least(query.published_before_ms, at),
            By::ComponentName(glob) => add_text(&mut query.component_name, glob, &mut bytes)?,
            By::Layer(index) => add(&mut query.layer, index)?,
            By::Fact(fact) => add(&mut query.fact, fact_glob(fact, &mut bytes)?)?,
            By::Certain => query.certain = true,
            By::IncludeWaived => query.include_waived = true,
            By::IncludeHints => query.include_hints = true,
        }
    }
    Ok((query, bytes))
}

fn add_text(list: &mut Vec<String>, text: String, bytes: &mut usize) -> Result<()> {
    check_pattern(&text)?;
    *bytes += text.len();
    add(list, text)
}

fn add<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.len() >= MAX_CRITERIA {
        return Err(Error::msg(format!("a question may have {MAX_CRITERIA} criteria of one case")));
    }
    list.push(item);
    Ok(())
}

fn fact_glob(fact: wit::FactCriterion, bytes: &mut usize) -> Result<FactGlob> {
    let wit::FactCriterion { name, glob } = fact;
    check_pattern(&name)?;
    check_pattern(&glob)?;
    *bytes += name.len() + glob.len();
    Ok(FactGlob { name, glob })
}

fn check_pattern(text: &str) -> Result<()> {
    if text.len() > MAX_PATTERN_BYTES {
        return Err(Error::msg(format!(
            "the text of a criterion may have {MAX_PATTERN_BYTES} bytes, this has {}",
            text.len()
        )));
    }
    Ok(())
}

fn least<T: Ord + Copy>(bound: Option<T>, next: T) -> Option<T> {
    Some(bound.map_or(next, |bound| bound.min(next)))
}

fn confidence(confidence: wit::Confidence) -> facts::Confidence {
    match confidence {
        wit::Confidence::Hint => facts::Confidence::Hint,
        wit::Confidence::Probable => facts::Confidence::Probable,
        wit::Confidence::Confirmed => facts::Confidence::Confirmed,
        wit::Confidence::Exact => facts::Confidence::Exact,
    }
}

fn severity(severity: wit::Severity) -> facts::Severity {
    match severity {
        wit::Severity::Unknown => facts::Severity::Unknown,
        wit::Severity::Negligible => facts::Severity::Negligible,
        wit::Severity::Low => facts::Severity::Low,
        wit::Severity::Medium => facts::Severity::Medium,
        wit::Severity::High => facts::Severity::High,
        wit::Severity::Critical => facts::Severity::Critical,
    }
}
