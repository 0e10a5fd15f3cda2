//! Licences from Debian's machine-readable `copyright` files (DEP-5), written as SPDX expressions.
//!
//! Only the short names are read. A file that is not machine-readable gives nothing: an unknown licence stays unknown.

use std::collections::BTreeSet;

use spdx::identifiers::LICENSES;

/// Different `License:` fields of one file that are read; those of `linux` and its kind have dozens.
const FIELDS: usize = 512;
/// Bytes of one such field, which may join many names.
const SYNOPSIS_BYTES: usize = 512;
const FORMAT: &[u8] = b"Format:";

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Mapped and sorted.
    pub(crate) licences: Vec<String>,
    /// There were fields beyond a bound, or with other characters than UTF-8's, that are not among them.
    pub(crate) cut: bool,
}

/// Short names of all `License:` fields.
pub(crate) fn parse(data: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    // Old files put a comment or an empty line first.
    let mut lines = data.split(|b| *b == b'\n');
    if !lines.by_ref().take(5).any(|l| l.starts_with(FORMAT)) {
        return parsed;
    }
    // Most files say the same many times over.
    let mut fields = BTreeSet::new();
    for field in lines.filter_map(|line| strip_field(line, b"license:")).filter(|field| !field.is_empty()) {
        match std::str::from_utf8(field) {
            Ok(field) if fields.contains(field) => {}
            Ok(field) if field.len() <= SYNOPSIS_BYTES && fields.len() < FIELDS => {
                fields.insert(field);
            }
            _ => parsed.cut = true,
        }
    }
    let licences: BTreeSet<String> = fields.into_iter().map(expression).collect();
    parsed.licences = licences.into_iter().collect();
    parsed
}

fn strip_field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// DEP-5's synopsis is names joined by `and`, `or` and commas; `with … exception` belongs to the name before it.
fn expression(synopsis: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut name: Vec<&str> = Vec::new();
    let flush = |name: &mut Vec<&str>, out: &mut Vec<String>| {
        if !name.is_empty() {
            out.push(short_name(&name.join(" ")));
            name.clear();
        }
    };
    for word in synopsis.split_whitespace() {
        let (word, comma) = match word.strip_suffix(',') {
            Some(bare) => (bare, true),
            None => (word, false),
        };
        let operator = match word.to_ascii_lowercase().as_str() {
            "and" => Some("AND"),
            "or" | "and/or" | "|" => Some("OR"),
            _ => None,
        };
        match operator {
            Some(operator) if !out.is_empty() || !name.is_empty() => {
                flush(&mut name, &mut out);
                // `A, B and C`: the comma stands for the operator that follows.
                if out.last().is_some_and(|last| last == "AND" || last == "OR") {
                    out.pop();
                }
                out.push(operator.to_owned());
            }
            Some(_) => {}
            None => name.push(word),
        }
        if comma && operator.is_none() {
            flush(&mut name, &mut out);
            out.push("AND".to_owned());
        }
    }
    flush(&mut name, &mut out);
    if out.last().is_some_and(|last| last == "AND" || last == "OR") {
        out.pop();
    }
    out.join(" ")
}

/// The SPDX identifier of one of DEP-5's short names,
/// <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name>.
fn short_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if let Some((_, id)) = NAMES.iter().find(|(debian, _)| lower == *debian) {
        return (*id).to_owned();
    }
    if let Some(id) = FAMILIES.iter().find_map(|family| of_family(&lower, family)) {
        return id;
    }
    if let Some(license) = LICENSES.iter().find(|license| license.name.eq_ignore_ascii_case(name)) {
        return license.name.to_owned();
    }
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' })
        .collect();
    format!("LicenseRef-debian-{safe}")
}

