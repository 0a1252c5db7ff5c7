//! How much a peer is sent at once, by how fast it takes it in. Pure state.
//!
//! An urgent response waits behind what is in hand, and behind what the kernel holds and the line
//! has not carried. For a peer on a slow line both are kept short; a fast one gets long sends,
//! which cost less. Nobody is known at first, so everybody is sent little: what the kernel is
//! given in the first millisecond takes a slow line ten seconds to carry. How fast a peer is shows
//! by how much it acknowledges while it always has something to take in.

use crate::platform::socket::{bound_unacknowledged, bound_unsent};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::time::Duration;

/// The most that one operation sends: 64 KB cost 18 % more at 100 KB a group, 1 MB 50 %
/// (docs/decisions/0002).
pub(in crate::net) const SEND_LEN_MAX: usize = 256 << 10;

/// What a fast peer gets at first.
const SEND_LEN_FAST: usize = 16 << 10;

/// What a peer gets at first of which nothing is known: a second of a line of 56 kbit/s.
const SEND_LEN_UNKNOWN: usize = 8 << 10;

/// The least that a slow peer gets: more than nearly every response.
const SEND_LEN_MIN: usize = 4 << 10;

/// A peer that takes in less, in bytes a millisecond, is slow. A thousand busy peers of one core
/// take in more.
const SLOW_BELOW: u64 = 1500;

/// And one that takes in so much is slow no more.
const FAST_FROM: u64 = 3000;

/// Shorter waits say nothing about a peer: it may be the machine that is busy.
const SLOW_TOOK_MIN: Duration = Duration::from_millis(5);

/// Longer waits are the peer's, however busy the worker.
const BUSY_TOOK_MAX: Duration = Duration::from_millis(200);

/// What a peer must have acknowledged to count as fast: routers let a burst pass.
const FAST_LEN_MIN: u64 = 128 << 10;

/// The rate of a slow peer is measured over so long at least.
const MEASURED_MIN: Duration = Duration::from_millis(20);

/// A rate that was seen for so long is the line's: a packet of 1.5 KB takes as long at 80 kbit/s.
const MEASURED_LONG: Duration = Duration::from_millis(150);

/// How long a send should take a slow peer: 16 KB for one that takes in 1.4 MB a second.
const SLOW_SEND_MS: u64 = 12;

/// Batches up to this length are sent directly first: 219 ns a request against 254 by the ring
/// alone, at 1,000 connections.
pub(in crate::net) const DIRECT_LEN_MAX: usize = 16 << 10;

/// Unsent bytes that the kernel keeps for a fast peer. What it has not put onto the line it cannot
/// take back: without a bound a peer that reads nothing ties up megabytes, and an urgent
/// response waits behind them. Measured to cost nothing (docs/decisions/0005).
const UNSENT_MAX: u32 = 32 << 10;

/// How long what a slow peer is sent may wait before its line, where nothing overtakes it: routers
/// hold seconds of a slow line.
const QUEUE_MS: u64 = 80;

/// The least that may be on its way to any peer.
const UNACKNOWLEDGED_MIN: u32 = 6 << 10;

/// What the kernel may hold of what a peer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Held {
    /// Bytes that are not on the line; it rounds up to a packet.
    pub(in crate::net) unsent_max: u32,
    /// Bytes that the peer has not acknowledged; none is as many as the kernel likes.
    pub(in crate::net) unacknowledged_max: Option<NonZeroU32>,
}

impl Held {
    /// Of a peer of which nothing is known. A listener's sockets have it from the beginning. TCP
    /// begins with ten packets, and goes on with two for each that was acknowledged; of those that
    /// a router let pass in a burst there may be many.
    pub(in crate::net) const UNKNOWN: Self =
        Self { unsent_max: 1, unacknowledged_max: NonZeroU32::new(32 << 10) };

    /// Of a peer that is fast, or no affair of JS5's.
    pub(in crate::net) const FAST: Self = Self { unsent_max: UNSENT_MAX, unacknowledged_max: None };

