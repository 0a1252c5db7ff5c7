//! Counts of what a session takes in.

use super::Class;

/// What a session took in since it was last asked. Ask after each read, of 256 bytes or 64
/// messages at most: beyond 255 requests of a class the count begins again at 0. To stop there
/// costs three instructions a request, and a wider count makes an idle connection larger.
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
    /// Counts requests of a class.
    #[inline]
    pub(super) fn count(&mut self, class: Class, requests: usize) {
        let count = match class {
            Class::Urgent => &mut self.urgent,
            Class::Prefetch => &mut self.prefetch,
        };
        let [.., low] = requests.to_be_bytes();
        *count = count.wrapping_add(low);
    }
}
