//! The shape of a row of latencies: a count for each bound, the count above all bounds, and the
//! sum.

/// Upper bounds in nanoseconds: four a decade, from 10 µs to 31.6 s.
pub const BOUNDS_NS: [u64; 27] = [
    10_000,
    17_800,
    31_600,
    56_200,
    100_000,
    178_000,
    316_000,
    562_000,
    1_000_000,
    1_780_000,
    3_160_000,
    5_620_000,
    10_000_000,
    17_800_000,
    31_600_000,
    56_200_000,
    100_000_000,
    178_000_000,
    316_000_000,
    562_000_000,
    1_000_000_000,
    1_780_000_000,
    3_160_000_000,
    5_620_000_000,
    10_000_000_000,
    17_800_000_000,
    31_600_000_000,
];

/// The index of the sum, in nanoseconds, in a row: after the bounds' counts and the one above.
pub const SUM_AT: usize = BOUNDS_NS.len() + 1;

/// The length of a row: a count a bound, the count of what is above all, and the sum.
pub const LATENCY_LEN: usize = SUM_AT + 1;
