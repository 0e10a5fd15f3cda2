//! From the configuration to checks that can be carried out.
//!
//! Invariant: reading goes on after a mistake, so that a person sees all of them at once, each with its JSON pointer.

use crate::check::{By, Check, Compare, Criteria, Criterion, TextTest};
use crate::field::{self, Field, Operator};
use crate::judge::glob;
use crate::value::{duration_ms, size_bytes, time_ms};
use regex_lite::Regex;
use serde_json_borrow::{Number, ObjectAsVec as Map, Value};
use std::fmt::{Arguments, Display};
use wharf_sdk::image::{MAX_PATTERN_BYTES, check_range};
use wharf_sdk::prelude::*;

/// The most criteria in a configuration, and the most values in a criterion.
const MAX_CRITERIA: usize = 100;
const MAX_VALUES: usize = 500;

impl Config for Criteria {
    const SCHEMA: &'static str = include_str!("config.schema.json");

    fn read(json: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        let criteria = reader.root(json);
        match criteria {
            Some(criteria) if reader.problems.is_empty() => Ok(criteria),
            _ => Err(reader.problems),
        }
    }
}

/// What would end each call, because the host does not take it in a question: a text that is too long, a version range that does
/// not read.
pub(crate) fn check_questions(config: &Criteria) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, criterion) in config.criteria.iter().enumerate() {
        let mut check = |value: usize, checked: Result<(), String>| {
            let pointer = format!("/criteria/{at}/values/{value}");
            problems.extend(checked.err().map(|why| problem(pointer, why)));
        };
        match &criterion.check {
            Check::Components(_) | Check::Cve => {
                for (value, text) in criterion.values.iter().enumerate() {
                    check(value, check_pattern(&glob(criterion.operator, text)));
                }
            }
            Check::Versions(pairs) => {
                for (value, (name, range)) in pairs.iter().enumerate() {
                    check(value, check_pattern(name));
                    check(value, check_range(range).map_err(|why| format!("`{range}`: {why}")));
                }
            }
            _ => {}
        }
    }
    problems
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    match pattern.len() {
        0..=MAX_PATTERN_BYTES => Ok(()),
        len => Err(format!("as a pattern this has {len} bytes, at most {MAX_PATTERN_BYTES} are taken")),
    }
}

