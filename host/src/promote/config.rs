//! A policy's config: JSON in which no object has a key twice. Of two values `serde_json` keeps the last without a word, and the
//! other is the one that its reader may go by.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How much of a key an error repeats, in characters.
const SHOWN_CHARS: usize = 64;

/// Any JSON, read with that care.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigValue(pub Value);

/// For a field of a struct.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    ConfigValue::deserialize(from).map(|config| config.0)
}

/// For a field that may be left out; `null` is as good.
pub fn read_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Ok(Option::<ConfigValue>::deserialize(from)?.map(|config| config.0))
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyJson).map(ConfigValue)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(yes.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(ConfigValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(SHOWN_CHARS).collect();
                return Err(A::Error::custom(format!("key `{shown}` is there twice")));
            }
            let ConfigValue(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promote::Policy;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        for json in [
            "null",
            "true",
            "-1",
            "18446744073709551615",
            "1.5",
            r#""a\nb""#,
            r#"[1, {"a": {"b": []}}, {"a": 1}]"#,
        ] {
            let ConfigValue(read) = serde_json::from_str(json).unwrap();
            assert_eq!(read, serde_json::from_str::<Value>(json).unwrap(), "{json}");
        }
    }

    /// Regression: the last value won, and a list of what is denied that stood before it was as if it had not been written.
    #[test]
    fn a_key_is_there_once() {
        let check = |config: &str| {
            let json = format!(r#"{{"plugin": "licence-gate", "config": {config}}}"#);
            let error = serde_json::from_str::<Policy>(&json).unwrap_err().to_string();
            assert!(error.starts_with("key `deny` is there twice at line 1"), "{error}");
        };
        check(r#"{"deny": ["GPL-*"], "deny": []}"#);
        check(r#"{"deny": ["GPL-*"], "d\u0065ny": []}"#);
        check(r#"{"all": [{"of": {"deny": 1, "allow": 2, "deny": 1}}]}"#);
    }
}
