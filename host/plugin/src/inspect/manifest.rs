//! What a plugin says of itself, in a custom section that is read without running it.

use std::collections::BTreeSet;

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
    /// The JSON Schema of its config.
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

/// The check of a config. Nothing is fetched for a `$ref`, and patterns are matched in linear time: the schema comes from
/// the plugin.
pub(crate) fn schema_validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options()
        .offline()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .map_err(|e| e.to_string())
}
