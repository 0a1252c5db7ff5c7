//! Quantities as people write them: `250ms`, `10k`, `1000..50000`. On the command line and in
//! scenario files alike.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: `90s`, `250ms`, `2m`, `1h`, `40us`. A bare number is refused, as by js5d: 5
/// could be seconds or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A number: `250`, `10k`, `3M`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Quantity(pub(crate) f64);

/// A number, or the two ends of a ramp: `1000..50000`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ramp {
    /// Where it begins.
    pub(crate) from: f64,
    /// Where it ends, and stays.
    pub(crate) to: f64,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub(crate) struct Unreadable {
    text: String,
    wanted: &'static str,
}

const SPAN: &str = "a length of time with its unit, such as 90s, 250ms, 2m or 1h";
const QUANTITY: &str = "a number, such as 250, 10k or 3M";
const RAMP: &str = "a number or a ramp, such as 1000 or 1000..50k";

impl FromStr for Span {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = |_| Unreadable { text: text.to_owned(), wanted: SPAN };
        humantime::parse_duration(text).map(Self).map_err(unreadable)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0 => write!(f, "0s"),
            n if n.is_multiple_of(1_000_000) => write!(f, "{}s", n / 1_000_000),
            n if n.is_multiple_of(1000) => write!(f, "{}ms", n / 1000),
            n => write!(f, "{n}us"),
        }
    }
}

impl Span {
    /// Nanoseconds.
    #[must_use]
    pub(crate) fn ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Quantity {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable { text: text.to_owned(), wanted: QUANTITY };
        let (number, factor) = match text.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1e3),
            None => text.strip_suffix('M').map_or((text, 1.0), |number| (number, 1e6)),
        };
        let number: f64 = number.trim().replace('_', "").parse().map_err(|_| unreadable())?;
        let quantity = number * factor;
        if quantity.is_finite() && quantity >= 0.0 { Ok(Self(quantity)) } else { Err(unreadable()) }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Ramp {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = |_| Unreadable { text: text.to_owned(), wanted: RAMP };
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let from: Quantity = from.parse().map_err(unreadable)?;
        let to: Quantity = to.parse().map_err(unreadable)?;
        Ok(Self { from: from.0, to: to.0 })
    }
}

impl fmt::Display for Ramp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.to)
        } else {
            write!(f, "{}..{}", self.from, self.to)
        }
    }
}

/// Scenario files hold these as text, or as plain numbers.
macro_rules! in_files_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written {
                    Integer(u64),
                    Float(f64),
                    Text(String),
                }
                let text = match Written::deserialize(from)? {
                    Written::Integer(n) => n.to_string(),
                    Written::Float(n) => n.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
in_files_as_text!(Span, Quantity, Ramp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        let cases =
            [("90s", 90_000), ("250ms", 250), ("2m", 120_000), ("1.5s", 1500), ("1h", 3_600_000)];
        for (text, ms) in cases {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "s", "5", "5 parsecs", "-1s", "1..2s"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("with its unit, such as 90s"), "{error}");
        }
        assert_eq!(Span(Duration::from_micros(40)).to_string(), "40us");
    }

    #[test]
    fn a_ramp_has_two_ends_and_a_number_is_a_flat_one() {
        assert_eq!("1k..3M".parse(), Ok(Ramp { from: 1000.0, to: 3e6 }));
        assert_eq!("64".parse(), Ok(Ramp { from: 64.0, to: 64.0 }));
        assert!("..".parse::<Ramp>().is_err());
    }
}
