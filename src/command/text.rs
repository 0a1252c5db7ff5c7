//! What is printed: numbers as people read them, and pages on stdout.

use crate::failure::{Exit, Failure};
use std::env;
use std::io::{self, IsTerminal, Write};

/// `71273` as `71,273`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in megabytes (10^6), one digit behind the point.
pub(super) fn megabytes(bytes: u64) -> String {
    let tenths = (bytes + 50_000) / 100_000;
    format!("{}.{} MB", thousands(tenths / 10), tenths % 10)
}

/// `1 archive`, `29 archives`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Whether stderr can go back on a line.
pub(super) fn is_drawable() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Whether stderr shows colours, and its reader has not asked for none (no-color.org).
pub(super) fn has_color() -> bool {
    is_drawable() && env::var_os("NO_COLOR").is_none_or(|wish| wish.is_empty())
}

/// Prints a page. A closed pipe is no failure: `js5d man | head`.
pub(super) fn print(page: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(page).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let cause = format!("stdout cannot be written: {error}");
            Err(Failure::new(Exit::System, cause, "check where it is redirected to"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_threes() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (71_273, "71,273")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(megabytes(75_249_999), "75.2 MB");
        assert_eq!(megabytes(49_999), "0.0 MB");
        assert_eq!(counted(1, "core"), "1 core");
    }
}
