//! The summary that ends a run on a terminal.

use crate::comparison::{Comparison, Pair, Ratio, Row, RowUnit};
use crate::failure::Exit;
use crate::judgement::Judged;
use crate::result::{Found, RunResult};
use crate::stats::{Metric, Outcome, Stats, Times};
use crate::units;
use crate::verdict::Limit;
use std::fmt::{self, Write};

/// Bars of the rate over time.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const SPARKS_MAX: usize = 60;

/// How words stand out; nothing on what is no terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether escape sequences are understood.
    pub(crate) has_color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.has_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// The summary of a result.
pub(crate) fn summary(judged: &Judged, style: Style) -> String {
    let mut out = String::new();
    // A String takes everything that is written to it.
    let written = write_summary(&mut out, judged, style);
    written.expect("memory takes all text");
    out
}

fn write_summary(out: &mut String, judged: &Judged, style: Style) -> fmt::Result {
    let result = &judged.result;
    writeln!(out, "\n{}", style.bold(&headline(result)))?;
    writeln!(out)?;
    write_times(out, &result.stats, style)?;
    writeln!(out)?;
    write_numbers(out, judged, style)?;
    if let Some(comparison) = &result.comparison {
        write_comparison(out, comparison, style)?;
    }
    if !result.steps.is_empty() {
        write_steps(out, result, style)?;
    }
    write_wrongs(out, &result.stats, style)?;
    write_judgement(out, judged, style)
}

/// What was done: `download of 127.0.0.1:43594 by 64 clients in a closed loop for 10 s, seed 1`.
pub(crate) fn headline(result: &RunResult) -> String {
    let load = &result.load;
    let loops = match &load.rate {
        Some(rate) => format!("at {}", rate.parse().map_or(format!("{rate}/s"), units::per_s)),
        None => "in a closed loop".to_owned(),
    };
    let clients = match load.connections {
        1 => "1 client".to_owned(),
        n => format!("{} clients", units::count(n)),
    };
    let time = units::duration_ms(result.measured_ms);
    format!(
        "{} of {} by {clients} {loops} for {time}, seed {}",
        load.scenario, load.target, load.seed
    )
}

/// A row of times.
pub(crate) struct TimesRow<'a> {
    pub(crate) name: &'static str,
    pub(crate) times: &'a Times,
}

/// The rows that say something. In a closed loop nothing waits and the three clocks are one.
pub(crate) fn times_rows(stats: &Stats) -> Vec<TimesRow<'_>> {
    let mut rows = Vec::new();
    for metric in Metric::ALL {
        let Some(times) = stats.times(metric) else { continue };
        let wait = match metric {
            Metric::UrgentResponse | Metric::UrgentService | Metric::UrgentWait => {
                stats.times(Metric::UrgentWait)
            }
            Metric::PrefetchResponse | Metric::PrefetchService | Metric::PrefetchWait => {
                stats.times(Metric::PrefetchWait)
            }
            _ => None,
        };
        // 0 is recorded as less than the finest step.
        let is_one_clock = wait.is_some_and(|wait| wait.max() < 1000);
        let name = match metric {
            Metric::UrgentResponse if is_one_clock => "urgent",
            Metric::PrefetchResponse if is_one_clock => "prefetch",
            _ if is_one_clock => continue,
            _ => metric.name(),
        };
        rows.push(TimesRow { name, times });
    }
    rows
}

