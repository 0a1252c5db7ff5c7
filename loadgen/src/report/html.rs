//! The result as one page that needs nothing else: style and plots are inside, no script, no
//! address of any other file. Text from the outside (hosts, faults) is escaped by the template.

use super::charts::{self, Card, Shape};
use super::svg::{self, Drawn, Series, Size};
use super::table;
use crate::comparison::{Comparison, Pair};
use crate::failure::Exit;
use crate::judgement::Judged;
use crate::machine::Environment;
use crate::result::RunResult;
use crate::stats::Metric;
use crate::units;
use crate::verdict::Limit;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// Over the whole width, in half of it, and on a phone: drawn for each, since scaling one
/// drawing would scale its letters.
const WIDE: Size = Size { width: 1000.0, height: 320.0 };
const HALF: Size = Size { width: 490.0, height: 230.0 };
const STRIP: Size = Size { width: 1000.0, height: 170.0 };
const PHONE: Size = Size { width: 340.0, height: 220.0 };

/// The page.
pub(crate) fn page(judged: &Judged) -> String {
    let result = &judged.result;
    let title = table::headline(result);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "js5-loadgen: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.faint { (subtitle(result)) }
                (verdict(judged))
                (numbers(result))
                @if !judged.asserts.is_empty() { (assertions(judged)) }
                @if let Some(comparison) = &result.comparison { (compared(comparison)) }
                @if !result.steps.is_empty() { (steps(result)) }
                (wrongs(result))
                h2 { "Over time, and by percentile" }
                .plots { @for card in charts::all(result) { (plot(&card)) } }
                h2 { "Latency" }
                (latency(result))
                h2 { "Where and how" }
                (environment(judged))
                footer { "js5-loadgen, schema " (result.schema) }
            }
        }
    };
    markup.into_string()
}

fn subtitle(result: &RunResult) -> String {
    let mut words = vec![units::date(result.started_unix_ms)];
    if result.warmup_ms > 0 {
        words.push(format!("after {} of warm-up", units::duration_ms(result.warmup_ms)));
    }
    if result.parts > 1 {
        words.push(format!("the sum of {} parts", result.parts));
    }
    words.join(", ")
}

