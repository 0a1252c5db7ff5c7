//! A token bucket: how many bytes may be sent at the moment. Pure; time is an argument.

use std::time::Duration;

/// How much an idle bucket saves up, as time at its rate. It is 2 % of a second, so that even the
/// first second after a pause stays within 3 % of the cap.
const BURST: Duration = Duration::from_millis(20);

/// How much time a late worker may make up for while a connection waits: if other programs use its
/// core, it wakes tens of milliseconds late. The bound keeps a process that was stopped for a
/// minute from flooding the line.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Tokens are kept in millionths of a byte, so that no rate loses to rounding.
const MICRO: i64 = 1_000_000;

/// A bucket that is refilled at a rate. Bytes sent are taken out; the bucket may go into debt.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bytes a second, at most [`RATE_MAX`].
    rate: i64,
    /// What an idle bucket holds at most, in millionths of a byte.
    depth: i64,
    /// In millionths of a byte. Below 0 is debt: nothing may be sent until time has paid it.
    tokens: i64,
    /// The time of the last refill, in microseconds.
    refilled_us: u64,
}

/// The highest rate of a bucket, in bytes a second: no arithmetic overflows up to it.
pub const RATE_MAX: u64 = 1_000_000_000_000;

impl Bucket {
    /// A full bucket of `rate` bytes a second. It holds `BURST` of its rate, and `burst_min` bytes
    /// at least.
    #[must_use]
    pub fn new(rate: u64, burst_min: u64, now_us: u64) -> Self {
        let rate = i64::try_from(rate.min(RATE_MAX)).unwrap_or(i64::MAX);
        let depth = (rate * micros(BURST)).max(micro_bytes(burst_min));
        Self { rate, depth, tokens: depth, refilled_us: now_us }
    }

    /// Adds tokens for the time since the last call. If they are `wanted`, because a connection
    /// waited in that time, the bucket may hold up to `CATCH_UP` of its rate; else only its depth.
    pub fn refill(&mut self, now_us: u64, wanted: bool) {
        let elapsed = now_us.saturating_sub(self.refilled_us);
        self.refilled_us = self.refilled_us.max(now_us);
        // An elapsed second fills every bucket, and cannot overflow.
        let elapsed = i64::try_from(elapsed).unwrap_or(MICRO).min(MICRO);
        let grown = self.tokens.saturating_add(self.rate * elapsed);
        let most = if wanted { self.rate * micros(CATCH_UP) } else { 0 };
        // A bucket that is above its depth already keeps what it has.
        self.tokens = grown.min(self.depth.max(most)).max(self.tokens);
    }

    /// Whether something may be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens > 0
    }

    /// Whole bytes in the bucket; 0 in debt.
    #[must_use]
    pub fn available(&self) -> u64 {
        u64::try_from(self.tokens / MICRO).unwrap_or(0)
    }

    /// Takes bytes out. If there are fewer, the bucket goes into debt.
    pub fn take(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(micro_bytes(bytes));
    }

    /// Returns bytes that were taken and not sent.
    pub fn give_back(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_add(micro_bytes(bytes));
    }

    /// Microseconds from the last refill until `bytes` are available.
    #[must_use]
    pub fn wait_us(&self, bytes: u64) -> u64 {
        let missing = micro_bytes(bytes).saturating_sub(self.tokens).max(0);
        u64::try_from(missing.checked_div(self.rate).unwrap_or(0)).unwrap_or(0) + 1
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn micro_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(MICRO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_at_its_rate_and_saves_up_twenty_milliseconds() {
        let mut bucket = Bucket::new(1_000_000, 0, 0);
        assert_eq!(bucket.available(), 20_000);
        bucket.take(20_000);
        assert!(!bucket.is_open());
        bucket.refill(3, false);
        assert_eq!(bucket.available(), 3);
        bucket.refill(10_000_000, false);
        assert_eq!(bucket.available(), 20_000, "an idle line saves up no more");
    }

    #[test]
    fn a_late_worker_makes_up_for_100_ms_while_a_connection_waits() {
        let mut bucket = Bucket::new(1_000_000, 0, 0);
        bucket.take(20_000);
        bucket.refill(60_000, true);
        assert_eq!(bucket.available(), 60_000);
        bucket.refill(60_000_000, true);
        assert_eq!(bucket.available(), 100_000, "a stopped process does not flood the line");
        bucket.refill(60_001_000, false);
        assert_eq!(bucket.available(), 100_000, "what a bucket holds is not taken away");
    }

    #[test]
    fn nothing_may_be_sent_until_debt_is_paid() {
        let mut bucket = Bucket::new(1000, 0, 0);
        bucket.take(1020);
        assert_eq!((bucket.is_open(), bucket.available()), (false, 0));
        assert_eq!(bucket.wait_us(100), 1_100_001);
        bucket.refill(500_000, true);
        assert!(!bucket.is_open());
        bucket.give_back(600);
        assert_eq!(bucket.available(), 100);
        assert_eq!(bucket.wait_us(100), 1);
    }

    #[test]
    fn odd_rates_lose_nothing_to_rounding() {
        let mut bucket = Bucket::new(333_333, 0, 0);
        bucket.take(6_666);
        let mut sent = 0;
        let step_us = if cfg!(miri) { 6007 } else { 7 };
        for now_us in (0..=2_999_999).step_by(step_us).chain([3_000_000]) {
            bucket.refill(now_us, true);
            sent += bucket.available();
            bucket.take(bucket.available());
        }
        assert_eq!(sent, 999_999, "three seconds, and two thirds of a byte from the beginning");
        let mut fast = Bucket::new(RATE_MAX, 0, 0);
        fast.take(fast.available());
        fast.refill(u64::MAX, true);
        assert_eq!(fast.available(), RATE_MAX / 10);
    }
}
