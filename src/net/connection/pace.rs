//! How much a peer is sent at once, by the rate at which it acknowledges. Decides without a socket
//! and without a clock; only [`KernelBounds::replace`] makes system calls.
//!
//! An urgent response waits behind the send that is under way and behind everything that the kernel
//! holds. For a peer on a slow line both are kept short; a fast peer gets long sends, which cost
//! less. At first the rate of a peer is unknown, so every peer gets short sends: a slow line could
//! need ten seconds for what a fast one carries in a millisecond. The rate is measured as bytes
//! acknowledged in a time in which the peer always had something to take in.

use crate::platform::socket::{bound_unacknowledged, bound_unsent};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::time::Duration;

/// Bytes that one operation sends at most. With groups of 100 KB, a bound of 64 KB costs 18 % more
/// CPU time and one of 1 MB 50 % more (docs/decisions/0002).
pub(in crate::net) const SEND_LEN_MAX: usize = 256 << 10;

/// Bytes of a send to a peer that has just become fast.
const SEND_LEN_FAST: usize = 16 << 10;

/// Bytes of a send to a peer whose rate is unknown: about a second of a line of 56 kbit/s.
const SEND_LEN_UNKNOWN: usize = 8 << 10;

/// Bytes of a send to the slowest peer: longer than nearly every response.
const SEND_LEN_MIN: usize = 4 << 10;

/// A peer that takes in fewer bytes a millisecond is slow. When a thousand peers keep one core
/// busy, each of them still takes in more.
const SLOW_BELOW: u64 = 1500;

/// A slow peer that takes in so many bytes a millisecond becomes fast.
const FAST_FROM: u64 = 3000;

/// A shorter time does not make a peer slow: the machine may have been busy.
const SLOW_TOOK_MIN: Duration = Duration::from_millis(5);

/// A longer time is attributed to the peer even if the worker is busy.
const BUSY_TOOK_MAX: Duration = Duration::from_millis(200);

/// Bytes that a peer must have acknowledged to count as fast. Fewer may be a burst that a router
/// lets pass before it holds a slow line to its rate.
const FAST_LEN_MIN: u64 = 128 << 10;

/// A measurement with pauses ends after this time: a rate that counts as fast has brought
/// [`FAST_LEN_MIN`] by then.
const PAUSED_MAX: Duration = Duration::from_millis(FAST_LEN_MIN / SLOW_BELOW + 1);

/// The shortest measurement of a slow peer's rate.
const MEASURED_MIN: Duration = Duration::from_millis(20);

/// A measurement of this length, and of two round trips, counts as it is, without smoothing: a line
/// of 80 kbit/s needs as long for a packet of 1.5 KB.
const MEASURED_LONG: Duration = Duration::from_millis(150);

/// How long a slow peer's line should need for one send: 16 KB at 1.4 MB a second.
const SLOW_SEND_MS: u64 = 12;

/// Batches up to this length are first sent by a direct system call: that takes 219 ns of CPU time
/// a request, and the ring alone 254 ns, at 1,000 connections (docs/decisions/0002).
pub(in crate::net) const DIRECT_LEN_MAX: usize = 16 << 10;

/// Bytes not yet on the line that the kernel may hold for a fast peer. Bytes in the kernel cannot
/// be taken back: without a bound a peer that reads nothing ties up megabytes, and an urgent
/// response waits behind them. Measured to cost nothing (docs/decisions/0005).
const UNSENT_MAX: u32 = 32 << 10;

/// How long the bytes of a slow peer may wait in a router before its line. Routers can hold seconds
/// of a slow line, and nothing overtakes bytes that wait there.
const QUEUE_MS: u64 = 40;

/// Round trips whose bytes may be unacknowledged: one is under way, a second lets TCP's window
/// double while the line has not shown its rate, and a third goes on while a lost packet is sent
/// again, until which nothing that was sent after it is acknowledged.
const ROUND_TRIPS: u64 = 3;

/// The lowest bound on unacknowledged bytes.
const UNACKNOWLEDGED_MIN: u32 = 3 << 10;

