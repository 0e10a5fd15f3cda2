use std::fmt;
use std::str::FromStr;

use crate::{ParseError, RepoName, serde_as_text};

/// Longest pattern, in bytes: as long as the names that it is compared with.
const PATTERN_BYTES_MAX: usize = 255;

/// Which repositories a grant, a token or a binding is about.
///
/// Components are separated by `/`. In a component, `*` stands for any run of characters, also none; a component
/// `**` stands for any number of components, at least one. So `dev/*` is `dev/app` but not `dev/web/app`, `dev/**`
/// is both, `**` is every repository, and `dev/app` is itself alone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPattern(Box<str>);

impl RepoPattern {
    /// Every repository.
    pub fn all() -> Self {
        RepoPattern("**".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `**`, so that a right over it is a right over the whole server.
    pub fn is_all(&self) -> bool {
        &*self.0 == "**"
    }

    /// What the name of every repository that is meant begins with: all before the first `*`.
    pub fn literal(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether every repository that `other` means is surely one of those meant. Sound, and complete for patterns of the
    /// forms `**`, `prefix/**`, `prefix/*` and plain names.
    pub fn covers(&self, other: &RepoPattern) -> bool {
        if self.is_all() || self == other {
            return true;
        }
        let below = |rest: &str| {
            let plain = !rest.is_empty() && !rest.contains('*');
            plain && other.0.strip_prefix(rest).is_some_and(|behind| behind.starts_with('/'))
        };
        match self.0.rsplit_once('/') {
            Some((prefix, "**")) => below(prefix),
            Some((prefix, "*")) => {
                below(prefix) && !other.0[prefix.len() + 1..].contains(['/']) && !other.0.ends_with("**")
            }
            _ => false,
        }
    }

    /// Whether the repository is one of those meant. Bounded by the product of both lengths.
    pub fn matches(&self, repository: &RepoName) -> bool {
        components_match(&self.0, repository.as_str())
    }
}

impl From<&RepoName> for RepoPattern {
    fn from(name: &RepoName) -> Self {
        RepoPattern(name.as_str().into())
    }
}

/// Backtracks to the last `**` alone, which is enough: an earlier one could only take what the last one can.
fn components_match(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (Some(pattern), Some(name));
    let mut retry: Option<(Option<&str>, &str)> = None;
    while let Some(rest) = name {
        let (component, after) = first_component(rest);
        match pattern.map(first_component) {
            Some(("**", behind)) => {
                retry = Some((behind, rest));
                (pattern, name) = (behind, after);
                continue;
            }
            Some((glob, behind)) if component_matches(glob.as_bytes(), component.as_bytes()) => {
                (pattern, name) = (behind, after);
                continue;
            }
            _ => {}
        }
        // The last `**` takes one component more.
        let Some((behind, from)) = retry else { return false };
        let Some(from) = first_component(from).1 else { return false };
        retry = Some((behind, from));
        (pattern, name) = (behind, first_component(from).1);
    }
    pattern.is_none()
}

fn first_component(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)))
}

fn component_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            g += 1;
            retry = Some((g, t));
        } else if glob.get(g) == text.get(t) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            (g, t) = (after_star, taken + 1);
        } else {
            return false;
        }
    }
    glob.get(g..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

impl FromStr for RepoPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why| ParseError::new("repository pattern", text, why);
        if text.len() > PATTERN_BYTES_MAX {
            return Err(wrong("it is longer than 255 bytes"));
        }
        for component in text.split('/') {
            if component.is_empty() {
                return Err(wrong("it has an empty component"));
            }
            if component != "**" && component.contains("**") {
                return Err(wrong("`**` stands for whole components, as in `dev/**`"));
            }
            let ok = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*');
            if !component.bytes().all(ok) {
                return Err(wrong("it is made of lower-case letters, digits, `.`, `_`, `-`, `/` and `*`"));
            }
        }
        Ok(RepoPattern(text.into()))
    }
}

impl fmt::Display for RepoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RepoPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let parsed: RepoPattern = pattern.parse().unwrap();
        assert_eq!(parsed.matches(&name.parse().unwrap()), expected, "`{pattern}` on `{name}`");
    }

    #[test]
    fn a_star_stays_in_its_component() {
        check("dev/*", "dev/app", true);
        check("dev/*", "dev/web/app", false);
        check("dev/*", "dev", false);
        check("*", "app", true);
        check("*/app", "dev/app", true);
        check("dev/a*p", "dev/app", true);
        check("dev/a*p*", "dev/ap", true);
        check("dev/app", "dev/app", true);
        check("dev/app", "dev/app2", false);
        check("dev/app", "dev", false);
    }

    #[test]
    fn two_stars_cross_components() {
        check("**", "a", true);
        check("**", "a/b/c", true);
        check("dev/**", "dev/web/app", true);
        check("dev/**", "dev", false);
        check("dev/**", "development/app", false);
        check("**/app", "dev/web/app", true);
        check("**/app", "app", false);
        check("a/**/b/**/c", "a/x/b/b/y/c", true);
        check("a/**/b/**/c", "a/b/x/c", false);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/", "dev/", "dev//app", "Dev/*", "dev/a**", "dev/***", "dev/[a]"] {
            assert!(text.parse::<RepoPattern>().is_err(), "`{text}`");
        }
    }

    /// The definition, as slow as it is plain.
    fn slow(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (["**", p @ ..], [_, n @ ..]) => slow(p, n) || slow(pattern, n),
            ([glob, p @ ..], [first, n @ ..]) => {
                component_matches(glob.as_bytes(), first.as_bytes()) && slow(p, n)
            }
            _ => false,
        }
    }

    #[test]
    fn a_pattern_covers_what_is_surely_below_it() {
        let check = |outer: &str, inner: &str, expected: bool| {
            let (a, b): (RepoPattern, RepoPattern) = (outer.parse().unwrap(), inner.parse().unwrap());
            assert_eq!(a.covers(&b), expected, "`{outer}` over `{inner}`");
        };
        check("**", "dev/*", true);
        check("dev/**", "dev/**", true);
        check("dev/**", "dev/web/*", true);
        check("dev/**", "dev", false);
        check("dev/**", "development/*", false);
        check("dev/**", "**", false);
        check("dev/*", "dev/app", true);
        check("dev/*", "dev/a*", true);
        check("dev/*", "dev/**", false);
        check("dev/*", "dev/web/app", false);
        check("dev/app", "dev/*", false);
    }

    proptest! {
        #[test]
        fn what_is_covered_matches(
            outer in "([ab]/)?([ab]|\\*|\\*\\*)", inner in "([ab*]/){0,2}([ab]|\\*|\\*\\*)", name in "[ab](/[ab]){0,3}",
        ) {
            let (outer, inner): (RepoPattern, RepoPattern) = (outer.parse().unwrap(), inner.parse().unwrap());
            let name = name.parse().unwrap();
            prop_assert!(!(outer.covers(&inner) && inner.matches(&name)) || outer.matches(&name));
        }

        #[test]
        fn agrees_with_the_definition(pattern in "(a|b|\\*|\\*\\*)(/(a|b|a\\*|\\*\\*)){0,5}", name in "[ab](/[ab]){0,6}") {
            let expected = slow(&pattern.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>());
            prop_assert_eq!(components_match(&pattern, &name), expected);
            let parsed: RepoPattern = pattern.parse().unwrap();
            prop_assert!(!expected || name.starts_with(parsed.literal()));
        }

        #[test]
        fn parses_what_it_shows(text in "[a-z0-9./*-]{0,12}") {
            if let Ok(pattern) = text.parse::<RepoPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
