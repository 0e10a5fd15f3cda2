//! Versions and ranges, for tests only: read, and refused, as Wharf does.

use crate::image::MAX_PATTERN_BYTES;
use std::cmp::Ordering;

/// The most comparisons in one range.
const MAX_COMPARISONS: usize = 64;

/// Groups of comparisons: one group must hold, and in it all.
#[derive(Debug, Clone)]
pub(super) struct Range(Vec<Vec<(Operator, String)>>);

#[derive(Debug, Clone, Copy)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
        }
    }
}

const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

/// Stands in for the interface's `check-range`.
pub(crate) fn check_range(range: &str) -> Result<(), String> {
    Range::parse(range).map(|_| ())
}

fn comparison(text: &str, whole: &str) -> Result<(Operator, String), String> {
    let text = text.trim();
    let found = OPERATORS.iter().find_map(|(sign, op)| Some((*op, text.strip_prefix(sign)?.trim())));
    let Some((operator, version)) = found else {
        return Err(format!("`{text}` in version range `{whole}` starts with none of < <= > >= = !="));
    };
    if version.is_empty() || version.contains(|c: char| c.is_whitespace() || "<>=!|".contains(c)) {
        return Err(format!("`{version}` in version range `{whole}` is no version"));
    }
    Ok((operator, version.to_owned()))
}

/// Two comparisons that no version meets, in whatever order versions have.
fn contradiction(group: &[(Operator, String)]) -> Option<(String, String)> {
    if group.len() < 2 {
        return None;
    }
    let read: Vec<_> = group.iter().map(|(sign, bound)| (*sign, bound, numbers(bound))).collect();
    let mut pairs = read.iter().flat_map(|one| read.iter().map(move |other| (one, other)));
    let (one, other) = pairs.find(|((one, low, low_numbers), (other, high, high_numbers))| {
        let is_later = || low_numbers.as_ref().zip(high_numbers.as_ref()).is_some_and(|(l, h)| l > h);
        match (one, other) {
            (Operator::Equal, Operator::NotEqual) => low == high,
            (Operator::Greater, Operator::Less | Operator::LessOrEqual | Operator::Equal)
            | (Operator::GreaterOrEqual | Operator::Equal, Operator::Less) => low == high || is_later(),
            (Operator::GreaterOrEqual | Operator::Equal, Operator::LessOrEqual | Operator::Equal) => {
                is_later()
            }
            _ => false,
        }
    })?;
    let shown =
        |(sign, bound, _): &(Operator, &String, Option<Vec<u64>>)| format!("`{}{bound}`", sign.sign());
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

impl Range {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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
            None => Ok(Range(groups)),
        }
    }

    pub(super) fn contains(&self, version: &str) -> bool {
        let holds = |(op, bound): &(Operator, String)| {
            let order = compare(version, bound);
            match op {
                Operator::Less => order.is_lt(),
                Operator::LessOrEqual => order.is_le(),
                Operator::Greater => order.is_gt(),
                Operator::GreaterOrEqual => order.is_ge(),
                Operator::Equal => order.is_eq(),
                Operator::NotEqual => order.is_ne(),
            }
        };
        self.0.iter().any(|group| group.iter().all(holds))
    }
}

/// Debian's order of versions: `[epoch:]upstream[-revision]`, deb-version(7).
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let split = |version: &str| {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse::<u64>().unwrap_or(0), upstream.to_owned(), revision.to_owned())
    };
    let ((epoch_a, up_a, rev_a), (epoch_b, up_b, rev_b)) = (split(a), split(b));
    epoch_a.cmp(&epoch_b).then_with(|| parts(&up_a, &up_b)).then_with(|| parts(&rev_a, &rev_b))
}

/// Runs of other characters and runs of digits by turns.
fn parts(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (word_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (word_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (number_a, next_a) =
            rest_a.split_at(rest_a.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_a.len()));
        let (number_b, next_b) =
            rest_b.split_at(rest_b.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_b.len()));
        let number = |digits: &str| {
            let digits = digits.trim_start_matches('0');
            (digits.len(), digits.to_owned())
        };
        let order = words(word_a, word_b).then_with(|| number(number_a).cmp(&number(number_b)));
        if order.is_ne() {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

/// `~` before the end, the end before letters, letters before the rest.
fn words(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => c as i32,
        Some(c) => c as i32 + 0x0011_0000,
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = weight(x).cmp(&weight(y));
        if order.is_ne() || (x.is_none() && y.is_none()) {
            return order;
        }
    }
}
