//! Axes: from values to places, and which values get a tick.

use crate::units;

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
    /// Quantiles by the number of their nines: 0.9, 0.99 and 0.999 are evenly apart.
    Nines,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    scale: Scale,
    min: f64,
    max: f64,
    /// Where ticks stand, and what they say.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `max`, ticks at round numbers, `name` saying them.
    pub(crate) fn linear(max: f64, name: impl Fn(f64) -> String) -> Self {
        let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
        let step = round_step(max / 4.0);
        let steps = (max / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=steps as u32).map(|i| f64::from(i) * step);
        let ticks = ticks.map(|value| (value, name(value))).collect();
        Self { scale: Scale::Linear, min: 0.0, max: steps * step, ticks }
    }

    /// Seconds since the beginning, exactly to `end_s`; about `count` ticks.
    pub(crate) fn time(end_s: f64, count: u32) -> Self {
        let end_s = if end_s > 0.0 { end_s } else { 1.0 };
        let wanted = end_s / f64::from(count);
        let steps = [60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0];
        let step = if wanted <= 30.0 {
            round_step(wanted).min(30.0)
        } else {
            steps.into_iter().find(|step| *step >= wanted).unwrap_or(wanted)
        };
        let ticks = (0..=(end_s / step + 1e-9) as u32).map(|i| f64::from(i) * step);
        let ticks = ticks.map(|value| (value, clock(value, step))).collect();
        Self { scale: Scale::Linear, min: 0.0, max: end_s, ticks }
    }

    /// Microseconds from `min` to `max`, widened to round ends.
    pub(crate) fn log_us(min: f64, max: f64) -> Self {
        let (min, max) = (min.max(0.5), max.max(1.0));
        // Whole decades, cut at 2 and at 5 where that leaves less empty space.
        let floor = [1.0, 2.0, 5.0].map(|cut| cut * 10_f64.powf(min.log10().floor()));
        let low = floor.into_iter().filter(|cut| *cut <= min).fold(floor[0], f64::max);
        let ceil = [10.0, 5.0, 2.0, 1.0].map(|cut| cut * 10_f64.powf(max.log10().floor()));
        let mut high = ceil.into_iter().filter(|cut| *cut >= max).fold(ceil[0], f64::min);
        if high <= low {
            high = low * 10.0;
        }
        let decades = (high / low).log10();
        let cuts: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut decade = 10_f64.powf(low.log10().floor());
        while decade <= high * 1.001 {
            let here = cuts.iter().map(|cut| cut * decade);
            let inside = here.filter(|at| (low * 0.999..=high * 1.001).contains(at));
            ticks.extend(inside.map(|at| (at, round_us(at))));
            decade *= 10.0;
        }
        Self { scale: Scale::Log, min: low, max: high, ticks }
    }

    /// Quantiles from 0 to that of one sample in `count`.
    pub(crate) fn nines(count: u64) -> Self {
        let max = 1.0 - 1.0 / (count.max(10) as f64);
        let names = [
            (0.0, "0 %"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (0.999_99, "99.999 %"),
            (0.999_999, "99.9999 %"),
            (0.999_999_9, "99.99999 %"),
        ];
        let inside = names.into_iter().filter(|(quantile, _)| *quantile <= max);
        let ticks = inside.map(|(quantile, name)| (quantile, name.to_owned())).collect();
        Self { scale: Scale::Nines, min: 0.0, max, ticks }
    }

    /// Whether its ticks are evenly apart, so that some can be left out.
    pub(crate) fn is_even(&self) -> bool {
        self.scale == Scale::Linear
    }

    /// Where `value` lies: 0 at the beginning of the axis, 1 at its end. Beyond it, at its end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (value, min, max) = match self.scale {
            Scale::Linear => (value, self.min, self.max),
            Scale::Log => (value.max(self.min).log10(), self.min.log10(), self.max.log10()),
            Scale::Nines => (nines(value.min(self.max)), nines(self.min), nines(self.max)),
        };
        ((value - min) / (max - min)).clamp(0.0, 1.0)
    }
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// The next of 1, 2, 5, 10, 20, ... that is `least` or more.
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps.into_iter().find(|step| *step >= least * 0.999_999).unwrap_or(steps[3])
}

/// A round time without superfluous digits: `200 µs`, `5 ms`.
fn round_us(us: f64) -> String {
    let (value, unit) = match us {
        us if us >= 999_999.0 => (us / 1e6, "s"),
        us if us >= 999.9 => (us / 1e3, "ms"),
        us => (us, "µs"),
    };
    format!("{} {unit}", (value * 10.0).round() / 10.0)
}

/// Seconds as a clock would show them where they are many.
fn clock(seconds: f64, step: f64) -> String {
    let whole = seconds.round() as u64;
    match step {
        step if step >= 3600.0 => format!("{} h", whole / 3600),
        step if step >= 60.0 => format!("{} min", whole / 60),
        step if step >= 1.0 => format!("{whole} s"),
        _ => format!("{} s", (seconds * 1000.0).round() / 1000.0),
    }
}

/// Ticks for shares of 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Ticks for something a second, short.
pub(crate) fn short_per_s(rate: f64) -> String {
    let (value, unit) = match rate {
        rate if rate >= 1e6 => (rate / 1e6, " M"),
        rate if rate >= 1e4 => (rate / 1e3, " k"),
        rate if rate >= 1e3 => return units::count(rate.round() as u64),
        rate => (rate, ""),
    };
    format!("{}{unit}", (value * 100.0).round() / 100.0)
}

/// Ticks for bytes a second, short.
pub(crate) fn short_bytes(rate: f64) -> String {
    let (value, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "GB"),
        rate if rate >= 1e6 => (rate / 1e6, "MB"),
        rate if rate >= 1e3 => (rate / 1e3, "kB"),
        rate => (rate, "B"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_few_and_within_the_axis() {
        let cases = [
            (Axis::linear(3120.0, short_per_s), vec!["0", "1,000", "2,000", "3,000", "4,000"]),
            (Axis::time(30.0, 6), vec!["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]),
            (Axis::time(600.0, 6), vec!["0 min", "2 min", "4 min", "6 min", "8 min", "10 min"]),
            (Axis::log_us(60.0, 900.0), vec!["50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]),
            (Axis::nines(1000), vec!["0 %", "50 %", "90 %", "99 %", "99.9 %"]),
        ];
        for (axis, expected) in cases {
            assert_eq!(names(&axis), expected);
            let places: Vec<f64> = axis.ticks.iter().map(|(value, _)| axis.place(*value)).collect();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        }
        assert!((Axis::nines(1000).place(0.9) - 1.0 / 3.0).abs() < 1e-9);
        let wide = Axis::log_us(1.3, 59_000_000.0);
        assert!((5..=9).contains(&wide.ticks.len()), "{:?}", names(&wide));
    }
}
