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
    pub(crate) operator: Operator,
    pub(crate) values: Vec<String>,
    pub(crate) needs: Needs,
    pub(crate) check: Check,
}

impl Criterion {
    /// What it wants, for its reason: `lte 0`.
    pub(crate) fn wants(&self) -> String {
        format!("{} {}", self.operator.word(), self.values.join(" or "))
    }

    /// Whether it wants what it names, rather than none of it.
    pub(crate) fn wanted(&self) -> bool {
        self.operator != Operator::Noo
    }
}

#[derive(Debug)]
pub(crate) enum Check {
    Text { which: Text, test: TextTest, negative: bool },
    Components(By),
    Versions(Vec<(String, String)>),
    Cve,
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
    Equals,
    StartsWith,
    EndsWith,
    Contains,
    Matches(Vec<Regex>),
}

impl TextTest {
    /// Whether one of the values, or of what was compiled of them, says yes.
    pub(crate) fn holds(&self, text: &str, values: &[String]) -> bool {
        match self {
            TextTest::Equals => values.iter().any(|v| text == v),
            TextTest::StartsWith => values.iter().any(|v| text.starts_with(v)),
            TextTest::EndsWith => values.iter().any(|v| text.ends_with(v)),
            TextTest::Contains => values.iter().any(|v| text.contains(v)),
            TextTest::Matches(compiled) => compiled.iter().any(|v| v.is_match(text)),
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