/// Walks the JSON and collects what is wrong. A configuration is read in each call, so pointers are made only for problems.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn wrong<T>(&mut self, pointer: impl Display, message: impl Into<String>) -> Option<T> {
        self.problems.push(problem(pointer.to_string(), message));
        None
    }

    fn root(&mut self, json: &str) -> Option<Criteria> {
        let value: Value = match serde_json::from_str(json) {
            Ok(value) => value,
            Err(why) => return self.wrong("", format!("this is not JSON: {why}")),
        };
        let Value::Object(root) = value else {
            return self.wrong("", "this is not an object; hint: `{\"criteria\": [...]}`");
        };
        let known = ["criteria", "verdict_when_unmet", "unscanned", "unlicensed", "unrated"];
        self.no_others(format_args!(""), &root, &known);
        let when_unmet = self.word(&root, "verdict_when_unmet", ["hold", "reject"]);
        let unscanned = self.word(&root, "unscanned", ["hold", "ignore"]);
        let unlicensed = self.word(&root, "unlicensed", ["hold", "ignore"]);
        let unrated = self.word(&root, "unrated", ["ignore", "count"]);
        let criteria = match root.get("criteria") {
            Some(Value::Array(items)) if (1..=MAX_CRITERIA).contains(&items.len()) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| self.criterion(format_args!("/criteria/{at}"), item))
                .collect(),
            Some(Value::Array(items)) if items.is_empty() => {
                return self
                    .wrong("/criteria", "without a criterion every image would pass; state at least one");
            }
            Some(Value::Array(_)) => {
                return self.wrong("/criteria", format!("there are more than {MAX_CRITERIA}"));
            }
            Some(_) => return self.wrong("/criteria", "this is not a list"),
            None => return self.wrong("", "`criteria` is missing"),
        };
        Some(Criteria {
            criteria,
            when_unmet: if when_unmet == 1 { Verdict::Reject } else { Verdict::Hold },
            hold_unscanned: unscanned == 0,
            hold_unlicensed: unlicensed == 0,
            count_unrated: unrated == 1,
        })
    }

    fn no_others(&mut self, pointer: Arguments<'_>, object: &Map<'_>, known: &[&str]) {
        for key in object.keys().filter(|key| !known.contains(key)) {
            let escaped = key.replace('~', "~0").replace('/', "~1");
            self.problems.push(problem(
                format!("{pointer}/{escaped}"),
                format!("`{key}` is not known here; known are {}", listed(known)),
            ));
        }
    }

    /// Which of the two words it is; the first is the default.
    fn word(&mut self, root: &Map<'_>, key: &str, words: [&str; 2]) -> usize {
        let Some(value) = root.get(key) else { return 0 };
        match words.iter().position(|word| value.as_str() == Some(word)) {
            Some(at) => at,
            None => {
                self.problems.push(problem(
                    format!("/{key}"),
                    format!("{value} is neither `{}` nor `{}`", words[0], words[1]),
                ));
                0
            }
        }
    }

    fn criterion(&mut self, pointer: Arguments<'_>, item: &Value<'_>) -> Option<Criterion> {
        let Value::Object(item) = item else {
            return self.wrong(pointer, "this is not an object with `field`, `operator` and `values`");
        };
        self.no_others(pointer, item, &["field", "operator", "values"]);
        let found = self.field(pointer, item);
        let operator = self.operator(pointer, item, found.map(|(.., operators)| operators));
        let values = self.values(pointer, item, found.map(|(_, field, _)| field));
        let ((name, field, _), operator, values) = (found?, operator?, values?);
        let check = self.check(pointer, field, operator, &values)?;
        Some(Criterion { name, operator, values, needs: field.needs(), check })
    }

    fn field(
        &mut self,
        pointer: Arguments<'_>,
        item: &Map<'_>,
    ) -> Option<(&'static str, Field, &'static [Operator])> {
        let Some(Value::Str(name)) = item.get("field") else {
            return self.wrong(format_args!("{pointer}/field"), "the name of a field is missing");
        };
        match field::find(name) {
            Some(found) => Some(found),
            None => {
                let known: Vec<&str> = field::FIELDS.iter().map(|(name, ..)| *name).collect();
                self.wrong(
                    format_args!("{pointer}/field"),
                    format!("`{name}` is no field; known are {}", listed(&known)),
                )
            }
        }
    }

    fn operator(
        &mut self,
        pointer: Arguments<'_>,
        item: &Map<'_>,
        takes: Option<&'static [Operator]>,
    ) -> Option<Operator> {
        let pointer = format_args!("{pointer}/operator");
        let Some(word) = item.get("operator") else { return self.wrong(pointer, "the operator is missing") };
        let Some(operator) = word.as_str().and_then(Operator::of) else {
            return self.wrong(pointer, format!("{word} is no operator"));
        };
        match takes {
            Some(takes) if !takes.contains(&operator) => {
                let words: Vec<&str> = takes.iter().map(|operator| operator.word()).collect();
                self.wrong(
                    pointer,
                    format!("this field does not take `{}`; it takes {}", operator.word(), listed(&words)),
                )
            }
            _ => Some(operator),
        }
    }

    fn values(
        &mut self,
        pointer: Arguments<'_>,
        item: &Map<'_>,
        field: Option<Field>,
    ) -> Option<Vec<String>> {
        let pointer = format_args!("{pointer}/values");
        let Some(Value::Array(values)) = item.get("values") else {
            return self.wrong(pointer, "the list of values is missing");
        };
        let most = if field.is_none_or(Field::takes_many) { MAX_VALUES } else { 1 };
        if values.is_empty() || values.len() > most {
            let wanted =
                if most == 1 { "exactly one value".to_owned() } else { format!("1 to {most} values") };
            return self.wrong(pointer, format!("this field wants {wanted}, there are {}", values.len()));
        }
        let before = self.problems.len();
        let mut texts = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            match value {
                Value::Str(text) if !text.trim().is_empty() => texts.push(text.to_string()),
                // As a number `1.10` is `1.1`: no tag, name or version may be read so.
                Value::Number(_) if field.is_some_and(Field::takes_many) => self.problems.push(problem(
                    format!("{pointer}/{at}"),
                    "this field compares texts; hint: write the value in quotes",
                )),
                Value::Number(number) => texts.push(number_text(number)),
                _ => self
                    .problems
                    .push(problem(format!("{pointer}/{at}"), "this is no text with something in it")),
            }
        }
        (self.problems.len() == before).then_some(texts)
    }

    fn check(
        &mut self,
        pointer: Arguments<'_>,
        field: Field,
        operator: Operator,
        values: &[String],
    ) -> Option<Check> {
        let compare = Compare::of(operator);
        let mut first = |read: fn(&str) -> Result<u64, String>| match read(&values[0]) {
            Ok(value) => Some(value),
            Err(why) => self.wrong(format_args!("{pointer}/values/0"), why),
        };
        Some(match field {
            Field::Count(which) => Check::Count { which, compare, bound: first(whole)? },
            Field::Cvss => Check::Cvss { compare, tenths: first(cvss_tenths)? },
            Field::Size => Check::Size { compare, bytes: first(size_bytes)? },
            Field::UpdatedAt => Check::UpdatedAt { before: operator == Operator::Bf, at_ms: first(time_ms)? },
            Field::UpdatedAtDuration | Field::Age => Check::Age { compare, ms: first(duration_ms)? },
            Field::Text(which) => {
                let negative = matches!(operator, Operator::Noo | Operator::Neq);
                Check::Text { which, test: self.text_test(pointer, operator, values)?, negative }
            }
            Field::ComponentName => Check::Components(By::Name),
            Field::LicenceName => Check::Components(By::Licence),
            Field::Cve => Check::Cve,
            Field::ComponentVersion => Check::Versions(self.versions(pointer, values)?),
        })
    }

    fn text_test(
        &mut self,
        pointer: Arguments<'_>,
        operator: Operator,
        values: &[String],
    ) -> Option<TextTest> {
        Some(match operator {
            Operator::Sw => TextTest::StartsWith,
            Operator::Ew => TextTest::EndsWith,
            Operator::C => TextTest::Contains,
            Operator::Matches => {
                let before = self.problems.len();
                let mut compiled = Vec::with_capacity(values.len());
                for (at, value) in values.iter().enumerate() {
                    match Regex::new(value) {
                        Ok(regex) => compiled.push(regex),
                        Err(why) => self.problems.push(problem(
                            format!("{pointer}/values/{at}"),
                            format!("`{value}` is no regular expression: {why}"),
                        )),
                    }
                }
                return (self.problems.len() == before).then_some(TextTest::Matches(compiled));
            }
            _ => TextTest::Equals,
        })
    }

    /// `openssl <3.0.9` is a name and a range.
    fn versions(&mut self, pointer: Arguments<'_>, values: &[String]) -> Option<Vec<(String, String)>> {
        let before = self.problems.len();
        let mut pairs = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            let value = value.trim();
            let end = value.find(|c: char| c.is_whitespace() || "<>=!".contains(c)).unwrap_or(value.len());
            let (name, range) = (&value[..end], value[end..].trim());
            if name.is_empty() || range.is_empty() {
                let why = format!("`{value}` is no name with a range, such as `openssl <3.0.9`");
                self.problems.push(problem(format!("{pointer}/values/{at}"), why));
            } else {
                pairs.push((name.to_owned(), range.to_owned()));
            }
        }
        (self.problems.len() == before).then_some(pairs)
    }
}

/// As JSON writes it: `5.0` is no whole number.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(fraction) if number.is_f64() => format!("{fraction:?}"),
        _ => number.to_string(),
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

fn whole(text: &str) -> Result<u64, String> {
    let text = text.trim();
    text.parse::<u32>().map(u64::from).map_err(|_| format!("`{text}` is no whole number from 0 on"))
}

fn cvss_tenths(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let digit =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    digit(whole)
        .zip(digit(tenth).filter(|_| tenth.len() == 1))
        .and_then(|(whole, tenth)| Some(whole.checked_mul(10)? + tenth))
        .filter(|tenths| *tenths <= 100)
        .ok_or_else(|| format!("`{text}` is no CVSS score from 0.0 to 10.0 with at most one decimal"))
}
