//! Carries the criteria out over one image.
//!
//! Invariant: a criterion that cannot be decided is never met: it holds, whatever the verdict for an unmet one is.
//! Invariant: only what decides is asked, since each question is a part of the stored explanation.

use crate::check::{By, Check, Compare, Criteria, Criterion};
use crate::field::{Count, Needs, Operator, Text};
use crate::value::{duration_text, size_text, time_text};
use std::borrow::Cow;
use wharf_sdk::image::{Components, knowledge_text};
use wharf_sdk::prelude::*;

/// How many examples a reason names.
const EXAMPLES: usize = 3;

/// What a criterion says of an image.
enum Answer {
    Met,
    Unmet(String),
    /// Not met yet: time alone will do it.
    NotYet(String),
    /// It cannot be told.
    Undecided(String),
}

fn met_if(met: bool, unmet: impl FnOnce() -> String) -> Answer {
    if met { Answer::Met } else { Answer::Unmet(unmet()) }
}

pub(crate) fn judge(config: &Criteria, image: &Image<'_>) -> Judgement {
    let mut outcome = approve();
    let gap = knowledge_gap(config, image);
    for criterion in &config.criteria {
        if let Some((level, why)) = &gap
            && criterion.needs >= *level
        {
            outcome.hold("no-data", format!("`{}` cannot be judged: {why}", criterion.name));
            continue;
        }
        match answer(config, criterion, image, &mut outcome)? {
            Answer::Met => {}
            Answer::Unmet(text) if config.when_unmet == Verdict::Reject => {
                outcome.reject(criterion.name, text)
            }
            Answer::Unmet(text) | Answer::NotYet(text) | Answer::Undecided(text) => {
                outcome.hold(criterion.name, text)
            }
        }
    }
    if outcome.verdict != Verdict::Approve {
        return Ok(outcome);
    }
    Ok(note_unrated(config, image, outcome).note("criteria-met", met_text(config.criteria.len())))
}

fn met_text(criteria: usize) -> String {
    if criteria == 1 { "the criterion is met".to_owned() } else { format!("all {criteria} criteria are met") }
}

/// The first level of knowledge that is missing, and why. Where that is to be ignored it is asked all the same, since the host
/// holds an approval of what was not scanned unless the policy asked.
fn knowledge_gap(config: &Criteria, image: &Image<'_>) -> Option<(Needs, String)> {
    let needs = config.criteria.iter().map(|criterion| criterion.needs).max()?;
    if needs == Needs::Nothing && config.hold_unscanned {
        return None;
    }
    let scan = image.scan();
    let no_data = (needs == Needs::Findings || !config.hold_unscanned) && !image.has_vulnerability_data();
    let gap = if scan != Knowledge::Complete {
        Some((Needs::Components, format!("the image {}", knowledge_text(scan))))
    } else if no_data {
        Some((Needs::Findings, "the image was compared with no vulnerability data".to_owned()))
    } else {
        None
    };
    gap.filter(|_| config.hold_unscanned)
}

fn answer(
    config: &Criteria,
    criterion: &Criterion,
    image: &Image<'_>,
    outcome: &mut Outcome,
) -> Result<Answer, Stop> {
    Ok(match &criterion.check {
        Check::Text { which, test, negative } => {
            let texts = texts(*which, image);
            let found = texts.iter().any(|text| test.holds(text, &criterion.values));
            match texts.first() {
                None if *negative && *which == Text::Tag => Answer::Met,
                None => Answer::Undecided(format!(
                    "the image has no `{}`, the rule wants {}",
                    criterion.name,
                    criterion.wants()
                )),
                Some(text) => met_if(found != *negative, || unmet(criterion, &format!("is `{text}`"))),
            }
        }
        Check::Components(by) => components(config, criterion, image, *by),
        Check::Versions(pairs) => versions(criterion, image, pairs)?,
        Check::Cve => {
            let globs = criterion.values.iter();
            let found: Vec<Finding> =
                globs.flat_map(|glob| image.findings().id(glob).first(EXAMPLES as u32)).collect();
            found_or_not(criterion, found.iter().map(finding_text).collect())
        }
        Check::Count { which, compare, bound } => count(config, criterion, image, *which, *compare, *bound),
        Check::Cvss { compare, tenths } => cvss(config, criterion, image, *compare, *tenths),
        Check::Size { compare, bytes } => {
            let size = image.size_bytes();
            met_if(compare.holds(size, *bytes), || unmet(criterion, &format!("is {}", size_text(size))))
        }
        Check::UpdatedAt { before, at_ms } => {
            let pushed = image.pushed_at_ms();
            let holds = if *before { pushed < *at_ms } else { pushed > *at_ms };
            met_if(holds, || unmet(criterion, &format!("is {}", time_text(pushed))))
        }
        Check::Age { compare, ms } => age(criterion, image, *compare, *ms, outcome),
    })
}