fn verdict(judged: &Judged) -> Markup {
    let (exit, verdict) = (judged.exit, &judged.verdict);
    let is_bad = exit != Exit::Good || !matches!(verdict.limit, Limit::Valid | Limit::RateLimited);
    let class = if is_bad { "verdict bad" } else { "verdict" };
    html! {
        section class=(class) {
            @if exit == Exit::Good {
                h3 { (capital(verdict.limit.name())) }
                p { (capital(&verdict.reason)) "." }
            } @else {
                h3 { "Exit code " (exit.code()) ": " (exit.meaning()) }
                p { (capital(verdict.limit.name())) ": " (verdict.reason) "." }
            }
            @if !verdict.notes.is_empty() {
                ul { @for note in &verdict.notes { li { (capital(note)) "." } } }
            }
        }
    }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn numbers(result: &RunResult) -> Markup {
    let (stats, rates) = (&result.stats, &result.rates);
    let p99 = |metric| {
        let times = stats.times(metric);
        times.map(|times| (units::ns(times.quantile(0.5)), units::ns(times.quantile(0.99))))
    };
    let beside_rate = match rates.offered_per_s {
        Some(offered) => format!("{} offered", units::per_s(offered)),
        None => format!("{} in all", units::count(stats.responses.sum())),
    };
    let errors = stats.errors_sum();
    html! {
        .numbers {
            (number("responses", &units::per_s(rates.responses_per_s), &beside_rate))
            (number("throughput", &units::bytes_per_s(rates.bytes_per_s),
                &format!("{} in all", units::bytes(stats.bytes as f64))))
            @if let Some((p50, p99)) = p99(Metric::UrgentResponse) {
                (number("urgent p99", &p99, &format!("p50 {p50}")))
            }
            @if let Some((p50, p99)) = p99(Metric::PrefetchResponse) {
                (number("prefetch p99", &p99, &format!("p50 {p50}")))
            }
            (number("connections", &units::count(stats.connections_max), "most at once"))
            (number("errors", &units::count(errors), &wrong_answers(stats.faults_sum())))
        }
    }
}

fn wrong_answers(faults: u64) -> String {
    match faults {
        0 => "no wrong answers".to_owned(),
        n => format!("{} of them wrong answers", units::count(n)),
    }
}

fn number(name: &str, value: &str, about: &str) -> Markup {
    html! { .card { span.faint { (name) } b { (value) } span.faint { (about) } } }
}

fn assertions(judged: &Judged) -> Markup {
    html! {
        h2 { "Assertions" }
        .card.scroll {
            table {
                tr { th { "condition" } th { "measured" } th { "" } }
                @for judged in &judged.asserts {
                    tr {
                        td { code { (judged.condition) } }
                        td { (judged.measured) }
                        @if judged.holds { td.good { "held" } } @else { td.bad { "missed" } }
                    }
                }
            }
        }
    }
}

fn compared(comparison: &Comparison) -> Markup {
    html! {
        h2 { "Comparison" }
        @for pair in &comparison.pairs { (pair_table(comparison, pair)) }
        @for side in comparison.sides.iter().filter(|side| !side.failures.is_empty()) {
            p.bad { (side.name) ": " (side.failures.join("; ")) }
        }
    }
}

fn pair_table(comparison: &Comparison, pair: &Pair) -> Markup {
    html! {
        .card {
            @for head in table::heads(pair) { p { b { (head) } } }
            .scroll {
                table {
                    tr {
                        @for head in ["median of intervals", "A", "B", "B/A, 99 % interval"] {
                            th { (head) }
                        }
                    }
                    @for row in &pair.rows {
                        tr {
                            td { (row.name) }
                            td { (table::row_value(row.unit, row.a)) }
                            td { (table::row_value(row.unit, row.b)) }
                            td { (table::ratio_text(row)) }
                        }
                    }
                }
            }
            @for conclusion in comparison.conclusions(pair) { p { (conclusion) } }
        }
    }
}

fn steps(result: &RunResult) -> Markup {
    html! {
        h2 { "Steps to the highest rate" }
        .card {
            @if let Some(found) = &result.found {
                p { b { (capital(&table::found_text(found))) "." } }
            } @else {
                p.bad { "No rate that was tried holds." }
            }
            .scroll {
                table {
                    tr { th { "offered" } th { "achieved" } th { "p99" } th.words { "" } }
                    @for step in &result.steps {
                        tr {
                            td { (units::per_s(step.offered_per_s)) }
                            td { (units::per_s(step.achieved_per_s)) }
                            td { (units::us(step.p99_us)) }
                            @if step.holds { td.words.good { "holds" } }
                            @else { td.words.bad { (step.why) } }
                        }
                    }
                }
            }
        }
    }
}

/// Faults and stalls, if there are any.
fn wrongs(result: &RunResult) -> Markup {
    let stats = &result.stats;
    let seconds = |ms: i64| format!("{:.3} s", ms as f64 / 1000.0);
    html! {
        @if !stats.faults.is_empty() {
            h2.bad { "Wrong answers" }
            .card.scroll {
                p {
                    @for (kind, count) in &stats.faults {
                        (capital(&kind.to_string())) ": " (units::count(*count)) ". "
                    }
                }
                table {
                    tr { th { "at" } th { "connection" } th.words { "what" } }
                    @for fault in &stats.fault_details {
                        tr {
                            td { (seconds(fault.at_ms)) }
                            td { (fault.connection) }
                            td.words { (fault.what) }
                        }
                    }
                }
            }
        }
        @if stats.stalls > 0 {
            h2.bad { "Stalled connections: " (units::count(stats.stalls)) }
            .card.scroll {
                table {
                    tr {
                        th { "connection" } th { "nothing since" } th { "for" } th { "after" }
                        th.words { "outstanding" }
                    }
                    @for stall in &stats.stall_details {
                        tr {
                            td { (stall.connection) }
                            td { (seconds(stall.since_ms)) }
                            td { (units::ms(stall.lasted_ms)) }
                            td { (units::bytes(stall.bytes as f64)) }
                            td.words { (stall.outstanding) }
                        }
                    }
                }
            }
        }
    }
}

fn plot(card: &Card) -> Markup {
    let size = match card.shape {
        Shape::Half => HALF,
        Shape::Wide => WIDE,
        Shape::Strip => STRIP,
    };
    html! {
        section class={ "card" @if card.shape != Shape::Half { " wide" } } {
            h3 { (card.title) }
            p.faint { (card.about) }
            @if card.chart.series.len() > 1 { (legend(&card.chart.series)) }
            .plot.wide-only { (svg::draw(&card.chart, size)) }
            .plot.narrow-only { (svg::draw(&card.chart, PHONE)) }
        }
    }
}

fn legend(series: &[Series]) -> Markup {
    html! {
        ul.legend {
            @for series in series {
                @let drawn = match series.drawn {
                    Drawn::Line => "",
                    Drawn::Area => "area",
                    Drawn::Dashed => "dashed",
                    Drawn::Dots => "dot",
                };
                li class={ (series.class) " " (drawn) } { i {} span { (series.name) } }
            }
        }
    }
}

fn latency(result: &RunResult) -> Markup {
    html! {
        .card.scroll {
            table {
                tr {
                    @for head in ["", "count", "p50", "p90", "p99", "p99.9", "max", "mean"] {
                        th { (head) }
                    }
                }
                @for row in table::times_rows(&result.stats) {
                    @let times = row.times;
                    tr {
                        td { (row.name) }
                        td { (units::count(times.count())) }
                        @for quantile in [0.5, 0.9, 0.99] {
                            td { (units::ns(times.quantile(quantile))) }
                        }
                        td { (times.p999().map_or_else(|| "–".to_owned(), units::ns)) }
                        td { (units::ns(times.max())) }
                        td { (units::ns(times.mean() as u64)) }
                    }
                }
            }
        }
    }
}

fn environment(judged: &Judged) -> Markup {
    let result = &judged.result;
    let load = &result.load;
    html! {
        .card {
            dl {
                (entry("windows", &format!("{} urgent, {} prefetch a client",
                    load.urgent_window, load.prefetch_window)))
                (entry("seed", &load.seed.to_string()))
                (entry("client", &format!("{}, build {}", load.client, load.build)))
                @for (name, value) in &load.options { (entry(name, value)) }
                (entry("checked", &table::checked(result)))
                (entry("connections", &table::outcomes(&result.stats)))
                (entry("generator", &table::generator(judged)))
                @for environment in &result.environments { (machine(environment)) }
            }
        }
    }
}

fn machine(environment: &Environment) -> Markup {
    let counters = &environment.counters;
    let cores = format!(
        "{}, {} of {} cores, {}",
        environment.cpu,
        environment.cores_allowed,
        environment.cores,
        units::bytes(environment.memory_bytes as f64)
    );
    let kernel = format!(
        "Linux {}: {} listen drops, {} retransmits",
        environment.kernel,
        units::count(counters.listen_drops),
        units::count(counters.retransmits)
    );
    html! {
        dt { "machine" } dd { b { (environment.host) } }
        (entry("processor", &cores))
        (entry("kernel", &kernel))
        (entry("version", &environment.version))
        dt { "command" } dd { code { (environment.command.join(" ")) } }
    }
}

fn entry(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
