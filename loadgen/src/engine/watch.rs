//! What the generator knows of itself and of the kernel: CPU time, run-queue delay, drops.

use std::fs;
use std::io;

/// CPU time and run-queue delay of the calling thread, in nanoseconds.
pub(crate) fn thread_times() -> (u64, u64) {
    // The file's fields: time on the CPU, time waiting for one, number of slices.
    schedstat(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
}

fn schedstat(text: &str) -> (u64, u64) {
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// CPU time of another process, all threads, in nanoseconds; `None` if it is gone.
pub(crate) fn process_cpu_ns(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some(schedstat(&text).0)
    });
    Some(times.sum())
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// There is no such core, or it is not ours.
pub(crate) fn pin_to(core: u32) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    if core as usize >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    set.set(core as usize);
    rustix::thread::sched_setaffinity(None, &set).map_err(|e| {
        let e = io::Error::from(e);
        io::Error::new(e.kind(), format!("cannot run on core {core}: {e}"))
    })
}

/// What the kernel has dropped and sent again, of all its connections, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelCounts {
    pub(crate) listen_overflows: u64,
    pub(crate) listen_drops: u64,
    pub(crate) retransmits: u64,
}

impl KernelCounts {
    pub(crate) fn read() -> Self {
        let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        let snmp = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
        Self {
            listen_overflows: counter(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops"),
            retransmits: counter(&snmp, "Tcp:", "RetransSegs"),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows.saturating_sub(before.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(before.listen_drops),
            retransmits: self.retransmits.saturating_sub(before.retransmits),
        }
    }
}

/// The files have pairs of lines: names, then numbers in the same order.
fn counter(text: &str, table: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(table));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return 0 };
    let place = names.split_whitespace().position(|word| word == name);
    let number = place.and_then(|place| numbers.split_whitespace().nth(place));
    number.and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Tcp: RtoMin RetransSegs\nTcp: 200 17\nUdp: InErrors\nUdp: 1\n";
        assert_eq!(counter(text, "Tcp:", "RetransSegs"), 17);
        assert_eq!(counter(text, "Tcp:", "Nothing"), 0);
        assert_eq!(schedstat("12 34 5\n"), (12, 34));
    }
}
