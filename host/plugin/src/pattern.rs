//! The two small languages that a question may use: globs and version ranges. Both are bounded, and neither backtracks.

use std::cmp::Ordering;

/// The longest glob or range, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// The most comparisons in one range.
pub const MAX_COMPARISONS: usize = 64;

/// Compares two versions of one ecosystem (a package URL type); none where it has no order for them. The host passes the
/// scanner's.
pub type VersionOrder = fn(ecosystem: &str, left: &str, right: &str) -> Option<Ordering>;

/// A glob that is ready to be matched many times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glob<'a> {
    text: &'a str,
    /// The bytes before the first wildcard.
    prefix: &'a str,
}

impl<'a> Glob<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let end = text.find(['*', '?']).unwrap_or(text.len());
        Self { text, prefix: &text[..end] }
    }

    /// What every match starts with.
    pub(crate) fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Nothing but the text itself matches.
    pub(crate) fn is_exact(&self) -> bool {
        self.prefix.len() == self.text.len()
    }

    /// Whether the whole of `text` matches: `*` is any run of characters, `?` one.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.is_exact() {
            return self.text == text;
        }
        text.strip_prefix(self.prefix).is_some_and(|rest| wild_matches(&self.text[self.prefix.len()..], rest))
    }
}

/// O(text × glob) at worst: after a mismatch only the last star is tried again.
fn wild_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(b'?') => {
                g += 1;
                t += char_len(text[t]);
            }
            Some(byte) if *byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star_g, star_t)) = star else { return false };
                let next = star_t + char_len(text[star_t]);
                star = Some((star_g, next));
                (g, t) = (star_g + 1, next);
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

/// Bytes of the UTF-8 character that starts with `lead`.
fn char_len(lead: u8) -> usize {
    match lead {
        0..=0xbf => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "=",
            Self::NotEqual => "!=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
        }
    }
}

/// A range of versions: `>=3.0, <3.0.14 || >=3.1, <3.1.6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range(Vec<Vec<(Comparison, String)>>);

impl Range {
    /// The error says what is wrong, for the person who wrote the range.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!(
                "a version range may have {MAX_PATTERN_BYTES} bytes, this has {}",
                text.len()
            ));
        }
        let groups: Vec<Vec<_>> = text
            .split("||")
            .map(|group| group.split(',').map(|one| comparison(one, text)).collect())
            .collect::<Result<_, _>>()?;
        if groups.iter().map(Vec::len).sum::<usize>() > MAX_COMPARISONS {
            return Err(format!("a version range may have {MAX_COMPARISONS} comparisons"));
        }
        match groups.iter().find_map(|group| contradiction(group)) {
            Some((one, other)) => {
                Err(format!("{one} and {other} in version range `{text}` exclude each other"))
            }
            None => Ok(Self(groups)),
        }
    }

    /// Whether `version` is in the range; none where that cannot be decided. A comparison that cannot be made leaves the
    /// answer open only if the others do not settle it.
    pub(crate) fn contains(&self, version: &str, ecosystem: &str, order: VersionOrder) -> Option<bool> {
        let holds = |(comparison, bound): &(Comparison, String)| {
            order(ecosystem, version, bound).map(|order| comparison.holds(order))
        };
        settle(self.0.iter().map(|group| settle(group.iter().map(holds), false)), true)
    }
}

/// Two comparisons that no version meets, in whatever order versions have: a typing error, by which a rule would never match.
fn contradiction(group: &[(Comparison, String)]) -> Option<(String, String)> {
    if group.len() < 2 {
        return None;
    }
    let read: Vec<_> = group.iter().map(|(sign, bound)| (*sign, bound, numbers(bound))).collect();
    let mut pairs = read.iter().flat_map(|one| read.iter().map(move |other| (one, other)));
    let (one, other) = pairs.find(|((one, low, low_numbers), (other, high, high_numbers))| {
        let is_later = || low_numbers.as_ref().zip(high_numbers.as_ref()).is_some_and(|(l, h)| l > h);
        match (one, other) {
            (Comparison::Equal, Comparison::NotEqual) => low == high,
            (Comparison::Greater, Comparison::Less | Comparison::LessOrEqual | Comparison::Equal)
            | (Comparison::GreaterOrEqual | Comparison::Equal, Comparison::Less) => low == high || is_later(),
            (Comparison::GreaterOrEqual | Comparison::Equal, Comparison::LessOrEqual | Comparison::Equal) => {
                is_later()
            }
            _ => false,
        }
    })?;
    let shown =
        |(sign, bound, _): &(Comparison, &String, Option<Vec<u64>>)| format!("`{}{bound}`", sign.sign());
    Some((shown(one), shown(other)))
}

