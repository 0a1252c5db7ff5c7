//! How far a mirror is: groups, bytes, rate and time left; a line that is drawn anew on a
//! terminal, and a line each ten seconds elsewhere.

use crate::command::text::{is_drawable, megabytes, thousands};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Between two lines.
const PAUSE_DRAWN: Duration = Duration::from_millis(200);
const PAUSE_LINES: Duration = Duration::from_secs(10);

pub(super) struct Show {
    is_drawn: bool,
    /// Whether a line stands there that is to be drawn over.
    has_line: bool,
    started: Instant,
    next: Instant,
    /// Groups that were there before.
    there: u64,
    came: u64,
    total: u64,
    bytes: u64,
}

impl Show {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let is_drawn = is_drawable();
        Self {
            is_drawn,
            has_line: false,
            started: now,
            next: now,
            there: 0,
            came: 0,
            total: 0,
            bytes: 0,
        }
    }

    /// `there` of `total` groups need not be fetched.
    pub(super) fn begin(&mut self, there: u64, total: u64) {
        (self.there, self.came, self.total, self.bytes) = (there, 0, total, 0);
        self.started = Instant::now();
        self.next = self.started + if self.is_drawn { PAUSE_DRAWN } else { PAUSE_LINES };
        if there > 0 {
            let (there, total) = (thousands(there), thousands(total));
            self.say(&format!("{there} of {total} groups are there already"));
        }
    }

    /// A group of this many bytes was received.
    pub(super) fn one(&mut self, bytes: usize) {
        self.came += 1;
        self.bytes += bytes as u64;
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.is_drawn { PAUSE_DRAWN } else { PAUSE_LINES };
        let line = self.line(now.duration_since(self.started));
        if self.is_drawn {
            // Over the line before, whose end is cleared.
            eprint!("\r{line}\x1b[K");
            drop(std::io::stderr().flush());
            self.has_line = true;
        } else {
            eprintln!("{line}");
        }
    }

    fn line(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(0.001);
        let left = self.total.saturating_sub(self.there + self.came);
        // The lengths of the other groups are not known: the time is estimated by their number.
        let seconds_left = left as f64 * seconds / (self.came.max(1) as f64);
        format!(
            "{} of {} groups, {}, {:.1} MB/s, {} left",
            thousands(self.there + self.came),
            thousands(self.total),
            megabytes(self.bytes),
            self.bytes as f64 / 1e6 / seconds,
            time(seconds_left),
        )
    }

    /// Says something on a line of its own.
    pub(super) fn say(&mut self, text: &str) {
        self.end();
        eprintln!("{text}");
    }

    /// Ends the line that is drawn anew.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.has_line) {
            eprintln!();
        }
    }
}

/// `40 s`, `5 min`, `2 h 5 min`.
fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_and_the_time_left_follow_from_the_groups_received() {
        let show = Show { there: 1000, came: 500, total: 2500, bytes: 5_000_000, ..Show::new() };
        let line = show.line(Duration::from_secs(10));
        assert_eq!(line, "1,500 of 2,500 groups, 5.0 MB, 0.5 MB/s, 20 s left");
        assert_eq!([time(99.6), time(100.0), time(7500.0)], ["2 min", "2 min", "2 h 5 min"]);
    }
}
