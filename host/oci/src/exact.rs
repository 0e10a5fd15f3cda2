use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The fields of a manifest, of its descriptors and of their platforms that say what it is.
const FIELDS: [&str; 14] = [
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
];

/// A manifest whose fields are named in the letters of their specification. Runtimes are written in Go, which takes `Layers` for
/// `layers`, too, and of both the last one (`encoding/json`, `Unmarshal`): such a manifest would be another to them than to this
/// registry.
pub(crate) struct Exact;

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Exact)
    }
}

impl<'de> Visitor<'de> for Exact {
    type Value = Exact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest's field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Exact, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if let Some(field) = FIELDS.iter().find(|field| name != **field && is_same_in_go(&name, field)) {
                return Err(A::Error::custom(format_args!("`{name}` is `{field}` to many clients")));
            }
            match name.as_str() {
                "config" | "layers" | "manifests" | "subject" | "platform" => {
                    map.next_value::<Exact>().map(drop)?;
                }
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(Exact)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Exact, A::Error> {
        while list.next_element::<Exact>()?.is_some() {}
        Ok(Exact)
    }

    fn visit_unit<E: Error>(self) -> Result<Exact, E> {
        Ok(Exact)
    }
}

/// Whatever the case, of letters beyond ASCII as well: `ſ` is an `s` to Go.
fn is_same_in_go(name: &str, field: &str) -> bool {
    name.chars().flat_map(char::to_uppercase).eq(field.chars().flat_map(char::to_uppercase))
}
