//! A budget for messages that ask for nothing (docs/decisions/0013).
//!
//! Rekeys, state changes and segments of less than a message are legal, and each costs a read and
//! a wake-up, so a peer that sends nothing else could keep a worker busy without a request. Each
//! connection therefore has a budget of them, which refills as time passes. The budget is checked
//! only when such messages arrive, so requests cost nothing here.

/// The budget holds so many seconds of the rate.
const SAVED_S: u32 = 20;

/// One tick of the budget's clock: 16 bits of ticks last almost two hours.
const TICK_MS: u64 = 100;

/// What a peer has used of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chatter {
    /// Messages and reads used up, as of `tick`.
    used: u16,
    /// The tick of the last refill. It wraps around after two hours: a peer that was quiet for so
    /// long may get too little back, and at most what it had used before.
    tick: u16,
}

impl Chatter {
    /// Charges `said` messages or reads; false if the budget, refilled by `rate` a second, is
    /// exceeded.
    pub(super) fn passes(&mut self, said: u32, rate: u32, now_ms: u64) -> bool {
        let now = (now_ms / TICK_MS % (1 << 16)) as u16;
        let ticks = u32::from(now.wrapping_sub(self.tick));
        let given_back = u64::from(ticks) * u64::from(rate) / 10;
        let left = u64::from(self.used).saturating_sub(given_back);
        let used = left + u64::from(said);
        if given_back > 0 || left == 0 {
            // `tick` stays where a low rate has given nothing back yet, so that the time adds up.
            self.tick = now;
            self.used = u16::try_from(used).unwrap_or(u16::MAX);
        } else {
            self.used = u16::try_from(u64::from(self.used) + u64::from(said)).unwrap_or(u16::MAX);
        }
        used <= u64::from(rate * SAVED_S).min(u64::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_seconds_of_the_rate_pass_at_once_and_then_the_rate_itself() {
        let mut chatter = Chatter::default();
        assert!(chatter.passes(2000, 100, 5_000));
        assert!(!chatter.passes(1, 100, 5_000), "the budget is used up");
        let mut chatter = Chatter::default();
        assert!(chatter.passes(2000, 100, 5_000));
        for second in 6..60 {
            assert!(chatter.passes(100, 100, second * 1000), "second {second}");
        }
        assert!(!chatter.passes(101, 100, 60_000));
    }

    #[test]
    fn messages_at_the_rate_always_pass() {
        let mut chatter = Chatter::default();
        let ticks = if cfg!(miri) { 2000 } else { 100_000 };
        for tick in 0..ticks {
            assert!(chatter.passes(10, 100, tick * 100), "tick {tick}");
        }
    }

    #[test]
    fn a_low_rate_is_not_rounded_to_nothing() {
        let mut chatter = Chatter::default();
        // One a second is given back, though a tick gives back a tenth of one.
        for second in 0..200 {
            assert!(chatter.passes(1, 1, second * 1000), "second {second}");
        }
        let mut chatter = Chatter::default();
        let passed = (0..1000).take_while(|tick| chatter.passes(1, 1, tick * 100)).count();
        assert!((20..=23).contains(&passed), "{passed}, at ten a second");
    }
}
