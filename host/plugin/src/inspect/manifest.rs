//! What a plugin says of itself, in a custom section that is read without running it.

use std::collections::{BTreeSet, HashMap};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::InspectError;
use crate::interface::Kind;

/// The largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;

/// The longest name of a plugin, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// What a plugin says of itself. Fields that this host does not know are ignored: a newer SDK may write more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What bindings call it: lower-case letters, digits and `-`, starting with a letter, at most 64.
    pub name: String,
    /// Its own version, by semantic versioning.
    pub version: Version,
    /// What it is for; must be the kind that its exports show.
    pub kind: Kind,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// The JSON Schema of its config: draft 2020-12, with references only into itself.
    #[serde(default = "any_object")]
    pub config_schema: Value,
    /// What it asks for.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
}

fn any_object() -> Value {
    serde_json::json!({ "type": "object" })
}

impl Manifest {
    /// Reads the one manifest among `sections`.
    pub(super) fn read(sections: &[&[u8]], kind: Kind) -> Result<Self, InspectError> {
        let bad = |message: String| InspectError::BadManifest { message };
        let bytes = match sections {
            [] => return Err(InspectError::NoManifest),
            [one] => *one,
            many => return Err(bad(format!("there are {} of them, one is wanted", many.len()))),
        };
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(bad(format!("{} bytes, at most {MAX_MANIFEST_BYTES} wanted", bytes.len())));
        }
        let peek: Value = serde_json::from_slice(bytes).map_err(|e| bad(format!("no JSON: {e}")))?;
        if let Some(stated) = peek.get("kind").and_then(Value::as_str).filter(|s| *s != kind.as_str()) {
            return Err(bad(format!("`kind` is `{stated}`, but the exports are those of a `{kind}`")));
        }
        let manifest: Self = serde_json::from_value(peek).map_err(|e| bad(e.to_string()))?;
        check_name(&manifest.name).map_err(bad)?;
        schema_validator(&manifest.config_schema).map_err(|e| bad(format!("`config_schema`: {e}")))?;
        Ok(manifest)
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if starts && rest && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(format!(
        "`name` is `{}`; wanted: a lower-case letter, then such letters, digits and `-`, at most {MAX_NAME_BYTES} in all",
        name.chars().take(MAX_NAME_BYTES).collect::<String>()
    ))
}

/// The check of a config. Nothing is fetched for a `$ref`, patterns are matched in linear time and are bounded in size and number,
/// and references do not multiply: the schema comes from the plugin.
pub(crate) fn schema_validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    Bounds { root: schema, known: HashMap::new() }.measure(schema, 0)?;
    jsonschema::options()
        .offline()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(
            jsonschema::PatternOptions::regex().size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES),
        )
        .build(schema)
        .map_err(|e| e.to_string())
}

/// The most parts of a schema with every reference written out, and how deep they may lie in each other. A few references to
/// each other are enough for a check that takes years.
const MAX_SCHEMA_PARTS: u64 = 20_000;
const MAX_SCHEMA_DEPTH: u32 = 128;

/// The most memory of one compiled pattern, in bytes: a dozen characters are enough for megabytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// How many parts of a schema a pattern counts as.
const PATTERN_PARTS: u64 = 200;

/// Measures a schema as if every reference in it were written out.
struct Bounds<'a> {
    root: &'a Value,
    /// Parts and height of what was measured; none while it is being measured.
    known: HashMap<*const Value, Option<(u64, u32)>>,
}

