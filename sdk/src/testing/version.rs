//! Versions and ranges, for tests only.

use std::cmp::Ordering;

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

const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

/// Stands in for the interface's `check-range`.
pub(crate) fn check_range(range: &str) -> Result<(), String> {
    Range::parse(range).map(|_| ())
}

impl Range {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let comparison = |part: &str| {
            let part = part.trim();
            let found = OPERATORS.iter().find_map(|(sign, op)| Some((*op, part.strip_prefix(sign)?.trim())));
            match found {
                Some((op, version))
                    if !version.is_empty()
                        && !version.contains(|c: char| c.is_whitespace() || "<>=!|".contains(c)) =>
                {
                    Ok((op, version.to_owned()))
                }
                _ => Err(format!("`{part}` is no comparison such as `<3.0.9`")),
            }
        };
        text.split("||")
            .map(|group| group.split(',').map(comparison).collect())
            .collect::<Result<_, _>>()
            .map(Range)
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
