//! The options that cap what is sent, and the rates that they take.

use super::units::rate;
use clap::Args;
use std::fmt;
use std::str::FromStr;

/// Caps on what is sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Bandwidth")]
pub struct EgressArgs {
    /// Maximum rate at which the whole server sends responses, such as 10MB/s or 80Mbit/s; urgent
    /// requests and logged-in players go first [default: no cap]
    #[arg(long, value_name = "RATE")]
    pub egress_max: Option<Rate>,

    /// Maximum rate at which one connection is sent responses [default: no cap]
    #[arg(long, value_name = "RATE")]
    pub egress_max_per_connection: Option<Rate>,

    /// Maximum rate at which the whole server sends responses to prefetch requests
    /// [default: no cap]
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

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match rate(text)? {
            ..RATE_MIN => Err(format!("at least {} is wanted", Self(RATE_MIN))),
            rate @ RATE_MIN..=RATE_MAX => Ok(Self(rate)),
            _ => Err(format!("at most {} is possible", Self(RATE_MAX))),
        }
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
            ("100kB/s", 100_000, "100kB/s"),
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
            assert!(error.contains("write it as 500kB/s, 10MB/s"), "{text}: {error}");
        }
        let error = "999B/s".parse::<Rate>().expect_err("too low");
        assert_eq!(error, "at least 1kB/s is wanted");
        let error = "2TB/s".parse::<Rate>().expect_err("too high");
        assert_eq!(error, "at most 1000GB/s is possible");
    }
}