fn write_times(out: &mut String, stats: &Stats, style: Style) -> fmt::Result {
    let head = ["", "count", "p50", "p90", "p99", "p99.9", "max"];
    let [name, count, rest @ ..] = head;
    let head = rest.iter().fold(format!("{name:<20}{count:>13}"), |mut row, cell| {
        let _ = write!(row, "{cell:>10}");
        row
    });
    writeln!(out, "{}", style.faint(&head))?;
    for row in times_rows(stats) {
        let times = row.times;
        write!(out, "{:<20}{:>13}", row.name, units::count(times.count()))?;
        let p999 = times.p999().map_or_else(|| "–".to_owned(), units::ns);
        let quantile = |quantile| units::ns(times.quantile(quantile));
        for cell in [quantile(0.5), quantile(0.9), quantile(0.99), p999, units::ns(times.max())] {
            write!(out, "{cell:>10}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A line of words behind a name.
fn line(out: &mut String, style: Style, name: &str, words: &str) -> fmt::Result {
    writeln!(out, "{} {words}", style.faint(&format!("{name:<12}")))
}

fn write_numbers(out: &mut String, judged: &Judged, style: Style) -> fmt::Result {
    let result = &judged.result;
    let (stats, rates) = (&result.stats, &result.rates);
    let mut words = format!(
        "{} in {}: {}, {}",
        units::count(stats.responses.sum()),
        units::duration_ms(result.measured_ms),
        style.bold(&units::per_s(rates.responses_per_s)),
        style.bold(&units::bytes_per_s(rates.bytes_per_s)),
    );
    if let Some(offered) = rates.offered_per_s {
        let _ = write!(words, "; offered {}", units::per_s(offered));
    }
    line(out, style, "responses", &words)?;
    let sparks = sparkline(stats);
    if !sparks.is_empty() {
        line(out, style, "over time", &sparks)?;
    }
    line(out, style, "connections", &outcomes(stats))?;
    let in_flight = stats.in_flight_at_end;
    if in_flight.sum() > 0 {
        let words = format!(
            "{} urgent, {} prefetch; counted with the time that they had waited",
            units::count(in_flight.urgent),
            units::count(in_flight.prefetch)
        );
        line(out, style, "unanswered", &words)?;
    }
    line(out, style, "checked", &checked(result))?;
    line(out, style, "generator", &generator(judged))?;
    line(out, style, "kernel", &kernel(result))
}

/// Responses of each interval as bars.
fn sparkline(stats: &Stats) -> String {
    let whole: Vec<f64> = stats
        .intervals
        .iter()
        .map(|i| i.responses.sum() as f64 / i.length_ms.max(1) as f64)
        .collect();
    let per_spark = whole.len().div_ceil(SPARKS_MAX).max(1);
    let rates: Vec<f64> =
        whole.chunks(per_spark).map(|part| part.iter().sum::<f64>() / part.len() as f64).collect();
    let max = rates.iter().copied().fold(0.0, f64::max);
    if rates.len() < 2 || max <= 0.0 {
        return String::new();
    }
    rates.iter().map(|rate| SPARKS[((rate / max * 7.0).round() as usize).min(7)]).collect()
}

/// How connections fared, errors last.
pub(crate) fn outcomes(stats: &Stats) -> String {
    let mut words = vec![format!("{} open at most", units::count(stats.connections_max))];
    let (errors, others): (Vec<_>, Vec<_>) =
        stats.outcomes.iter().partition(|(outcome, _)| Outcome::is_error(**outcome));
    words.extend(others.iter().chain(&errors).map(|(o, n)| format!("{} {o}", units::count(**n))));
    words.join(", ")
}

/// How much of the bytes was checked.
pub(crate) fn checked(result: &RunResult) -> String {
    let stats = &result.stats;
    let mut words = vec!["framing of all".to_owned()];
    if stats.crc_checked > 0 {
        words.push(format!("checksums of {}", units::count(stats.crc_checked)));
    }
    if stats.bytes_checked > 0 {
        words.push(format!("every byte of {}", units::count(stats.bytes_checked)));
    }
    words.join(", ")
}

/// How the generator fared.
pub(crate) fn generator(judged: &Judged) -> String {
    let (result, evidence) = (&judged.result, &judged.verdict.evidence);
    let workers = match result.stats.workers {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers, the busiest"),
    };
    let lag = result.stats.times(Metric::Lag).map(|lag| units::ns(lag.quantile(0.99)));
    let mut words = format!(
        "{workers} used {} of a core, waited for a core {} of the time",
        units::percent(evidence.cpu_share_max),
        units::percent(evidence.run_queue_share_max),
    );
    if let Some(lag) = lag {
        let _ = write!(words, ", lag p99 {lag}");
    }
    if result.stats.paused_ns > 0 {
        let paused = units::ns(result.stats.paused_ns);
        let _ = write!(words, ", stood still for {paused}");
    }
    words
}

/// What the kernels counted.
pub(crate) fn kernel(result: &RunResult) -> String {
    let sum = |pick: fn(&crate::machine::KernelCounters) -> u64| {
        units::count(result.environments.iter().map(|e| pick(&e.counters)).sum())
    };
    format!(
        "{} listen drops, {} retransmits",
        sum(|counters| counters.listen_drops),
        sum(|counters| counters.retransmits)
    )
}

/// A value of a comparison's row.
pub(crate) fn row_value(unit: RowUnit, value: f64) -> String {
    match unit {
        RowUnit::Us => units::us(value),
        RowUnit::PerS => units::per_s(value),
        RowUnit::BytesPerS => units::bytes_per_s(value),
        RowUnit::CpuNs => units::us(value / 1e3),
    }
}

/// The ratio of a comparison's row.
pub(crate) fn ratio_text(row: &Row) -> String {
    row.ratio.map_or_else(|| "–".to_owned(), Ratio::text)
}

/// The heads of the columns of a pair.
pub(crate) fn heads(pair: &Pair) -> [String; 2] {
    [("A", &pair.a), ("B", &pair.b)].map(|(letter, name)| format!("{letter}  {name}"))
}

fn write_comparison(out: &mut String, comparison: &Comparison, style: Style) -> fmt::Result {
    for pair in &comparison.pairs {
        let [a, b] = heads(pair);
        writeln!(out, "\n{a}\n{b}\n")?;
        let head =
            format!("{:<24}{:>12}{:>12}   B/A, 99 % interval", "median of intervals", "A", "B");
        writeln!(out, "{}", style.faint(&head))?;
        for row in &pair.rows {
            let (a, b) = (row_value(row.unit, row.a), row_value(row.unit, row.b));
            let ratio = ratio_text(row);
            writeln!(out, "{:<24}{a:>12}{b:>12}   {ratio}", row.name)?;
        }
        writeln!(out)?;
        for conclusion in comparison.conclusions(pair) {
            writeln!(out, "{conclusion}")?;
        }
    }
    for side in &comparison.sides {
        for failure in &side.failures {
            writeln!(out, "{} {}: {failure}", style.bad("an interval failed"), side.name)?;
        }
    }
    Ok(())
}

fn write_steps(out: &mut String, result: &RunResult, style: Style) -> fmt::Result {
    let head = format!("\n{:>12}{:>12}{:>12}   ", "offered", "achieved", "p99");
    writeln!(out, "{}", style.faint(&head))?;
    for step in &result.steps {
        let (offered, achieved) =
            (units::per_s(step.offered_per_s), units::per_s(step.achieved_per_s));
        let p99 = units::us(step.p99_us);
        let verdict = if step.holds { style.good("holds") } else { style.bad(&step.why) };
        writeln!(out, "{offered:>12}{achieved:>12}{p99:>12}   {verdict}")?;
    }
    if let Some(found) = &result.found {
        writeln!(out, "\n{}", style.bold(&found_text(found)))?;
    }
    Ok(())
}

/// `the highest rate that holds: 8,100/s; what the server carries is between 8,050/s and 8,400/s`.
pub(crate) fn found_text(found: &Found) -> String {
    let Found { rate_per_s, low_per_s, high_per_s } = *found;
    let (rate, low) = (units::per_s(rate_per_s), units::per_s(low_per_s));
    match high_per_s.map(units::per_s) {
        Some(high) => format!(
            "the highest rate that holds: {rate}; what the server carries is between {low} and \
             {high}"
        ),
        None => format!("the highest rate that holds: {rate} or more"),
    }
}

fn write_wrongs(out: &mut String, stats: &Stats, style: Style) -> fmt::Result {
    for (kind, count) in &stats.faults {
        let words = format!("{kind}: {}", units::count(*count));
        writeln!(out, "{} {words}", style.bad(&format!("{:<12}", "wrong")))?;
    }
    for fault in &stats.fault_details {
        let at = f64::from(i32::try_from(fault.at_ms).unwrap_or(i32::MAX)) / 1e3;
        writeln!(out, "  at {at:.3} s, connection {}: {}", fault.connection, fault.what)?;
    }
    if stats.stalls > 0 {
        let words = format!("connections: {}", units::count(stats.stalls));
        writeln!(out, "{} {words}", style.bad(&format!("{:<12}", "stalled")))?;
    }
    for stall in &stats.stall_details {
        let since = f64::from(i32::try_from(stall.since_ms).unwrap_or(i32::MAX)) / 1e3;
        writeln!(
            out,
            "  connection {}: nothing since {since:.3} s ({}), after {}; outstanding: {}",
            stall.connection,
            units::ms(stall.lasted_ms),
            units::bytes(stall.bytes as f64),
            stall.outstanding
        )?;
    }
    Ok(())
}

fn write_judgement(out: &mut String, judged: &Judged, style: Style) -> fmt::Result {
    if !judged.asserts.is_empty() {
        writeln!(out)?;
    }
    let widest = judged.asserts.iter().map(|judged| judged.condition.chars().count()).max();
    let width = widest.unwrap_or(0);
    for judged in &judged.asserts {
        let word = if judged.holds { style.good("held  ") } else { style.bad("missed") };
        writeln!(out, "{word} {:<width$}  measured {}", judged.condition, judged.measured)?;
    }
    writeln!(out)?;
    let verdict = &judged.verdict;
    let limit = match verdict.limit {
        Limit::Valid | Limit::RateLimited => style.good(verdict.limit.name()),
        _ => style.bad(verdict.limit.name()),
    };
    writeln!(out, "{limit}: {}", verdict.reason)?;
    for note in &verdict.notes {
        writeln!(out, "note: {note}")?;
    }
    let exit = judged.exit;
    if exit != Exit::Good {
        writeln!(out, "{}", style.bad(&format!("exit code {}: {}", exit.code(), exit.meaning())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_summary_is_aligned_and_says_what_was_measured() {
        let text = summary(&sample::judged(), Style { has_color: false });
        println!("{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.contains(".response")).collect();
        assert_eq!(rows.len(), 4, "two classes in the table, two assertions: {text}");
        let widths: Vec<usize> = text
            .lines()
            .skip_while(|line| !line.contains("p99.9"))
            .take_while(|line| !line.is_empty())
            .map(|line| line.chars().count())
            .collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{widths:?} in {text}");
        assert!(text.contains("rate-limited: the offered rate was held"), "{text}");
    }
}
