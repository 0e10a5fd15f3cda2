use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_oci::{RepoName, RepoPattern, Tag};
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use super::config;
use super::glob::{TagPattern, repositories_overlap};
use super::platforms;
use super::template::{RepoTemplate, TagTemplate};
use crate::event::Stage;

/// Bindings of one server: each is read at every judgement.
pub const BINDINGS_MAX: usize = 500;
/// Policies of one binding.
pub const POLICIES_MAX: usize = 16;
/// Targets of one binding.
pub const TARGETS_MAX: usize = 16;
/// Platforms that one binding names.
pub const PLATFORMS_MAX: usize = 32;
/// A policy's config as JSON, in bytes.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;

/// What names of bindings and targets are made of.
const NAME_HINT: &str = "1 to 64 lower-case letters, digits, `.`, `_` and `-`";

/// A binding's name: 1 to 64 lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingName(Box<str>);

impl BindingName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a binding, whatever the server holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("`{0}` is not a binding's name; hint: {NAME_HINT}")]
    Name(String),
    #[error("`{0}` is not a target's name; hint: {NAME_HINT}")]
    Target(String),
    #[error("a binding needs at least one {0}")]
    None(&'static str),
    #[error("a binding has at most {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("{what} `{name}` is there twice")]
    Twice { what: &'static str, name: String },
    #[error("the config of `{plugin}` has {bytes} bytes, more than {CONFIG_BYTES_MAX}")]
    ConfigTooLarge { plugin: String, bytes: usize },
    #[error(
        "platform `{0}` is not `os/architecture[/variant]` as Go names it; hint: such as linux/amd64 or linux/arm64"
    )]
    Platform(String),
}

/// What an error repeats of what is no name.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for BindingName {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=64).contains(&text.len())
            && text.as_bytes().first().is_some_and(is_word)
            && text.bytes().all(|b| is_word(&b) || b"._-".contains(&b));
        if ok { Ok(BindingName(text.into())) } else { Err(BindingError::Name(shown(text))) }
    }
}

impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BindingName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BindingName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a binding does with its verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Promotes.
    #[default]
    Enforce,
    /// Judges and records, and promotes nothing.
    Shadow,
    /// Does nothing.
    Off,
}

/// A plugin that is asked, with its config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The plugin's name.
    pub plugin: String,
    /// What the plugin's schema asks for; `{}` if left out. No object in it has a key twice.
    #[serde(default = "empty_config", deserialize_with = "config::read")]
    pub config: serde_json::Value,
}

fn empty_config() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

impl Policy {
    /// The config as the plugin gets it, and as it is kept in decisions.
    pub fn config_json(&self) -> String {
        self.config.to_string()
    }
}

/// One place that a binding promotes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRule {
    /// What a plugin chooses it by.
    pub name: String,
    /// Such as `qa/{name}`.
    #[schema(value_type = String)]
    pub repository: RepoTemplate,
    /// Such as `%n-%Y%m%d`; `%n`, the source's tag, if left out.
    #[serde(default)]
    #[schema(value_type = String)]
    pub tag: TagTemplate,
}

/// Which tags are judged by which policies, and where they go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    #[schema(value_type = String)]
    pub name: BindingName,
    /// Such as `dev/**`.
    #[schema(value_type = String)]
    pub repositories: RepoPattern,
    /// Such as `v*`; every tag if left out.
    #[serde(default)]
    #[schema(value_type = String)]
    pub tags: TagPattern,
    pub policies: Vec<Policy>,
    pub targets: Vec<TargetRule>,
    /// The user with whose rights it acts, asked again each time.
    #[serde(rename = "as")]
    pub owner: String,
    #[serde(default)]
    pub mode: Mode,
    /// The platforms of an index that count ([`counting`](super::platforms::counting)); all of them if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

impl Binding {
    /// Whether it has anything to do with a tag.
    pub fn matches(&self, repository: &RepoName, tag: &Tag) -> bool {
        self.mode != Mode::Off && self.repositories.matches(repository) && self.tags.matches(tag)
    }

    /// Whether it promotes what stands at this place into that repository.
    pub fn leads(&self, from: &Stage, to: &RepoName) -> bool {
        let gives = |rule: &TargetRule| {
            rule.repository.render(&from.repository).is_ok_and(|repository| repository == *to)
        };
        self.mode == Mode::Enforce
            && self.matches(&from.repository, &from.tag)
            && self.targets.iter().any(gives)
    }

    /// Whether there may be a repository that both this binding and `pattern` are about.
    pub fn overlaps(&self, pattern: &RepoPattern) -> bool {
        repositories_overlap(self.repositories.as_str(), pattern.as_str())
    }

