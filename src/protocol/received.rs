//! Counts of the messages that a session receives.

use super::Class;

/// What a session took in since it was last asked. Each count stops at
/// [`Received::MESSAGES_MAX`], so ask at least once in as many messages: a wider count would make
/// each idle connection larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Urgent requests.
    pub urgent: u8,
    /// Prefetch requests.
    pub prefetch: u8,
    /// Opcode 4.
    pub rekeys: u8,
    /// Opcodes 2 and 3.
    pub state_changes: u8,
}

impl Received {
    /// The messages up to which every count is exact.
    pub const MESSAGES_MAX: usize = u8::MAX as usize;

    /// Counts requests of a class.
    #[inline]
    pub(super) fn count(&mut self, class: Class, requests: usize) {
        let count = match class {
            Class::Urgent => &mut self.urgent,
            Class::Prefetch => &mut self.prefetch,
        };
        *count = count.saturating_add(u8::try_from(requests).unwrap_or(u8::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stops_at_its_end_and_never_begins_again() {
        for (first, second, expected) in
            [(64, 0, 64), (200, 55, 255), (200, 56, 255), (300, 0, 255)]
        {
            let mut received = Received::default();
            received.count(Class::Urgent, first);
            received.count(Class::Urgent, second);
            assert_eq!((received.urgent, received.prefetch), (expected, 0), "{first} + {second}");
        }
    }
}
