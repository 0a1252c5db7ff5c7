//! The progress of loading, shown once it takes some time: a bar on a terminal, a line a second
//! elsewhere.

use super::text::is_drawable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Nothing is said before this has passed: most caches are read in less.
const QUIET: Duration = Duration::from_secs(1);

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Shown while a cache is read.
pub(super) struct Progress {
    view: View,
    /// When something may be said.
    next: Instant,
}

enum View {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere: how to say it.
    Lines(fn(percent: u64)),
}

impl Progress {
    pub(super) fn new(say: fn(percent: u64)) -> Self {
        let view = if is_drawable() { View::Bar(bar()) } else { View::Lines(say) };
        Self { view, next: Instant::now() + QUIET }
    }

    /// `done` of `total` bytes have been read.
    pub(super) fn show(&mut self, done: u64, total: u64) {
        let moment = Instant::now();
        if moment < self.next {
            return;
        }
        match &self.view {
            View::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            View::Lines(say) => {
                self.next = moment + PAUSE;
                say((done * 100).checked_div(total).unwrap_or(100));
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let View::Bar(bar) = self.view {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
    // It fits into 80 columns: a longer line would be broken, and drawn anew below itself.
    let style = "loading {bar:30} {decimal_bytes} of {decimal_total_bytes}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}
