//! Names of licences that are no SPDX identifiers, but surely mean one: Debian's short names and the old GNU identifiers.
//!
//! Invariant: only what is sure is mapped. `BSD`, `GPL` or `Artistic` could be several licences and stay unknown.

/// Debian's short names (DEP-5) and what they mean.
const DEBIAN: &[(&str, &str)] = &[
    ("apache-2", "Apache-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("boost-1.0", "BSL-1.0"),
    ("cc0", "CC0-1.0"),
    ("expat", "MIT"),
    ("mpl-2", "MPL-2.0"),
    ("perl", "(GPL-1.0-or-later OR Artistic-1.0-Perl)"),
    ("psf-2", "PSF-2.0"),
];

/// Families whose versions are written `GPL-2`, `GPL-2+` or `GPL-2.0`.
const GNU: &[&str] = &["GPL", "LGPL", "AGPL", "GFDL"];

/// One licence as SPDX writes it today: `GPL-2.0` is `GPL-2.0-only`, `GPL-2+` is `GPL-2.0-or-later`, `Expat` is `MIT`. What
/// follows (` WITH …`) stays.
pub(crate) fn canonical(licence: &str) -> String {
    let (id, rest) = match licence.split_once(' ') {
        Some((id, rest)) => (id, format!(" {rest}")),
        None => (licence, String::new()),
    };
    match sure(id) {
        Some(today) => format!("{today}{rest}"),
        None => licence.to_owned(),
    }
}

/// What a name that is no SPDX identifier of today surely means.
fn sure(name: &str) -> Option<String> {
    let debian = DEBIAN.iter().find(|(debian, _)| debian.eq_ignore_ascii_case(name));
    debian.map(|(_, spdx)| (*spdx).to_owned()).or_else(|| gnu(name))
}

/// `GPL-2`, `gpl-2+`, `LGPL-2.1` as SPDX writes them; none if it is none of these.
fn gnu(id: &str) -> Option<String> {
    let (family, version) = GNU.iter().find_map(|family| {
        let head = id.get(..family.len()).filter(|head| head.eq_ignore_ascii_case(family))?;
        Some((*family, id[head.len()..].strip_prefix('-')?))
    })?;
    let (number, suffix) = match version.strip_suffix('+') {
        Some(number) => (number, "or-later"),
        None => (version, "only"),
    };
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = if number.contains('.') { number.to_owned() } else { format!("{number}.0") };
    is_number.then(|| format!("{family}-{number}-{suffix}"))
}

/// An SPDX expression for Debian's way of writing one: `GPL-2+ and Expat`, `GPL-2+ or Artistic-2.0, and BSD-3-clause`; none if a
/// name in it is not sure.
pub(crate) fn expression(text: &str) -> Option<String> {
    // A comma closes what is before it: `A or B, and C` is `(A or B) and C`.
    let mut closed: Option<String> = None;
    for part in text.split(',') {
        let mut words = part.split_whitespace().peekable();
        let mut out = String::new();
        if let Some(before) = closed.take() {
            let joint = joint(words.next()?)?;
            out = format!("({before}) {joint} ");
        }
        loop {
            out.push_str(&name(words.next()?)?);
            match words.next() {
                None => break,
                Some(word) => out.push_str(&format!(" {} ", joint(word)?)),
            }
        }
        closed = Some(out);
    }
    closed
}

fn joint(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "and" => Some("AND"),
        "or" => Some("OR"),
        _ => None,
    }
}

fn name(word: &str) -> Option<String> {
    sure(word).or_else(|| spdx::license_id(word).map(|id| id.name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_todays() {
        for (old, today) in [
            ("GPL-2.0", "GPL-2.0-only"),
            ("GPL-2.0+", "GPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("GPL-2.0 WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
            ("GPL-2.0-only", "GPL-2.0-only"),
            ("GPL-3.0-or-later", "GPL-3.0-or-later"),
            ("GPL-2+ WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
            ("MIT", "MIT"),
            ("expat", "MIT"),
            ("GPL", "GPL"),
            ("GPL-", "GPL-"),
        ] {
            assert_eq!(canonical(old), today);
        }
    }

    #[test]
    fn debians_expressions_are_read_where_sure() {
        for (debian, spdx) in [
            ("Expat", Some("MIT")),
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("gpl-3", Some("GPL-3.0-only")),
            ("GPL-2+ and Expat", Some("GPL-2.0-or-later AND MIT")),
            (
                "GPL-2+ or Artistic-2.0, and BSD-3-clause",
                Some("(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
            ),
            ("Perl", Some("(GPL-1.0-or-later OR Artistic-1.0-Perl)")),
            ("BSD", None),
            ("GPL", None),
            ("public-domain", None),
            ("GPL-2+ with OpenSSL exception", None),
            ("Expat and", None),
            (", Expat", None),
            ("", None),
        ] {
            assert_eq!(expression(debian).as_deref(), spdx, "`{debian}`");
        }
    }
}