/// The highest bound on unacknowledged bytes; above it the kernel decides. `net.core.wmem_max`
/// allows 208 KB by default; a fast line with a long round trip needs more.
const UNACKNOWLEDGED_MAX: u64 = 192 << 10;

/// Bounds on the output of one connection that the kernel may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct KernelBounds {
    /// Bytes that are not on the line yet. The kernel rounds up to a packet.
    pub(in crate::net) unsent_max: u32,
    /// Bytes that the peer has not acknowledged. With none, the kernel decides.
    pub(in crate::net) unacknowledged_max: Option<NonZeroU32>,
}

impl KernelBounds {
    /// For a peer whose rate is unknown. Set on the listeners, whose connections inherit it. The
    /// second bound limits the growth of TCP's window, which starts at ten packets and doubles in
    /// each round trip: a burst that a router lets pass would open it wide on a slow line.
    pub(in crate::net) const UNKNOWN: Self =
        Self { unsent_max: 1, unacknowledged_max: NonZeroU32::new(16 << 10) };

    /// For a fast peer, and for game connections.
    pub(in crate::net) const FAST: Self = Self { unsent_max: UNSENT_MAX, unacknowledged_max: None };

    /// Whether `other` differs so little that a change is not worth a system call.
    pub(in crate::net) fn is_near(self, other: Self) -> bool {
        let bounds = [self, other].map(|held| held.unacknowledged_max.map_or(0, NonZeroU32::get));
        let [wanted, is] = bounds;
        self.unsent_max == other.unsent_max
            && (wanted == 0) == (is == 0)
            && wanted.abs_diff(is) <= is / 4
    }

    /// Sets these bounds on a socket, or on a listener for the sockets that it accepts. `before`:
    /// the bounds that are set on it; only differences cost a system call.
    pub(in crate::net) fn replace(self, before: Self, socket: impl AsFd) {
        // This fails only on a socket that has failed, and the next operation reports that.
        if self.unsent_max != before.unsent_max {
            let _ = bound_unsent(&socket, self.unsent_max);
        }
        if self.unacknowledged_max != before.unacknowledged_max {
            let _ = bound_unacknowledged(&socket, self.unacknowledged_max);
        }
    }

    /// The bounds of a socket on which none were set.
    pub(in crate::net) const UNBOUNDED: Self =
        Self { unsent_max: u32::MAX, unacknowledged_max: None };
}

/// What the measurements of a peer's rate have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Fast,
    Slow,
}

/// How fast a peer takes in what it is sent, and how much it is sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Pace {
    /// The logarithm, to base 2, of the bytes of a send. A byte, because each connection has one.
    len_log2: u8,
    kind: Kind,
    /// Whether the peer had nothing to take in for a part of the measurement.
    has_paused: bool,
    /// The measured rate; 0 if there is none.
    bytes_a_second: u32,
}

impl Pace {
    /// The pace of a new connection.
    pub(in crate::net) const fn new() -> Self {
        Self {
            len_log2: log2(SEND_LEN_UNKNOWN),
            kind: Kind::Unknown,
            has_paused: false,
            bytes_a_second: 0,
        }
    }

    const fn fast() -> Self {
        Self {
            len_log2: log2(SEND_LEN_FAST),
            kind: Kind::Fast,
            has_paused: false,
            bytes_a_second: 0,
        }
    }

    /// Whether the peer gets short sends, each when its socket has room: it is slow or unknown.
    #[inline]
    pub(in crate::net) fn is_careful(self) -> bool {
        self.kind != Kind::Fast
    }

    /// Whether the peer was measured to be slow.
    pub(in crate::net) fn is_slow(self) -> bool {
        self.kind == Kind::Slow
    }

    /// The measured rate of a slow peer; none for others.
    pub(in crate::net) fn bytes_a_second(self) -> Option<u64> {
        (self.is_slow() && self.bytes_a_second > 0).then_some(self.bytes_a_second.into())
    }

    /// Bytes of a send at most.
    #[inline]
    pub(in crate::net) fn send_len_max(self) -> usize {
        1 << self.len_log2
    }

