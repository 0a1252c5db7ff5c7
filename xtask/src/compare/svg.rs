//! The plot: a group of bars a workload, as long as the median of the rounds' ratios of CPU
//! time a response to the ceiling's. No scripts, no references, its own background: it looks the
//! same everywhere.

use super::report::{OURS, Report, WorkloadReport};
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
/// Where the bars begin, and how far the longest may reach: its label stands behind it.
const LEFT: f64 = 230.0;
const BARS: f64 = 500.0;
const BAR: f64 = 15.0;
const GROUP_GAP: f64 = 14.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 34.0;

/// Longer bars are cut off, and their labels say how long they were.
const RATIO_MAX: f64 = 4.0;

/// js5d first, then the others in their order; colours that the colour-blind tell apart.
const COLOURS: [&str; 6] = ["#0072b2", "#9aa5ad", "#e69f00", "#cc79a7", "#009e73", "#56b4e9"];

/// The plot of a report.
pub(crate) fn plot(report: &Report) -> String {
    let ratio_max = ratio_max(report);
    let scale = BARS / ratio_max;
    let mut body = String::new();
    let mut y = TOP;
    for workload in &report.workloads {
        y = group(&mut body, report, workload, (y, scale, ratio_max));
    }
    let height = y + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\" fill=\"#1c2329\">\n\
         <title>Server CPU time a response, js5d and others</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"600\">Server CPU time a response, \
         against the bare ring (shorter is better)</text>\n"
    );
    legend(&mut out, report);
    axis(&mut out, ratio_max, scale, y);
    out.push_str(&body);
    let machine = &report.machine;
    text(
        &mut out,
        (20.0, height - 12.0, "start", "#5b666e"),
        &format!(
            "{} cores of {}, Linux {}, js5d {}, {}; medians of {} rounds{}",
            machine.cores,
            machine.cpu,
            machine.kernel,
            machine.js5d,
            machine.date,
            report.timing.rounds,
            if report.is_disturbed() { "; NOT AN IDLE MACHINE" } else { "" },
        ),
    );
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, report: &Report) {
    let mut x = 20.0;
    for (number, server) in report.servers.iter().enumerate() {
        let colour = colour(number);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"42\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        text(out, (x + 18.0, 52.5, "start", "#1c2329"), server);
        x += 46.0 + 7.0 * server.chars().count() as f64;
    }
}

/// Lines at each half.
fn axis(out: &mut String, ratio_max: f64, scale: f64, bottom: f64) {
    for half in 0..=(ratio_max * 2.0) as u32 {
        let ratio = f64::from(half) / 2.0;
        let x = LEFT + ratio * scale;
        let (top, colour) = (TOP - 8.0, if half == 2 { "#5b666e" } else { "#dde2e6" });
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" \
             stroke=\"{colour}\"/>"
        );
        text(out, (x, TOP - 12.0, "middle", "#5b666e"), &format!("{ratio}"));
    }
}

/// The bars of a workload. Comes back with where the next group begins.
fn group(
    out: &mut String,
    report: &Report,
    workload: &WorkloadReport,
    (mut y, scale, ratio_max): (f64, f64, f64),
) -> f64 {
    let middle = y + BAR * workload.rows.len() as f64 / 2.0 + 4.0;
    text(out, (LEFT - 12.0, middle, "end", "#1c2329"), workload.title);
    for row in &workload.rows {
        let number = report.servers.iter().position(|name| *name == row.server).unwrap_or(0);
        let Some(ratio) = row.to_ceiling else { continue };
        let (width, height) = (ratio.min(ratio_max) * scale, BAR - 2.0);
        let colour = colour(number);
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" \
             fill=\"{colour}\"/>"
        );
        let cut = if ratio > ratio_max { " →" } else { "" };
        let weight = if row.server == OURS { "#0072b2" } else { "#5b666e" };
        let label = format!("{:.0} ns, {ratio:.2}{cut}", row.median.cpu_ns_a_response);
        text(out, (LEFT + width + 6.0, y + 10.5, "start", weight), &label);
        y += BAR;
    }
    y + GROUP_GAP
}

/// The longest bar, rounded up to a half.
fn ratio_max(report: &Report) -> f64 {
    let rows = report.workloads.iter().flat_map(|workload| &workload.rows);
    let ratios = rows.filter_map(|row| row.to_ceiling);
    let longest = ratios.fold(1.0, f64::max);
    ((longest * 2.0).ceil() / 2.0).min(RATIO_MAX)
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn text(out: &mut String, (x, y, anchor, fill): (f64, f64, &str, &str), words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{words}</text>"
    );
}