    /// Whether the other is so much like it that the change is not worth a system call.
    pub(in crate::net) fn is_near(self, other: Self) -> bool {
        let bounds = [self, other].map(|held| held.unacknowledged_max.map_or(0, NonZeroU32::get));
        let [wanted, is] = bounds;
        self.unsent_max == other.unsent_max
            && (wanted == 0) == (is == 0)
            && wanted.abs_diff(is) <= is / 4
    }

    /// Has the kernel hold that of a socket's output, or of those that a listener accepts, in
    /// place of what it was told `before`.
    pub(in crate::net) fn replace(self, before: Self, socket: impl AsFd) {
        // It may fail on a socket that is gone, which shows soon enough.
        if self.unsent_max != before.unsent_max {
            let _ = bound_unsent(&socket, self.unsent_max);
        }
        if self.unacknowledged_max != before.unacknowledged_max {
            let _ = bound_unacknowledged(&socket, self.unacknowledged_max);
        }
    }

    /// What a socket holds that was told nothing.
    pub(in crate::net) const UNBOUNDED: Self =
        Self { unsent_max: u32::MAX, unacknowledged_max: None };
}

/// What has shown of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Fast,
    Slow,
}

/// How a peer takes in what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Pace {
    /// What to send at once, as a power of two: small, as each connection has one.
    len_log2: u8,
    kind: Kind,
    /// How much it takes in, as far as that was seen; 0 is not.
    bytes_a_second: u32,
}

impl Pace {
    /// Nothing is known yet.
    pub(in crate::net) const fn new() -> Self {
        Self { len_log2: log2(SEND_LEN_UNKNOWN), kind: Kind::Unknown, bytes_a_second: 0 }
    }

    const fn fast() -> Self {
        Self { len_log2: log2(SEND_LEN_FAST), kind: Kind::Fast, bytes_a_second: 0 }
    }

    /// Whether it gets little at a time, and more when there is room: it is slow, or may be.
    #[inline]
    pub(in crate::net) fn is_careful(self) -> bool {
        self.kind != Kind::Fast
    }

