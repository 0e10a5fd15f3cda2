//! Package URLs, <https://github.com/package-url/purl-spec>.

use std::fmt::Write as _;

use crate::packages::Record;
use crate::report::{Distro, PackageKind};

/// `pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12`.
pub(crate) fn of(record: &Record, distro: Option<&Distro>) -> String {
    let (kind, usual) = match record.kind {
        PackageKind::Deb => ("deb", "debian"),
        PackageKind::Apk => ("apk", "alpine"),
    };
    let mut purl = format!("pkg:{kind}/");
    escape(&mut purl, &distro.map_or(usual, |d| &d.id).to_ascii_lowercase());
    purl.push('/');
    escape(&mut purl, &record.name.to_ascii_lowercase());
    purl.push('@');
    escape(&mut purl, &record.version);
    purl.push_str("?arch=");
    escape(&mut purl, &record.arch);
    if let Some(Distro { id, version_id: Some(version), .. }) = distro {
        purl.push_str("&distro=");
        escape(&mut purl, &format!("{id}-{version}"));
    }
    purl
}

/// Percent-encodes all but what the specification leaves as it is.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(byte.into())
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_the_specification_says() {
        let record = Record {
            kind: PackageKind::Deb,
            name: "libstdc++6".into(),
            version: "1:12.2.0-14+b1~x".into(),
            arch: "amd64".into(),
            source: None,
            source_version: None,
            licences: vec![],
        };
        let distro =
            Distro { id: "debian".into(), version_id: Some("12".into()), codename: None, name: None };
        assert_eq!(
            of(&record, Some(&distro)),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1~x?arch=amd64&distro=debian-12"
        );
        assert_eq!(of(&record, None), "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1~x?arch=amd64");
    }
}