/// A version of numbers with dots, without zeros at its end: where two differ, every order puts the same one after the other.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let mut numbers = version.split('.').map(number).collect::<Option<Vec<u64>>>()?;
    let last = numbers.iter().rposition(|number| *number > 0);
    numbers.truncate(last.map_or(0, |last| last + 1));
    Some(numbers)
}

/// Three-valued and (`settles` false) or or (`settles` true).
fn settle(values: impl Iterator<Item = Option<bool>>, settles: bool) -> Option<bool> {
    let mut open = false;
    for value in values {
        match value {
            Some(value) if value == settles => return Some(settles),
            Some(_) => {}
            None => open = true,
        }
    }
    if open { None } else { Some(!settles) }
}

fn comparison(text: &str, whole: &str) -> Result<(Comparison, String), String> {
    let text = text.trim();
    let operators = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("!=", Comparison::NotEqual),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("=", Comparison::Equal),
    ];
    let found = operators
        .iter()
        .find_map(|(sign, comparison)| text.strip_prefix(sign).map(|rest| (*comparison, rest.trim())));
    let Some((comparison, version)) = found else {
        return Err(format!("`{text}` in version range `{whole}` starts with none of < <= > >= = !="));
    };
    if version.is_empty() || version.contains(|c: char| c.is_whitespace() || "<>=!|".contains(c)) {
        return Err(format!("`{version}` in version range `{whole}` is no version"));
    }
    Ok((comparison, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(_: &str, left: &str, right: &str) -> Option<Ordering> {
        Some(left.parse::<u32>().ok()?.cmp(&right.parse::<u32>().ok()?))
    }

    #[test]
    fn globs() {
        let check =
            |glob, text, expected| assert_eq!(Glob::new(glob).matches(text), expected, "{glob} {text}");
        check("openssl", "openssl", true);
        check("openssl", "openssl3", false);
        check("lib*", "libssl3", true);
        check("*ssl*", "libssl3", true);
        check("lib?sl", "libssl", true);
        check("lib?sl", "libé sl", false);
        check("lib?sl", "libésl", true);
        check("*a*b*c", "xxaxxbxxc", true);
        check("*a*b*c", "xxaxxbxxcx", false);
        check("", "", true);
        check("**", "", true);
        check("?", "", false);
    }

    #[test]
    fn ranges() {
        let check = |range, version, expected| {
            let range = Range::parse(range).unwrap();
            assert_eq!(range.contains(version, "deb", numbers), expected, "{range:?} {version}");
        };
        check(">=3, <5", "4", Some(true));
        check(">=3, <5", "5", Some(false));
        check(">=3, <5 || =9", "9", Some(true));
        check("!=3", "3", Some(false));
        check(">=3", "x", None);
        check(">=x, <5", "7", Some(false));
        check(">=x, <5", "4", None);
        check(">=x || <5", "4", Some(true));
        for bad in ["", "3", ">=", ">=3 4", ">=3,,<4", "=>3", ">=3||"] {
            Range::parse(bad).unwrap_err();
        }
    }

    /// Regression: a rule with such a range was bound, and never matched.
    #[test]
    fn ranges_that_nothing_is_in() {
        let check = |range: &str, expected: &str| {
            let refused = Range::parse(range).expect_err(range);
            let told = format!("{expected} in version range `{range}` exclude each other");
            assert_eq!(refused, told);
        };
        check(">= 2, < 1", "`>=2` and `<1`");
        check("<1.9, >1.10", "`>1.10` and `<1.9`");
        check(">=3, <5 || >5.0.1, <=5", "`>5.0.1` and `<=5`");
        check(">1.0~rc1, =1.0~rc1", "`>1.0~rc1` and `=1.0~rc1`");
        check("=1, =2", "`=2` and `=1`");
        check("=1:2-3, !=1:2-3", "`=1:2-3` and `!=1:2-3`");
        // One of which some order has a version, or which only an order could tell.
        for good in [
            ">=1, <=1",
            ">1.0, <1.0.1",
            ">5, <=5.0",
            ">=1.0.0, <=1.0",
            ">=1.0.0-beta, <1.0.0",
            ">=1.1, <1.02",
            ">=2.0-1, <1.0-1",
            "!=1, !=2",
            "=1 || =2",
        ] {
            Range::parse(good).unwrap();
        }
    }

    /// The obvious way, exponential at worst.
    fn naive(glob: &[char], text: &[char]) -> bool {
        match (glob.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => naive(&glob[1..], text) || (!text.is_empty() && naive(glob, &text[1..])),
            (Some('?'), Some(_)) => naive(&glob[1..], &text[1..]),
            (Some(g), Some(t)) => g == t && naive(&glob[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn glob_is_what_it_says(glob in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let (g, t): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
            prop_assert_eq!(Glob::new(&glob).matches(&text), naive(&g, &t));
        }

        #[test]
        fn any_range_is_read_or_refused(text in "\\PC{0,64}") {
            let _ = Range::parse(&text);
        }
    }
}
