//! Counts of connections by address: IPv4 by address, IPv6 by /64. Shared by the workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(IpAddr);

/// Counts by address.
#[derive(Debug, Default)]
pub(super) struct ByAddress {
    /// Only addresses that have some have an entry, so the table is bounded by what is counted.
    counts: Mutex<HashMap<AddressKey, usize>>,
}

impl AddressKey {
    /// The key of an address: IPv6 by /64, because one customer has at least so many addresses.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 => v4,
        })
    }
}

impl ByAddress {
    /// Counts one more for the address; false, without an effect, if it has `max` already.
    pub(super) fn take(&self, key: AddressKey, max: usize) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        let has_room = *count < max;
        *count += usize::from(has_room);
        has_room
    }

    /// Counts one less. To be called once for each successful [`Self::take`].
    pub(super) fn give_back(&self, key: AddressKey) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }

    /// Addresses that have some.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.lock().expect("no panic").len()
    }
}
