//! Names of sources.

use std::fmt;
use std::str::FromStr;

/// Longest name of a source, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The name that an import keeps its records under, and whose earlier ones it replaces: `Debian`, `own/advisories`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceName(String);

impl SourceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a name that a source can have.
#[derive(Debug, thiserror::Error)]
#[error("the name of a source is 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_`, `-`, `/` and `:`")]
pub struct SourceNameError;

impl FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(text: &str) -> Result<Self, SourceNameError> {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c));
        let is_name = is_plain && (1..=NAME_BYTES_MAX).contains(&text.len());
        is_name.then(|| Self(text.to_owned())).ok_or(SourceNameError)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let check =
            |text: &str, expected: bool| assert_eq!(text.parse::<SourceName>().is_ok(), expected, "{text:?}");
        check("Debian", true);
        check("own/advisories:2026_1.v-2", true);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        for wrong in ["", "my list", "a\nb", "\u{1b}[31m", "ö", "a,b"] {
            check(wrong, false);
        }
    }
}
