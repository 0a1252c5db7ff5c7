//! Numbers as people read them: three significant digits and a unit that fits.

use std::time::{Duration, UNIX_EPOCH};

/// Three significant digits, without superfluous zeros behind the point: `87.1`, `1.2`, `412`.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// `value` in the largest of `units` (each with its size) that leaves 1 or more.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // 999.6 ms rounds to 1000: it reads as 1.00 s.
    let unit = units.iter().find(|(size, _)| value / size >= 0.9995).or(units.last());
    let (size, name) = unit.copied().unwrap_or((1.0, ""));
    format!("{} {name}", three_digits(value / size)).trim_end().to_owned()
}

/// A time given in microseconds: `87.1 µs`, `1.24 ms`, `2.31 s`.
pub(crate) fn us(us: f64) -> String {
    if us == 0.0 {
        return "0".to_owned();
    }
    if us >= 119_999_500.0 {
        let seconds = (us / 1e6).round() as u64;
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    scaled(us, &[(1e6, "s"), (1e3, "ms"), (1.0, "µs"), (1e-3, "ns")])
}

/// A time given in nanoseconds.
pub(crate) fn ns(ns: u64) -> String {
    us(ns as f64 / 1e3)
}

/// A time given in milliseconds.
pub(crate) fn ms(ms: u64) -> String {
    us(ms as f64 * 1e3)
}

/// A length of time that someone chose, in milliseconds: `30 s`, not `30.0 s`.
pub(crate) fn duration_ms(ms: u64) -> String {
    match ms {
        ms if ms.is_multiple_of(1000) && ms < 120_000 => format!("{} s", ms / 1000),
        ms => self::ms(ms),
    }
}

/// Bytes: `612 B`, `75.1 MB`, `6.70 GB`. Decimal, as networks count.
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, &[(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")])
}

/// Bytes a second: `6.70 GB/s`.
pub(crate) fn bytes_per_s(rate: f64) -> String {
    format!("{}/s", bytes(rate))
}

/// Something a second: `71,300/s`, `3.02 M/s`.
pub(crate) fn per_s(rate: f64) -> String {
    match rate {
        rate if rate >= 999_500.0 => format!("{}/s", scaled(rate, &[(1e9, "G"), (1e6, "M")])),
        rate if rate >= 99.95 => format!("{}/s", count(rate.round() as u64)),
        rate => format!("{}/s", three_digits(rate)),
    }
}

/// A number with its thousands apart: `71,273`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share of 1: `97 %`, `0.31 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p.abs() < 0.05 => "0 %".to_owned(),
        p if p.abs() < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// A Unix time in milliseconds, as `2026-11-23 04:20:05 UTC`.
pub(crate) fn date(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let cases = [
            (us(0.0), "0"),
            (us(0.412), "412 ns"),
            (us(87.12), "87.1 µs"),
            (us(999.96), "1.00 ms"),
            (us(1_240.0), "1.24 ms"),
            (us(412_000.0), "412 ms"),
            (us(59_900_000.0), "59.9 s"),
            (us(183_000_000.0), "3 min 03 s"),
            (bytes(612.0), "612 B"),
            (bytes_per_s(6.7e9), "6.70 GB/s"),
            (per_s(71_300.4), "71,300/s"),
            (per_s(3_020_000.0), "3.02 M/s"),
            (per_s(2.5), "2.50/s"),
            (count(1_000), "1,000"),
            (percent(0.9712), "97 %"),
            (percent(0.003), "0.3 %"),
            (date(0), "1970-01-01 00:00:00 UTC"),
            (date(1_709_210_096_000), "2024-02-29 12:34:56 UTC"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
