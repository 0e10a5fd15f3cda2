//! Base scores of CVSS vectors, version 2.0 to 4.0 of the specifications at <https://www.first.org/cvss/>.

use cvss::Cvss;

/// Longest vector that is taken for one; the longest of version 4.0 with all metrics has 190 characters.
const VECTOR_BYTES: usize = 256;

/// Base score in tenths, 0 to 100; `None` for a vector of another version or one that is not well formed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 and 100")]
pub(crate) fn tenths(vector: &str) -> Option<u8> {
    if vector.len() > VECTOR_BYTES {
        return None;
    }
    // NVD once wrote version 2 vectors in parentheses.
    let vector = vector.trim_start_matches('(').trim_end_matches(')');
    let vector: Cvss = vector.parse().ok()?;
    // Of version 3 alone the crate reads vectors that leave base metrics out, and scores those as 0.
    if let Cvss::CvssV30(v) | Cvss::CvssV31(v) = &vector {
        let base = [v.av.is_some(), v.ac.is_some(), v.pr.is_some(), v.ui.is_some()];
        let impact = [v.s.is_some(), v.c.is_some(), v.i.is_some(), v.a.is_some()];
        if base.contains(&false) || impact.contains(&false) {
            return None;
        }
    }
    Some((vector.score() * 10.0).round().clamp(0.0, 100.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scores as NVD and the specifications' examples publish them.
    #[test]
    fn known_scores() {
        for (vector, expected) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", Some(98)),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", Some(100)), // CVE-2021-44228
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", Some(75)),  // CVE-2014-0160
            ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", Some(78)),  // CVE-2021-4034
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", Some(61)),  // CVE-2013-1937
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", Some(64)),  // CVE-2013-0375
            ("CVSS:3.0/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", Some(0)),
            ("CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:L/A:L", Some(38)),
            ("AV:N/AC:L/Au:N/C:N/I:N/A:C", Some(78)), // CVE-2002-0392
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", Some(100)),
            ("AV:L/AC:H/Au:N/C:C/I:C/A:C", Some(62)), // CVE-2003-0062
            ("(AV:N/AC:M/Au:N/C:P/I:N/A:N)", Some(43)),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", Some(93)),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N", Some(87)),
            ("CVSS:4.0/AV:L/AC:L/AT:P/PR:N/UI:A/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", Some(0)),
            ("CVSS:5.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", None),
            ("CVSS:3.1/AV:N/AC:L", None),
            ("CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", None),
            ("", None),
        ] {
            assert_eq!(tenths(vector), expected, "{vector}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_in_range(vector in "(CVSS:(3\\.[01]|4\\.0)/)?(AV:[NALP]/)?(AC:[LMH]/)?[A-Za-z:/]{0,60}") {
            if let Some(score) = tenths(&vector) {
                prop_assert!(score <= 100);
            }
        }
    }
}
