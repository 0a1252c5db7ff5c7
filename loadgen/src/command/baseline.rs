//! `run --baseline FILE`: this run beside an earlier one of the same machine.
//!
//! The intervals of the two runs are no pairs, so the ratio is that of their medians, with an
//! interval by the bootstrap. What changes on the machine between the two runs is part of the
//! ratio; `compare` avoids that.

use super::options;
use crate::comparison::{Comparison, Kind, Pair, Ratio, Row, RowUnit, median};
use crate::failure::Failure;
use crate::machine::Environment;
use crate::result::RunResult;
use crate::stats::{Interval, Metric};
use std::path::Path;

/// Reads the earlier result: its name, and what it holds.
pub(crate) fn read(path: &Path) -> Result<(String, RunResult), Failure> {
    let name = path.display().to_string();
    let remedy = "Give --baseline a file that run --json wrote.";
    let before = options::result_of(path, remedy)?;
    if before.comparison.as_ref().is_some_and(|known| known.kind != Kind::Baseline) {
        let cause = format!("{name}: this is a comparison, not a run");
        return Err(Failure::usage(cause, remedy));
    }
    Ok((name, before))
}

/// Puts the comparison into the result, with notes on what makes it less reliable.
pub(crate) fn compare(result: &mut RunResult, name: &str, before: &RunResult) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(words) = other_machine(&before.environments, &result.environments) {
        notes.push(format!(
            "the baseline is of another machine ({words}): the ratios compare machines, too"
        ));
    }
    let mut load = before.load.clone();
    // Where the server listens and for how long it was measured changes nothing of the load.
    load.target.clone_from(&result.load.target);
    load.options.clone_from(&result.load.options);
    if load != result.load {
        notes.push("the baseline has another load: the ratios compare the loads, too".to_owned());
    }
    let seed = result.load.seed;
    let mut rows = Vec::new();
    let mut row = |name: &str, unit, pick: &dyn Fn(&Interval) -> Option<f64>| {
        let values = |result: &RunResult| -> Vec<f64> {
            result.stats.intervals.iter().filter_map(pick).collect()
        };
        let (mut a, mut b) = (values(before), values(result));
        if !a.is_empty() && !b.is_empty() {
            let ratio = Ratio::of_two_runs(&a, &b, seed);
            let (a, b) = (median(&mut a), median(&mut b));
            rows.push(Row { name: name.to_owned(), unit, a, b, ratio });
        }
    };
    let seconds = |interval: &Interval| interval.length_ms.max(1) as f64 / 1e3;
    row("responses", RowUnit::PerS, &|i| Some(i.responses.sum() as f64 / seconds(i)));
    row("bytes", RowUnit::BytesPerS, &|i| Some(i.bytes as f64 / seconds(i)));
    for metric in [Metric::UrgentResponse, Metric::PrefetchResponse] {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("{metric}.{name}");
            row(&name, RowUnit::Us, &|interval| {
                let times = interval.times.get(&metric)?.unpack();
                Some(times.quantile(quantile) as f64 / 1e3)
            });
        }
    }
    let interval_ms = result.stats.intervals.first().map_or(0, |interval| interval.length_ms);
    let (a, b) = (name.to_owned(), "this run".to_owned());
    let pairs = vec![Pair { a, b, rows }];
    let kind = Kind::Baseline;
    result.comparison = Some(Comparison { kind, interval_ms, pairs, ..Comparison::default() });
    notes
}

/// In which way the machines differ, in words.
fn other_machine(before: &[Environment], now: &[Environment]) -> Option<String> {
    let (Some(before), Some(now)) = (before.first(), now.first()) else {
        return Some("unknown".to_owned());
    };
    let cores = |machine: &Environment| format!("{} cores", machine.cores_allowed);
    let pairs = [
        (before.host.clone(), now.host.clone()),
        (before.cpu.clone(), now.cpu.clone()),
        (cores(before), cores(now)),
        (before.kernel.clone(), now.kernel.clone()),
    ];
    let differ = pairs.iter().find(|(before, now)| before != now);
    differ.map(|(before, now)| format!("{before}, this one is {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_baseline_of_another_machine_or_load_says_so() {
        let before = sample::result();
        let mut same = sample::result();
        assert_eq!(compare(&mut same, "before.json", &before), [""; 0]);
        let comparison = same.comparison.unwrap();
        let rows = &comparison.pairs[0].rows;
        let row = rows.iter().find(|row| row.name == "urgent.response.p50").unwrap();
        let ratio = row.ratio.unwrap();
        assert_eq!(ratio.median, 1.0);
        assert!(ratio.low <= 1.0 && 1.0 <= ratio.high && ratio.is_interval(), "{ratio:?}");
        let mut other = sample::result();
        other.environments[0].cpu = "another".to_owned();
        other.load.connections = 9;
        let notes = compare(&mut other, "before.json", &before);
        assert!(
            notes[0].contains("another machine (AMD EPYC 9R14, this one is another)"),
            "{notes:?}"
        );
        assert!(notes[1].contains("another load"), "{notes:?}");
    }
}
