//! What a configuration comes to: checks that can be carried out.

use crate::field::{Count, Needs, Operator, Text};
use regex_lite::Regex;
use wharf_sdk::prelude::Verdict;

/// What the criteria say, and what to do where they cannot say.
#[derive(Debug)]
pub(crate) struct Criteria {
    pub(crate) criteria: Vec<Criterion>,
    pub(crate) when_unmet: Verdict,
    pub(crate) hold_unscanned: bool,
    pub(crate) hold_unlicensed: bool,
    pub(crate) count_unrated: bool,
}

/// One criterion, ready to be carried out.
#[derive(Debug)]
pub(crate) struct Criterion {
    pub(crate) name: &'static str,
    /// What it wants, for its reason: `lte 0`.
    pub(crate) wants: String,
    pub(crate) needs: Needs,
    pub(crate) check: Check,
}

#[derive(Debug)]
pub(crate) enum Check {
    Text { which: Text, test: TextTest, negative: bool },
    Components { by: By, globs: Vec<String>, wanted: bool },
    Versions { pairs: Vec<(String, String)>, wanted: bool },
    Cve { globs: Vec<String>, wanted: bool },
    Count { which: Count, compare: Compare, bound: u64 },
    Cvss { compare: Compare, tenths: u64 },
    Size { compare: Compare, bytes: u64 },
    UpdatedAt { before: bool, at_ms: u64 },
    Age { compare: Compare, ms: u64 },
}

/// What a component is looked for by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum By {
    Name,
    Licence,
}

#[derive(Debug)]
pub(crate) enum TextTest {
    Equals(Vec<String>),
    StartsWith(Vec<String>),
    EndsWith(Vec<String>),
    Contains(Vec<String>),
    Matches(Vec<Regex>),
}

impl TextTest {
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            TextTest::Equals(values) => values.iter().any(|v| text == v),
            TextTest::StartsWith(values) => values.iter().any(|v| text.starts_with(v)),
            TextTest::EndsWith(values) => values.iter().any(|v| text.ends_with(v)),
            TextTest::Contains(values) => values.iter().any(|v| text.contains(v)),
            TextTest::Matches(values) => values.iter().any(|v| v.is_match(text)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Compare {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Compare {
    pub(crate) fn holds(self, value: u64, bound: u64) -> bool {
        match self {
            Compare::Eq => value == bound,
            Compare::Neq => value != bound,
            Compare::Gt => value > bound,
            Compare::Gte => value >= bound,
            Compare::Lt => value < bound,
            Compare::Lte => value <= bound,
        }
    }

    /// What an operator compares; `bf` is further back, so longer ago.
    pub(crate) fn of(operator: Operator) -> Self {
        match operator {
            Operator::Neq => Compare::Neq,
            Operator::Gt | Operator::Bf => Compare::Gt,
            Operator::Gte => Compare::Gte,
            Operator::Lt | Operator::Af => Compare::Lt,
            Operator::Lte => Compare::Lte,
            _ => Compare::Eq,
        }
    }
}
