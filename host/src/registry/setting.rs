//! Settings of one repository, changed at run time.

use serde::{Deserialize, Serialize};
use wharf_oci::{RepoName, Tag};
use wharf_store::{Key, Space, Store, StoreError, Tx, key};

/// Most patterns in one list of a repository's settings.
pub const PATTERNS_MAX: usize = 32;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 128;

/// `setting/repository/<name>`; no row means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoSetting {
    /// Tags that are pointed once and then neither moved nor deleted: `*` stands for any run of characters, so
    /// `v*` or `*` alone.
    #[serde(default)]
    pub immutable_tags: Vec<String>,
}

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("{0} patterns are more than the limit of {PATTERNS_MAX}")]
    TooMany(usize),
    #[error("tag pattern `{0}` is empty, too long or has characters that no tag has; hint: `v*`")]
    Pattern(String),
}

impl RepoSetting {
    /// Checks what an operator asks for.
    ///
    /// # Errors
    /// [`SettingError`] where a pattern could match no tag or there are too many.
    pub fn check(&self) -> Result<(), SettingError> {
        if self.immutable_tags.len() > PATTERNS_MAX {
            return Err(SettingError::TooMany(self.immutable_tags.len()));
        }
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-*".contains(&b);
        for pattern in &self.immutable_tags {
            if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX || !pattern.bytes().all(ok) {
                return Err(SettingError::Pattern(pattern.clone()));
            }
        }
        Ok(())
    }

    /// The pattern that makes `tag` immutable, if one does.
    pub fn immutable(&self, tag: &Tag) -> Option<&str> {
        self.immutable_tags.iter().map(String::as_str).find(|p| glob(p.as_bytes(), tag.as_str().as_bytes()))
    }
}

fn row(name: &RepoName) -> Key {
    key(Space::Setting, &["repository", name.as_str()])
}

/// The settings as the transaction finds them; it commits only while they stay so.
///
/// # Errors
/// Where the store cannot be read.
pub async fn get(tx: &mut Tx, name: &RepoName) -> Result<RepoSetting, StoreError> {
    tx.get(&row(name)).await?.map_or_else(|| Ok(RepoSetting::default()), |row| row.value())
}

/// The settings as they are now.
///
/// # Errors
/// Where the store cannot be read.
pub async fn read(store: &Store, name: &RepoName) -> Result<RepoSetting, StoreError> {
    store.get(&row(name)).await?.map_or_else(|| Ok(RepoSetting::default()), |row| row.value())
}

/// Replaces the settings; [`RepoSetting::check`] them first.
///
/// # Errors
/// Where the value cannot be written.
pub fn put(tx: &mut Tx, name: &RepoName, setting: &RepoSetting) -> Result<(), StoreError> {
    tx.put_value(&row(name), setting)
}

/// Whether `text` is matched by `pattern`, where `*` is any run of bytes. At most `pattern × text` steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
        } else if pattern.get(p) == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            (p, t) = (after_star, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_tags() {
        let setting = RepoSetting { immutable_tags: vec!["v*".into(), "*.0".into(), "release".into()] };
        for tag in ["v", "v1.4", "2.0", "release"] {
            assert!(setting.immutable(&tag.parse().unwrap()).is_some(), "{tag}");
        }
        for tag in ["latest", "1.4", "release2", "xv1"] {
            assert!(setting.immutable(&tag.parse().unwrap()).is_none(), "{tag}");
        }
    }

    #[test]
    fn what_matches_no_tag_is_refused() {
        let one = |pattern: &str| RepoSetting { immutable_tags: vec![pattern.into()] };
        assert_eq!(one("v*").check(), Ok(()));
        assert_eq!(one("").check(), Err(SettingError::Pattern(String::new())));
        assert_eq!(one("a/b").check(), Err(SettingError::Pattern("a/b".into())));
        let many = RepoSetting { immutable_tags: vec!["x".into(); PATTERNS_MAX + 1] };
        assert_eq!(many.check(), Err(SettingError::TooMany(PATTERNS_MAX + 1)));
    }
}
