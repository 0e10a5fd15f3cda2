//! `Range` of a blob's download (RFC 9110, section 14): one range of bytes; several are answered with the whole.

use std::ops::Range;

/// What a `Range` header asks of content of a known size.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range, or one that may be ignored.
    Whole,
    /// 206.
    Part(Range<u64>),
    /// 416.
    Unsatisfiable,
}

pub(super) fn parse(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        // The last n bytes.
        (None, Some(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (None, Some(n)) if first.is_empty() => part(size.saturating_sub(n), size, size),
        (Some(first), None) if last.is_empty() => part(first, size, size),
        (Some(first), Some(last)) if first > last => Wanted::Unsatisfiable,
        (Some(first), Some(last)) => part(first, last.saturating_add(1), size),
        _ => Wanted::Whole,
    }
}

fn part(start: u64, end: u64, size: u64) -> Wanted {
    if start >= size { Wanted::Unsatisfiable } else { Wanted::Part(start..end.min(size)) }
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let check = |header, expected| assert_eq!(parse(Some(header), 3000), expected, "{header}");
        check("bytes=500-1499", Wanted::Part(500..1500));
        check("bytes=500-", Wanted::Part(500..3000));
        check("bytes=-500", Wanted::Part(2500..3000));
        check("bytes=-5000", Wanted::Part(0..3000));
        check("bytes=2000-5000", Wanted::Part(2000..3000));
        check("bytes=0-99999999999999999999999", Wanted::Part(0..3000));
        check("bytes=500-0", Wanted::Unsatisfiable);
        check("bytes=5000-10000", Wanted::Unsatisfiable);
        check("bytes=3000-", Wanted::Unsatisfiable);
        check("bytes=-0", Wanted::Unsatisfiable);
        for ignored in ["bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes"] {
            check(ignored, Wanted::Whole);
        }
        assert_eq!(parse(None, 3000), Wanted::Whole);
        assert_eq!(parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_part_lies_within(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in 0u64..10_000) {
            if let Wanted::Part(range) = parse(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
