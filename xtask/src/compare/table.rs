//! The report in Markdown: for the terminal and docs/benchmarks.md.

use super::measure::Ratio;
use super::report::{Bound, Report, Row};
use std::fmt::Write as _;

/// All of n rounds lie on one side of the true median with a chance of 2^(1-n): from 8 rounds on,
/// the range holds it with more than 99 %.
const ROUNDS_FOR_INTERVAL: u32 = 8;

/// The whole page.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = head(report);
    if report.is_disturbed() {
        let _ = writeln!(
            out,
            "**The machine was not idle: servers waited for their core {:.0} % of the time. Do \
             not publish these figures.**\n",
            report.wait_share * 100.0
        );
    }
    if report.timing.rounds < ROUNDS_FOR_INTERVAL {
        out.push_str(
            "With so few rounds an interval is their whole range, and holds less than 99 %.\n\n",
        );
    }
    out.push_str(
        "| workload | server | CPU ns a response | js5d to it (99 %) | responses/s | \
         MB a CPU second | p50 µs | p99 µs | p99.9 µs | resident MB |\n\
         |---|---|---:|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for workload in &report.workloads {
        let mut title = workload.title;
        for row in &workload.rows {
            line(&mut out, title, row);
            title = "";
        }
    }
    let bounds: Vec<&Bound> =
        report.workloads.iter().flat_map(|workload| &workload.bounds).collect();
    out.push_str("\n| figure | at most | measured (99 %) | |\n|---|---:|---|---|\n");
    for bound in bounds.into_iter().chain(&report.within) {
        let Bound { workload, against, bound: most, ratio } = bound;
        let (ratio, verdict) = (ratio_text(*ratio), bound.verdict());
        let _ = writeln!(out, "| {workload}, to {against} | {most:.2} | {ratio} | {verdict} |");
    }
    if let Some(redis) = &report.redis {
        let _ = writeln!(out, "\n{}", redis.sentence());
    }
    if !report.failures.is_empty() {
        out.push_str("\nIntervals that failed:\n\n");
        for failure in &report.failures {
            let (server, workload, cause) = (&failure.server, &failure.workload, &failure.cause);
            let _ = writeln!(out, "- {server}, {workload}: {cause}");
        }
    }
    out
}

fn head(report: &Report) -> String {
    let (machine, timing) = (&report.machine, report.timing);
    format!(
        "{} cores of {}, {:.0} GB, Linux {}; js5d {} ({}), {}; {}. Medians of {} interleaved \
         rounds of {} ms; each server on one core, the generator on \
         another.\n\n",
        machine.cores,
        machine.cpu,
        machine.memory_bytes as f64 / 1e9,
        machine.kernel,
        machine.js5d,
        machine.commit,
        machine.rustc,
        machine.date,
        timing.rounds,
        timing.interval_ms,
    )
}

fn line(out: &mut String, title: &str, row: &Row) {
    let median = &row.median;
    let _ = writeln!(
        out,
        "| {title} | {} | {:.0} | {} | {} | {:.0} | {:.0} | {:.0} | {} | {:.0} |",
        row.server,
        median.cpu_ns_a_response,
        row.ours_to_it.map_or_else(String::new, |ratio| ratio_text(Some(ratio))),
        thousands(median.responses_per_s),
        median.bytes_a_cpu_s / 1e6,
        median.p50_us,
        median.p99_us,
        if median.p999_us > 0.0 { format!("{:.0}", median.p999_us) } else { "–".to_owned() },
        median.resident_bytes / 1e6,
    );
}

fn ratio_text(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(
        || "–".to_owned(),
        |Ratio { median, low, high, .. }| format!("{median:.3} ({low:.3} to {high:.3})"),
    )
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_read_in_thousands() {
        for (number, text) in [(7.0, "7"), (999.6, "1,000"), (6_012_345.0, "6,012,345")] {
            assert_eq!(super::thousands(number), text);
        }
    }
}