    /// How much output the kernel may hold for the peer. A slow peer's next response is begun when
    /// the bytes before it are on the line. Unacknowledged may be what the line carries in
    /// `ROUND_TRIPS` times `round_trip` and in `QUEUE_MS`.
    pub(in crate::net) fn kernel_bounds(self, round_trip: Duration) -> KernelBounds {
        match (self.kind, self.bytes_a_second()) {
            (Kind::Fast, _) => KernelBounds::FAST,
            (Kind::Slow, Some(bytes_a_second)) => {
                let round_trip_ms = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
                let time_ms = round_trip_ms.saturating_mul(ROUND_TRIPS).saturating_add(QUEUE_MS);
                let bytes = bytes_a_second.saturating_mul(time_ms) / 1000;
                let bytes = u32::try_from(bytes).ok().filter(|_| bytes <= UNACKNOWLEDGED_MAX);
                let bytes = bytes.map(|bytes| bytes.max(UNACKNOWLEDGED_MIN));
                KernelBounds { unsent_max: 1, unacknowledged_max: bytes.and_then(NonZeroU32::new) }
            }
            (Kind::Unknown | Kind::Slow, _) => KernelBounds::UNKNOWN,
        }
    }

    /// A direct send took a whole batch of `sent` bytes.
    #[inline]
    pub(in crate::net) fn went_through(&mut self, sent: usize) {
        if self.kind == Kind::Fast && sent >= self.send_len_max() {
            self.grow();
        }
    }

    /// The driver has held a send for so long that the peer counts as slow.
    pub(in crate::net) fn slow_down(&mut self) {
        self.kind = Kind::Slow;
        self.len_log2 = self.len_log2.min(log2(SEND_LEN_FAST));
    }

    /// The socket of a fast peer was full; the driver `took` this time to send `sent` bytes. These
    /// show a rate if they are at least as many as the kernel held before them: a peer that reads
    /// nothing for 12 ms is no slower for the 700 bytes that waited then. If the worker is `busy`,
    /// the worker may have caused the time: thousands of peers would then count as slow, and the
    /// short sends of slow peers would keep the worker busy.
    pub(in crate::net) fn was_sent(&mut self, sent: usize, took: Duration, busy: bool) {
        let rate = bytes_a_second(sent as u64, took);
        let is_peers = !busy || took >= BUSY_TOOK_MAX;
        if is_peers && took >= SLOW_TOOK_MIN && rate < SLOW_BELOW * 1000 {
            self.slow_down();
            if sent >= UNSENT_MAX as usize {
                self.measure(rate, took >= MEASURED_LONG);
                self.fit(rate);
            }
        } else if sent >= self.send_len_max() {
            self.grow();
        }
    }

    /// The peer has nothing to take in for a while. True if the measurement of its rate goes on. It
    /// does for an unknown peer: one that always waits for the answers to a few small requests has
    /// pauses in every round trip, and is fast if it takes in enough in spite of them.
    #[inline]
    pub(in crate::net) fn measures_on(&mut self) -> bool {
        self.has_paused = self.kind == Kind::Unknown;
        self.has_paused
    }

    /// Takes what a careful peer has acknowledged. True if this was enough to determine its rate:
    /// the caller then begins the next measurement.
    pub(in crate::net) fn acknowledged(&mut self, sample: Sample, busy: bool) -> bool {
        let Sample { bytes, took, .. } = sample;
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
        if self.has_paused {
            self.has_paused = self.kind == Kind::Unknown && took < PAUSED_MAX;
            return !self.has_paused;
        }
        let is_over = bytes > 0
            && match self.kind {
                Kind::Unknown => sample.lasts(SLOW_TOOK_MIN) && rate < SLOW_BELOW * 1000,
                _ => sample.lasts(MEASURED_MIN),
            };
        if is_over {
            self.kind = Kind::Slow;
            self.measure(rate, took >= MEASURED_LONG.max(sample.round_trip * 2));
            self.fit(self.bytes_a_second.into());
        }
        is_over
    }

