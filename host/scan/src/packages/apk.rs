//! `lib/apk/db/installed`: one letter, a colon, a value; stanzas end with an empty line (apk-tools' `apk_db`).

use super::{Parsed, Record, field, text};
use crate::report::PackageKind;

/// Bytes of a licence, which may join many names.
const LICENCE_BYTES: usize = 1024;

/// Reads every stanza, of which at most `max` are kept.
pub(crate) fn parse(data: &[u8], max: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let mut stanza = Stanza::default();
    for line in data.split(|b| *b == b'\n') {
        if line.trim_ascii().is_empty() {
            std::mem::take(&mut stanza).finish(&mut parsed, max);
        } else {
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
    licence: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
}

impl<'a> Stanza<'a> {
    /// Any line counts, so that a file of something else is malformed and not empty.
    fn line(&mut self, line: &'a [u8]) {
        self.any = true;
        let [letter, b':', value @ ..] = line else { return };
        match letter {
            b'P' => self.package = Some(value),
            b'V' => self.version = Some(value),
            b'A' => self.arch = Some(value),
            b'L' => self.licence = Some(value).filter(|l| !l.trim_ascii().is_empty()),
            b'o' => self.origin = Some(value),
            _ => {}
        }
    }

    fn finish(self, parsed: &mut Parsed, max: usize) {
        if !self.any {
            return;
        }
        let record = self.record();
        let is_unlicensed = self.licence.is_some() && record.as_ref().is_some_and(|r| r.licences.is_empty());
        parsed.unlicensed += u64::from(is_unlicensed);
        parsed.push(record, max);
    }

    fn record(&self) -> Option<Record> {
        let source = match self.origin {
            Some(origin) => Some(field(origin)?),
            None => None,
        };
        Some(Record {
            kind: PackageKind::Apk,
            name: field(self.package?)?,
            version: field(self.version?)?,
            arch: field(self.arch.unwrap_or(b"noarch"))?,
            source,
            source_version: None,
            // The field is an SPDX expression by Alpine's policy; some packages list names with spaces between.
            licences: self.licence.and_then(|l| text(l, LICENCE_BYTES)).into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_origin_and_licence() {
        let data = b"C:Q1x\nP:libcrypto3\nV:3.3.2-r0\nA:x86_64\nL:Apache-2.0\no:openssl\nF:usr/lib\nR:libcrypto.so.3\n\n\
            P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\nP:broken\n\n";
        let parsed = parse(data, 100);
        assert_eq!(parsed.malformed, 1);
        let [crypto, musl] = parsed.records.as_slice() else { panic!("{parsed:?}") };
        assert_eq!((crypto.name.as_str(), crypto.source.as_deref()), ("libcrypto3", Some("openssl")));
        assert_eq!(crypto.licences, ["Apache-2.0"]);
        assert_eq!(musl.version, "1.2.5-r0");
    }

    /// Regression: a database in a form that is not read, or compressed, looked like an empty one; and a package whose origin could
    /// not be read was compared by its own name.
    #[test]
    fn what_is_no_database_is_malformed_and_not_empty() {
        let check = |data: &[u8], records: usize, malformed: u64| {
            let parsed = parse(data, 100);
            assert_eq!((parsed.records.len(), parsed.malformed), (records, malformed), "{data:?}");
        };
        check(b"", 0, 0);
        check(b"\n\n", 0, 0);
        check(b"ADBc\x01\x02", 0, 1);
        check(b"\x1f\x8b\x08\n\nP:a\nV:1\n", 1, 1);
        check(b"P:a\r\nV:1\r\n\r\nP:b\r\nV:1\r\n", 2, 0);
        check(b"P:a\nV:1\no:b\xff\n\nP:c\nV:1\n", 1, 1);
    }

    /// Regression: a package with a licence beyond its bound looked like one without.
    #[test]
    fn counts_licences_that_are_left_out() {
        let check = |licence: &str, kept: usize, unlicensed: u64| {
            let parsed = parse(format!("P:a\nV:1-r0\n{licence}\n\n").as_bytes(), 100);
            assert_eq!(
                (parsed.records[0].licences.len(), parsed.unlicensed),
                (kept, unlicensed),
                "{licence}"
            );
        };
        check("", 0, 0);
        check("L:", 0, 0);
        check("L:MIT", 1, 0);
        check(&format!("L:{}", "x".repeat(LICENCE_BYTES)), 1, 0);
        check(&format!("L:{}", "x".repeat(LICENCE_BYTES + 1)), 0, 1);
        check("L:MIT\x1b[2J", 0, 1);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse(&data, 100);
        }
    }
}
