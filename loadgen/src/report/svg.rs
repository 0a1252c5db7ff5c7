//! Plots as SVG inside the page: lines, areas, marks, and a tooltip a point. Colours come from
//! the page's style sheet, by class, so that a plot follows the reader's light or dark.

use super::scale::Axis;
use maud::{Markup, html};
use std::fmt::Write;

/// Space around the plot, in the units of the view box, which are pixels at full size.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// Tooltips of a plot; more points share one.
const TOOLTIPS_MAX: usize = 240;

/// The size of a plot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drawn {
    Line,
    /// From the second values up to the first.
    Area,
    Dashed,
    Dots,
}

/// What is drawn in one colour.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// The style sheet's class: `urgent`, `prefetch p99`.
    pub(crate) class: &'static str,
    pub(crate) drawn: Drawn,
    /// x, y, and for an area its lower edge.
    pub(crate) points: Vec<(f64, f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What a screen reader says.
    pub(crate) label: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// x, and what the tooltip there says.
    pub(crate) tooltips: Vec<(f64, String)>,
}

/// From values to places in the view box.
struct Frame<'a> {
    chart: &'a Chart,
    size: Size,
}

impl Frame<'_> {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.chart.x.place(value) * (self.size.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let height = self.size.height - TOP - BOTTOM;
        TOP + (1.0 - self.chart.y.place(value)) * height
    }

    fn bottom(&self) -> f64 {
        self.size.height - BOTTOM
    }

    fn right(&self) -> f64 {
        self.size.width - RIGHT
    }

    /// `M x y L x y ...`.
    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (i, (x, y)) in points.enumerate() {
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(x), self.y(y));
        }
        path
    }

    fn area(&self, points: &[(f64, f64, f64)]) -> String {
        let upper = points.iter().map(|(x, y, _)| (*x, *y));
        let lower = points.iter().rev().map(|(x, _, low)| (*x, *low));
        format!("{}Z", self.path(upper.chain(lower)))
    }
}

/// The plot at a size.
pub(crate) fn draw(chart: &Chart, size: Size) -> Markup {
    let frame = Frame { chart, size };
    let view_box = format!("0 0 {} {}", size.width, size.height);
    html! {
        svg viewBox=(view_box) role="img" aria-label=(chart.label) {
            (grid(&frame))
            @for series in &chart.series { (draw_series(&frame, series)) }
            (tooltips(&frame))
        }
    }
}

fn grid(frame: &Frame<'_>) -> Markup {
    let (bottom, right) = (frame.bottom(), frame.right());
    let x_ticks = spaced(frame, &frame.chart.x.ticks);
    html! {
        @for (value, name) in &frame.chart.y.ticks {
            @let y = format!("{:.1}", frame.y(*value));
            line.grid x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
            text.tick x=(LEFT - 8.0) y=(y) dy="0.32em" text-anchor="end" { (name) }
        }
        @for (value, name) in x_ticks {
            @let x = format!("{:.1}", frame.x(*value));
            line.grid x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
            text.tick x=(x) y=(bottom + 17.0) text-anchor=(anchor(frame, *value)) { (name) }
        }
    }
}

/// Names at the right edge end there instead of being cut off.
fn anchor(frame: &Frame<'_>, value: f64) -> &'static str {
    if frame.x(value) > frame.right() - 16.0 { "end" } else { "middle" }
}

/// Ticks whose names do not touch: on an even axis every second or third of them.
fn spaced<'a>(frame: &Frame<'_>, ticks: &'a [(f64, String)]) -> Vec<&'a (f64, String)> {
    if frame.chart.x.is_even() {
        let every = |n: usize| ticks.iter().step_by(n).collect::<Vec<_>>();
        let fits = |ticks: &[&(f64, String)]| ticks.len() == without_touch(frame, ticks).len();
        return (1..=ticks.len()).map(every).find(|some| fits(some)).unwrap_or_default();
    }
    without_touch(frame, &ticks.iter().collect::<Vec<_>>())
}

/// From the right on, those whose names do not touch the one before.
fn without_touch<'a>(frame: &Frame<'_>, ticks: &[&'a (f64, String)]) -> Vec<&'a (f64, String)> {
    // About the width of a letter at 11 px, and a gap.
    let width = |name: &str| name.chars().count() as f64 * 6.2 + 12.0;
    let mut kept = Vec::new();
    let mut free_to = f64::INFINITY;
    for &tick in ticks.iter().rev() {
        let (x, width) = (frame.x(tick.0), width(&tick.1));
        let (from, to) = match anchor(frame, tick.0) {
            "end" => (x - width, x),
            _ => (x - width / 2.0, x + width / 2.0),
        };
        if to <= free_to {
            kept.push(tick);
            free_to = from;
        }
    }
    kept
}

fn draw_series(frame: &Frame<'_>, series: &Series) -> Markup {
    let class = series.class;
    let line = || frame.path(series.points.iter().map(|(x, y, _)| (*x, *y)));
    // A line through one point cannot be seen.
    let drawn = match series.drawn {
        Drawn::Line if series.points.len() == 1 => Drawn::Dots,
        drawn => drawn,
    };
    html! {
        @match drawn {
            Drawn::Line => { path class={ "line " (class) } d=(line()) {} }
            Drawn::Dashed => { path class={ "line dashed " (class) } d=(line()) {} }
            Drawn::Area => { path class={ "area " (class) } d=(frame.area(&series.points)) {} }
            Drawn::Dots => {
                @for (x, y, _) in &series.points {
                    @let (x, y) = (format!("{:.1}", frame.x(*x)), format!("{:.1}", frame.y(*y)));
                    circle class={ "dot " (class) } cx=(x) cy=(y) r="3" {}
                }
            }
        }
    }
}

/// Bands that show what was measured there when the pointer rests on them.
fn tooltips(frame: &Frame<'_>) -> Markup {
    let all = &frame.chart.tooltips;
    let step = all.len().div_ceil(TOOLTIPS_MAX).max(1);
    let some: Vec<&(f64, String)> = all.iter().step_by(step).collect();
    let place = |i: usize| some.get(i).map(|(x, _)| frame.x(*x));
    html! {
        @for (i, (x, text)) in some.iter().enumerate() {
            @let at = frame.x(*x);
            @let left = i.checked_sub(1).and_then(place).map_or(LEFT, |before| (before + at) / 2.0);
            @let right = place(i + 1).map_or(frame.right(), |after| (after + at) / 2.0);
            g.hit {
                @let width = format!("{:.1}", (right - left).max(0.5));
                @let (left, at) = (format!("{left:.1}"), format!("{at:.1}"));
                rect x=(left) y=(TOP) width=(width) height=(frame.bottom() - TOP) {}
                line x1=(at) x2=(at) y1=(TOP) y2=(frame.bottom()) {}
                title { (text) }
            }
        }
    }
}