    /// Stores a measured rate. A higher one is taken as it is. Of a lower one only half the
    /// difference is taken, because a lost packet lowers the rate for a moment. After a long
    /// measurement a lower rate is taken as it is, too: a slow line's first packet then corrects
    /// the rate of a burst that a router let pass.
    fn measure(&mut self, rate: u64, is_long: bool) {
        let seen = u32::try_from(rate).unwrap_or(u32::MAX).max(1);
        let before = self.bytes_a_second;
        let is_gradual = seen < before && !is_long;
        self.bytes_a_second = if is_gradual { before / 2 + seen / 2 } else { seen };
    }

    /// Sets the length of a send to the largest power of two that the line carries in
    /// [`SLOW_SEND_MS`], within the bounds of a slow peer.
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

/// What a careful peer has acknowledged in a time. In this time it always had something to take in,
/// unless [`Machine::measures_on`](super::Machine::measures_on) was called.
///
/// On a line with a long round trip, acknowledgements arrive in bursts, one burst a round trip. A
/// measurement that ends within a burst or before it would show another rate than the line's, so
/// it ends when everything that was under way at its beginning is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The bytes acknowledged.
    pub bytes: u64,
    /// The time since the measurement began.
    pub took: Duration,
    /// Whether all bytes that were given to the kernel before the measurement are acknowledged.
    pub is_round: bool,
    /// The shortest time that anything took to the peer and back.
    pub round_trip: Duration,
}

impl Sample {
    /// Whether it lasted for so long, and over a round: where bytes from before it are still not
    /// acknowledged after two round trips, they wait in front of a slow line.
    fn lasts(&self, min: Duration) -> bool {
        self.took >= min && (self.is_round || self.took >= self.round_trip * 2)
    }
}

