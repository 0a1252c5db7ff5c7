//! Which plots a result has, and what is in them.

use super::scale::{self, Axis};
use super::svg::{Chart, Drawn, Series};
use crate::result::RunResult;
use crate::stats::{Interval, Metric, Times};
use crate::units;

/// The spectrum's points to each halving of the distance to 100 %.
const SPECTRUM_TICKS: u32 = 10;

/// A plot with what stands above it.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    pub(crate) title: &'static str,
    /// What to look for.
    pub(crate) about: String,
    pub(crate) shape: Shape,
    pub(crate) chart: Chart,
}

/// How much room a plot is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Half of the page's width.
    Half,
    /// All of it.
    Wide,
    /// All of it, and low.
    Strip,
}

/// All plots of a result.
pub(crate) fn all(result: &RunResult) -> Vec<Card> {
    let intervals = &result.stats.intervals;
    let mut cards = Vec::new();
    if !intervals.is_empty() {
        cards.push(responses(result, intervals));
        cards.push(bytes(result, intervals));
        cards.extend(percentiles(result, intervals));
    }
    cards.extend(spectrum(result));
    if !intervals.is_empty() {
        cards.extend(lag(result, intervals));
        cards.push(cpu(result, intervals));
        cards.push(connections(result, intervals));
    }
    cards
}

fn time_axis(result: &RunResult) -> Axis {
    Axis::time(result.measured_s(), 6)
}

/// The middle of an interval, in seconds.
fn middle_s(interval: &Interval) -> f64 {
    (interval.start_ms as f64 + interval.length_ms as f64 / 2.0) / 1000.0
}

/// The two ends of an interval: what holds for all of it is drawn as a step.
fn ends_s(interval: &Interval) -> [f64; 2] {
    let start = interval.start_ms as f64 / 1000.0;
    [start, start + seconds(interval)]
}

/// A step an interval, between two values of it.
fn stepped(
    intervals: &[Interval],
    low: &dyn Fn(&Interval) -> f64,
    high: &dyn Fn(&Interval) -> f64,
) -> Vec<(f64, f64, f64)> {
    intervals.iter().flat_map(|i| ends_s(i).map(|x| (x, high(i), low(i)))).collect()
}

