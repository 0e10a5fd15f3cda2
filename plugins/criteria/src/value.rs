//! Sizes, durations and times as people write them, and back.
//!
//! Invariant: everything is an integer from here on (bytes, milliseconds), so that comparing is exact.

pub(crate) const SECOND_MS: u64 = 1000;
pub(crate) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;

const SIZE_UNITS: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// `1024`, `500MB`, `1.5 GiB` in bytes.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
        .unwrap_or((text, 1));
    decimal(number, unit).ok_or_else(|| format!("`{text}` is no size such as `500MB`, `1.5GiB` or `1024`"))
}

/// `number × unit`, where the number may have up to six decimals; exact, and none if it overflows.
fn decimal(number: &str, unit: u64) -> Option<u64> {
    const MOST_DECIMALS: usize = 6;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(fraction)) || fraction.len() > MOST_DECIMALS {
        return None;
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let scaled = format!("{whole}{fraction}").parse::<u128>().ok()?;
    u64::try_from(scaled.checked_mul(u128::from(unit))? / scale).ok()
}

/// Bytes for people: `512.3 MB`.
pub(crate) fn size_text(bytes: u64) -> String {
    let (name, unit) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => ("kB", 1_000),
        1_000_000..1_000_000_000 => ("MB", 1_000_000),
        _ => ("GB", 1_000_000_000),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// `90s`, `24h`, `7d`, `1h30m` in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no duration such as `30m`, `24h`, `7d` or `1h30m`");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let mut unit = rest[digits..].chars();
        let unit_ms = match unit.next() {
            Some('s') => SECOND_MS,
            Some('m') => MINUTE_MS,
            Some('h') => HOUR_MS,
            Some('d') => DAY_MS,
            Some('w') => WEEK_MS,
            _ => return Err(wrong()),
        };
        rest = unit.as_str();
        total = number.checked_mul(unit_ms).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// A duration for people, in its two largest units: `3d 4h`.
pub(crate) fn duration_text(ms: u64) -> String {
    let parts = [
        ("d", ms / DAY_MS),
        ("h", ms % DAY_MS / HOUR_MS),
        ("m", ms % HOUR_MS / MINUTE_MS),
        ("s", ms % MINUTE_MS / SECOND_MS),
    ];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(_, count)| *count == 0)
        .take(2)
        .filter(|(_, count)| *count > 0)
        .map(|(unit, count)| format!("{count}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

/// `2026-01-31`, `2026-01-31T12:30:00Z`, `…+02:00` (RFC 3339) in milliseconds since 1970.
pub(crate) fn time_ms(text: &str) -> Result<u64, String> {
    parse_time(text.trim()).ok_or_else(|| {
        format!("`{text}` is no time such as `2026-01-31` or `2026-01-31T12:30:00Z` (RFC 3339)")
    })
}

fn parse_time(text: &str) -> Option<u64> {
    let number = |from: usize, len: usize| -> Option<i64> {
        let part = text.get(from..from + len)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let is = |at: usize, wanted: u8| text.as_bytes().get(at) == Some(&wanted);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    if !is(4, b'-')
        || !is(7, b'-')
        || !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
    {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if text.len() == 10 {
        return u64::try_from(days * DAY_MS as i64).ok();
    }
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(is(10, b'T') || is(10, b't'))
        || !is(13, b':')
        || !is(16, b':')
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b'.') {
        let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let three = format!("{:0<3}", text.get(at + 1..at + 1 + digits.min(3))?);
        millis = (digits > 0).then(|| three.parse::<i64>().ok())??;
        at += 1 + digits;
    }
    let offset_minutes = match text.get(at..)? {
        "Z" | "z" => 0,
        zone if zone.len() == 6 && is(at + 3, b':') => {
            let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
            let total = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            match zone.as_bytes()[0] {
                b'+' => total,
                b'-' => -total,
                _ => return None,
            }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
    u64::try_from(seconds * 1_000 + millis).ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar; the algorithm is Howard Hinnant's `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A time for people, to the second: `2026-01-31T12:30:00Z`.
pub(crate) fn time_text(ms: u64) -> String {
    let (days, rest) = ((ms / DAY_MS) as i64 + 719_468, ms % DAY_MS);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / HOUR_MS, rest % HOUR_MS / MINUTE_MS, rest % MINUTE_MS / SECOND_MS);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("12B", Some(12)),
            ("500MB", Some(500_000_000)),
            ("500 MB", Some(500_000_000)),
            ("1.5GiB", Some(1_610_612_736)),
            ("0.000001MB", Some(1)),
            ("1kB", Some(1000)),
            ("16777216TiB", None),
            ("", None),
            ("MB", None),
            ("-1", None),
            ("1.", None),
            (".5MB", None),
            ("1.0000001MB", None),
            ("1e3", None),
            ("10 bytes", None),
        ] {
            assert_eq!(size_bytes(text).ok(), expected, "`{text}`");
        }
        assert_eq!(size_text(999), "999 B");
        assert_eq!(size_text(512_345_678), "512.3 MB");
        assert_eq!(size_text(2_000_000_000), "2.0 GB");
    }

    #[test]
    fn durations_read() {
        for (text, expected) in [
            ("30s", Some(30 * SECOND_MS)),
            ("24h", Some(DAY_MS)),
            ("7d", Some(7 * DAY_MS)),
            ("2w", Some(14 * DAY_MS)),
            ("1h30m", Some(90 * MINUTE_MS)),
            ("0s", Some(0)),
            ("", None),
            ("24", None),
            ("h", None),
            ("1y", None),
            ("1h 30m", None),
            ("-1h", None),
            ("18446744073709551615w", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration_ms(text).ok(), expected, "`{text}`");
        }
        assert_eq!(duration_text(0), "0s");
        assert_eq!(duration_text(3 * DAY_MS + 4 * HOUR_MS + 5 * MINUTE_MS), "3d 4h");
        assert_eq!(duration_text(DAY_MS), "1d");
        assert_eq!(duration_text(DAY_MS + MINUTE_MS), "1d");
        assert_eq!(duration_text(90 * SECOND_MS), "1m 30s");
    }

    #[test]
    fn times_read_and_are_written() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:30:45Z", Some(951_827_445_000)),
            ("2026-01-01T01:00:00+01:00", Some(1_767_225_600_000)),
            ("2025-12-31T19:00:00-05:00", Some(1_767_225_600_000)),
            ("2026-01-01T00:00:00.25Z", Some(1_767_225_600_250)),
            ("2026-01-01T00:00:00.123456Z", Some(1_767_225_600_123)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-00-10", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01 00:00:00Z", None),
            ("1969-12-31", None),
            ("26-1-1", None),
            ("2026-01-0é", None),
            ("", None),
        ] {
            assert_eq!(time_ms(text).ok(), expected, "`{text}`");
        }
        for ms in [0, 951_827_445_000, 1_767_225_600_000, 4_107_542_399_000] {
            assert_eq!(time_ms(&time_text(ms)), Ok(ms));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.Z+é-]{0,20}") {
            for text in [&text, &near] {
                let _ = (size_bytes(text), duration_ms(text), time_ms(text));
            }
        }

        #[test]
        fn what_is_written_is_read_back(ms in 0_u64..253_402_300_800_000, days in 0_u64..10_000, hours in 0_u64..24) {
            let second = ms / SECOND_MS * SECOND_MS;
            prop_assert_eq!(time_ms(&time_text(second)), Ok(second));
            let span = days * DAY_MS + hours * HOUR_MS;
            prop_assert_eq!(duration_ms(&duration_text(span).replace(' ', "")), Ok(span));
            prop_assert_eq!(size_bytes(&format!("{days}.{hours:03}MB")), Ok(days * 1_000_000 + hours * 1_000));
        }
    }
}
