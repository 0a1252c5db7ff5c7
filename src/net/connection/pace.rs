//! How much a peer is sent at once, by how fast it takes it in. Pure state.
//!
//! A response that is asked for urgently waits behind what is in hand and what the kernel has
//! not sent yet. For a peer on a slow line both are kept short; a fast one gets long sends, which
//! cost less. How fast a peer is shows when its socket is full: the time until there is room.

use std::time::Duration;

/// The most that one operation sends: 64 KB cost 18 % more at 100 KB a group, 1 MB 50 %
/// (docs/decisions/0002).
pub(in crate::net) const SEND_LEN_MAX: usize = 256 << 10;

/// What a peer gets at first: enough to see how it takes it.
const SEND_LEN_START: usize = 16 << 10;

/// The least that a slow peer gets: more than nearly every response.
const SEND_LEN_MIN: usize = 4 << 10;

/// A peer that takes in less, in bytes a millisecond, is slow. A thousand busy peers of one core
/// take in more.
const SLOW_BELOW: u128 = 1500;

/// And one that takes in so much is slow no more.
const FAST_FROM: u128 = 3000;

/// Shorter waits say nothing about a peer: it may be the machine that is busy.
const SLOW_TOOK_MIN: Duration = Duration::from_millis(5);

/// Longer waits are the peer's, however busy the worker.
const BUSY_TOOK_MAX: Duration = Duration::from_millis(200);

/// How long a send should take a slow peer: 16 KB for one that takes in 1.4 MB a second.
const SLOW_SEND_MS: u128 = 12;

/// Batches up to this length are sent directly first: 219 ns a request against 254 by the ring
/// alone, at 1,000 connections.
pub(in crate::net) const DIRECT_LEN_MAX: usize = 16 << 10;

/// Unsent bytes that the kernel keeps for any peer. What it has not put onto the line it cannot
/// take back: without a bound a peer that reads nothing ties up megabytes, and an urgent
/// response waits behind them. Measured to cost nothing (docs/decisions/0005).
pub(in crate::net) const UNSENT_MAX: usize = 32 << 10;

/// Direct sends in a row that must go through at once for a slow peer to count as fast again.
const FAST_AFTER_SENDS: u8 = 8;

/// How a peer takes in what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Pace {
    /// What to send at once, as a power of two: small, as each connection has one.
    len_log2: u8,
    /// Direct sends that went through since the peer became slow; None for one that is not.
    slow: Option<u8>,
    /// How much it takes in, as far as that was seen; 0 is not.
    bytes_a_second: u32,
}

impl Pace {
    /// Nothing is known yet.
    pub(in crate::net) const fn new() -> Self {
        Self { len_log2: log2(SEND_LEN_START), slow: None, bytes_a_second: 0 }
    }

    pub(in crate::net) fn is_slow(self) -> bool {
        self.slow.is_some()
    }

    /// How much a slow peer takes in a second, as it was measured last.
    pub(in crate::net) fn bytes_a_second(self) -> Option<u64> {
        (self.is_slow() && self.bytes_a_second > 0).then_some(self.bytes_a_second.into())
    }

    /// How much to send at once.
    #[inline]
    pub(in crate::net) fn send_len_max(self) -> usize {
        1 << self.len_log2
    }

    /// How much the kernel may hold that it has not sent; it rounds up to a packet. A slow peer's
    /// next response is begun when all before it is on the line.
    pub(in crate::net) fn unsent_max(self) -> usize {
        if self.is_slow() { 1 } else { UNSENT_MAX }
    }

    /// The socket took `sent` bytes, all there were, at once.
    #[inline]
    pub(in crate::net) fn went_through(&mut self, sent: usize) {
        match self.slow {
            None if sent >= self.send_len_max() => self.grow(),
            None => {}
            Some(sends) if sends + 1 < FAST_AFTER_SENDS => self.slow = Some(sends + 1),
            Some(_) => *self = Self::new(),
        }
    }

    /// The ring has held a send for long.
    pub(in crate::net) fn slow_down(&mut self) {
        self.slow = Some(0);
        self.len_log2 = self.len_log2.min(log2(SEND_LEN_START));
    }

    /// The socket was full, and `took` so long to take `sent` bytes. While the worker is `busy`
    /// it may be the worker that took so long: thousands of peers would then count as slow, and
    /// the care for slow peers would keep it busy.
    pub(in crate::net) fn was_sent(&mut self, sent: usize, took: Duration, busy: bool) {
        let whole = sent >= self.send_len_max();
        if busy && took < BUSY_TOOK_MAX {
            if self.is_slow() {
                *self = Self::new();
            } else if whole {
                self.grow();
            }
            return;
        }
        let bytes_a_ms = sent as u128 * 1000 / took.as_micros().max(1);
        self.measure(sent, took);
        if self.is_slow() {
            let start = whole && self.send_len_max() == SEND_LEN_START;
            if start && bytes_a_ms >= FAST_FROM {
                *self = Self::new();
            } else {
                self.fit(bytes_a_ms, whole);
            }
        } else if took >= SLOW_TOOK_MIN && bytes_a_ms < SLOW_BELOW {
            self.slow_down();
            self.fit(bytes_a_ms, false);
        } else if whole {
            self.grow();
        }
    }

