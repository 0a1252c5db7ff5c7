//! How far loading is: a bar on a terminal, a line each 10 % elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Shown while a cache is read.
pub(super) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere: the tenths that have been said, and how to say another.
    Lines(u64, fn(percent: u64)),
}

impl Progress {
    pub(super) fn new(say: fn(percent: u64)) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(0, say);
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = "loading {bar:40} {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// `done` of `total` bytes have been read.
    pub(super) fn show(&mut self, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines(said, say) => {
                let tenths = (done * 10).checked_div(total).unwrap_or(10);
                if tenths > *said {
                    *said = tenths;
                    say(tenths * 10);
                }
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
