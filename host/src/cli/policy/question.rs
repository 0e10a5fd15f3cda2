//! A policy's questions in words, for people who did not write the policy.

use serde_json::Value;
use wharf_plugin::trace::{Answer, Question};

use crate::cli::output::{bytes, time};

/// The question and its answer.
pub(super) fn words(question: &Question) -> (String, String) {
    let value = serde_json::to_value(&question.ask).unwrap_or_default();
    let name = value.get("question").and_then(Value::as_str).unwrap_or("?");
    let arguments = value.get("arguments").map(arguments).unwrap_or_default();
    let mut asked = phrase(name);
    if !arguments.is_empty() {
        asked = format!("{asked} ({})", arguments.join(", "));
    }
    if let Some(platform) = question.platform {
        asked = format!("{asked}, of platform #{platform}");
    }
    (asked, answer(name, &question.answer))
}

/// The question's name in plain words.
fn phrase(name: &str) -> String {
    let plain = match name {
        "count-findings" => "how many findings",
        "findings" => "which findings",
        "count-components" => "how many packages",
        "components" => "which packages",
        "scan" => "how far the scan is",
        "has-vulnerability-data" => "whether there is vulnerability data",
        "vulnerability-data" => "which vulnerability data there is",
        "evaluated-at-ms" => "what time it is",
        "pushed-at-ms" => "when it was pushed",
        "pushed-by" => "who pushed it",
        "created-at-ms" => "when it was built",
        "size-bytes" => "how large it is",
        "layer-count" => "how many layers it has",
        "licences" => "which licences",
        "end-of-life" => "whether the distribution is past its end of life",
        "signature-check" => "how far signatures were checked",
        "signatures" => "which signatures",
        "approvals" => "which stages let it through",
        "platforms" => "which platforms",
        other => return other.replace('-', " "),
    };
    plain.to_owned()
}

fn arguments(value: &Value) -> Vec<String> {
    let Value::Object(fields) = value else { return Vec::new() };
    fields.iter().filter_map(|(name, value)| argument(name, value)).collect()
}

fn argument(name: &str, value: &Value) -> Option<String> {
    let plain = name.replace(['-', '_'], " ");
    match (name, value) {
        // The query of a page is its criteria; where the page begins and ends says nothing about the image.
        ("query", query) => Some(arguments(query).join(", ")).filter(|text| !text.is_empty()),
        ("start" | "max", _) | (_, Value::Bool(false) | Value::Null) => None,
        (_, Value::Bool(true)) => Some(plain),
        ("cvss-at-least", Value::Number(tenths)) => Some(format!("CVSS at least {}", score(tenths))),
        ("cvss-below", Value::Number(tenths)) => Some(format!("CVSS below {}", score(tenths))),
        ("published-before-ms", Value::Number(ms)) => {
            Some(format!("published before {}", time(ms.as_u64().unwrap_or_default())))
        }
        // Of these one must match; of others that are there more than once, all.
        ("id" | "severity", Value::Array(items)) => Some(format!("{plain} {}", joined(items, " or "))),
        (_, Value::Array(items)) => Some(format!("{plain} {}", joined(items, " and "))),
        (_, value) => Some(format!("{plain} {}", text(value))),
    }
}

fn joined(items: &[Value], with: &str) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(with)
}

fn score(tenths: &serde_json::Number) -> String {
    format!("{:.1}", tenths.as_f64().unwrap_or_default() / 10.0)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // The licences of a list that allows, and a fact with what it matches.
        Value::Array(items) => format!("[{}]", joined(items, ", ")),
        Value::Object(fact) => {
            let part = |name| fact.get(name).map(text).unwrap_or_default();
            format!("{} {}", part("name"), part("glob"))
        }
        other => other.to_string(),
    }
}

fn answer(name: &str, answer: &Answer) -> String {
    match answer {
        Answer::Nothing(()) => "not known".to_owned(),
        Answer::Flag(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Answer::Number(ms) if name.ends_with("-ms") => time(*ms),
        Answer::Number(size) if name.ends_with("-bytes") => bytes(*size),
        Answer::Number(number) => number.to_string(),
        Answer::Text(text) if text.is_empty() => "empty".to_owned(),
        Answer::Text(text) => text.clone(),
        Answer::Page { count: 0, .. } => "none".to_owned(),
        Answer::Page { count, first, .. } => {
            let more = if (*count as usize) > first.len() { " …" } else { "" };
            format!("{count}: {}{more}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_words() {
        let trace = serde_json::json!([
            {"question": "scan", "answer": "complete"},
            {"question": "count-findings", "arguments": {"at-least": "critical", "fixable": true}, "answer": 2},
            {"question": "count-findings", "arguments": {"cvss-at-least": 70, "id": ["CVE-2024-1"]}, "answer": 0},
            {"question": "findings", "arguments": {"query": {"at-least": "high"}, "start": 0, "max": 3}, "platform": 1,
             "answer": {"count": 9, "digest": "sha256:00", "first": ["CVE-2024-1 openssl"]}},
            {"question": "pushed-at-ms", "answer": 1_795_352_400_000_u64},
            {"question": "size-bytes", "answer": 4_300_000},
            {"question": "label", "arguments": {"key": "team"}, "answer": null},
            {"question": "end-of-life", "answer": true},
            {"question": "count-components", "arguments": {"name": ["lib*", "*ssl*"], "licence-outside": [["MIT", "Zlib"]]}, "answer": 1},
            {"question": "count-findings", "arguments": {"severity": ["high", "critical"], "fact": [{"name": "epss", "glob": "0.*"}]}, "answer": 3},
        ]);
        let questions: Vec<Question> = serde_json::from_value(trace).unwrap();
        let lines: Vec<String> =
            questions.iter().map(words).map(|(asked, told)| format!("{asked}: {told}")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
