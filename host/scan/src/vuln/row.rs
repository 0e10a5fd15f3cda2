//! What one record says about one package of one release, ready to be compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cvss;
use super::version::Scheme;

/// How bad. `Unknown` is a value of its own: most of Debian's records have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Unknown,
    Negligible,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The rating of a base score (CVSS 3.1, section 5), which "none" and Debian's "unimportant" share with `Negligible`.
    pub(crate) fn of_tenths(tenths: u8) -> Self {
        match tenths {
            0 => Self::Negligible,
            1..=39 => Self::Low,
            40..=69 => Self::Medium,
            70..=89 => Self::High,
            _ => Self::Critical,
        }
    }

    /// A database's own word: GitHub's, Debian's urgency, Red Hat's.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        // Debian marks an urgency that was set automatically with asterisks.
        Some(match word.trim().trim_end_matches('*').to_ascii_lowercase().as_str() {
            "negligible" | "unimportant" | "none" => Self::Negligible,
            "low" | "minor" => Self::Low,
            "medium" | "moderate" => Self::Medium,
            "high" | "important" => Self::High,
            "critical" => Self::Critical,
            _ => return None,
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// Not one of the six severities.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a severity; hint: unknown, negligible, low, medium, high, critical")]
pub struct SeverityError(String);

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, SeverityError> {
        [Self::Unknown, Self::Negligible, Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|s| s.to_string() == text)
            .ok_or_else(|| SeverityError(text.to_owned()))
    }
}

/// What data there was and how old: the newest change among a source's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub source: String,
    /// Milliseconds since 1970.
    pub as_of_ms: u64,
    pub records: u64,
}

/// What a source, or all of them together, has of one release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseData {
    /// Records of different identifiers.
    pub records: u64,
    /// Those among them that do not say of every version whether it is affected, or not in a form that can be evaluated.
    pub undecided: u64,
    /// The newest change among them, milliseconds since 1970.
    pub as_of_ms: u64,
    /// Whether they are all that there is to know. If not, a package that none of them names may still be vulnerable.
    pub covered: bool,
}

impl ReleaseData {
    pub(crate) fn join(&mut self, other: Self) {
        self.records += other.records;
        self.undecided += other.undecided;
        self.as_of_ms = self.as_of_ms.max(other.as_of_ms);
        self.covered |= other.covered;
    }
}

/// A point on the line of versions (OSV `events`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    Introduced(String),
    Fixed(String),
    LastAffected(String),
    Limit(String),
}

impl Event {
    pub(crate) fn version(&self) -> &str {
        match self {
            Self::Introduced(v) | Self::Fixed(v) | Self::LastAffected(v) | Self::Limit(v) => v,
        }
    }
}

/// One vulnerability of one source package in one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Index of the source that it came from.
    pub(crate) source: u16,
    pub(crate) id: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) severity: Severity,
    /// Base score in tenths.
    pub(crate) cvss: Option<u8>,
    pub(crate) end_of_life: bool,
    /// Events of each range in the order of their versions.
    pub(crate) ranges: Vec<Vec<Event>>,
    /// Versions named one by one that no range covers.
    pub(crate) versions: Vec<String>,
    /// The record does not say of every other version whether it is affected, or not in a form that can be evaluated.
    pub(crate) undecided: bool,
}

/// That a version is affected, and by what it is fixed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit<'a> {
    pub(crate) fixed_in: Option<&'a str>,
}

impl Row {
    /// Whether `version` is affected: in any range, or in the list (OSV, "Evaluation").
    pub(crate) fn affects(&self, version: &str, scheme: Scheme) -> Option<Hit<'_>> {
        self.ranges
            .iter()
            .find_map(|events| in_range(events, version, scheme))
            .or_else(|| self.versions.iter().any(|v| v == version).then_some(Hit { fixed_in: None }))
    }
}

/// Walks the events from the lowest version: each `introduced` opens, each `fixed` or `last_affected` closes.
pub(crate) fn in_range<'a>(events: &'a [Event], version: &str, scheme: Scheme) -> Option<Hit<'a>> {
    let mut limits = events.iter().filter(|e| matches!(e, Event::Limit(_))).peekable();
    if limits.peek().is_some() && !limits.any(|l| scheme.compare(version, l.version()).is_lt()) {
        return None;
    }
    let mut open = false;
    for event in events {
        let order = scheme.compare(version, event.version());
        match event {
            Event::Introduced(at) => open |= at == "0" || order.is_ge(),
            Event::Fixed(at) if order.is_lt() => return open.then_some(Hit { fixed_in: Some(at) }),
            Event::LastAffected(_) if order.is_le() => return open.then_some(Hit { fixed_in: None }),
            Event::Fixed(_) | Event::LastAffected(_) => open = false,
            Event::Limit(_) => {}
        }
    }
    open.then_some(Hit { fixed_in: None })
}

/// Puts events in the order that [`in_range`] walks; `0` is before every version.
pub(crate) fn sort(events: &mut [Event], scheme: Scheme) {
    events.sort_by(|a, b| {
        let start = |e: &Event| !matches!(e, Event::Introduced(v) if v == "0");
        start(a).cmp(&start(b)).then_with(|| scheme.compare(a.version(), b.version()))
    });
}

/// Severity and base score in tenths, from what a record offers: a version 3 vector, which most thresholds were made for,
/// before one of version 4 or 2, then words.
///
/// Debian's "unimportant" stands above a vector: it says that the package as Debian builds it is not affected in practice.
pub(crate) fn rate(vectors: &[(&str, &str)], words: &[&str]) -> (Severity, Option<u8>) {
    let of =
        |kind: &str| vectors.iter().filter(|(k, _)| *k == kind).filter_map(|(_, v)| cvss::tenths(v)).max();
    let tenths = ["CVSS_V3", "CVSS_V4", "CVSS_V2"].into_iter().find_map(of);
    if words.iter().any(|w| w.eq_ignore_ascii_case("unimportant")) {
        return (Severity::Negligible, tenths);
    }
    let by_word = || words.iter().find_map(|w| Severity::of_word(w));
    (tenths.map(Severity::of_tenths).or_else(by_word).unwrap_or(Severity::Unknown), tenths)
}