impl<'a> Bounds<'a> {
    fn measure(&mut self, part: &'a Value, depth: u32) -> Result<(u64, u32), String> {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!("it is more than {MAX_SCHEMA_DEPTH} parts deep, references written out"));
        }
        let (parts, height) = match self.known.get(&std::ptr::from_ref(part)) {
            Some(Some(known)) => *known,
            // It refers to itself; what that means depends on the config, whose depth is bounded.
            Some(None) => (0, 0),
            None => {
                self.known.insert(part, None);
                let measured = self.measure_inside(part, depth)?;
                self.known.insert(part, Some(measured));
                measured
            }
        };
        if parts > MAX_SCHEMA_PARTS || depth + height > MAX_SCHEMA_DEPTH {
            return Err(format!(
                "it has more than {MAX_SCHEMA_PARTS} parts (a pattern counts as {PATTERN_PARTS}) or is more than {MAX_SCHEMA_DEPTH} deep, references written out"
            ));
        }
        Ok((parts, height))
    }

    fn measure_inside(&mut self, part: &'a Value, depth: u32) -> Result<(u64, u32), String> {
        let (mut inside, mut patterns): (Vec<&'a Value>, usize) = (Vec::new(), 0);
        match part {
            Value::Array(items) => inside.extend(items),
            Value::Object(members) => {
                for (name, value) in members {
                    match (name.as_str(), value) {
                        ("$ref", Value::String(to)) => inside.push(self.target(to)?),
                        ("$dynamicRef" | "$recursiveRef", _) => {
                            return Err(format!("`{name}` is not supported"));
                        }
                        ("$id", Value::String(_)) if depth > 0 => {
                            return Err(format!("`{name}` is supported only at the top"));
                        }
                        _ => inside.push(value),
                    }
                    patterns += match (name.as_str(), value) {
                        ("pattern", Value::String(_)) => 1,
                        ("patternProperties", Value::Object(by_pattern)) => by_pattern.len(),
                        _ => 0,
                    };
                }
            }
            _ => {}
        }
        let (mut parts, mut height) = (1 + PATTERN_PARTS * patterns as u64, 0);
        for one in inside {
            let (more, higher) = self.measure(one, depth + 1)?;
            parts = parts.saturating_add(more);
            height = height.max(higher + 1);
        }
        Ok((parts, height))
    }

    fn target(&self, to: &str) -> Result<&'a Value, String> {
        let pointer = to.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let target = pointer.and_then(|pointer| self.root.pointer(pointer));
        target.ok_or_else(|| format!("`$ref` to `{to}`, which is no place in this schema; hint: `#/$defs/…`"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A schema is the plugin's, so it must not be able to take the process down with it.
    #[test]
    fn schemas_that_never_end() {
        let loops = [
            json!({ "$ref": "#" }),
            json!({ "allOf": [{ "$ref": "#" }] }),
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            json!({ "not": { "$ref": "#" } }),
            json!({ "if": { "$ref": "#" }, "then": true }),
            json!({ "$dynamicRef": "#x", "$dynamicAnchor": "x" }),
            json!({ "oneOf": [{ "anyOf": [{ "$ref": "#" }] }] }),
        ];
        for schema in loops {
            if let Ok(validator) = schema_validator(&schema) {
                let _ = validator.is_valid(&json!({ "a": 1 }));
                let _ = validator.iter_errors(&json!({ "a": 1 })).take(3).count();
            }
        }
    }

    fn refused(schema: &Value, word: &str) {
        let error = schema_validator(schema).expect_err(word);
        assert!(error.contains(word), "{error}");
    }

    /// Regression: a manifest of 64 KiB held some thousand patterns of up to 10 MB each, compiled: enough to end the process.
    #[test]
    fn patterns_take_a_bounded_part_of_the_memory() {
        let many = |count: usize| {
            let one = |n: usize| (format!("a{n}"), json!({ "pattern": format!("^[a-z]{n}$") }));
            json!({ "properties": (0..count).map(one).collect::<serde_json::Map<_, _>>() })
        };
        assert!(schema_validator(&many(90)).is_ok());
        refused(&many(100), "a pattern counts as 200");
        let by_name = |n: usize| (format!("^[a-z]{n}$"), json!(true));
        let by_name: serde_json::Map<_, _> = (0..100).map(by_name).collect();
        refused(&json!({ "patternProperties": by_name }), "a pattern counts as 200");
        assert!(schema_validator(&json!({ "pattern": r"(?:(?:\p{L}|ab)+c|d){200}" })).is_err());
        assert!(schema_validator(&json!({ "pattern": "^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$" })).is_ok());
    }

    #[test]
    fn references_that_multiply_or_lead_far() {
        let chain = |len: u32, times: usize| {
            let link = |n: u32| {
                let next = json!({ "$ref": format!("#/$defs/a{}", n + 1) });
                (format!("a{n}"), json!({ "anyOf": vec![next; times] }))
            };
            let mut defs: serde_json::Map<String, Value> = (0..len).map(link).collect();
            defs.insert(format!("a{len}"), json!({ "type": "string" }));
            json!({ "$ref": "#/$defs/a0", "$defs": defs })
        };
        refused(&chain(30, 2), "references written out");
        refused(&chain(1_000, 1), "deep");
        assert!(!schema_validator(&chain(8, 2)).unwrap().is_valid(&json!({})));
        refused(&json!({ "$ref": "other.json" }), "`other.json`");
        refused(&json!({ "properties": { "a": { "$id": "x", "$ref": "#/properties" } } }), "only at the top");
        let named = json!({ "default": { "id": "x" }, "properties": { "id": { "type": "string" } } });
        assert!(schema_validator(&named).is_ok(), "a property may be called `id`");
        let tree = json!({ "properties": { "all": { "type": "array", "items": { "$ref": "#" } } } });
        assert!(
            schema_validator(&tree).unwrap().is_valid(&json!({ "all": [{ "all": [] }] })),
            "a tree is fine"
        );
    }
}
