//! Rates as people write them, and the options that cap what is sent.
//!
//! Written here because libraries for sizes know no "a second", and read "10M" without asking
//! whether bits or bytes are meant; a line is sold in bits.

use clap::Args;
use std::fmt;
use std::str::FromStr;

/// Caps on what is sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Bandwidth")]
pub struct EgressArgs {
    /// Response bytes that the whole server sends, as in 10MB/s or 80Mbit/s; urgent requests and
    /// logged-in players first [default: no cap]
    #[arg(long, value_name = "RATE")]
    pub egress_max: Option<Rate>,

    /// Response bytes that one connection is sent [default: no cap]
    #[arg(long, value_name = "RATE")]
    pub egress_max_per_connection: Option<Rate>,

    /// Bytes of responses to prefetch requests that the whole server sends [default: no cap]
    #[arg(long, value_name = "RATE")]
    pub prefetch_egress_max: Option<Rate>,
}

/// Bytes a second, at least `RATE_MIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// Slower than any line that a client can use: the largest groups would take minutes.
const RATE_MIN: u64 = 1000;

/// A terabyte a second: more than any line, and what the arithmetic is good for.
const RATE_MAX: u64 = crate::net::line::RATE_MAX;

/// Units, and how many bits each is.
const UNITS: [(&str, u64); 12] = [
    ("bit", 1),
    ("kbit", 1000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("b", 8),
    ("kb", 8000),
    ("mb", 8_000_000),
    ("gb", 8_000_000_000),
    ("kib", 8 << 10),
    ("mib", 8 << 20),
    ("gib", 8 << 30),
    ("tb", 8_000_000_000_000),
];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "a rate with its unit is wanted, such as 10MB/s, 512KiB/s or 80Mbit/s";
        let amount = text.trim().strip_suffix("/s").ok_or_else(wanted)?;
        let digits_end = amount.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = amount.split_at(digits_end.ok_or_else(wanted)?);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, bits) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
        let number: f64 = number.parse().map_err(|_| wanted())?;
        let bytes = (number * (*bits as f64) / 8.0).round();
        if bytes < RATE_MIN as f64 {
            return Err(format!("at least {} is wanted", Self(RATE_MIN)));
        }
        if bytes > RATE_MAX as f64 {
            return Err(format!("at most {} is possible", Self(RATE_MAX)));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Rate {
    /// The largest unit that needs no more than three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1000, "kB/s")];
        for (bytes, name) in units {
            if self.0 >= bytes && self.0.is_multiple_of(bytes / 1000) {
                return write!(f, "{}{name}", self.0 as f64 / bytes as f64);
            }
        }
        write!(f, "{}B/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let cases = [
            ("10MB/s", 10_000_000, "10MB/s"),
            ("80Mbit/s", 10_000_000, "10MB/s"),
            ("1.5 GB/s", 1_500_000_000, "1.5GB/s"),
            ("512KiB/s", 524_288, "524.288kB/s"),
            ("100kb/s", 100_000, "100kB/s"),
            ("8000bit/s", 1000, "1kB/s"),
            ("1234567 B/s", 1_234_567, "1234.567kB/s"),
            ("1TB/s", 1_000_000_000_000, "1000GB/s"),
        ];
        for (text, bytes, shown) in cases {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.0, &rate.to_string()[..]), (bytes, shown), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate), "what is shown can be given");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_an_example() {
        for text in ["", "10", "10MB", "MB/s", "10 apples/s", "-1MB/s", "1.2.3MB/s", "infMB/s"] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.contains("such as 10MB/s"), "{text}: {error}");
        }
        let error = "999B/s".parse::<Rate>().expect_err("too low");
        assert_eq!(error, "at least 1kB/s is wanted");
        let error = "2TB/s".parse::<Rate>().expect_err("too high");
        assert_eq!(error, "at most 1000GB/s is possible");
    }
}
