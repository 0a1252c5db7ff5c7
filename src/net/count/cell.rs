//! One counter: a plain cell, as only its worker writes it.

use std::cell::Cell;

/// Adds to a counter.
#[inline]
pub fn add(counter: &Cell<u64>, value: u64) {
    counter.set(counter.get().wrapping_add(value));
}
