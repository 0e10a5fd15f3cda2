//! `var/lib/dpkg/status` and the files of `status.d/` (distroless): stanzas in the form of deb822(5).

use super::{Parsed, Record, field};
use crate::report::PackageKind;

/// Reads every stanza of an installed package, of which at most `max` are kept.
///
/// A package counts unless dpkg says that only its configuration is left (`config-files`) or that it is not installed; a
/// half-installed one has files in the image. `status.d` files have no `Status` and count.
pub(crate) fn parse(data: &[u8], max: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let mut stanza = Stanza::default();
    for line in data.split(|b| *b == b'\n') {
        if line.trim_ascii().is_empty() {
            std::mem::take(&mut stanza).finish(&mut parsed, max);
        } else if !line[0].is_ascii_whitespace() {
            stanza.line(line);
        }
    }
    stanza.finish(&mut parsed, max);
    parsed
}

#[derive(Default)]
struct Stanza<'a> {
    any: bool,
    package: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    arch: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
}

impl<'a> Stanza<'a> {
    fn line(&mut self, line: &'a [u8]) {
        self.any = true;
        let Some(colon) = line.iter().position(|b| *b == b':') else { return };
        let value = line[colon + 1..].trim_ascii();
        // Field names are case-insensitive (deb822).
        let slot = match line[..colon].to_ascii_lowercase().as_slice() {
            b"package" => &mut self.package,
            b"version" => &mut self.version,
            b"architecture" => &mut self.arch,
            b"status" => &mut self.status,
            b"source" => &mut self.source,
            _ => return,
        };
        *slot = Some(value);
    }

    fn finish(self, parsed: &mut Parsed, max: usize) {
        if !self.any || self.absent() {
            return;
        }
        parsed.push(self.record(), max);
    }

    fn absent(&self) -> bool {
        let state = self.status.and_then(|s| s.split(u8::is_ascii_whitespace).rfind(|w| !w.is_empty()));
        matches!(state, Some(b"config-files" | b"not-installed"))
    }

    fn record(&self) -> Option<Record> {
        let (source, source_version) = match self.source {
            Some(text) => split_source(text)?,
            None => (None, None),
        };
        Some(Record {
            kind: PackageKind::Deb,
            name: field(self.package?)?,
            version: field(self.version?)?,
            arch: field(self.arch.unwrap_or(b"all"))?,
            source,
            source_version,
            licences: Vec::new(),
        })
    }
}

/// `name` or `name (version)`.
fn split_source(text: &[u8]) -> Option<(Option<String>, Option<String>)> {
    let Some(open) = text.iter().position(|b| *b == b'(') else { return Some((Some(field(text)?), None)) };
    let version = text[open + 1..].strip_suffix(b")")?;
    Some((Some(field(&text[..open])?), Some(field(version)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: &str = "\
Package: libssl3
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Source: openssl
Version: 3.0.11-1~deb12u2
Description: Secure Sockets Layer toolkit
 Version: 9 (a continuation line is not a field)
 .

Package: bsdutils
Status: install ok installed
Architecture: amd64
Source: util-linux (2.38.1-5+b1)
Version: 1:2.38.1-5+b1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: half
Status: install reinstreq half-installed
Architecture: all
Version: 2.0
";

    fn names(parsed: &Parsed) -> Vec<&str> {
        parsed.records.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn reads_what_is_installed_and_nothing_else() {
        let parsed = parse(STATUS.as_bytes(), 100);
        assert_eq!(names(&parsed), ["libssl3", "bsdutils", "half"]);
        assert_eq!(parsed.malformed, 0);
        let libssl3 = &parsed.records[0];
        assert_eq!(libssl3.version, "3.0.11-1~deb12u2");
        assert_eq!(libssl3.source.as_deref(), Some("openssl"));
        assert_eq!(libssl3.source_version, None);
        let bsdutils = &parsed.records[1];
        assert_eq!(bsdutils.source.as_deref(), Some("util-linux"));
        assert_eq!(bsdutils.source_version.as_deref(), Some("2.38.1-5+b1"));
    }

    #[test]
    fn reads_a_distroless_file_without_a_status() {
        let parsed = parse(b"Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n", 100);
        assert_eq!(names(&parsed), ["tzdata"]);
    }

    #[test]
    fn counts_a_stanza_without_a_version_and_goes_on() {
        let parsed =
            parse(b"Package: broken\nStatus: install ok installed\n\nPackage: fine\nVersion: 1\n", 100);
        assert_eq!((names(&parsed), parsed.malformed), (vec!["fine"], 1));
    }

    #[test]
    fn refuses_fields_beyond_their_bound_or_with_control_characters() {
        let long = format!("Package: {}\nVersion: 1\n\nPackage: a\x1b[2J\nVersion: 1\n", "x".repeat(300));
        assert_eq!(parse(long.as_bytes(), 100).malformed, 2);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse(&data, 100);
        }

        #[test]
        fn never_panics_on_near_misses(data in "(Package|Version|Status|Source)?:? ?[a-z()~\n ]{0,20}\n{0,2}(Version: [0-9(]{0,4}\n)?") {
            parse(data.as_bytes(), 100);
        }
    }
}
