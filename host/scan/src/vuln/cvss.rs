//! Base scores of CVSS vectors: version 2.0, 3.0 and 3.1 of the specifications at <https://www.first.org/cvss/>.
//!
//! A version 4 vector gives none: its score is a table of 270 expert judgements, and none is better than a guess.

use std::collections::HashMap;

/// Longest vector that is taken for one; the longest of version 3.1 with all metrics has 150 characters.
const VECTOR_BYTES: usize = 256;

/// Base score in tenths, 0 to 100; `None` for a vector of another version or one that is not well formed.
pub(crate) fn tenths(vector: &str) -> Option<u8> {
    if vector.len() > VECTOR_BYTES {
        return None;
    }
    if let Some(rest) = vector.strip_prefix("CVSS:3.0/") {
        return v3(&metrics(rest)?, false);
    }
    if let Some(rest) = vector.strip_prefix("CVSS:3.1/") {
        return v3(&metrics(rest)?, true);
    }
    if vector.starts_with("CVSS:") {
        return None;
    }
    v2(&metrics(vector.trim_start_matches('(').trim_end_matches(')'))?)
}

fn metrics(text: &str) -> Option<HashMap<&str, &str>> {
    let mut found = HashMap::new();
    for metric in text.split('/') {
        let (name, value) = metric.split_once(':')?;
        if found.insert(name, value).is_some() {
            return None;
        }
    }
    Some(found)
}

fn weight(metrics: &HashMap<&str, &str>, name: &str, weights: &[(&str, f64)]) -> Option<f64> {
    let value = metrics.get(name)?;
    weights.iter().find(|(v, _)| v == value).map(|(_, w)| *w)
}

fn v3(m: &HashMap<&str, &str>, rounding_of_3_1: bool) -> Option<u8> {
    let changed = match *m.get("S")? {
        "U" => false,
        "C" => true,
        _ => return None,
    };
    let impact = [("H", 0.56), ("L", 0.22), ("N", 0.0)];
    let c = weight(m, "C", &impact)?;
    let i = weight(m, "I", &impact)?;
    let a = weight(m, "A", &impact)?;
    let av = weight(m, "AV", &[("N", 0.85), ("A", 0.62), ("L", 0.55), ("P", 0.2)])?;
    let ac = weight(m, "AC", &[("L", 0.77), ("H", 0.44)])?;
    let (low, high) = if changed { (0.68, 0.5) } else { (0.62, 0.27) };
    let pr = weight(m, "PR", &[("N", 0.85), ("L", low), ("H", high)])?;
    let ui = weight(m, "UI", &[("N", 0.85), ("R", 0.62)])?;
    let iss = 1.0 - (1.0 - c) * (1.0 - i) * (1.0 - a);
    let impact = if changed { 7.52 * (iss - 0.029) - 3.25 * (iss - 0.02_f64).powi(15) } else { 6.42 * iss };
    if impact <= 0.0 {
        return Some(0);
    }
    let sum = impact + 8.22 * av * ac * pr * ui;
    let score = if changed { 1.08 * sum } else { sum };
    Some(up(score.min(10.0), rounding_of_3_1))
}

/// Rounds up to a tenth. 3.1 defines it on integers, so that no floating point error adds a tenth.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the score is within 0 and 10")]
fn up(score: f64, rounding_of_3_1: bool) -> u8 {
    if rounding_of_3_1 {
        let integer = (score * 100_000.0).round() as u32;
        return integer.div_ceil(10_000) as u8;
    }
    (score * 10.0).ceil() as u8
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the score is within 0 and 10")]
fn v2(m: &HashMap<&str, &str>) -> Option<u8> {
    let impact = [("C", 0.660), ("P", 0.275), ("N", 0.0)];
    let c = weight(m, "C", &impact)?;
    let i = weight(m, "I", &impact)?;
    let a = weight(m, "A", &impact)?;
    let av = weight(m, "AV", &[("L", 0.395), ("A", 0.646), ("N", 1.0)])?;
    let ac = weight(m, "AC", &[("H", 0.35), ("M", 0.61), ("L", 0.71)])?;
    let au = weight(m, "Au", &[("M", 0.45), ("S", 0.56), ("N", 0.704)])?;
    let impact = 10.41 * (1.0 - (1.0 - c) * (1.0 - i) * (1.0 - a));
    let factor = if impact == 0.0 { 0.0 } else { 1.176 };
    let score = (0.6 * impact + 0.4 * 20.0 * av * ac * au - 1.5) * factor;
    Some((score * 10.0).round().clamp(0.0, 100.0) as u8)
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
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", None),
            ("CVSS:3.1/AV:N/AC:L", None),
            ("CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", None),
            ("", None),
        ] {
            assert_eq!(tenths(vector), expected, "{vector}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_in_range(vector in "(CVSS:3\\.[01]/)?(AV:[NALP]/)?(AC:[LMH]/)?[A-Za-z:/]{0,60}") {
            if let Some(score) = tenths(&vector) {
                prop_assert!(score <= 100);
            }
        }
    }
}