    /// What can be checked without asking anybody: counts, names, sizes.
    ///
    /// # Errors
    /// The first [`BindingError`].
    pub fn check(&self) -> Result<(), BindingError> {
        for (what, found) in [("policy", self.policies.len()), ("target", self.targets.len())] {
            if found == 0 {
                return Err(BindingError::None(what));
            }
        }
        for (what, found, max) in [
            ("policies", self.policies.len(), POLICIES_MAX),
            ("targets", self.targets.len(), TARGETS_MAX),
            ("platforms", self.platforms.len(), PLATFORMS_MAX),
        ] {
            if found > max {
                return Err(BindingError::TooMany { what, max });
            }
        }
        let mut seen = BTreeSet::new();
        for target in &self.targets {
            let name: Result<BindingName, _> = target.name.parse();
            name.map_err(|_| BindingError::Target(shown(&target.name)))?;
            if !seen.insert(&target.name) {
                return Err(BindingError::Twice { what: "target", name: target.name.clone() });
            }
        }
        for policy in &self.policies {
            let bytes = policy.config_json().len();
            if bytes > CONFIG_BYTES_MAX {
                return Err(BindingError::ConfigTooLarge { plugin: policy.plugin.clone(), bytes });
            }
        }
        for platform in &self.platforms {
            if platforms::parse(platform).is_none() {
                return Err(BindingError::Platform(shown(platform)));
            }
        }
        Ok(())
    }
}

/// A binding as it is stored; its row's revision is the binding's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindingRow {
    #[serde(flatten)]
    pub binding: Binding,
    /// Who wrote it.
    pub by: String,
    pub at_ms: u64,
}

/// A binding in force.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Bound {
    #[serde(flatten)]
    pub binding: Binding,
    pub by: String,
    pub at_ms: u64,
    /// Changes with every write.
    pub revision: u64,
}

fn bound(row: &Row) -> Result<Bound, StoreError> {
    let BindingRow { binding, by, at_ms } = row.value()?;
    Ok(Bound { binding, by, at_ms, revision: row.rev.0 })
}

pub(super) fn binding_key(name: &str) -> Key {
    key(Space::Binding, &[name])
}

/// All bindings, by name.
pub async fn all(store: &Store) -> Result<Vec<Bound>, StoreError> {
    store.scan_all(KeyRange::all(Space::Binding), BINDINGS_MAX).await?.iter().map(bound).collect()
}

pub async fn find(store: &Store, name: &str) -> Result<Option<Bound>, StoreError> {
    store.get(&binding_key(name)).await?.as_ref().map(bound).transpose()
}

/// All bindings, expected to stay as they are: what a check over all of them needs.
pub async fn expect_all(tx: &mut Tx) -> Result<Vec<Bound>, StoreError> {
    tx.scan_all(KeyRange::all(Space::Binding), BINDINGS_MAX).await?.iter().map(bound).collect()
}

/// One binding, expected to stay as it is.
pub async fn expect(tx: &mut Tx, name: &str) -> Result<Option<Bound>, StoreError> {
    tx.get(&binding_key(name)).await?.as_ref().map(bound).transpose()
}

pub fn put(tx: &mut Tx, row: &BindingRow) -> Result<(), StoreError> {
    tx.put_value(&binding_key(row.binding.name.as_str()), row)
}

pub fn remove(tx: &mut Tx, name: &str) {
    tx.delete(&binding_key(name));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Regression: "at most 16 policy", and a target without a name was told of as a binding's.
    #[test]
    fn what_is_wrong_is_called_what_it_is() {
        let check = |policies: usize, targets: &[&str], expected: &str| {
            let target = |name: &&str| json!({"name": name, "repository": "qa/{name}"});
            let binding: Binding = serde_json::from_value(json!({
                "name": "to-qa", "repositories": "dev/*", "as": "ann",
                "policies": vec![json!({"plugin": "criteria"}); policies],
                "targets": targets.iter().map(target).collect::<Vec<_>>(),
            }))
            .unwrap();
            assert_eq!(binding.check().unwrap_err().to_string(), expected);
        };
        check(0, &["qa"], "a binding needs at least one policy");
        check(1, &[], "a binding needs at least one target");
        check(POLICIES_MAX + 1, &["qa"], "a binding has at most 16 policies");
        check(1, &["qa"; TARGETS_MAX + 1], "a binding has at most 16 targets");
        check(1, &["qa", "qa"], "target `qa` is there twice");
        let hint = "is not a target's name; hint: 1 to 64 lower-case letters, digits, `.`, `_` and `-`";
        check(1, &[""], &format!("`` {hint}"));
        check(1, &["QA"], &format!("`QA` {hint}"));
    }
}
