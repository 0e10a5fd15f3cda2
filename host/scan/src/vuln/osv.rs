//! OSV records, <https://ossf.github.io/osv-schema/>, as far as matching needs them.

use serde::Deserialize;

/// One record.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) modified: String,
    #[serde(default)]
    pub(crate) withdrawn: Option<String>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) aliases: Vec<String>,
    /// What this advisory is about, as opposed to other names for it (schema 1.7).
    #[serde(default, deserialize_with = "null")]
    pub(crate) upstream: Vec<String>,
    /// Before `upstream` existed, Debian named an advisory's CVEs here.
    #[serde(default, deserialize_with = "null")]
    pub(crate) related: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) severity: Vec<Score>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) affected: Vec<Affected>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) database_specific: Specific,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Score {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) score: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Affected {
    #[serde(default)]
    pub(crate) package: Option<Package>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) ranges: Vec<Range>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) versions: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) severity: Vec<Score>,
    #[serde(default, deserialize_with = "null")]
    pub(crate) ecosystem_specific: Specific,
    #[serde(default, deserialize_with = "null")]
    pub(crate) database_specific: Specific,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) ecosystem: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Range {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null")]
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Event {
    #[serde(default)]
    pub(crate) introduced: Option<String>,
    #[serde(default)]
    pub(crate) fixed: Option<String>,
    #[serde(default)]
    pub(crate) last_affected: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<String>,
}

impl Event {
    /// Its version; the schema allows one kind in an event. None of an event of a kind that is not known here.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &String> {
        [&self.introduced, &self.fixed, &self.last_affected, &self.limit].into_iter().flatten()
    }
}

impl Range {
    /// Whether all of it can be evaluated: it begins somewhere, and each event is of a known kind.
    pub(crate) fn is_decidable(&self) -> bool {
        self.events.iter().any(|e| e.introduced.is_some())
            && self.events.iter().all(|e| e.versions().next().is_some())
    }
}

/// Fields that databases add on their own: a word for the severity, or Debian's urgency.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Specific {
    #[serde(default, deserialize_with = "word")]
    pub(crate) severity: Option<String>,
    #[serde(default, deserialize_with = "word")]
    pub(crate) urgency: Option<String>,
}

/// `null` where the schema has a list or object.
fn null<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A text; whatever else a database put there is not for us.
fn word<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(serde_json::Value::deserialize(from)?.as_str().map(str::to_owned))
}
