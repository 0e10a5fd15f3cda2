//! The fields that a criterion may name, and the operators that each takes.

use wharf_sdk::prelude::Severity;

/// How a field compares, in the words of Docker Trusted Registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// Equals one of the values.
    Eq,
    /// Equals none of the values.
    Neq,
    /// Starts with one of the values.
    Sw,
    /// Ends with one of the values.
    Ew,
    /// Contains one of the values.
    C,
    /// One of.
    Oo,
    /// Not one of.
    Noo,
    /// Matches one of the regular expressions.
    Matches,
    Gt,
    Gte,
    Lt,
    Lte,
    /// Before.
    Bf,
    /// After.
    Af,
}

impl Operator {
    const ALL: [Self; 14] = [
        Operator::Eq,
        Operator::Neq,
        Operator::Sw,
        Operator::Ew,
        Operator::C,
        Operator::Oo,
        Operator::Noo,
        Operator::Matches,
        Operator::Gt,
        Operator::Gte,
        Operator::Lt,
        Operator::Lte,
        Operator::Bf,
        Operator::Af,
    ];

    /// What a word in a configuration says.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.word() == word)
    }

    /// The word in a configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Operator::Eq => "eq",
            Operator::Neq => "neq",
            Operator::Sw => "sw",
            Operator::Ew => "ew",
            Operator::C => "c",
            Operator::Oo => "oo",
            Operator::Noo => "noo",
            Operator::Matches => "matches",
            Operator::Gt => "gt",
            Operator::Gte => "gte",
            Operator::Lt => "lt",
            Operator::Lte => "lte",
            Operator::Bf => "bf",
            Operator::Af => "af",
        }
    }
}

/// What a criterion is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    Text(Text),
    ComponentName,
    ComponentVersion,
    LicenceName,
    Cve,
    Count(Count),
    Cvss,
    Size,
    UpdatedAt,
    UpdatedAtDuration,
    Age,
}

/// Fields with one text (a platform has two: with its variant and without).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Text {
    Tag,
    Repository,
    PushedBy,
    Platform,
    Distribution,
}

/// Which findings a field counts. No severities: all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Count {
    pub(crate) severities: &'static [Severity],
    pub(crate) fixable: bool,
}

const TEXT: &[Operator] = &[
    Operator::Eq,
    Operator::Neq,
    Operator::Sw,
    Operator::Ew,
    Operator::C,
    Operator::Oo,
    Operator::Noo,
    Operator::Matches,
];
const NAMES: &[Operator] =
    &[Operator::Oo, Operator::Noo, Operator::Eq, Operator::Sw, Operator::Ew, Operator::C];
const SETS: &[Operator] = &[Operator::Oo, Operator::Noo];
const NUMBERS: &[Operator] =
    &[Operator::Gte, Operator::Gt, Operator::Eq, Operator::Neq, Operator::Lte, Operator::Lt];
const ORDER: &[Operator] = &[Operator::Gte, Operator::Gt, Operator::Lte, Operator::Lt];
const TIMES: &[Operator] = &[Operator::Bf, Operator::Af];

/// Docker Trusted Registry's classes were CVSS 7–10, 4–7 and 0–4; these are the ratings that stand for those scores.
const CRITICAL: &[Severity] = &[Severity::Critical, Severity::High];
const MAJOR: &[Severity] = &[Severity::Medium];
const MINOR: &[Severity] = &[Severity::Low, Severity::Negligible];

const fn count(severities: &'static [Severity], fixable: bool) -> Field {
    Field::Count(Count { severities, fixable })
}

/// Every field: its name, what it is, and its operators.
pub(crate) const FIELDS: &[(&str, Field, &[Operator])] = &[
    ("tag", Field::Text(Text::Tag), TEXT),
    ("license.name", Field::LicenceName, NAMES),
    ("component.name", Field::ComponentName, NAMES),
    ("vulnerability_all", count(&[], false), NUMBERS),
    ("vulnerability_critical", count(CRITICAL, false), NUMBERS),
    ("vulnerability_major", count(MAJOR, false), NUMBERS),
    ("vulnerability_minor", count(MINOR, false), NUMBERS),
    ("updated_at", Field::UpdatedAt, TIMES),
    ("updated_at_duration", Field::UpdatedAtDuration, TIMES),
    // What Docker Trusted Registry lacked.
    ("vulnerability_fixable_all", count(&[], true), NUMBERS),
    ("vulnerability_fixable_critical", count(CRITICAL, true), NUMBERS),
    ("vulnerability_fixable_major", count(MAJOR, true), NUMBERS),
    ("vulnerability_fixable_minor", count(MINOR, true), NUMBERS),
    ("severity_critical", count(&[Severity::Critical], false), NUMBERS),
    ("severity_high", count(&[Severity::High], false), NUMBERS),
    ("severity_medium", count(&[Severity::Medium], false), NUMBERS),
    ("severity_low", count(&[Severity::Low], false), NUMBERS),
    ("severity_negligible", count(&[Severity::Negligible], false), NUMBERS),
    ("severity_unknown", count(&[Severity::Unknown], false), NUMBERS),
    ("severity_fixable_critical", count(&[Severity::Critical], true), NUMBERS),
    ("severity_fixable_high", count(&[Severity::High], true), NUMBERS),
    ("severity_fixable_medium", count(&[Severity::Medium], true), NUMBERS),
    ("severity_fixable_low", count(&[Severity::Low], true), NUMBERS),
    ("cvss", Field::Cvss, ORDER),
    ("cve", Field::Cve, SETS),
    ("component.version", Field::ComponentVersion, SETS),
    ("image.size", Field::Size, NUMBERS),
    ("platform", Field::Text(Text::Platform), TEXT),
    ("distribution", Field::Text(Text::Distribution), TEXT),
    ("repository", Field::Text(Text::Repository), TEXT),
    ("pushed_by", Field::Text(Text::PushedBy), TEXT),
    ("age", Field::Age, ORDER),
];

/// The field of that name with its operators.
pub(crate) fn find(name: &str) -> Option<(&'static str, Field, &'static [Operator])> {
    FIELDS.iter().find(|(known, ..)| *known == name).copied()
}

impl Field {
    /// Whether several values mean anything to it: they do where they are alternatives.
    pub(crate) fn takes_many(self) -> bool {
        matches!(
            self,
            Field::Text(_) | Field::ComponentName | Field::ComponentVersion | Field::LicenceName | Field::Cve
        )
    }

    /// What must be known before it can be judged.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Field::ComponentName | Field::ComponentVersion | Field::LicenceName => Needs::Components,
            Field::Text(Text::Distribution) => Needs::Components,
            Field::Cve | Field::Count(_) | Field::Cvss => Needs::Findings,
            _ => Needs::Nothing,
        }
    }
}

/// What must be known of an image before a criterion can be judged, each with all that is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    Nothing,
    Components,
    Findings,
}
