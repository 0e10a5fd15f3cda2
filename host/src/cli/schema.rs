//! A JSON Schema as people read one: the fields with their types, defaults and descriptions.

use serde_json::{Map, Value};

use super::visible::plain;

/// Fields within fields that are shown.
const DEPTH_MAX: usize = 4;
/// Values of an enumeration that are shown.
const VALUES_SHOWN: usize = 8;

/// One line a field, and one for what it is about; what is within it is indented.
pub(super) fn outline(schema: &Value) -> String {
    let mut out = String::new();
    fields(schema, 1, &mut out);
    out
}

fn fields(schema: &Value, depth: usize, out: &mut String) {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let needed = |name: &str| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|needed| needed == name))
    };
    for (name, field) in properties {
        let mark = if needed(name) { "*" } else { "" };
        let default =
            field.get("default").map(|value| format!(", {} if left out", text(value))).unwrap_or_default();
        line(out, depth, &format!("{name}{mark}: {}{default}", kind(field)));
        if let Some(about) = field.get("description").and_then(Value::as_str) {
            line(out, depth + 1, about);
        }
        if depth < DEPTH_MAX {
            fields(field.get("items").unwrap_or(field), depth + 1, out);
        }
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.push_str(&format!("{}{}\n", "  ".repeat(depth), plain(text)));
}

/// What a field may hold.
fn kind(field: &Value) -> String {
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let shown: Vec<String> = values.iter().take(VALUES_SHOWN).map(text).collect();
        let more = values.len().saturating_sub(VALUES_SHOWN);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        return format!("{}{rest}", shown.join(" | "));
    }
    match field.get("type") {
        Some(Value::String(name)) if name == "array" => {
            format!("list of {}", field.get("items").map_or_else(|| "anything".to_owned(), kind))
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => "anything".to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_outlined() {
        let values: Vec<u8> = (0..10).collect();
        let schema = serde_json::json!({"required": ["rules"], "properties": {
            "rules": {"type": "array", "description": "All must hold.", "items": {"type": "object", "required": ["field"],
                "properties": {"field": {"enum": values}, "values": {"type": "array", "items": {"type": ["string", "number"]}}}}},
            "unrated": {"enum": ["ignore", "count"], "default": "ignore"},
            "strict": {"type": "boolean", "default": false},
            "other": {},
        }});
        let expected = [
            "  other: anything",
            "  rules*: list of object",
            "    All must hold.",
            "    field*: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 and 2 more",
            "    values: list of string or number",
            "  strict: boolean, false if left out",
            "  unrated: ignore | count, ignore if left out",
        ];
        assert_eq!(outline(&schema).lines().collect::<Vec<_>>(), expected);
        assert_eq!(outline(&serde_json::json!({"type": "object"})), "");
    }
}
