//! Documents that are the same to all who read them.
//!
//! Runtimes are written in Go, which takes `Layers` for `layers`, too, and of several the last one (`encoding/json`,
//! `Unmarshal`): such a document would be another to them than to this registry.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Fields whose names are looked at, and those of them that hold further ones.
#[derive(Debug)]
struct Names {
    fields: &'static [&'static str],
    within: &'static [&'static str],
}

/// Of a manifest, of its descriptors and of their platforms, that say what it is.
const MANIFEST: Names = Names {
    fields: &[
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "subject",
        "artifactType",
        "annotations",
        "digest",
        "size",
        "urls",
        "platform",
        "os",
        "architecture",
        "variant",
        "os.version",
        "os.features",
    ],
    within: &["config", "layers", "manifests", "subject", "platform"],
};

/// Of an image's configuration, that say what runs and how.
const CONFIG: Names = Names {
    fields: &[
        "os",
        "architecture",
        "variant",
        "os.version",
        "created",
        "config",
        "rootfs",
        "diff_ids",
        "User",
        "Labels",
        "WorkingDir",
        "Entrypoint",
        "Cmd",
        "Env",
        "ExposedPorts",
    ],
    within: &["config", "rootfs"],
};

/// Whether the fields of a manifest are named in the letters of their specification, each once.
///
/// # Errors
/// Where one is not, or the document is none.
pub(crate) fn manifest(json: &[u8]) -> Result<(), serde_json::Error> {
    exact(json, &MANIFEST)
}

/// Whether an image's configuration says the same to all who read it, as far as it says what runs and how.
///
/// # Errors
/// Where a field has the name of another in other letters, or is there twice ([`serde_json::Error::is_data`]), or the document
/// is no JSON.
pub fn unambiguous_config(json: &[u8]) -> Result<(), serde_json::Error> {
    exact(json, &CONFIG)
}

fn exact(json: &[u8], names: &'static Names) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Exact(names).deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Exact(&'static Names);

impl<'de> DeserializeSeed<'de> for Exact {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Exact {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or a list of some")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let field = self.0.fields.iter().find(|field| is_same_in_go(&name, field));
            if let Some(field) = field {
                if name != **field {
                    return Err(A::Error::custom(format_args!("`{name}` is `{field}` to many clients")));
                }
                if seen.contains(field) {
                    return Err(A::Error::custom(format_args!("`{field}` is there twice")));
                }
                seen.push(*field);
            }
            if self.0.within.contains(&name.as_str()) {
                map.next_value_seed(Exact(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Exact(self.0))?.is_some() {}
        Ok(())
    }

    // What is of another type than its field is for whoever reads that to refuse.
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Whatever the case; besides, `ſ` is an `s` to Go (`encoding/json`, `foldName`), and the sign of Kelvin a `k`.
fn is_same_in_go(name: &str, field: &str) -> bool {
    let is_same = |letter: char, of_field: char| match letter {
        'ſ' => of_field.eq_ignore_ascii_case(&'s'),
        '\u{212a}' => of_field.eq_ignore_ascii_case(&'k'),
        _ => letter.eq_ignore_ascii_case(&of_field),
    };
    let mut letters = field.chars();
    name.chars().all(|letter| letters.next().is_some_and(|of_field| is_same(letter, of_field)))
        && letters.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_the_same_to_all_or_told() {
        let check = |json: &str, expected: Option<&str>| {
            let told = unambiguous_config(json.as_bytes()).err().filter(serde_json::Error::is_data);
            let told = told.map(|error| error.to_string());
            assert_eq!(told.is_some(), expected.is_some(), "{json}: {told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{json}");
        };
        check(
            r#"{"os":"linux","config":{"User":"1000","Labels":{"a":"1","A":"2"}},"container_config":{"User":"0"}}"#,
            None,
        );
        check(
            r#"{"config":null,"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#,
            None,
        );
        check(r#"{"config":{"User":"1000"},"Config":{"User":"root"}}"#, Some("`Config` is `config`"));
        check(r#"{"config":{"User":"1000","user":"root"}}"#, Some("`user` is `User`"));
        check(r#"{"config":{"User":"1000","User":"root"}}"#, Some("`User` is there twice"));
        check(r#"{"config":{"Entrypoint":["a"],"entrypoint":["b"]}}"#, Some("`entrypoint`"));
        check(r#"{"rootfs":{"diff_ids":[],"diff_idſ":[]}}"#, Some("`diff_ids`"));
        check("{\"config\":{\"WorkingDir\":\"/a\",\"Wor\u{212a}ingDir\":\"/b\"}}", Some("is `WorkingDir`"));
        check("no JSON", None);
    }
}
