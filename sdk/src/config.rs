//! A policy's configuration: a struct, and the JSON Schema that the host shows and checks, from one declaration.
//!
//! [`config!`](crate::config!) declares both. A policy whose schema says more than the macro can (`oneOf`, patterns) writes the
//! schema by hand and implements [`Config`] with `include_str!` and [`read`].

use crate::bindings::exports::wharf::plugin::policy::Problem;
use crate::json::Json;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a binding's configuration is read into.
pub trait Config: Sized {
    /// The JSON Schema (2020-12) of the configuration, embedded in the plugin's manifest.
    const SCHEMA: &'static str;

    /// Reads the configuration of a binding. For a type that serde reads, [`read`] is all of it.
    ///
    /// # Errors
    /// What does not fit, each with the JSON pointer of the value.
    fn read(json: &str) -> Result<Self, Vec<Problem>>;
}

/// Reads JSON with serde.
///
/// # Errors
/// The first thing that does not fit, with its JSON pointer.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Vec<Problem>> {
    read_filled(json, |_| ())
}

/// Reads JSON with serde after `fill` put defaults where it is silent.
///
/// # Errors
/// The first thing that does not fit, with its JSON pointer.
#[doc(hidden)]
pub fn read_filled<T: DeserializeOwned>(json: &str, fill: fn(&mut Value)) -> Result<T, Vec<Problem>> {
    let mut value: Value =
        serde_json::from_str(json).map_err(|why| vec![problem("", format!("this is not JSON: {why}"))])?;
    fill(&mut value);
    serde_path_to_error::deserialize(value)
        .map_err(|why| vec![problem(pointer(why.path()), why.inner().to_string())])
}

