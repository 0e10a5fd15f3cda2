//! Distributions' releases as OSV names them, and how long each is cared for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::version::Scheme;
use crate::report::{Distro, PackageKind};

/// A release that can be matched: `Debian:12`, `Alpine:v3.20`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release(String);

impl Release {
    /// From an OSV ecosystem; `None` for one without a matcher or without a release.
    pub(crate) fn of_ecosystem(ecosystem: &str) -> Option<Self> {
        let (name, rest) = ecosystem.split_once(':')?;
        let valid = match name {
            "Debian" => is_number(rest),
            "Alpine" => rest.strip_prefix('v').is_some_and(is_minor),
            _ => false,
        };
        valid.then(|| Self(ecosystem.to_owned()))
    }

    /// From `os-release`; `None` for a distribution without a matcher, or a version that is no release (sid, edge).
    pub(crate) fn of_distro(distro: &Distro) -> Option<Self> {
        let version = distro.version_id.as_deref()?;
        match distro.id.as_str() {
            "debian" => {
                let major = version.split('.').next()?;
                is_number(major).then(|| Self(format!("Debian:{major}")))
            }
            "alpine" => {
                let mut parts = version.split('.');
                let minor = format!("{}.{}", parts.next()?, parts.next()?);
                is_minor(&minor).then(|| Self(format!("Alpine:v{minor}")))
            }
            _ => None,
        }
    }

    /// Whether there is a matcher for this distribution, whatever its release.
    pub(crate) fn knows(distro: &Distro) -> bool {
        matches!(distro.id.as_str(), "debian" | "alpine")
    }

    /// The name in OSV's form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn scheme(&self) -> Scheme {
        if self.0.starts_with("Debian") { Scheme::Debian } else { Scheme::Alpine }
    }

    /// The packages that this release's records speak of.
    pub(crate) fn kind(&self) -> PackageKind {
        if self.0.starts_with("Debian") { PackageKind::Deb } else { PackageKind::Apk }
    }

    /// When its security support ends, in ms since 1970; `None` if that is not known here.
    ///
    /// Debian: the end of long term support, since the project publishes fixes until then.
    pub fn end_of_life_ms(&self) -> Option<u64> {
        let (_, day) = ENDS.iter().find(|(name, _)| *name == self.0)?;
        let date: jiff::civil::Date = day.parse().ok()?;
        let instant = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        u64::try_from(instant.timestamp().as_millisecond()).ok()
    }
}

/// Not the name of a release that can be matched.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no release that can be matched; hint: `Debian:12`, `Alpine:v3.20`")]
pub struct ReleaseError(String);

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        Self::of_ecosystem(text).ok_or_else(|| ReleaseError(text.to_owned()))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_number(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_minor(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// From <https://wiki.debian.org/LTS> and <https://alpinelinux.org/releases/>; the day after the last.
const ENDS: &[(&str, &str)] = &[
    ("Debian:7", "2018-06-01"),
    ("Debian:8", "2020-07-01"),
    ("Debian:9", "2022-07-01"),
    ("Debian:10", "2024-07-01"),
    ("Debian:11", "2026-09-01"),
    ("Debian:12", "2028-07-01"),
    ("Debian:13", "2030-07-01"),
    ("Alpine:v3.10", "2021-05-01"),
    ("Alpine:v3.11", "2021-11-01"),
    ("Alpine:v3.12", "2022-05-01"),
    ("Alpine:v3.13", "2022-11-01"),
    ("Alpine:v3.14", "2023-05-01"),
    ("Alpine:v3.15", "2023-11-01"),
    ("Alpine:v3.16", "2024-05-23"),
    ("Alpine:v3.17", "2024-11-22"),
    ("Alpine:v3.18", "2025-05-09"),
    ("Alpine:v3.19", "2025-11-01"),
    ("Alpine:v3.20", "2026-04-01"),
    ("Alpine:v3.21", "2026-11-01"),
    ("Alpine:v3.22", "2027-05-01"),
    ("Alpine:v3.23", "2027-11-01"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn distro(id: &str, version: Option<&str>) -> Distro {
        Distro { id: id.into(), version_id: version.map(str::to_owned), codename: None, name: None }
    }

    #[test]
    fn a_distribution_names_its_release_as_osv_does() {
        for (id, version, expected) in [
            ("debian", Some("12"), Some("Debian:12")),
            ("debian", Some("12.5"), Some("Debian:12")),
            ("debian", None, None),
            ("alpine", Some("3.20.3"), Some("Alpine:v3.20")),
            ("alpine", Some("3.23_alpha20250612"), None),
            ("ubuntu", Some("24.04"), None),
        ] {
            let found = Release::of_distro(&distro(id, version));
            assert_eq!(found.as_ref().map(Release::as_str), expected, "{id} {version:?}");
        }
    }

    #[test]
    fn ecosystems_without_a_matcher_or_release_are_none() {
        assert!(Release::of_ecosystem("Debian:12").is_some());
        assert!(Release::of_ecosystem("Alpine:v3.20").is_some());
        for other in
            ["Debian", "Alpine", "Alpine:3.20", "Go", "Ubuntu:24.04:LTS", "Debian:", "Debian:bookworm"]
        {
            assert!(Release::of_ecosystem(other).is_none(), "{other}");
        }
    }

    #[test]
    fn every_end_in_the_table_is_a_date_of_a_release() {
        for (name, _) in ENDS {
            let release = Release::of_ecosystem(name).unwrap();
            assert!(release.end_of_life_ms().is_some(), "{name}");
        }
        assert_eq!(Release::of_ecosystem("Debian:10").unwrap().end_of_life_ms(), Some(1_719_792_000_000));
    }
}
