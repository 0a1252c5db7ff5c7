//! Quantities with units, one parser each: times, sizes, rates, and plain numbers with a bound.
//!
//! A bare number is refused where a unit is possible: 30 could be seconds or milliseconds, and
//! the mistake would show only in production.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Units of a size, with their bytes. Case counts: Mb would be megabits to many.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Units of a rate that sizes do not have, with their bytes.
const BITS: &[(&str, u64)] = &[("kbit", 125), ("Mbit", 125_000), ("Gbit", 125_000_000)];

/// Digits behind the point of a quantity.
const DIGITS_MAX: usize = 6;

/// A deadline, such as `30s`: at least a heartbeat.
///
/// # Errors
/// It is no time, or too short.
pub fn duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write it as 500ms, 30s or 2m";
    if is_number(text) {
        return Err(format!("{text} of what? {HOW}"));
    }
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; {HOW}"))?;
    if duration < Duration::from_millis(100) {
        return Err("deadlines are looked at every 100ms; less is not possible".into());
    }
    Ok(duration)
}

/// A size in bytes, such as `64KB` (64,000) or `64KiB` (65,536).
///
/// # Errors
/// It is no size, or more than 64 bits hold.
pub fn size(text: &str) -> Result<u64, String> {
    quantity(text, text, &[SIZES], "write it as 64KB (64,000 bytes), 64KiB (65,536) or 2GB")
}

/// A rate in bytes a second, such as `10MB/s` or `100Mbit/s` (12,500,000).
///
/// # Errors
/// It is no rate, or more than 64 bits hold.
pub fn rate(text: &str) -> Result<u64, String> {
    const HOW: &str = "write it as 500kB/s, 10MB/s or 100Mbit/s";
    match text.strip_suffix("/s") {
        Some(amount) => quantity(text, amount, &[SIZES, BITS], HOW),
        None if is_number(text) => Err(format!("{text} of what? {HOW}")),
        None => Err(format!("'{text}' is no rate; {HOW}")),
    }
}

/// A whole number that is not below `MIN`.
///
/// # Errors
/// It is none, or below.
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

/// `text` as it was written, and the part of it that is an amount of one of these units.
fn quantity(text: &str, amount: &str, units: &[&[(&str, u64)]], how: &str) -> Result<u64, String> {
    let end = amount.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(amount.len());
    let (number, unit) = amount.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let wrong = || format!("'{text}' has no number in front of its unit; {how}");
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    if fraction.len() > DIGITS_MAX {
        return Err(format!("'{text}' has more than {DIGITS_MAX} digits behind the point"));
    }
    let parts: u64 = fraction.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!("{text} of what? {how}"));
    }
    let mut known = units.iter().copied().flatten();
    let (_, bytes) = known
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("'{unit}' is no unit; {how}"))?;
    let (bytes, parts) = (u128::from(*bytes), u128::from(parts));
    let total = u128::from(whole) * bytes + parts * bytes / 10_u128.pow(fraction.len() as u32);
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
        let rates = [("500B/s", 500), ("10MB/s", 10_000_000), ("100Mbit/s", 12_500_000)];
        for (text, bytes) in rates {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(at_least::<20>("20"), Ok(20));
    }

    #[test]
    fn a_wrong_quantity_is_told_how_to_be_right() {
        let cases: &[(Result<u64, String>, &str)] = &[
            (size("64"), "64 of what? write it as 64KB (64,000 bytes), 64KiB (65,536) or 2GB"),
            (size("64Mb"), "'Mb' is no unit; "),
            (size("MB"), "'MB' has no number in front of its unit; "),
            (size("1.2.3MB"), "'1.2.3MB' has no number in front of its unit; "),
            (size("-1MB"), "'-1MB' has no number in front of its unit; "),
            (size("1.0000001MB"), "'1.0000001MB' has more than 6 digits behind the point"),
            (size("18446744073709551615KB"), "'18446744073709551615KB' is too much"),
            (rate("10MB"), "'10MB' is no rate; write it as 500kB/s, 10MB/s or 100Mbit/s"),
            (rate("10"), "10 of what? "),
            (rate("10MB/h"), "'10MB/h' is no rate; "),
            (rate("10bit/s"), "'bit' is no unit; "),
            (duration("30").map(|_| 0), "30 of what? write it as 500ms, 30s or 2m"),
            (duration("99ms").map(|_| 0), "deadlines are looked at every 100ms; "),
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
