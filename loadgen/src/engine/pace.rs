//! The pace of an open loop: when the n-th request of the whole run is due.
//!
//! Each client computes its own due times from the one curve, so that no queue of intended
//! requests exists that could overflow or be forgotten: a client that cannot send keeps the
//! time at which it should have.

use crate::human::Ramp;

/// Arrivals over time: a rate that may rise or fall evenly and then stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Arrivals a second, at the beginning and after the ramp.
    pub(crate) rate: Ramp,
    /// How long the rate takes from one to the other.
    pub(crate) ramp_s: f64,
    /// When the first second begins, on the run's clock.
    pub(crate) start_ns: u64,
}

impl Pace {
    /// When the arrival number `x` (fractions fall between arrivals) is due.
    pub(crate) fn due_ns(&self, x: f64) -> u64 {
        let Ramp { from, to } = self.rate;
        let in_ramp = (from + to) / 2.0 * self.ramp_s;
        let seconds = if from == to {
            x / to
        } else if x >= in_ramp {
            self.ramp_s + (x - in_ramp) / to
        } else {
            let slope = (to - from) / self.ramp_s;
            // Root of slope/2 t² + from t = x.
            ((from * from + 2.0 * slope * x).max(0.0).sqrt() - from) / slope
        };
        // Beyond any run, and a rate of 0, saturate: due never.
        self.start_ns.saturating_add((seconds * 1e9) as u64)
    }

    /// Arrivals that were due before `now_ns`.
    pub(crate) fn arrivals(&self, now_ns: u64) -> f64 {
        let t = now_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        let Ramp { from, to } = self.rate;
        let ramped = t.min(self.ramp_s);
        let slope = if self.ramp_s > 0.0 { (to - from) / self.ramp_s } else { 0.0 };
        from * ramped + slope / 2.0 * ramped * ramped + (t - ramped) * to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_pace_is_a_grid() {
        let pace = Pace { rate: Ramp { from: 1000.0, to: 1000.0 }, ramp_s: 0.0, start_ns: 5 };
        assert_eq!(pace.due_ns(0.0), 5);
        assert_eq!(pace.due_ns(2500.0), 2_500_000_005);
    }

    #[test]
    fn due_times_and_arrivals_are_each_others_inverse() {
        for (from, to) in [(0.0, 1000.0), (1000.0, 100.0), (500.0, 500.0)] {
            let pace = Pace { rate: Ramp { from, to }, ramp_s: 4.0, start_ns: 1_000_000_000 };
            for x in [1.0, 100.0, 1500.0, 2500.0, 9000.0] {
                let back = pace.arrivals(pace.due_ns(x));
                assert!((back - x).abs() < 0.01, "{from}..{to}: {x} came back as {back}");
            }
        }
    }
}