fn bytes_a_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The logarithm, to base 2, of a power of two.
const fn log2(len: usize) -> u8 {
    len.trailing_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const KB: usize = 1 << 10;

    /// What was acknowledged in a whole round, on a line with a short round trip.
    fn sample(bytes: u64, took: Duration) -> Sample {
        Sample { bytes, took, is_round: true, round_trip: Duration::ZERO }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Has the peer acknowledge at this rate for a second.
    fn settle(pace: &mut Pace, bytes_a_second: u64) {
        for _ in 0..20 {
            pace.acknowledged(sample(bytes_a_second / 20, ms(50)), false);
        }
    }

    fn slow(bytes_a_second: u64) -> Pace {
        let mut pace = Pace::new();
        settle(&mut pace, bytes_a_second);
        pace
    }

    #[test]
    fn a_peer_that_takes_each_send_whole_gets_longer_ones() {
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
    fn an_unknown_peer_becomes_fast_when_it_has_acknowledged_more_than_a_burst() {
        let mut pace = Pace::new();
        assert!((pace.is_careful(), pace.is_slow()) == (true, false));
        pace.went_through(8 * KB);
        assert_eq!(pace.send_len_max(), 8 * KB);
        // A burst that a router lets pass.
        assert!(!pace.acknowledged(sample(32 << 10, Duration::from_micros(300)), false));
        assert!(pace.is_careful());
        assert!(pace.acknowledged(sample(128 << 10, Duration::from_millis(3)), false));
        assert_eq!((pace.is_careful(), pace.send_len_max()), (false, 16 * KB));
        assert_eq!(pace.kernel_bounds(ms(9)), KernelBounds::FAST);
    }

    #[test]
    fn a_send_to_a_slow_peer_is_what_its_line_carries_in_12_ms() {
        for (bytes_a_second, len_kb) in [(7_000, 4), (700_000, 8), (1_400_000, 16)] {
            let pace = slow(bytes_a_second);
            assert!(pace.is_slow());
            assert_eq!(pace.bytes_a_second(), Some(bytes_a_second));
            assert_eq!(pace.send_len_max(), len_kb * KB, "at {bytes_a_second} bytes a second");
        }
    }

    #[test]
    fn unacknowledged_bytes_of_a_slow_peer_are_bounded_by_its_rate_and_round_trip() {
        let held =
            |bytes_a_second, round_trip_ms| slow(bytes_a_second).kernel_bounds(ms(round_trip_ms));
        assert_eq!(
            held(500_000, 0),
            KernelBounds { unsent_max: 1, unacknowledged_max: NonZeroU32::new(20_000) }
        );
        assert_eq!(held(200_000, 200).unacknowledged_max, NonZeroU32::new(128_000));
        assert_eq!(held(7_000, 10).unacknowledged_max, NonZeroU32::new(3 << 10));
        assert_eq!(held(500_000, 300).unacknowledged_max, None, "more than the kernel allows");
        let mut unmeasured = Pace::fast();
        unmeasured.slow_down();
        assert_eq!(unmeasured.kernel_bounds(ms(0)), KernelBounds::UNKNOWN);
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
        assert_eq!(
            (pace.send_len_max(), pace.kernel_bounds(ms(0))),
            (256 * KB, KernelBounds::FAST)
        );
    }

    #[test]
    fn a_busy_worker_makes_a_peer_slow_only_after_200_ms() {
        let mut pace = Pace::fast();
        pace.was_sent(4 * KB, ms(150), true);
        assert!(!pace.is_slow());
        pace.was_sent(4 * KB, ms(300), true);
        assert!(pace.is_slow());
        assert!(pace.acknowledged(sample(4_000, ms(150)), true));
        assert!(!pace.is_careful());
        let mut unknown = Pace::new();
        unknown.acknowledged(sample(4_000, ms(150)), true);
        assert!(!unknown.is_careful());
    }

    #[test]
    fn a_peer_that_waits_for_small_responses_becomes_fast_in_spite_of_its_pauses() {
        let mut pace = Pace::new();
        // A batch of 12 KB in each millisecond, most of which the peer waits.
        for millis in 1..11 {
            assert!(!pace.acknowledged(sample(millis * (12 << 10), ms(millis)), false));
            assert!(pace.measures_on());
        }
        assert!(pace.acknowledged(sample(132 << 10, ms(11)), false));
        assert_eq!(pace, Pace::fast());
        assert!(!pace.measures_on(), "there is nothing to measure");
    }

    #[test]
    fn a_peer_that_asks_for_little_does_not_become_slow_by_its_pauses() {
        let mut pace = Pace::new();
        assert!(pace.measures_on());
        assert!(!pace.acknowledged(sample(12 << 10, ms(80)), false));
        assert!(pace.acknowledged(sample(12 << 10, ms(1000)), false), "the next one begins");
        assert_eq!(pace, Pace::new());
        // The next measurement has no pause, so it counts.
        assert!(pace.acknowledged(sample(700, ms(100)), false));
        assert_eq!(pace.bytes_a_second(), Some(7000));
        assert!(!pace.measures_on());
    }

    #[test]
    fn a_slow_peer_with_a_rising_rate_gets_longer_sends_and_becomes_fast() {
        let mut pace = slow(7_000);
        assert!(
            !pace.acknowledged(sample(3_000, ms(1)), false),
            "too short a time to measure a rate"
        );
        assert!(pace.acknowledged(sample(10_000, ms(20)), false));
        assert_eq!((pace.bytes_a_second(), pace.send_len_max()), (Some(500_000), 4 * KB));
        assert!(pace.acknowledged(sample(20_000, ms(20)), false));
        assert_eq!((pace.bytes_a_second(), pace.send_len_max()), (Some(1_000_000), 8 * KB));
        assert!(pace.acknowledged(sample(128 << 10, ms(40)), false));
        assert!(!pace.is_careful());
    }

    #[test]
    fn a_lower_rate_is_taken_by_half_unless_it_was_measured_for_long() {
        let mut pace = slow(1_000_000);
        pace.acknowledged(sample(10_000, ms(100)), false);
        assert_eq!(pace.bytes_a_second(), Some(550_000));
        assert!(
            !pace.acknowledged(sample(0, ms(500)), false),
            "0 bytes are no measurement; the send deadline handles them"
        );
        assert_eq!(pace.bytes_a_second(), Some(550_000));
        pace.acknowledged(sample(1_400, ms(200)), false);
        assert_eq!(pace.bytes_a_second(), Some(7_000), "a long measurement counts as it is");
    }

    #[test]
    fn a_fast_peer_that_becomes_slow_gets_short_sends_at_once() {
        let mut pace = Pace::fast();
        (0..9).for_each(|_| pace.was_sent(256 * KB, ms(1), false));
        pace.was_sent(256 * KB, Duration::from_secs(9), false);
        assert_eq!((pace.send_len_max(), pace.is_slow()), (4 * KB, true));
        assert_eq!(pace.bytes_a_second(), Some(29_127));
    }

    #[test]
    fn a_short_send_to_a_peer_that_paused_shows_no_rate() {
        let mut pace = Pace::fast();
        pace.was_sent(736, ms(6), false);
        assert_eq!((pace.is_slow(), pace.bytes_a_second()), (true, None));
        pace.acknowledged(sample(2_000_000, ms(25)), false);
        assert!(!pace.is_careful(), "what it acknowledges shows that it is fast");
    }

    /// A line, the sender's kernel at one end of it, and what is on the way.
    struct Line {
        bytes_a_second: u64,
        round_trip_us: u64,
        now_us: u64,
        /// When the line has carried what it was given.
        free_us: u64,
        written: u64,
        acknowledged: u64,
        /// When what is acknowledged, packet by packet.
        under_way: VecDeque<(u64, u64)>,
    }

    impl Line {
        fn new(bytes_a_second: u64, round_trip_ms: u64) -> Self {
            let round_trip_us = round_trip_ms * 1000;
            let under_way = VecDeque::new();
            let (now_us, free_us, written, acknowledged) = (0, 0, 0, 0);
            Self {
                bytes_a_second,
                round_trip_us,
                now_us,
                free_us,
                written,
                acknowledged,
                under_way,
            }
        }

        /// TCP begins with ten packets, and doubles what is under way each round.
        fn has_room(&self, bounds: KernelBounds) -> bool {
            let max = bounds.unacknowledged_max.map_or(u64::MAX, |max| max.get().into());
            let window = 14_480 + self.acknowledged;
            self.written - self.acknowledged < max.min(window)
        }

        fn write(&mut self, len: usize) {
            for _ in 0..len.div_ceil(1448) {
                self.free_us =
                    self.free_us.max(self.now_us) + 1448 * 1_000_000 / self.bytes_a_second;
                self.written += 1448;
                self.under_way.push_back((self.free_us + self.round_trip_us, 1448));
            }
        }

        fn pass(&mut self) {
            if let Some((at_us, len)) = self.under_way.pop_front() {
                self.now_us = at_us;
                self.acknowledged += len;
            }
        }
    }

    /// The share of a line that a download has in ten seconds.
    fn share_of_line(bytes_a_second: u64, round_trip_ms: u64) -> f64 {
        let mut line = Line::new(bytes_a_second, round_trip_ms);
        let (mut pace, mut bounds) = (Pace::new(), KernelBounds::UNKNOWN);
        let (mut before, mut since_us) = ((0, 0), 0);
        let round_trip = ms(round_trip_ms);
        while line.now_us < 10_000_000 {
            while line.has_room(bounds) {
                let took = Duration::from_micros(line.now_us - since_us);
                let (bytes, is_round) =
                    (line.acknowledged - before.1, line.acknowledged >= before.0);
                let sample = Sample { bytes, took, is_round, round_trip };
                if pace.is_careful() && pace.acknowledged(sample, false) {
                    (before, since_us) = ((line.written, line.acknowledged), line.now_us);
                    bounds = pace.kernel_bounds(round_trip);
                }
                line.write(pace.send_len_max());
            }
            line.pass();
        }
        line.acknowledged as f64 / (bytes_a_second * 10) as f64
    }

    #[test]
    fn a_download_fills_its_line_however_long_the_round_trip() {
        // What is missing is the time until the window is open, of ten seconds.
        let wanted = [(1, 0.95), (30, 0.95), (100, 0.9), (300, 0.65), (600, 0.35)];
        let lines = [7_000, 64_000, 500_000, 1_250_000, 6_000_000];
        // The fast ones take Miri minutes: it counts every packet.
        for bytes_a_second in lines.into_iter().take(if cfg!(miri) { 2 } else { 5 }) {
            for (round_trip_ms, at_least) in wanted {
                let share = share_of_line(bytes_a_second, round_trip_ms);
                assert!(share >= at_least, "{bytes_a_second} B/s, {round_trip_ms} ms: {share:.2}");
            }
        }
    }
}