    /// Whether it has shown that it is slow.
    pub(in crate::net) fn is_slow(self) -> bool {
        self.kind == Kind::Slow
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

    /// What the kernel may hold for it. A slow peer's next response is begun when all before it is
    /// on the line; and on its way is what the line carries in the time that something takes to
    /// the peer and back, the `round_trip`, with a little that waits before the line.
    pub(in crate::net) fn held(self, round_trip: Duration) -> Held {
        match (self.kind, self.bytes_a_second()) {
            (Kind::Fast, _) => Held::FAST,
            (Kind::Slow, Some(bytes_a_second)) => {
                let round_trip_ms = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
                let time_ms = round_trip_ms.saturating_mul(3) / 2 + QUEUE_MS;
                let bytes = bytes_a_second.saturating_mul(time_ms) / 1000;
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(UNACKNOWLEDGED_MIN);
                Held { unsent_max: 1, unacknowledged_max: NonZeroU32::new(bytes) }
            }
            (Kind::Unknown | Kind::Slow, _) => Held::UNKNOWN,
        }
    }

    /// The socket of a fast peer took `sent` bytes, all there were, at once.
    #[inline]
    pub(in crate::net) fn went_through(&mut self, sent: usize) {
        if self.kind == Kind::Fast && sent >= self.send_len_max() {
            self.grow();
        }
    }

    /// The ring has held a send for long.
    pub(in crate::net) fn slow_down(&mut self) {
        self.kind = Kind::Slow;
        self.len_log2 = self.len_log2.min(log2(SEND_LEN_FAST));
    }

    /// The socket of a fast peer was full, and `took` so long to take `sent` bytes. While the
    /// worker is `busy` it may be the worker that took so long: thousands of peers would then
    /// count as slow, and the care for slow peers would keep it busy.
    pub(in crate::net) fn was_sent(&mut self, sent: usize, took: Duration, busy: bool) {
        let rate = bytes_a_second(sent as u64, took);
        let is_peers = !busy || took >= BUSY_TOOK_MAX;
        if is_peers && took >= SLOW_TOOK_MIN && rate < SLOW_BELOW * 1000 {
            self.slow_down();
            self.measure(rate, took);
            self.fit(rate);
        } else if sent >= self.send_len_max() {
            self.grow();
        }
    }

    /// A careful peer has acknowledged so many bytes in a time in which it had something to take
    /// in all along. True if that was enough to judge by, and the next measurement begins.
    pub(in crate::net) fn acknowledged(&mut self, bytes: u64, took: Duration, busy: bool) -> bool {
        let rate = bytes_a_second(bytes, took);
        if busy && took < BUSY_TOOK_MAX {
            *self = Self::fast();
            return true;
        }
        let fast_from = if self.is_slow() { FAST_FROM } else { SLOW_BELOW };
        if bytes >= FAST_LEN_MIN && rate >= fast_from * 1000 {
            *self = Self::fast();
            return true;
        }
        let is_over = match self.kind {
            Kind::Unknown => took >= SLOW_TOOK_MIN && bytes > 0 && rate < SLOW_BELOW * 1000,
            _ => took >= MEASURED_MIN && bytes > 0,
        };
        if is_over {
            self.kind = Kind::Slow;
            self.measure(rate, took);
            self.fit(self.bytes_a_second.into());
        }
        is_over
    }

    /// Follows a rate that rises at once, and one that falls by halves: a lost packet is not the
    /// line. What was seen for long counts as it is: a burst that a router let pass at first is
    /// forgotten with the first packet that a slow line has carried.
    fn measure(&mut self, rate: u64, took: Duration) {
        let seen = u32::try_from(rate).unwrap_or(u32::MAX).max(1);
        let before = self.bytes_a_second;
        let is_gradual = seen < before && took < MEASURED_LONG;
        self.bytes_a_second = if is_gradual { before / 2 + seen / 2 } else { seen };
    }

    /// What takes a slow peer [`SLOW_SEND_MS`].
    fn fit(&mut self, bytes_a_second: u64) {
        let fitting = usize::try_from(bytes_a_second * SLOW_SEND_MS / 1000).unwrap_or(usize::MAX);
        self.len_log2 = log2(SEND_LEN_FAST);
        while self.send_len_max() > fitting.max(SEND_LEN_MIN) {
            self.len_log2 -= 1;
        }
    }

    fn grow(&mut self) {
        self.len_log2 = (self.len_log2 + 1).min(log2(SEND_LEN_MAX));
    }
}

fn bytes_a_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Of a power of two.
const fn log2(len: usize) -> u8 {
    len.trailing_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: usize = 1 << 10;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Acknowledges for a while, at so many bytes a second.
    fn settle(pace: &mut Pace, bytes_a_second: u64) {
        for _ in 0..20 {
            pace.acknowledged(bytes_a_second / 20, ms(50), false);
        }
    }

    fn slow(bytes_a_second: u64) -> Pace {
        let mut pace = Pace::new();
        settle(&mut pace, bytes_a_second);
        pace
    }

    #[test]
    fn a_peer_that_takes_all_gets_more_each_time() {
        let mut pace = Pace::fast();
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
    fn who_is_not_known_is_fast_when_it_has_acknowledged_more_than_a_burst() {
        let mut pace = Pace::new();
        assert!((pace.is_careful(), pace.is_slow()) == (true, false));
        pace.went_through(8 * KB);
        assert_eq!(pace.send_len_max(), 8 * KB);
        // What a router lets pass at once.
        assert!(!pace.acknowledged(32 << 10, Duration::from_micros(300), false));
        assert!(pace.is_careful());
        assert!(pace.acknowledged(128 << 10, Duration::from_millis(3), false));
        assert_eq!((pace.is_careful(), pace.send_len_max()), (false, 16 * KB));
        assert_eq!(pace.held(ms(9)), Held::FAST);
    }

    #[test]
    fn a_slow_peer_is_sent_what_it_takes_in_some_milliseconds() {
        for (bytes_a_second, len_kb) in [(7_000, 4), (700_000, 8), (1_400_000, 16)] {
            let pace = slow(bytes_a_second);
            assert!(pace.is_slow());
            assert_eq!(pace.bytes_a_second(), Some(bytes_a_second));
            assert_eq!(pace.send_len_max(), len_kb * KB, "at {bytes_a_second} bytes a second");
        }
    }

    #[test]
    fn what_is_on_its_way_to_a_slow_peer_is_what_its_line_carries() {
        let held = |bytes_a_second, round_trip_ms| slow(bytes_a_second).held(ms(round_trip_ms));
        assert_eq!(
            held(500_000, 0),
            Held { unsent_max: 1, unacknowledged_max: NonZeroU32::new(40_000) }
        );
        assert_eq!(held(500_000, 200).unacknowledged_max, NonZeroU32::new(190_000));
        assert_eq!(held(7_000, 10).unacknowledged_max, NonZeroU32::new(6 << 10));
        let mut unmeasured = Pace::fast();
        unmeasured.slow_down();
        assert_eq!(unmeasured.held(ms(0)), Held::UNKNOWN);
    }

    #[test]
    fn a_full_socket_of_a_fast_peer_does_not_make_it_slow() {
        let mut pace = Pace::fast();
        for _ in 0..20 {
            let len = pace.send_len_max();
            pace.was_sent(len, Duration::from_secs_f64(len as f64 / 2e6), false);
        }
        pace.was_sent(100, ms(4), false);
        assert!(!pace.is_slow());
        assert_eq!((pace.send_len_max(), pace.held(ms(0))), (256 * KB, Held::FAST));
    }

    #[test]
    fn what_takes_long_on_a_busy_worker_makes_no_peer_slow() {
        let mut pace = Pace::fast();
        pace.was_sent(4 * KB, ms(150), true);
        assert!(!pace.is_slow());
        pace.was_sent(4 * KB, ms(300), true);
        assert!(pace.is_slow());
        assert!(pace.acknowledged(4_000, ms(150), true));
        assert!(!pace.is_careful());
        let mut unknown = Pace::new();
        unknown.acknowledged(4_000, ms(150), true);
        assert!(!unknown.is_careful());
    }

    #[test]
    fn a_slow_peer_that_becomes_fast_gets_more_each_time() {
        let mut pace = slow(7_000);
        assert!(!pace.acknowledged(3_000, ms(1), false), "too short to tell");
        assert!(pace.acknowledged(10_000, ms(20), false));
        assert_eq!((pace.bytes_a_second(), pace.send_len_max()), (Some(500_000), 4 * KB));
        assert!(pace.acknowledged(20_000, ms(20), false));
        assert_eq!((pace.bytes_a_second(), pace.send_len_max()), (Some(1_000_000), 8 * KB));
        assert!(pace.acknowledged(128 << 10, ms(40), false));
        assert!(!pace.is_careful());
    }

    #[test]
    fn a_rate_falls_by_halves() {
        let mut pace = slow(1_000_000);
        pace.acknowledged(10_000, ms(100), false);
        assert_eq!(pace.bytes_a_second(), Some(550_000));
        assert!(!pace.acknowledged(0, ms(500), false), "nothing at all is for the deadline");
        assert_eq!(pace.bytes_a_second(), Some(550_000));
        pace.acknowledged(1_400, ms(200), false);
        assert_eq!(pace.bytes_a_second(), Some(7_000), "what was seen for long counts as it is");
    }

    #[test]
    fn a_peer_that_becomes_slow_gets_less_at_once() {
        let mut pace = Pace::fast();
        (0..9).for_each(|_| pace.was_sent(256 * KB, ms(1), false));
        pace.was_sent(256 * KB, Duration::from_secs(9), false);
        assert_eq!((pace.send_len_max(), pace.is_slow()), (4 * KB, true));
        assert_eq!(pace.bytes_a_second(), Some(29_127));
    }
}