/// A problem at a JSON pointer; `""` is the whole.
pub fn problem(pointer: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { pointer: pointer.into(), message: message.into() }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

/// A type that a field of a [`config!`](crate::config!) struct may have.
pub trait ConfigValue: DeserializeOwned {
    /// The members of its JSON Schema, without the braces.
    const SCHEMA: Json;
    /// Whether a field of this type must be given when it has no default.
    const REQUIRED: bool = true;

    /// Puts the defaults of nested structs where the value is silent.
    fn fill(_value: &mut Value) {}
}

macro_rules! plain {
    ($($ty:ty => $schema:expr),* $(,)?) => { $( impl ConfigValue for $ty { const SCHEMA: Json = Json::new().raw($schema); } )* };
}

plain! {
    bool => r#""type":"boolean""#,
    String => r#""type":"string""#,
    f32 => r#""type":"number""#,
    f64 => r#""type":"number""#,
    u8 => r#""type":"integer","minimum":0,"maximum":255"#,
    u16 => r#""type":"integer","minimum":0,"maximum":65535"#,
    u32 => r#""type":"integer","minimum":0,"maximum":4294967295"#,
    u64 => r#""type":"integer","minimum":0"#,
    i32 => r#""type":"integer","minimum":-2147483648,"maximum":2147483647"#,
    i64 => r#""type":"integer""#,
}

impl<T: ConfigValue> ConfigValue for Vec<T> {
    const SCHEMA: Json = Json::new().raw(r#""type":"array","items":{"#).json(&T::SCHEMA).raw("}");

    fn fill(value: &mut Value) {
        value.as_array_mut().into_iter().flatten().for_each(T::fill);
    }
}

impl<T: ConfigValue> ConfigValue for BTreeMap<String, T> {
    const SCHEMA: Json =
        Json::new().raw(r#""type":"object","additionalProperties":{"#).json(&T::SCHEMA).raw("}");

    fn fill(value: &mut Value) {
        value.as_object_mut().into_iter().flat_map(|map| map.values_mut()).for_each(T::fill);
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const SCHEMA: Json = Json::new().raw(r#""anyOf":[{"#).json(&T::SCHEMA).raw(r#"},{"type":"null"}]"#);
    const REQUIRED: bool = false;

    fn fill(value: &mut Value) {
        if !value.is_null() {
            T::fill(value);
        }
    }
}

/// What [`config!`](crate::config!) does to each field at run time: default, then nested defaults.
#[doc(hidden)]
pub fn fill_field<T: ConfigValue>(value: &mut Value, field: &str, default: &[&str]) {
    let Value::Object(map) = value else { return };
    if let Some(text) = default.first()
        && !map.contains_key(field)
    {
        // A default that is not JSON becomes null, which the field's type then refuses; `cargo test` finds it first.
        map.insert(field.to_owned(), serde_json::from_str(text).unwrap_or(Value::Null));
    }
    if let Some(inner) = map.get_mut(field) {
        T::fill(inner);
    }
}

/// The root of a schema: the members, and what the struct's doc comment says.
#[doc(hidden)]
pub const fn root_schema(doc: &[&str], members: &Json) -> Json {
    let mut out = Json::new().raw(r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","#);
    if !doc.is_empty() {
        out = out.raw(r#""description":"#).doc(doc).raw(",");
    }
    out.json(members).raw("}")
}

/// Declares a configuration and its JSON Schema together.
///
/// Doc comments become descriptions. A default is written **as JSON** after `=`; a field without one is required, unless it is
/// an `Option`. Unknown fields are refused. An `enum` lists the words it accepts. Field types: `bool`, integers, floats,
/// `String`, `Vec`, `Option`, `BTreeMap<String, _>`, and other `config!` types.
///
/// ```
/// wharf_sdk::config! {
///     /// What happens to an image that fails.
///     pub enum Unmet { Hold = "hold", Reject = "reject" }
/// }
/// wharf_sdk::config! {
///     /// Keeps findings out.
///     pub struct Limits {
///         /// How many critical findings an image may have.
///         max_critical: u32 = 0,
///         /// Who may push.
///         pushed_by: Vec<String> = ["ci"],
///         /// What happens to an image that fails.
///         unmet: Unmet = "hold",
///         /// Shown in every reason.
///         ticket: Option<String>,
///     }
/// }
/// use wharf_sdk::Config;
/// let limits = Limits::read(r#"{"max_critical": 2}"#).unwrap();
/// assert_eq!((limits.max_critical, limits.unmet), (2, Unmet::Hold));
/// let problems = Limits::read(r#"{"pushed_by": ["ci", 7]}"#).unwrap_err();
/// assert_eq!(problems[0].pointer, "/pushed_by/1");
/// assert!(Limits::SCHEMA.contains(r#""required":[]"#));
/// ```
#[macro_export]
macro_rules! config {
    ($(#[doc = $doc:literal])* $vis:vis struct $name:ident {
        $( $(#[doc = $field_doc:literal])* $field_vis:vis $field:ident : $ty:ty $(= $default:expr)? ),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, $crate::serde::Deserialize)]
        #[serde(crate = "wharf_sdk::serde", deny_unknown_fields)]
        $vis struct $name { $( $(#[doc = $field_doc])* $field_vis $field: $ty ),* }

        impl $crate::ConfigValue for $name {
            const SCHEMA: $crate::json::Json = {
                let mut out = $crate::json::Json::new().raw(r#""type":"object","properties":{"#);
                $(
                    out = out.comma().string(stringify!($field)).raw(":{");
                    let doc: &[&str] = &[$($field_doc),*];
                    if !doc.is_empty() {
                        out = out.raw(r#""description":"#).doc(doc);
                    }
                    out = out.comma().json(&<$ty as $crate::ConfigValue>::SCHEMA);
                    $( out = out.raw(r#","default":"#).raw(stringify!($default)); )?
                    out = out.raw("}");
                )*
                out = out.raw(r#"},"required":["#);
                $(
                    let default: &[&str] = &[$(stringify!($default))?];
                    if default.is_empty() && <$ty as $crate::ConfigValue>::REQUIRED {
                        out = out.comma().string(stringify!($field));
                    }
                )*
                out.raw(r#"],"additionalProperties":false"#)
            };

            fn fill(value: &mut $crate::serde_json::Value) {
                let _ = &value;
                $( $crate::config::fill_field::<$ty>(value, stringify!($field), &[$(stringify!($default))?]); )*
            }
        }

        impl $crate::Config for $name {
            const SCHEMA: &'static str = {
                const ROOT: &$crate::json::Json = &$crate::config::root_schema(
                    &[$($doc),*],
                    &<$name as $crate::ConfigValue>::SCHEMA,
                );
                ROOT.as_str()
            };

            fn read(json: &str) -> ::std::result::Result<Self, ::std::vec::Vec<$crate::Problem>> {
                $crate::config::read_filled(json, <$name as $crate::ConfigValue>::fill)
            }
        }
    };
    ($(#[doc = $doc:literal])* $vis:vis enum $name:ident {
        $( $(#[doc = $word_doc:literal])* $variant:ident = $word:literal ),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, $crate::serde::Deserialize)]
        #[serde(crate = "wharf_sdk::serde")]
        $vis enum $name { $( $(#[doc = $word_doc])* #[serde(rename = $word)] $variant ),* }

        impl $crate::ConfigValue for $name {
            const SCHEMA: $crate::json::Json = {
                let mut out = $crate::json::Json::new().raw(r#""type":"string","enum":["#);
                $( out = out.comma().string($word); )*
                out.raw("]")
            };
        }
    };
}

crate::config! {
    /// This policy takes no configuration.
    pub struct NoConfig {}
}