fn unmet(criterion: &Criterion, is: &str) -> String {
    format!("`{}` {is}, the rule wants {}", criterion.name, criterion.wants())
}

/// What a text field may be called; a platform with and without its variant.
fn texts(which: Text, image: &Image<'_>) -> Vec<String> {
    match which {
        Text::Tag => image.tag().into_iter().collect(),
        Text::Repository => vec![image.repository()],
        Text::PushedBy => vec![image.pushed_by()],
        Text::Distribution => image.distribution().into_iter().collect(),
        Text::Platform => image.platform().map_or_else(Vec::new, |platform| {
            let plain = format!("{}/{}", platform.os, platform.architecture);
            platform.variant.map(|variant| format!("{plain}/{variant}")).into_iter().chain([plain]).collect()
        }),
    }
}

fn components(config: &Criteria, criterion: &Criterion, image: &Image<'_>, by: By) -> Answer {
    let mut found = Vec::new();
    for value in &criterion.values {
        let glob = glob(criterion.operator, value);
        match by {
            By::Name => gather(&image.components().any_name(&glob), &mut found),
            By::Licence => gather(&image.components().licence(&glob), &mut found),
        }
    }
    let texts: Vec<String> = found
        .iter()
        .map(|c| {
            if by == By::Licence {
                format!("{} ({})", component_text(c), c.licences.join("; "))
            } else {
                component_text(c)
            }
        })
        .collect();
    if by == By::Licence && !criterion.wanted() && texts.is_empty() && config.hold_unlicensed {
        let unlicensed = image.components().unlicensed();
        let count = unlicensed.count();
        if count > 0 {
            let some = examples(
                unlicensed.first(EXAMPLES as u32).iter().map(component_text).collect(),
                u64::from(count),
            );
            return Answer::Undecided(format!(
                "`{}` cannot be judged: of {count} components no licence is known: {some}",
                criterion.name
            ));
        }
    }
    found_or_not(criterion, texts)
}

/// What the names that an operator finds match.
pub(crate) fn glob(operator: Operator, value: &str) -> Cow<'_, str> {
    match operator {
        Operator::Sw => format!("{value}*").into(),
        Operator::Ew => format!("*{value}").into(),
        Operator::C => format!("*{value}*").into(),
        _ => value.into(),
    }
}

fn gather(components: &Components<'_>, found: &mut Vec<Component>) {
    for component in components.first(EXAMPLES as u32 + 1) {
        if found.iter().all(|known| known.index != component.index) {
            found.push(component);
        }
    }
}

fn versions(criterion: &Criterion, image: &Image<'_>, pairs: &[(String, String)]) -> Result<Answer, Stop> {
    let mut found = Vec::new();
    for (name, range) in pairs {
        let query = image.components().any_name(name).version(range)?;
        // What is forbidden must not pass because its version is not known.
        gather(&if criterion.wanted() { query } else { query.include_undecided() }, &mut found);
    }
    Ok(found_or_not(criterion, found.iter().map(component_text).collect()))
}

fn found_or_not(criterion: &Criterion, mut found: Vec<String>) -> Answer {
    let wanted = criterion.wanted();
    if found.is_empty() != wanted {
        return Answer::Met;
    }
    if wanted {
        return Answer::Unmet(unmet(criterion, "finds nothing"));
    }
    let more = found.len() > EXAMPLES;
    found.truncate(EXAMPLES);
    let and = if more { " and others" } else { "" };
    Answer::Unmet(unmet(criterion, &format!("finds {}{and}", found.join(", "))))
}

