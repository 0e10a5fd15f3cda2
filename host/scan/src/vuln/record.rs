//! One OSV record taken apart: what vulnerabilities it is about, and a row for what it says of one package.
//!
//! Invariant: what comes out is bounded; a record beyond a bound is refused whole ([`check`]).

use super::osv;
use super::release::Release;
use super::row::{self, Event, Row};

/// Bytes of names, versions and identifiers.
pub(super) const TEXT_BYTES: usize = 256;
/// Names of one vulnerability, ranges and events of one package, versions listed one by one.
const NAMES: usize = 4096;
const EVENTS: usize = 4096;
const VERSIONS: usize = 100_000;

pub(super) fn short(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES && !text.contains(char::is_control)
}

/// Bounds of one record.
pub(super) fn check(record: &osv::Record) -> Result<(), &'static str> {
    let all_names = || record.aliases.iter().chain(&record.upstream).chain(&record.related);
    if !short(&record.id) || !all_names().all(|n| short(n)) {
        return Err("an identifier is empty or over its bound");
    }
    if all_names().count() > NAMES {
        return Err("it has too many names");
    }
    for affected in &record.affected {
        if affected.package.as_ref().is_some_and(|p| !short(&p.name) || p.ecosystem.len() > TEXT_BYTES) {
            return Err("a package's name is empty or over its bound");
        }
        let events = || affected.ranges.iter().flat_map(|r| &r.events);
        if events().count() > EVENTS || affected.versions.len() > VERSIONS {
            return Err("it has too many events or versions");
        }
        if !events().flat_map(osv::Event::versions).chain(&affected.versions).all(|v| short(v)) {
            return Err("a version is empty or over its bound");
        }
    }
    Ok(())
}

/// The vulnerabilities that a record is about, each by its CVE name where it has one, with their other names.
///
/// `aliases` are names of the same vulnerability; `upstream` (and `related`, in records older than it) are what an advisory
/// fixes, often several.
pub(super) fn names(record: &osv::Record) -> Vec<(String, Vec<String>)> {
    let cve = |name: &&String| name.starts_with("CVE-");
    let same: Vec<&String> = std::iter::once(&record.id).chain(&record.aliases).collect();
    if let Some(first) = same.iter().copied().find(cve) {
        let rest = same.iter().filter(|n| **n != first).map(|n| (*n).clone()).collect();
        return vec![(first.clone(), rest)];
    }
    let about = [&record.upstream, &record.related].into_iter().find(|list| list.iter().any(|n| cve(&n)));
    let mut about: Vec<&String> = about.into_iter().flatten().filter(cve).collect();
    about.sort();
    about.dedup();
    let same: Vec<String> = same.into_iter().cloned().collect();
    if about.is_empty() {
        return vec![(record.id.clone(), same[1..].to_vec())];
    }
    about.into_iter().map(|id| (id.clone(), same.clone())).collect()
}

/// The row of one `affected` entry, its vulnerability's name left open.
pub(super) fn row_of(record: &osv::Record, affected: &osv::Affected, release: &Release, source: u16) -> Row {
    let scheme = release.scheme();
    let (mut ranges, mut undecided) = (Vec::new(), false);
    for range in affected.ranges.iter().filter(|r| r.kind == "ECOSYSTEM") {
        undecided |= !range.is_decidable();
        let mut events: Vec<Event> = range.events.iter().flat_map(events_of).collect();
        row::sort(&mut events, scheme);
        if !events.is_empty() {
            ranges.push(events);
        }
    }
    undecided |= ranges.is_empty() && affected.versions.is_empty();
    let covered = |v: &&String| ranges.iter().any(|events| row::in_range(events, v, scheme).is_some());
    let versions = affected.versions.iter().filter(|v| !covered(v)).cloned().collect();
    let scores = if affected.severity.is_empty() { &record.severity } else { &affected.severity };
    let vectors: Vec<(&str, &str)> = scores.iter().map(|s| (s.kind.as_str(), s.score.as_str())).collect();
    let specific = [&affected.ecosystem_specific, &affected.database_specific, &record.database_specific];
    let mut words: Vec<&str> =
        specific.iter().flat_map(|s| [&s.severity, &s.urgency]).flatten().map(String::as_str).collect();
    // Ubuntu's form of a severity: a word where a vector would be.
    words.extend(vectors.iter().map(|(_, v)| *v));
    let (severity, cvss) = row::rate(&vectors, &words);
    let end_of_life = words.iter().any(|w| w.eq_ignore_ascii_case("end-of-life"));
    Row {
        source,
        id: String::new(),
        aliases: Vec::new(),
        severity,
        cvss,
        end_of_life,
        ranges,
        versions,
        undecided,
    }
}

fn events_of(event: &osv::Event) -> Vec<Event> {
    let of = |text: &Option<String>, make: fn(String) -> Event| text.clone().map(make);
    [
        of(&event.introduced, Event::Introduced),
        of(&event.fixed, Event::Fixed),
        of(&event.last_affected, Event::LastAffected),
        // `*` is no limit at all.
        of(&event.limit, Event::Limit).filter(|e| e.version() != "*"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// RFC 3339 to milliseconds since 1970; times before that count as 1970.
pub(super) fn instant_ms(text: &str) -> Option<u64> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(u64::try_from(instant.as_millisecond()).unwrap_or(0))
}
