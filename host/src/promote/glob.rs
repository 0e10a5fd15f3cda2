use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_oci::Tag;

/// Longest tag pattern, in bytes.
const TAG_PATTERN_BYTES_MAX: usize = 128;

/// Which tags a binding is about: `*` stands for any run of characters, everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagPattern(Box<str>);

/// A text that is no tag pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a tag pattern: {why}")]
pub struct TagPatternError {
    text: String,
    why: &'static str,
}

impl TagPattern {
    /// Every tag.
    pub fn all() -> Self {
        TagPattern("*".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, tag: &Tag) -> bool {
        matches(self.0.as_bytes(), tag.as_str().as_bytes())
    }
}

impl Default for TagPattern {
    fn default() -> Self {
        TagPattern::all()
    }
}

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(text: &str) -> Result<Self, TagPatternError> {
        let wrong = |why| TagPatternError { text: text.chars().take(128).collect(), why };
        if text.is_empty() || text.len() > TAG_PATTERN_BYTES_MAX {
            return Err(wrong("it has 1 to 128 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-*".contains(&b)) {
            return Err(wrong("it is made of letters, digits, `.`, `_`, `-` and `*`"));
        }
        Ok(TagPattern(text.into()))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TagPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TagPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether the whole text matches; after a mismatch only the last star is tried again.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            star = Some((g, t));
            g += 1;
        } else if glob.get(g) == text.get(t) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (g, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

/// A pattern as a row of steps: each consumes one item, or (a run) any number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step<T> {
    One(T),
    Run,
}

/// Whether some sequence of items satisfies both rows of steps. O(a × b) calls of `both`.
fn overlap<T>(a: &[Step<T>], b: &[Step<T>], both: impl Fn(&T, &T) -> bool) -> bool {
    // reach[j]: whether a[i..] and b[j..] overlap; computed from the end, one row of the table at a time.
    let mut below: Vec<bool> =
        (0..=b.len()).map(|j| b[j..].iter().all(|step| matches!(step, Step::Run))).collect();
    for i in (0..a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            row[j] = match (&a[i], b.get(j)) {
                // A run ends here, or takes what the other needs next.
                (Step::Run, None) => below[j],
                (Step::Run, Some(_)) => below[j] || row[j + 1],
                (Step::One(_), None) => false,
                (Step::One(_), Some(Step::Run)) => row[j + 1] || below[j],
                (Step::One(x), Some(Step::One(y))) => both(x, y) && below[j + 1],
            };
        }
        below = row;
    }
    below.first().copied().unwrap_or(false)
}

fn byte_steps(glob: &str) -> Vec<Step<u8>> {
    glob.bytes().map(|b| if b == b'*' { Step::Run } else { Step::One(b) }).collect()
}

/// Whether one text can match both globs, in which `*` stands for any run of characters.
pub(super) fn texts_overlap(a: &str, b: &str) -> bool {
    overlap(&byte_steps(a), &byte_steps(b), |x, y| x == y)
}

/// Whether one repository can match both patterns, in which a component `**` stands for one or more components.
pub(super) fn repositories_overlap(a: &str, b: &str) -> bool {
    overlap(&component_steps(a), &component_steps(b), |x, y| texts_overlap(x, y))
}

fn component_steps(pattern: &str) -> Vec<Step<&str>> {
    pattern
        .split('/')
        .flat_map(|component| match component {
            "**" => vec![Step::One("*"), Step::Run],
            glob => vec![Step::One(glob)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_oci::{RepoName, RepoPattern};

    use super::*;

    #[test]
    fn patterns_that_share_a_repository_overlap() {
        let check = |a: &str, b: &str, expected: bool| {
            assert_eq!(repositories_overlap(a, b), expected, "{a} and {b}");
            assert_eq!(repositories_overlap(b, a), expected, "{b} and {a}");
        };
        check("dev/*", "dev/app", true);
        check("dev/*", "qa/*", false);
        check("dev/*", "*/app", true);
        check("dev/a*", "dev/*b", true);
        check("dev/a*", "dev/b*", false);
        check("**", "dev/app", true);
        check("dev/**", "dev", false);
        check("dev/**", "dev/web/app", true);
        check("dev/**/x", "**/y", false);
        check("dev/**/x", "**/x", true);
        check("*", "dev/app", false);
    }

    proptest! {
        #[test]
        fn a_repository_in_both_proves_an_overlap(
            a in "[ab*](/([ab]|\\*|a\\*|\\*\\*)){0,3}", b in "([ab*]|\\*\\*)(/([ab]|\\*b|\\*\\*)){0,3}", name in "[ab]{1,2}(/[ab]{1,2}){0,4}",
        ) {
            let (x, y): (RepoPattern, RepoPattern) = (a.parse().unwrap(), b.parse().unwrap());
            let name: RepoName = name.parse().unwrap();
            if x.matches(&name) && y.matches(&name) {
                prop_assert!(repositories_overlap(&a, &b));
            }
        }

        #[test]
        fn an_overlap_of_texts_is_one_that_a_text_has(a in "[ab*]{0,4}", b in "[ab*]{0,4}") {
            // Every text over two letters that could be the shortest witness.
            let texts = (0..=8u32).flat_map(|n| (0..1u32 << n).map(move |bits| {
                (0..n).map(|i| if bits >> i & 1 == 0 { b'a' } else { b'b' }).collect::<Vec<u8>>()
            }));
            let shared = texts.into_iter().any(|t| matches(a.as_bytes(), &t) && matches(b.as_bytes(), &t));
            prop_assert_eq!(texts_overlap(&a, &b), shared);
        }
    }
}