fn count(
    config: &Criteria,
    criterion: &Criterion,
    image: &Image<'_>,
    which: Count,
    compare: Compare,
    bound: u64,
) -> Answer {
    let mut findings = image.findings();
    for severity in which.severities {
        findings = findings.severity(*severity);
    }
    if config.count_unrated && !which.severities.is_empty() && !which.severities.contains(&Severity::Unknown)
    {
        findings = findings.severity(Severity::Unknown);
    }
    if which.fixable {
        findings = findings.fixable();
    }
    let count = u64::from(findings.count());
    met_if(compare.holds(count, bound), || {
        let text = unmet(criterion, &format!("is {count}"));
        let some = examples(findings.first(EXAMPLES as u32).iter().map(finding_text).collect(), count);
        if count == 0 { text } else { format!("{text}: {some}") }
    })
}

fn cvss(
    config: &Criteria,
    criterion: &Criterion,
    image: &Image<'_>,
    compare: Compare,
    tenths: u64,
) -> Answer {
    let least = match compare {
        Compare::Gt | Compare::Lte => tenths + 1,
        _ => tenths,
    };
    let above = image.findings().cvss_at_least(least as f32 / 10.0);
    let count = u64::from(above.count());
    if matches!(compare, Compare::Gt | Compare::Gte) {
        return met_if(count > 0, || {
            format!("no finding has a `cvss` that the rule wants: {}", criterion.wants())
        });
    }
    if count > 0 {
        let worst: Option<Finding> = above.iter().max_by_key(|finding| finding.cvss_tenths);
        let score = worst.as_ref().and_then(|finding| finding.cvss_tenths).unwrap_or(0);
        let text = worst.as_ref().map(finding_text).unwrap_or_default();
        return Answer::Unmet(unmet(criterion, &format!("is {}.{} ({text})", score / 10, score % 10)));
    }
    let unscored = if config.count_unrated { u64::from(image.findings().unscored().count()) } else { 0 };
    met_if(unscored == 0, || {
        let some = image.findings().unscored().first(EXAMPLES as u32).iter().map(finding_text).collect();
        unmet(criterion, &format!("is not known of {unscored} findings ({})", examples(some, unscored)))
    })
}

fn age(criterion: &Criterion, image: &Image<'_>, compare: Compare, ms: u64, outcome: &mut Outcome) -> Answer {
    let (pushed, now) = (image.pushed_at_ms(), image.evaluated_at_ms());
    let age = now.saturating_sub(pushed);
    let reached = pushed.saturating_add(ms);
    let flips_at =
        if matches!(compare, Compare::Gt | Compare::Lte) { reached.saturating_add(1) } else { reached };
    if flips_at > now {
        outcome.recheck_at(flips_at);
    }
    if compare.holds(age, ms) {
        return Answer::Met;
    }
    let text = unmet(criterion, &format!("is {}", duration_text(age)));
    match compare {
        Compare::Gt | Compare::Gte => {
            Answer::NotYet(format!("{text}: it will be met at {}", time_text(flips_at)))
        }
        _ => Answer::Unmet(text),
    }
}

/// Says how many findings no class counted, so that nobody takes a low number for a clean image.
fn note_unrated(config: &Criteria, image: &Image<'_>, outcome: Outcome) -> Outcome {
    let by_rating = |c: &Criterion| match &c.check {
        Check::Count { which, .. } => !which.severities.is_empty(),
        Check::Cvss { .. } => true,
        _ => false,
    };
    if config.count_unrated || !config.criteria.iter().any(by_rating) {
        return outcome;
    }
    match image.findings().severity(Severity::Unknown).count() {
        0 => outcome,
        n => outcome.note("unrated", format!("{n} findings have no rating and count in no class")),
    }
}

fn finding_text(finding: &Finding) -> String {
    let Finding { id, component_name, component_version, .. } = finding;
    match &finding.fixed_in {
        Some(version) => format!("{id} in {component_name} {component_version} (fixed in {version})"),
        None => format!("{id} in {component_name} {component_version}"),
    }
}

fn component_text(component: &Component) -> String {
    let version = match (&component.version, &component.version_range) {
        (Some(version), _) => version.clone(),
        (None, Some(range)) => format!("of a version in {range}"),
        (None, None) => "of an unknown version".to_owned(),
    };
    match &component.source_name {
        Some(source) if *source != component.name => format!("{} {version} (of {source})", component.name),
        _ => format!("{} {version}", component.name),
    }
}

fn examples(texts: Vec<String>, count: u64) -> String {
    let more = count.saturating_sub(texts.len() as u64);
    let list = texts.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}
