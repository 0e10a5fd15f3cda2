//! `os-release(5)` and `etc/debian_version`.

use crate::report::Distro;

/// Longest value kept of one assignment.
const VALUE_BYTES: usize = 256;

/// Reads the assignments; `None` if there is no `ID`.
pub(crate) fn parse(data: &[u8]) -> Option<Distro> {
    let text = String::from_utf8_lossy(data);
    let (mut id, mut version_id, mut codename, mut name) = (None, None, None, None);
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let slot = match key {
            "ID" => &mut id,
            "VERSION_ID" => &mut version_id,
            "VERSION_CODENAME" => &mut codename,
            "PRETTY_NAME" => &mut name,
            _ => continue,
        };
        *slot = unquote(value);
    }
    Some(Distro { id: id?, version_id, codename, name })
}

/// Shell quoting as far as os-release(5) allows it.
fn unquote(value: &str) -> Option<String> {
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    let mut out = String::new();
    let mut chars = quoted.unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c if c.is_control() => return None,
            c => out.push(c),
        }
        if out.len() > VALUE_BYTES {
            return None;
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The release number in `etc/debian_version` (`12.5`); testing and unstable write `trixie/sid` and give `None`.
pub(crate) fn debian_version(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?.trim();
    let major = text.split('.').next()?;
    (!major.is_empty() && major.len() <= 3 && major.bytes().all(|b| b.is_ascii_digit()))
        .then(|| major.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_debian_and_alpine() {
        let debian = parse(b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n").unwrap();
        assert_eq!((debian.id.as_str(), debian.version_id.as_deref()), ("debian", Some("12")));
        assert_eq!(debian.codename.as_deref(), Some("bookworm"));
        let alpine = parse(b"NAME='Alpine Linux'\nID=alpine\nVERSION_ID=3.20.3\n").unwrap();
        assert_eq!(alpine.version_id.as_deref(), Some("3.20.3"));
        assert_eq!(parse(b"NAME=nothing\n"), None);
    }

    #[test]
    fn reads_debian_version() {
        assert_eq!(debian_version(b"12.5\n").as_deref(), Some("12"));
        assert_eq!(debian_version(b"trixie/sid\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..500)) {
            parse(&data);
            debian_version(&data);
        }
    }
}
