//! Quantities with units, one parser each: times, sizes, rates, and plain numbers with a bound.
//!
//! A bare number is refused where a unit is possible: 30 could be seconds or milliseconds, and
//! the mistake would show only in production.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Prefixes of units, with their factors. Only the k may be of either case.
const PREFIXES: &[(&str, u64)] = &[
    ("", 1),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

const BITS_A_BYTE: u64 = 8;

/// Digits behind the point of a quantity.
const DIGITS_MAX: usize = 6;

/// A deadline, such as `30s`: at least a heartbeat.
///
/// # Errors
/// It is no time, or too short.
pub fn duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write it as 500ms, 30s or 2m";
    if is_number(text) {
        return Err(format!("{text} lacks its unit; {HOW}"));
    }
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; {HOW}"))?;
    if duration < Duration::from_millis(100) {
        return Err("deadlines are checked every 100ms; a shorter one is not possible".into());
    }
    Ok(duration)
}

/// A size in bytes, such as `64KB` (64,000) or `64KiB` (65,536).
///
/// # Errors
/// It is no size, or more than 64 bits hold.
pub fn size(text: &str) -> Result<u64, String> {
    const HOW: &str = "write it as 64KB (64,000 bytes), 64KiB (65,536) or 2GB";
    let bytes = |unit: &str| factor(unit.strip_suffix('B')?);
    quantity(text, text, bytes, HOW)
}

/// A rate in bytes a second, such as `10MB/s` or `100Mbit/s` (12,500,000). Bits are `bit` and
/// bytes are `B`: a `b` is read as either, a factor of eight apart, and is refused.
///
/// # Errors
/// It is no rate, or more than 64 bits hold.
pub fn rate(text: &str) -> Result<u64, String> {
    const HOW: &str = "write it as 500kB/s, 10MB/s or 100Mbit/s";
    let Some(amount) = text.strip_suffix("/s") else {
        return Err(match is_number(text) {
            true => format!("{text} lacks its unit; {HOW}"),
            false => format!("'{text}' is no rate; {HOW}"),
        });
    };
    if let Some((number, prefix)) = ambiguous(amount) {
        return Err(format!(
            "'{text}' may be bits or bytes; write {number}{prefix}bit/s for bits or \
             {number}{prefix}B/s for bytes"
        ));
    }
    let bits = |unit: &str| match unit.strip_suffix("bit") {
        Some(prefix) => factor(prefix),
        None => factor(unit.strip_suffix('B')?)?.checked_mul(BITS_A_BYTE),
    };
    quantity(text, amount, bits, HOW).map(|bits| bits / BITS_A_BYTE)
}

/// The number of an amount whose unit may be bits or bytes, as `100Mb`, and the prefix of that
/// unit as it should be written.
fn ambiguous(amount: &str) -> Option<(&str, &'static str)> {
    let (number, unit) = split(amount);
    let prefix = unit.strip_suffix('b').or_else(|| {
        // A small letter in front makes a reader doubt the large one behind.
        unit.strip_suffix('B').filter(|prefix| factor(prefix).is_none())
    })?;
    let known = PREFIXES.iter().find(|(known, _)| known.eq_ignore_ascii_case(prefix))?;
    is_number(number).then_some((number, known.0))
}

fn factor(prefix: &str) -> Option<u64> {
    PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, factor)| *factor)
}

/// An amount's number and its unit.
fn split(amount: &str) -> (&str, &str) {
    let end = amount.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(amount.len());
    let (number, unit) = amount.split_at(end);
    (number, unit.trim_start())
}

/// A whole number that is not below `MIN`.
///
/// # Errors
/// It is not a number, or below.
pub fn at_least<const MIN: usize>(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "a whole number is wanted".to_owned())?;
    if number < MIN { Err(format!("at least {MIN} is wanted")) } else { Ok(number) }
}