/// `gpl-2+` is `GPL-2.0-or-later`.
fn of_family(lower: &str, (debian, spdx, variant): &(&str, &str, &str)) -> Option<String> {
    let version = lower.strip_prefix(debian)?.strip_prefix('-')?;
    let (version, suffix) = match version.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (version, "only"),
    };
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let is_version = version.len() <= 4 && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_version.then(|| format!("{spdx}-{version}-{variant}{suffix}"))
}

/// Debian's name, SPDX's, and what SPDX puts behind the version. SPDX lists the bare forms too, as deprecated.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("gpl", "GPL", ""),
    ("lgpl", "LGPL", ""),
    ("agpl", "AGPL", ""),
    ("gfdl", "GFDL", ""),
    ("gfdl-niv", "GFDL", "no-invariants-"),
];

/// Names that are not SPDX's in other letters.
const NAMES: &[(&str, &str)] = &[
    ("apache-2", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-1", "Artistic-1.0"),
    ("artistic-2", "Artistic-2.0"),
    ("boost", "BSL-1.0"),
    ("boost-1.0", "BSL-1.0"),
    ("bsl-1", "BSL-1.0"),
    ("cc0", "CC0-1.0"),
    ("expat", "MIT"),
    ("mpl-2", "MPL-2.0"),
    ("psf-2", "PSF-2.0"),
    ("python", "Python-2.0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn maps_short_names_to_spdx() {
        let data = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ or Artistic\n\n\
            Files: a\nLicense: Expat\n text of it\n\nLicense: BSD-3-clause, LGPL-2.1 and Apache-2.0\nlicense: public-domain\n";
        assert_eq!(
            parse(data).licences,
            [
                "BSD-3-Clause AND LGPL-2.1-only AND Apache-2.0",
                "GPL-2.0-or-later OR Artistic-1.0-Perl",
                "LicenseRef-debian-public-domain",
                "MIT"
            ]
        );
    }

    #[test]
    fn names_of_spdx_s_own_list_are_taken_in_any_letters() {
        for (debian, expected) in [
            ("X11", "X11"),
            ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
            ("Curl", "curl"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
            ("GPL-2.0", "GPL-2.0-only"),
            ("GPL-niv", "LicenseRef-debian-GPL-niv"),
            ("permissive", "LicenseRef-debian-permissive"),
        ] {
            assert_eq!(short_name(debian), expected);
        }
    }

    #[test]
    fn a_free_text_file_says_nothing() {
        assert!(parse(b"This package was debianized by somebody.\nLicense: GPL-2\n").licences.is_empty());
    }

    /// Regression: the licences of a file beyond the first 32, and long ones, were left out without a word.
    #[test]
    fn fields_beyond_a_bound_are_said_to_be_left_out() {
        let check = |fields: &[String], licences: usize, cut: bool| {
            let text: String = fields.iter().map(|field| format!("License: {field}\n")).collect();
            let parsed = parse(format!("Format: x\n{text}{text}").as_bytes());
            assert_eq!((parsed.licences.len(), parsed.cut), (licences, cut), "{}", fields.len());
        };
        let many = |n: usize| (0..n).map(|i| format!("own-{i}")).collect::<Vec<_>>();
        check(&many(FIELDS), FIELDS, false);
        check(&many(FIELDS + 1), FIELDS, true);
        check(&["x".repeat(SYNOPSIS_BYTES)], 1, false);
        check(&["x".repeat(SYNOPSIS_BYTES + 1)], 0, true);
        assert!(parse(b"Format: x\nLicense: \xff\n").cut);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..500)) {
            parse(&[b"Format: x\nLicense: ", data.as_slice()].concat());
        }

        #[test]
        fn every_expression_has_operands_around_its_operators(s in "(GPL-2\\+?|Expat|x y|,|and|or| ){0,8}") {
            let text = expression(&s);
            let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
            for (i, word) in words.iter().enumerate() {
                prop_assert_eq!(matches!(*word, "AND" | "OR"), i % 2 == 1, "{}", text);
            }
        }
    }
}
