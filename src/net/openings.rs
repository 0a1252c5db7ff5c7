//! The bound on silent connections for each address. A connection is silent from accept to a
//! handshake that is answered OK, or to the first byte of a game client.
//!
//! Without this bound one host that connects and sends nothing could take every place. A connection
//! beyond the bound is admitted if its handshake has arrived before it is accepted: when a busy
//! server accepts hundreds of honest clients of one address late, they are not silent.

use super::by_address::{AddressKey, ByAddress};
use crate::protocol::handshake::{HANDSHAKE_LEN, is_js5};
use std::net::IpAddr;
use std::sync::Arc;

/// Counts silent connections by address. Shared by the workers.
#[derive(Debug)]
pub struct Openings {
    /// With none there is no bound, and nothing is counted.
    per_ip_max: Option<usize>,
    by_address: ByAddress,
}

/// Counts a connection among the silent ones of its address until this is dropped.
#[derive(Debug)]
pub(super) struct SilentPermit {
    openings: Arc<Openings>,
    key: AddressKey,
}

impl Openings {
    /// With no silent connection yet.
    #[must_use]
    pub fn new(per_ip_max: Option<usize>) -> Arc<Self> {
        Arc::new(Self { per_ip_max, by_address: ByAddress::default() })
    }

    /// Whether there is a bound at all.
    pub(super) fn is_bounded(&self) -> bool {
        self.per_ip_max.is_some()
    }

    /// A permit for a silent connection from `address`; none if the bound is reached. Boxed,
    /// because every connection has a field for it and few have one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Box<SilentPermit>> {
        let key = AddressKey::of(address);
        let is_taken = self.per_ip_max.is_some_and(|max| self.by_address.take(key, max));
        is_taken.then(|| Box::new(SilentPermit { openings: Arc::clone(self), key }))
    }
}

impl Drop for SilentPermit {
    fn drop(&mut self) {
        self.openings.by_address.give_back(self.key);
    }
}

/// Whether a connection whose first bytes are `bytes` is not silent: they are a whole handshake, or
/// begin another protocol.
pub(super) fn has_spoken(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&first| !is_js5(first) || bytes.len() >= HANDSHAKE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_for_each_address_and_dropped_permits_are_given_back() {
        let openings = Openings::new(Some(2));
        let take = |address: &str| openings.take(address.parse().expect("an address"));
        let cases = [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("10.0.0.1", false),
            ("10.0.0.2", true),
            ("fd00:1:2:3::1", true),
            ("fd00:1:2:3:ffff::2", true),
            ("fd00:1:2:3::3", false),
            ("fd00:1:2:4::1", true),
        ];
        let held = cases.map(|(address, has_room)| {
            let place = take(address);
            assert_eq!(place.is_some(), has_room, "{address}");
            place
        });
        drop(held);
        assert_eq!(openings.by_address.len(), 0, "bounded");
        assert!(take("10.0.0.1").is_some());
    }

    #[test]
    fn a_whole_handshake_or_another_first_byte_is_not_silent() {
        let cases: [(&[u8], bool); 6] = [
            (&[], false),
            (&[15], false),
            (&[15, 0, 0, 2], false),
            (&[15, 0, 0, 2, 38], true),
            (&[15, 0, 0, 2, 38, 6], true),
            (&[14], true),
        ];
        for (bytes, expected) in cases {
            assert_eq!(has_spoken(bytes), expected, "{bytes:?}");
        }
    }
}