/// A parser of whole numbers in `range`.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("a whole number from {least} to {most} is wanted"))
    }
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// Reads `amount`, which `text` holds as it was written, by the factors of its units.
fn quantity(
    text: &str,
    amount: &str,
    factor_of: impl Fn(&str) -> Option<u64>,
    how: &str,
) -> Result<u64, String> {
    let (number, unit) = split(amount);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let wrong = || format!("'{text}' has no number in front of its unit; {how}");
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    if fraction.len() > DIGITS_MAX {
        return Err(format!("'{text}' has more than {DIGITS_MAX} digits behind the point"));
    }
    let parts: u64 = fraction.parse().map_err(|_| wrong())?;
    if unit.is_empty() {
        return Err(format!("{text} lacks its unit; {how}"));
    }
    let factor = factor_of(unit).ok_or_else(|| format!("'{unit}' is no unit; {how}"))?;
    let (factor, parts) = (u128::from(factor), u128::from(parts));
    let total = u128::from(whole) * factor + parts * factor / 10_u128.pow(fraction.len() as u32);
    u64::try_from(total).map_err(|_| format!("'{text}' is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        let sizes = [
            ("0B", 0),
            ("64KB", 64_000),
            ("64 kB", 64_000),
            ("64KiB", 65_536),
            ("1.5GB", 1_500_000_000),
            ("0.5MiB", 524_288),
            ("2GiB", 2_147_483_648),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let rates = [
            ("500B/s", 500),
            ("10MB/s", 10_000_000),
            ("10 KB/s", 10_000),
            ("1.5GiB/s", 1_610_612_736),
            ("8000bit/s", 1000),
            ("7bit/s", 0),
            ("0.5kbit/s", 62),
            ("100Mbit/s", 12_500_000),
            ("1Mibit/s", 131_072),
            ("1TB/s", 1_000_000_000_000),
        ];
        for (text, bytes) in rates {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(at_least::<20>("20"), Ok(20));
    }

    #[test]
    fn a_rate_that_may_be_bits_or_bytes_is_refused_with_both_readings() {
        let cases = [
            ("100Mb/s", "100Mbit/s", "100MB/s"),
            ("100mb/s", "100Mbit/s", "100MB/s"),
            ("100mB/s", "100Mbit/s", "100MB/s"),
            ("1.5 Gb/s", "1.5Gbit/s", "1.5GB/s"),
            ("500Kb/s", "500kbit/s", "500kB/s"),
            ("500kb/s", "500kbit/s", "500kB/s"),
            ("9000b/s", "9000bit/s", "9000B/s"),
            ("10Mib/s", "10Mibit/s", "10MiB/s"),
        ];
        for (text, bits, bytes) in cases {
            let expected = format!(
                "'{text}' may be bits or bytes; write {bits} for bits or {bytes} for bytes"
            );
            assert_eq!(rate(text), Err(expected));
            assert_eq!(rate(bits).map(|rate| rate * 8), rate(bytes), "{text}");
        }
    }

    #[test]
    fn a_wrong_quantity_is_told_how_to_be_right() {
        let cases: &[(Result<u64, String>, &str)] = &[
            (
                size("64"),
                "64 lacks its unit; write it as 64KB (64,000 bytes), 64KiB (65,536) or 2GB",
            ),
            (size("64Mb"), "'Mb' is no unit; "),
            (size("MB"), "'MB' has no number in front of its unit; "),
            (size("1.2.3MB"), "'1.2.3MB' has no number in front of its unit; "),
            (size("-1MB"), "'-1MB' has no number in front of its unit; "),
            (size("1.0000001MB"), "'1.0000001MB' has more than 6 digits behind the point"),
            (size("18446744073709551615KB"), "'18446744073709551615KB' is too much"),
            (rate("10MB"), "'10MB' is no rate; write it as 500kB/s, 10MB/s or 100Mbit/s"),
            (rate("10"), "10 lacks its unit; "),
            (rate("10MB/h"), "'10MB/h' is no rate; "),
            (rate("10apples/s"), "'apples' is no unit; "),
            (rate("10Mbits/s"), "'Mbits' is no unit; "),
            (rate("MB/s"), "'MB/s' has no number in front of its unit; "),
            (duration("30").map(|_| 0), "30 lacks its unit; write it as 500ms, 30s or 2m"),
            (duration("99ms").map(|_| 0), "deadlines are checked every 100ms; "),
            (at_least::<20>("19").map(|_| 0), "at least 20 is wanted"),
            (at_least::<20>("-1").map(|_| 0), "a whole number is wanted"),
            (whole(1..=9)("many"), "a whole number from 1 to 9 is wanted"),
            (whole(1..=9)("10"), "a whole number from 1 to 9 is wanted"),
        ];
        for (result, message) in cases {
            let error = result.as_ref().expect_err(message);
            assert!(error.starts_with(message), "{error}");
        }
    }
}
