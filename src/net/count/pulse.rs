//! A worker's last heartbeat: when it was, and what CPU time the worker had used by then.

use crate::platform::cpu;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Written at each heartbeat, and read by the admin thread and the supervisor's.
#[derive(Debug)]
pub struct Pulse {
    /// Times are counted from here: when the worker was about to start.
    born: Instant,
    beat_us: AtomicU64,
    cpu_ns: AtomicU64,
    ended: AtomicBool,
}

/// How much a worker had worked at a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// From the worker's beginning to the heartbeat.
    pub wall: Duration,
    /// What its thread had used of a core until then.
    pub cpu: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            beat_us: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// The pulse of a worker that was about to start this long ago and has not begun.
    #[cfg(test)]
    pub(crate) fn silent_for(time: Duration) -> Self {
        let born = Instant::now().checked_sub(time).expect("the system is up for longer");
        Self { born, ..Self::default() }
    }

    /// A heartbeat of the calling worker.
    pub(in crate::net) fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.born).as_micros();
        let cpu = cpu::thread_time().as_nanos();
        self.beat_us.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.cpu_ns.store(u64::try_from(cpu).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The worker has drained; there are no further heartbeats, and none is missed.
    pub(in crate::net) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Time since the last heartbeat, or since the worker was about to start. Zero once the
    /// worker has drained.
    #[must_use]
    pub fn age(&self) -> Duration {
        if self.has_ended() {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(self.work().wall)
    }

    /// Whether the worker has drained.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// How much it had worked at its last heartbeat.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            wall: Duration::from_micros(self.beat_us.load(Ordering::Relaxed)),
            cpu: Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_counts_from_the_last_beat() {
        let pulse = Pulse::silent_for(Duration::from_secs(60));
        assert!(pulse.age() >= Duration::from_secs(60), "never since its beginning");
        pulse.beat(Instant::now());
        assert!(pulse.age() < Duration::from_secs(30));
        assert!(pulse.work().wall >= Duration::from_secs(60));
        pulse.end();
        assert_eq!(pulse.age(), Duration::ZERO);
    }
}
