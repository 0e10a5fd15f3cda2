//! Reasons as a decision keeps them. Whatever its policies say about however many platforms, a decision can be stored.

use super::{Judged, Reason};

/// What the reasons of one decision take as they are stored, in bytes. A commit takes 6 MiB, with the decision's documents.
pub const REASONS_BYTES_MAX: usize = 512 << 10;
/// What a reason takes besides its code and text.
const REASON_BYTES: usize = 24;
/// Stands for the rest of a text.
const CUT: &str = "…";

/// What each of so many answers may take of it.
pub fn share(answers: usize) -> usize {
    REASONS_BYTES_MAX / answers.max(1)
}

/// The reasons, with at most `bytes` of what a policy said; one more says so where that is not all.
pub fn within(reasons: Vec<Reason>, bytes: usize) -> Vec<Reason> {
    let (mut left, count, mut kept) = (bytes, reasons.len(), Vec::new());
    for reason in reasons {
        let besides = REASON_BYTES + stored_bytes(&reason.code);
        let text = beginning(&reason.text, left.saturating_sub(besides));
        if besides > left || text.len() < reason.text.len() {
            let whole = kept.len();
            if !text.is_empty() {
                kept.push(Reason { code: reason.code, text: format!("{text}{CUT}") });
            }
            let said = format!("what it says is too long to be kept: {whole} of {count} reasons are whole");
            kept.push(Reason::new("truncated", said));
            break;
        }
        left -= besides + stored_bytes(&reason.text);
        kept.push(reason);
    }
    kept
}

/// An answer with at most its share of reasons, and no more of an error of the plugin's.
pub fn shortened(judged: Judged, bytes: usize) -> Judged {
    let held_because = judged.held_because.map(|reason| {
        let text = beginning(&reason.text, bytes);
        let text = if text.len() < reason.text.len() { format!("{text}{CUT}") } else { reason.text };
        Reason { code: reason.code, text }
    });
    Judged { reasons: within(judged.reasons, bytes), held_because, ..judged }
}

/// As much of a text as takes at most `bytes` when it is stored.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let mut left = bytes;
    let end = text.char_indices().find(|(_, c)| match left.checked_sub(char_bytes(*c)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    end.map_or(text, |(at, _)| &text[..at])
}

fn stored_bytes(text: &str) -> usize {
    text.chars().map(char_bytes).sum()
}

/// Bytes of a character in JSON.
fn char_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(text: &str) -> Reason {
        Reason::new("code", text)
    }

    fn check(texts: &[&str], bytes: usize, expected: &[&str]) {
        let kept = within(texts.iter().map(|text| reason(text)).collect(), bytes);
        assert_eq!(kept.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mark =
            |whole, all| format!("what it says is too long to be kept: {whole} of {all} reasons are whole");
        check(&[], 0, &[]);
        check(&["first", "second"], 100, &["first", "second"]);
        check(&["first", "second"], 64, &["first", "sec…", &mark(1, 2)]);
        check(&["first", "second"], 40, &["first", &mark(1, 2)]);
        check(&["first"], 10, &[&mark(0, 1)]);
        check(&["\u{1}\u{1}\u{1}"], 40, &["\u{1}\u{1}…", &mark(0, 1)]);
    }

    proptest! {
        #[test]
        fn it_takes_no_more_than_it_may(texts in prop::collection::vec("\\PC{0,40}|[\\x00-\\x1f\"\\\\é€]{0,40}", 0..8), bytes in 0usize..400) {
            let reasons: Vec<Reason> = texts.iter().map(|text| reason(text)).collect();
            let kept = within(reasons.clone(), bytes);
            let stored: usize = kept.iter().filter(|kept| kept.code == "code")
                .map(|kept| serde_json::to_string(kept).unwrap().len()).sum();
            prop_assert!(stored <= bytes + CUT.len(), "{stored} of {bytes}");
            prop_assert!(kept.len() <= reasons.len() + 1);
            prop_assert!(kept == reasons || kept.last().unwrap().code == "truncated");
        }
    }
}
