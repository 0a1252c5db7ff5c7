//! What a person sees while it runs: one line that changes on a terminal, plain lines elsewhere.

use crate::stats::Live;
use crate::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Without a terminal a line is printed each second at first, later every so often.
const PLAIN_EARLY: Duration = Duration::from_secs(10);
const PLAIN_LATER: Duration = Duration::from_secs(10);

/// A terminal that cannot go back on a line, and shows no colours.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// The line.
#[derive(Debug)]
pub(crate) struct LiveLine {
    view: View,
    /// What was shown last: when, responses, bytes.
    shown: (Duration, u64, u64),
}

#[derive(Debug)]
enum View {
    Terminal(ProgressBar),
    Plain { next: Duration },
    Nothing,
}

impl LiveLine {
    /// On standard error, so that standard output can be a file of results.
    pub(crate) fn new(is_quiet: bool) -> Self {
        let view = match std::io::stderr().is_terminal() && !is_dumb() {
            _ if is_quiet => View::Nothing,
            true => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{spinner} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                View::Terminal(bar)
            }
            false => View::Plain { next: Duration::from_secs(1) },
        };
        Self { view, shown: (Duration::ZERO, 0, 0) }
    }

    /// Shows what the workers have published. To be called a few times a second; `phase` is as
    /// in `warm-up` or `3 of 10 s`.
    pub(crate) fn update(&mut self, workers: &[Live], elapsed: Duration, phase: &str) {
        match &mut self.view {
            View::Nothing => return,
            View::Plain { next } if elapsed < *next => return,
            View::Plain { next } => {
                let pause =
                    if elapsed < PLAIN_EARLY { Duration::from_secs(1) } else { PLAIN_LATER };
                *next = elapsed + pause;
            }
            View::Terminal(_) => {}
        }
        let sum = |pick: fn(&Live) -> u64| workers.iter().map(pick).sum::<u64>();
        let responses = sum(|live| live.responses.load(Relaxed));
        let bytes = sum(|live| live.bytes.load(Relaxed));
        let (before, responses_before, bytes_before) = self.shown;
        let seconds = elapsed.saturating_sub(before).as_secs_f64().max(1e-3);
        self.shown = (elapsed, responses, bytes);
        let line = Line {
            phase,
            connections: sum(|live| live.connections.load(Relaxed)),
            responses_per_s: responses.saturating_sub(responses_before) as f64 / seconds,
            bytes_per_s: bytes.saturating_sub(bytes_before) as f64 / seconds,
            p99_ns: workers.iter().map(|live| live.p99_ns.load(Relaxed)).max().unwrap_or(0),
            errors: sum(|live| live.errors.load(Relaxed)),
        };
        match &self.view {
            View::Terminal(bar) => {
                bar.set_message(line.text());
                bar.tick();
            }
            // If standard error is closed, the line is lost.
            View::Plain { .. } => drop(writeln!(std::io::stderr(), "{}", line.text())),
            View::Nothing => {}
        }
    }

    /// Removes the line from a terminal.
    pub(crate) fn finish(self) {
        if let View::Terminal(bar) = self.view {
            bar.finish_and_clear();
        }
    }
}

struct Line<'a> {
    phase: &'a str,
    connections: u64,
    responses_per_s: f64,
    bytes_per_s: f64,
    /// The worst worker's: that of all together is at most this.
    p99_ns: u64,
    errors: u64,
}

impl Line<'_> {
    fn text(&self) -> String {
        format!(
            "{:<12} {:>7} connections {:>11} {:>10} {:>14} {:>5} errors",
            self.phase,
            units::count(self.connections),
            units::per_s(self.responses_per_s),
            units::bytes_per_s(self.bytes_per_s),
            // A worker's percentiles come once a second.
            match self.p99_ns {
                0 => "p99 –".to_owned(),
                ns => format!("p99 ≤ {}", units::ns(ns)),
            },
            units::count(self.errors),
        )
    }
}
