//! What others wrote, made harmless: names, labels, the reasons of plugins and the records of advisories reach a terminal,
//! and must neither drive it nor look like something else there.

/// `text` in one line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { seen(c) }).collect()
}

/// The same for a text of several lines.
pub(super) fn lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { seen(c) }).collect()
}

/// A JSON document with what cannot be seen in it escaped, which any reader takes for the same (RFC 8259, section 7).
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || seen(c) == c {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// A control character becomes a space. What is invisible is marked: it may turn the order of a line around, or make two
/// names look alike.
fn seen(c: char) -> char {
    match c {
        c if c.is_control() => ' ',
        c if is_invisible(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Unicode 16's `Default_Ignorable_Code_Point`, which has all controls of direction, and its separators of lines and
/// annotations.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(plain(text), expected, "{text:?}");
        check("größe 日本 é", "größe 日本 é");
        check("\u{1b}[2Jgone\nline\u{9b}2J", " [2Jgone line 2J");
        check("one\u{2028}line", "one line");
        assert_eq!(lines("a\tb\nc\u{1b}[2J"), "a\tb\nc [2J");
    }

    /// "Trojan source": what is shown has another order than what is meant, or hides a part of it.
    #[test]
    fn what_is_invisible_is_shown() {
        for c in
            ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}', '\u{61c}', '\u{feff}', '\u{ad}', '\u{e0041}']
        {
            assert_eq!(plain(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
    }

    #[test]
    fn a_document_means_the_same_without_what_cannot_be_seen() {
        let value = serde_json::json!({"name\u{200b}": "a\u{202e}b\u{9b}2J\u{e0041}é\n"});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains(r"a\u202eb\u009b2J\udb40\udc41é\n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
