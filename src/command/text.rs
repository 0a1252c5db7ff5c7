//! Numbers as people read them.

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