fn seconds(interval: &Interval) -> f64 {
    interval.length_ms.max(1) as f64 / 1000.0
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

/// `at 4 s: ` and the words.
fn tooltip(interval: &Interval, words: &str) -> (f64, String) {
    let at = units::ms(interval.start_ms);
    (middle_s(interval), format!("at {at}\n{words}"))
}

fn responses(result: &RunResult, intervals: &[Interval]) -> Card {
    let urgent = |i: &Interval| i.responses.urgent as f64 / seconds(i);
    let all = |i: &Interval| i.responses.sum() as f64 / seconds(i);
    let mut top = largest(intervals.iter().map(all));
    let mut series = vec![
        series("urgent", "urgent", Drawn::Area, stepped(intervals, &|_| 0.0, &urgent)),
        series("prefetch", "prefetch", Drawn::Area, stepped(intervals, &urgent, &all)),
    ];
    let offered = result.rates.offered_per_s.filter(|_| !is_ramp(result));
    if let Some(offered) = offered {
        top = top.max(offered);
        let ends = vec![(0.0, offered, 0.0), (result.measured_s(), offered, 0.0)];
        series.push(self::series("offered", "offered", Drawn::Dashed, ends));
    }
    let errors: Vec<_> = intervals.iter().filter(|i| i.errors > 0).collect();
    if !errors.is_empty() {
        let points = errors.iter().map(|i| (middle_s(i), 0.0, 0.0)).collect();
        series.push(self::series("errors", "bad", Drawn::Dots, points));
    }
    let words = |i: &Interval| {
        let errors = if i.errors > 0 { format!("\n{} errors", i.errors) } else { String::new() };
        let (urgent, all) = (urgent(i), all(i));
        let prefetch = units::per_s(all - urgent);
        format!("{} urgent\n{prefetch} prefetch{errors}", units::per_s(urgent))
    };
    Card {
        title: "Responses a second",
        about: "Both classes together. A dent means that the server or the generator paused."
            .to_owned(),
        shape: Shape::Half,
        chart: Chart {
            label: "Responses a second over time".to_owned(),
            x: time_axis(result),
            y: Axis::linear(top * 1.02, scale::short_per_s),
            series: series.into_iter().filter(has_height).collect(),
            tooltips: intervals.iter().map(|i| tooltip(i, &words(i))).collect(),
        },
    }
}

fn is_ramp(result: &RunResult) -> bool {
    result.load.rate.as_ref().is_some_and(|rate| rate.contains(".."))
}

/// Whether an area is more than a line on the ground; other series always count.
fn has_height(series: &Series) -> bool {
    series.drawn != Drawn::Area || series.points.iter().any(|(_, high, low)| high > low)
}

fn series(name: &str, class: &'static str, drawn: Drawn, points: Vec<(f64, f64, f64)>) -> Series {
    Series { name: name.to_owned(), class, drawn, points }
}

fn bytes(result: &RunResult, intervals: &[Interval]) -> Card {
    let rate = |i: &Interval| i.bytes as f64 / seconds(i);
    let points = stepped(intervals, &|_| 0.0, &rate);
    Card {
        title: "Bytes a second",
        about: "Whole responses on the wire, headers and markers included.".to_owned(),
        shape: Shape::Half,
        chart: Chart {
            label: "Bytes a second over time".to_owned(),
            x: time_axis(result),
            y: Axis::linear(largest(intervals.iter().map(rate)) * 1.02, scale::short_bytes),
            series: vec![series("bytes", "plain", Drawn::Area, points)],
            tooltips: intervals.iter().map(|i| tooltip(i, &units::bytes_per_s(rate(i)))).collect(),
        },
    }
}

/// An interval's middle, p50, p99 and maximum in microseconds.
type Spread = (f64, [f64; 3]);

fn spreads(intervals: &[Interval], metric: Metric) -> Vec<Spread> {
    let measured = intervals.iter().filter_map(|i| Some((i, i.times.get(&metric)?.unpack())));
    measured
        .map(|(i, times)| {
            let ns = [times.quantile(0.5), times.quantile(0.99), times.max()];
            (middle_s(i), ns.map(|ns| ns as f64 / 1e3))
        })
        .collect()
}

/// One plot a class, on one scale, so that they compare.
fn percentiles(result: &RunResult, intervals: &[Interval]) -> Vec<Card> {
    let classes = [
        ("Urgent responses over time", "urgent", Metric::UrgentResponse),
        ("Prefetch responses over time", "prefetch", Metric::PrefetchResponse),
    ];
    let found = classes.map(|(title, class, metric)| (title, class, spreads(intervals, metric)));
    let all = || found.iter().flat_map(|(.., spreads)| spreads);
    let low = all().map(|(_, [p50, ..])| *p50).fold(f64::INFINITY, f64::min);
    let high = largest(all().map(|(_, [.., max])| *max));
    let y = Axis::log_us(if low.is_finite() { low } else { 1.0 }, high);
    let present = found.iter().filter(|(.., spreads)| !spreads.is_empty());
    present
        .map(|(title, class, spreads)| {
            let line = |n: usize| spreads.iter().map(|(x, us)| (*x, us[n], 0.0)).collect();
            let names = match *class {
                "urgent" => ["urgent p50", "urgent p99", "urgent max"],
                _ => ["prefetch p50", "prefetch p99", "prefetch max"],
            };
            let words = |us: &[f64; 3]| {
                let [p50, p99, max] = us.map(units::us);
                format!("p50 {p50}\np99 {p99}\nmax {max}")
            };
            Card {
                title,
                about: "From the time at which each was due; both classes have one scale."
                    .to_owned(),
                shape: Shape::Half,
                chart: Chart {
                    label: (*title).to_owned(),
                    x: time_axis(result),
                    y: y.clone(),
                    series: vec![
                        series("max", names[2], Drawn::Line, line(2)),
                        series("p99", names[1], Drawn::Line, line(1)),
                        series("p50", names[0], Drawn::Line, line(0)),
                    ],
                    tooltips: spreads
                        .iter()
                        .map(|(x, us)| (*x, format!("at {}\n{}", units::us(x * 1e6), words(us))))
                        .collect(),
                },
            }
        })
        .collect()
}

/// The points of a spectrum: quantile and microseconds.
fn spectrum_points(times: &Times) -> Vec<(f64, f64, f64)> {
    let steps = times.inner().iter_quantiles(SPECTRUM_TICKS);
    let mut points: Vec<(f64, f64, f64)> =
        steps.map(|step| (step.quantile(), step.value_iterated_to() as f64 / 1e3, 0.0)).collect();
    points.dedup_by(|next, before| next.0 <= before.0);
    points
}

fn spectrum(result: &RunResult) -> Option<Card> {
    let stats = &result.stats;
    let lines = [
        (Metric::UrgentResponse, "urgent", Drawn::Line),
        (Metric::UrgentService, "urgent", Drawn::Dashed),
        (Metric::PrefetchResponse, "prefetch", Drawn::Line),
        (Metric::PrefetchService, "prefetch", Drawn::Dashed),
    ];
    let found: Vec<_> = lines
        .iter()
        .filter_map(|(metric, class, drawn)| Some((*metric, *class, *drawn, stats.times(*metric)?)))
        // Where nothing waited, both clocks are one line.
        .filter(|(.., drawn, _)| *drawn == Drawn::Line || !result.is_closed())
        .collect();
    let count = found.iter().map(|(.., times)| times.count()).max()?;
    // From the first percentile on: one lucky request must not stretch the axis.
    let low = found.iter().map(|(.., times)| times.quantile(0.01)).min()? as f64 / 1e3;
    let high = largest(found.iter().map(|(.., times)| times.max() as f64 / 1e3));
    let x = Axis::nines(count);
    let about = if result.is_closed() {
        "Each step to the right is ten times rarer."
    } else {
        "Each step to the right is ten times rarer. Dashed lines count from when a request was \
         written; where they differ from the solid ones, requests waited to be sent."
    };
    let words = |quantile: f64, name: &str| {
        let each = found.iter().filter(|(.., drawn, _)| *drawn == Drawn::Line);
        each.fold(name.to_owned(), |text, (metric, .., times)| {
            format!("{text}\n{metric} {}", units::ns(times.quantile(quantile)))
        })
    };
    Some(Card {
        title: "Percentile spectrum",
        about: about.to_owned(),
        shape: Shape::Wide,
        chart: Chart {
            label: "Latency by percentile".to_owned(),
            tooltips: x.ticks.iter().map(|(q, name)| (*q, words(*q, name))).collect(),
            x,
            y: Axis::log_us(low, high),
            series: found
                .iter()
                .map(|(metric, class, drawn, times)| {
                    series(metric.name(), class, *drawn, spectrum_points(times))
                })
                .collect(),
        },
    })
}

fn lag(result: &RunResult, intervals: &[Interval]) -> Option<Card> {
    let spreads = spreads(intervals, Metric::Lag);
    let high = largest(spreads.iter().map(|(_, [.., max])| *max));
    let low = spreads.iter().map(|(_, [_, p99, _])| *p99).reduce(f64::min)?;
    let line = |n: usize| spreads.iter().map(|(x, us)| (*x, us[n], 0.0)).collect();
    let words = |us: &[f64; 3]| format!("p99 {}\nmax {}", units::us(us[1]), units::us(us[2]));
    Some(Card {
        title: "Lag of the generator",
        about: "How late it noticed that a request was due. The lag is part of the response times."
            .to_owned(),
        shape: Shape::Half,
        chart: Chart {
            label: "Lag of the generator over time".to_owned(),
            x: time_axis(result),
            y: Axis::log_us(low, high),
            series: vec![
                series("max", "plain max", Drawn::Line, line(2)),
                series("p99", "plain p99", Drawn::Line, line(1)),
            ],
            tooltips: spreads
                .iter()
                .map(|(x, us)| (*x, format!("at {}\n{}", units::us(x * 1e6), words(us))))
                .collect(),
        },
    })
}

fn cpu(result: &RunResult, intervals: &[Interval]) -> Card {
    let share = |ns: u64, i: &Interval| ns as f64 / (seconds(i) * 1e9);
    let workers = f64::from(result.stats.workers.max(1));
    let busiest = |i: &Interval| share(i.cpu_max_ns, i);
    let waiting = |i: &Interval| share(i.run_queue_ns, i) / workers;
    let words = |i: &Interval| {
        let (busiest, waiting) = (units::percent(busiest(i)), units::percent(waiting(i)));
        format!("busiest worker {busiest}\nwaiting for a core {waiting}")
    };
    Card {
        title: "CPU of the generator",
        about:
            "Near 100 % the generator is the limit. A wait for a core means that other programs \
                used it."
                .to_owned(),
        shape: Shape::Half,
        chart: Chart {
            label: "CPU of the generator over time".to_owned(),
            x: time_axis(result),
            y: Axis::linear(1.0, scale::percent),
            series: vec![
                series(
                    "busiest worker",
                    "plain p99",
                    Drawn::Line,
                    stepped(intervals, &busiest, &busiest),
                ),
                series(
                    "waiting for a core",
                    "bad",
                    Drawn::Line,
                    stepped(intervals, &waiting, &waiting),
                ),
            ],
            tooltips: intervals.iter().map(|i| tooltip(i, &words(i))).collect(),
        },
    }
}

fn connections(result: &RunResult, intervals: &[Interval]) -> Card {
    let points = stepped(intervals, &|_| 0.0, &|i| i.connections as f64);
    let top = largest(intervals.iter().map(|i| i.connections as f64));
    let words = |i: &Interval| {
        let (up, new) = (units::count(i.connections), units::count(i.connects));
        format!("{up} open\n{new} opened in this interval")
    };
    Card {
        title: "Connections",
        about: "Open at the end of each interval.".to_owned(),
        shape: if result.stats.times(Metric::Lag).is_some() { Shape::Strip } else { Shape::Half },
        chart: Chart {
            label: "Connections over time".to_owned(),
            x: time_axis(result),
            y: Axis::linear((top * 1.02).max(4.0), scale::short_per_s),
            series: vec![series("connections", "plain", Drawn::Area, points)],
            tooltips: intervals.iter().map(|i| tooltip(i, &words(i))).collect(),
        },
    }
}
