//! The patterns that queries take, for a policy's own use.

/// Whether the whole text matches: `*` is any run of characters, `?` is one, everything else stands for itself. At worst this
/// takes time in proportion to both lengths multiplied.
///
/// ```
/// assert!(wharf_sdk::glob("lib*ssl?", "libssl3"));
/// assert!(!wharf_sdk::glob("openssl", "openssl3"));
/// ```
pub fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
