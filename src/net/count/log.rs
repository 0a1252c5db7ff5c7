//! The log lines of workers about frequent events: at most one a second for each kind of event.

use super::counters::Counters;
use crate::protocol::GroupId;
use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{info, warn};

/// Of each kind of event at most one line is logged in so many milliseconds, by all workers
/// together.
const LOG_INTERVAL_MS: u64 = 1000;

/// When each kind of event was last logged. Shared by the workers, used at heartbeats.
#[derive(Debug, Default)]
pub struct LogGates {
    missing_groups: Gate,
    accept_errors: Gate,
    errors: Gate,
    openings: Gate,
    late_heartbeats: Gate,
}

/// Examples that the next log lines name beside the counts.
#[derive(Debug, Default)]
pub(in crate::net) struct Notes {
    /// The group that was last missed.
    pub(in crate::net) missed: Cell<Option<GroupId>>,
    /// The address that last had too many silent connections.
    pub(in crate::net) crowded: Cell<Option<IpAddr>>,
    /// The failure that last ended a connection and was not the peer's.
    pub(in crate::net) last_errno: Cell<i32>,
}

/// Lets one through in [`LOG_INTERVAL_MS`].
#[derive(Debug, Default)]
pub(in crate::net) struct Gate {
    /// When the next may pass.
    next_ms: AtomicU64,
}

impl Gate {
    pub(in crate::net) fn passes(&self, now_ms: u64) -> bool {
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let later_ms = now_ms + LOG_INTERVAL_MS;
        let swap = |from, to| {
            self.next_ms.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
        };
        now_ms >= next_ms && swap(next_ms, later_ms).is_ok()
    }
}

/// The counts that a worker has logged so far. What was counted since is logged when the gate
/// opens.
#[derive(Default)]
pub(in crate::net) struct LogState {
    missing_groups: u64,
    accept_errors: u64,
    errors: u64,
    openings: u64,
    late_heartbeats: u64,
}

impl LogState {
    /// Logs the events that were counted since they were last logged, as far as the gates are open.
    pub(in crate::net) fn report(
        &mut self,
        gates: &LogGates,
        counters: &Counters,
        notes: &Notes,
        now_ms: u64,
    ) {
        let news = |said: &mut u64, count: u64, gate: &Gate| {
            let new = count - *said;
            let passes = new > 0 && gate.passes(now_ms);
            if passes {
                *said = count;
            }
            passes.then_some(new)
        };
        let missing = counters.missing_groups.get();
        if let Some(times) = news(&mut self.missing_groups, missing, &gates.missing_groups)
            && let Some(last) = notes.missed.get()
        {
            info!(times, %last, "peers asked for groups that the cache does not hold");
        }
        let failed = counters.accept_errors.get();
        if let Some(times) = news(&mut self.accept_errors, failed, &gates.accept_errors) {
            warn!(times, "connections cannot be accepted; are descriptors short ('ulimit -n')?");
        }
        let errors = counters.closed_error.get();
        if let Some(times) = news(&mut self.errors, errors, &gates.errors) {
            let last = io::Error::from_raw_os_error(notes.last_errno.get());
            match last.raw_os_error() {
                // Watching a socket fails so; nothing of a connection is on a disk.
                Some(libc::ENOSPC) => warn!(
                    times,
                    "connections ended: the user's watched sockets are used up; raise \
                     fs.epoll.max_user_watches",
                ),
                _ => warn!(times, %last, "connections ended by a failure; check memory and dmesg"),
            }
        }
        let openings = counters.closed_openings.get();
        if let Some(times) = news(&mut self.openings, openings, &gates.openings)
            && let Some(last) = notes.crowded.get()
        {
            warn!(times, %last, "refused: an address has --openings-per-ip-max silent connections");
        }
        let late = counters.late_heartbeats.get();
        if let Some(times) = news(&mut self.late_heartbeats, late, &gates.late_heartbeats) {
            warn!(times, "heartbeats were late: the core is overloaded, or js5d was stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_one_line_a_second_through() {
        let gate = Gate::default();
        let passed = (0..5000).filter(|&now_ms| gate.passes(now_ms)).count();
        assert_eq!(passed, 5);
    }
}
