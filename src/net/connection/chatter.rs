//! How much a peer may say that asks for nothing.
//!
//! Rekeys, state changes and segments of less than a message are legal, and each costs a read and
//! a wake-up, so a peer that sends nothing else could keep a worker busy for nothing. Each
//! connection has a budget of them, which fills again with the time. It is looked at only where
//! such things come, so a peer that asks for groups pays nothing for it.

/// The time for which the budget saves up, in seconds.
const SAVED_S: u32 = 20;

/// The clock of the budget: a tenth of a second, of which 16 bits hold almost two hours.
const TICK_MS: u64 = 100;

/// What a peer has used of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chatter {
    /// As of `tick`.
    used: u16,
    /// When it was last looked at. After two hours of silence it may seem later than it was, and
    /// then too little is given back; a budget that has been silent is almost empty anyway.
    tick: u16,
}

impl Chatter {
    /// Notes `said` messages or reads; false if that is more than `rate` a second allow.
    pub(super) fn passes(&mut self, said: u32, rate: u32, now_ms: u64) -> bool {
        let now = (now_ms / TICK_MS % (1 << 16)) as u16;
        let ticks = u32::from(now.wrapping_sub(self.tick));
        let given_back = u64::from(ticks) * u64::from(rate) / 10;
        let left = u64::from(self.used).saturating_sub(given_back);
        let used = left + u64::from(said);
        if given_back > 0 || left == 0 {
            // A tick in which nothing is given back counts for the next time.
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
    fn twenty_seconds_of_the_rate_may_come_at_once_and_then_the_rate() {
        let mut chatter = Chatter::default();
        assert!(chatter.passes(2000, 100, 5_000));
        assert!(!chatter.passes(1, 100, 5_000), "it is used up");
        let mut chatter = Chatter::default();
        assert!(chatter.passes(2000, 100, 5_000));
        for second in 6..60 {
            assert!(chatter.passes(100, 100, second * 1000), "second {second}");
        }
        assert!(!chatter.passes(101, 100, 60_000));
    }

    #[test]
    fn what_comes_slowly_is_never_too_much() {
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
