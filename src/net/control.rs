//! The course of a process: one state, which the main thread, the thread that hands over, the
//! workers and the admin address all read.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What a process does with its listening sockets and its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It accepts and serves.
    Serving,
    /// It accepts and serves. Another process has its listening sockets, too, and has not reported
    /// yet that it serves.
    Offering,
    /// It stops: connections that wait to be accepted, or whose handshake has not arrived, are
    /// refused; requests that have arrived are answered.
    Stopping,
    /// Another process accepts from here on, also the connections that wait. Connections that were
    /// accepted here get their status here, and requests that have arrived are answered.
    HandedOver,
}

impl Course {
    const ALL: [Self; 4] = [Self::Serving, Self::Offering, Self::Stopping, Self::HandedOver];

    /// Whether the process drains: it serves no further peers, and ends when those it has are done.
    #[must_use]
    pub fn is_draining(self) -> bool {
        matches!(self, Self::Stopping | Self::HandedOver)
    }
}

/// The course that a process is on.
///
/// One load says whether a process drains and in which way, so no thread can see only one of the
/// two. A process that drains never returns to serving.
#[derive(Debug, Default)]
pub struct Control {
    /// The index of the course in [`Course::ALL`]. Stored with release and loaded with acquire, so
    /// that a thread that sees a course also sees what was done before it was set.
    course: AtomicU8,
}

impl Control {
    /// The course at this moment.
    #[must_use]
    pub fn course(&self) -> Course {
        let place = usize::from(self.course.load(Ordering::Acquire));
        Course::ALL.get(place).copied().unwrap_or(Course::Stopping)
    }

    /// As [`Course::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.course().is_draining()
    }

    /// To be called before the sockets are passed to another process. False if this process drains
    /// or offers them already.
    pub fn offer(&self) -> bool {
        self.turn(Course::Serving, Course::Offering)
    }

    /// The other process does not take over. False if this process does not offer its sockets.
    pub fn take_back(&self) -> bool {
        self.turn(Course::Offering, Course::Serving)
    }

    /// Stops. False if the process drains already, or if another process has the sockets, too.
    pub fn stop(&self) -> bool {
        self.turn(Course::Serving, Course::Stopping)
    }

    /// Leaves the sockets to another process. False if this process drains already.
    pub fn hand_over(&self) -> bool {
        self.turn(Course::Offering, Course::HandedOver)
            || self.turn(Course::Serving, Course::HandedOver)
    }

    fn turn(&self, from: Course, to: Course) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.course.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A duration in milliseconds, as the clocks of threads count.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `ask` on each course, in the order of [`Course::ALL`], and expects these courses after
    /// it.
    fn check(ask: fn(&Control) -> bool, expected: [Course; 4]) {
        for (from, expected) in Course::ALL.into_iter().zip(expected) {
            let control = Control { course: AtomicU8::new(from as u8) };
            let is_done = ask(&control);
            assert_eq!(control.course(), expected, "from {from:?}");
            assert_eq!(is_done, from != expected, "from {from:?}");
        }
    }

    #[test]
    fn a_process_that_drains_stays_on_its_course_and_one_that_offers_does_not_stop() {
        use Course::{HandedOver, Offering, Serving, Stopping};
        check(Control::offer, [Offering, Offering, Stopping, HandedOver]);
        check(Control::take_back, [Serving, Serving, Stopping, HandedOver]);
        check(Control::stop, [Stopping, Offering, Stopping, HandedOver]);
        check(Control::hand_over, [HandedOver, HandedOver, Stopping, HandedOver]);
    }
}