    /// Keeps the mean of what was seen, the last the most.
    fn measure(&mut self, sent: usize, took: Duration) {
        let seen = sent as u128 * 1_000_000 / took.as_micros().max(1);
        let seen = u32::try_from(seen).unwrap_or(u32::MAX);
        self.bytes_a_second = match self.bytes_a_second {
            0 => seen,
            before => before / 2 + seen / 2,
        };
    }

    /// What takes a slow peer [`SLOW_SEND_MS`]; at most twice as much as before.
    fn fit(&mut self, bytes_a_ms: u128, may_grow: bool) {
        let fitting = usize::try_from(bytes_a_ms * SLOW_SEND_MS).unwrap_or(usize::MAX);
        let len = self.send_len_max();
        if fitting < len {
            while self.send_len_max() > fitting.max(SEND_LEN_MIN) {
                self.len_log2 -= 1;
            }
        } else if may_grow && fitting >= len * 2 && len < SEND_LEN_START {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.len_log2 = (self.len_log2 + 1).min(log2(SEND_LEN_MAX));
    }
}

/// Of a power of two.
const fn log2(len: usize) -> u8 {
    len.trailing_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: usize = 1 << 10;

    fn slow() -> Pace {
        let mut pace = Pace::new();
        pace.slow_down();
        pace
    }

    /// Sends until the pace rests, to a peer that takes in so much.
    fn settle(pace: &mut Pace, bytes_a_second: f64) {
        for _ in 0..20 {
            let len = pace.send_len_max();
            pace.was_sent(len, Duration::from_secs_f64(len as f64 / bytes_a_second), false);
        }
    }

    #[test]
    fn a_peer_that_takes_all_gets_more_each_time() {
        let mut pace = Pace::new();
        pace.went_through(100);
        assert_eq!(pace.send_len_max(), 16 * KB, "a small send shows nothing");
        let lens: Vec<_> = (0..5)
            .map(|_| {
                pace.went_through(pace.send_len_max());
                pace.send_len_max() / KB
            })
            .collect();
        assert_eq!(lens, [32, 64, 128, 256, 256]);
    }

    #[test]
    fn a_slow_peer_is_sent_what_it_takes_in_some_milliseconds() {
        for (bytes_a_second, len_kb) in [(7e3, 4), (700e3, 8), (1.4e6, 16)] {
            let mut pace = Pace::new();
            settle(&mut pace, bytes_a_second);
            assert!(pace.is_slow());
            assert_eq!(pace.send_len_max(), len_kb * KB, "at {bytes_a_second} bytes a second");
            assert_eq!(pace.unsent_max(), 1);
        }
    }

    #[test]
    fn a_full_socket_of_a_fast_peer_does_not_make_it_slow() {
        let mut pace = Pace::new();
        settle(&mut pace, 2e6);
        pace.was_sent(100, Duration::from_millis(4), false);
        assert!(!pace.is_slow());
        assert_eq!((pace.send_len_max(), pace.unsent_max()), (256 * KB, 32 * KB));
    }

    #[test]
    fn what_takes_long_on_a_busy_worker_makes_no_peer_slow() {
        let mut pace = Pace::new();
        pace.was_sent(4 * KB, Duration::from_millis(150), true);
        assert!(!pace.is_slow());
        pace.was_sent(4 * KB, Duration::from_millis(300), true);
        assert!(pace.is_slow());
        pace.was_sent(4 * KB, Duration::from_millis(150), true);
        assert!(!pace.is_slow());
    }

    #[test]
    fn a_busy_worker_sends_more_at_once_too() {
        let mut pace = Pace::new();
        pace.was_sent(15 * KB, Duration::from_millis(150), true);
        assert_eq!(pace.send_len_max(), 16 * KB, "the send was short of what it might have been");
        pace.was_sent(16 * KB, Duration::from_millis(150), true);
        assert_eq!(pace.send_len_max(), 32 * KB);
    }

    #[test]
    fn a_slow_peer_that_becomes_fast_gets_more_each_time() {
        let mut pace = Pace::new();
        settle(&mut pace, 7e3);
        let steps: Vec<_> = (0..4)
            .map(|_| {
                pace.was_sent(pace.send_len_max(), Duration::from_micros(100), false);
                (pace.send_len_max() / KB, pace.is_slow())
            })
            .collect();
        assert_eq!(steps, [(8, true), (16, true), (16, false), (32, false)]);
    }

    #[test]
    fn a_peer_that_becomes_slow_gets_less_at_once() {
        let mut pace = Pace::new();
        settle(&mut pace, 100e6);
        pace.was_sent(256 * KB, Duration::from_secs(9), false);
        assert_eq!((pace.send_len_max(), pace.is_slow()), (4 * KB, true));
        settle(&mut pace, 7e3);
        pace.slow_down();
        assert_eq!(pace.send_len_max(), 4 * KB);
    }

    #[test]
    fn a_slow_peer_is_fast_again_after_eight_direct_sends() {
        let mut pace = slow();
        let is_slow: Vec<_> = (0..8)
            .map(|_| {
                pace.went_through(1);
                pace.is_slow()
            })
            .collect();
        assert_eq!(is_slow, [true, true, true, true, true, true, true, false]);
    }
}
