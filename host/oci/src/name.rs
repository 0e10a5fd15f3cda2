use std::fmt;
use std::str::FromStr;

use crate::{ParseError, serde_as_text};

/// Longest repository name, in bytes. The specification suggests that host and name together stay within 255.
const REPO_NAME_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (distribution specification, "Pulling manifests").
const TAG_BYTES_MAX: usize = 128;

/// A repository name: `[a-z0-9]+([._-]|__|-+)…` components joined by `/` (distribution specification,
/// "Pulling manifests"), at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(Box<str>);

impl RepoName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component: what a quota and a namespace grant are counted by.
    pub fn namespace(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// What follows the namespace; the whole name where there is only one component.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

/// One component: alphanumeric runs separated by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let is_alphanumeric = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_alphanumeric(first) || !is_alphanumeric(last) {
        return false;
    }
    bytes
        .split(is_alphanumeric)
        .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
}

impl FromStr for RepoName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why| ParseError::new("repository name", text, why);
        if text.len() > REPO_NAME_BYTES_MAX {
            return Err(wrong("it is longer than 255 bytes"));
        }
        if !text.split('/').all(is_component) {
            return Err(wrong(
                "components are lower-case letters and digits, separated by `.`, `_`, `__` or `-`",
            ));
        }
        Ok(RepoName(text.into()))
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution specification, "Pulling manifests").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why| ParseError::new("tag", text, why);
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.as_bytes() {
            [] => Err(wrong("it is empty")),
            bytes if bytes.len() > TAG_BYTES_MAX => Err(wrong("it is longer than 128 bytes")),
            [first, rest @ ..]
                if is_word(*first) && rest.iter().all(|b| is_word(*b) || matches!(b, b'.' | b'-')) =>
            {
                Ok(Tag(text.into()))
            }
            _ => Err(wrong("a tag starts with a letter, digit or `_`, then also `.` and `-`")),
        }
    }
}

macro_rules! text_newtype {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        serde_as_text!($type);
    };
}

text_newtype!(RepoName);
text_newtype!(Tag);
