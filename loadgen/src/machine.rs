//! The machine of a run: what it is, what its kernel counted during the run, its cores, and the
//! CPU times of threads and processes. Figures can be compared only if these are known.

use procfs::process::Process;
use serde::{Deserialize, Serialize};
use std::{fs, io};

/// A machine that generated load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    pub(crate) host: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    /// Cores that this process may use, and those of the machine.
    pub(crate) cores_allowed: u32,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    /// Of this program.
    pub(crate) version: String,
    /// How this program was started.
    pub(crate) command: Vec<String>,
    /// What the kernel counted over the run, in this network namespace: everyone's.
    pub(crate) counters: KernelCounters,
}

/// Counters of the kernel's TCP. They grow; a run is the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KernelCounters {
    /// Connections that arrived while a listener's queue was full.
    pub(crate) listen_overflows: u64,
    /// Those, and others that a listener could not take. The peer tries again after 1 s.
    pub(crate) listen_drops: u64,
    /// Segments sent again.
    pub(crate) retransmits: u64,
    /// Segments dropped because a socket's queue was full.
    pub(crate) backlog_drops: u64,
}

impl Environment {
    /// This machine; `counters` are filled in when the run is over.
    pub(crate) fn gather(command: Vec<String>) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let allowed = std::thread::available_parallelism().map_or(0, usize::from);
        Self {
            host: read("/proc/sys/kernel/hostname"),
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: cpu.unwrap_or("").trim_start_matches([' ', '\t', ':']).to_owned(),
            cores_allowed: u32::try_from(allowed).unwrap_or(u32::MAX),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command,
            counters: KernelCounters::default(),
        }
    }
}

impl KernelCounters {
    /// As they stand.
    pub(crate) fn read() -> Self {
        let (netstat, snmp) = (read("/proc/net/netstat"), read("/proc/net/snmp"));
        Self {
            listen_overflows: counter(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops"),
            retransmits: counter(&snmp, "Tcp:", "RetransSegs"),
            backlog_drops: counter(&netstat, "TcpExt:", "TCPBacklogDrop"),
        }
    }

    /// What was counted since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    /// Both together: readings of one machine, one after the other.
    pub(crate) fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    /// The larger of each: two readings of one machine.
    pub(crate) fn max(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    fn with(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            listen_overflows: of(self.listen_overflows, other.listen_overflows),
            listen_drops: of(self.listen_drops, other.listen_drops),
            retransmits: of(self.retransmits, other.retransmits),
            backlog_drops: of(self.backlog_drops, other.backlog_drops),
        }
    }
}

/// A file of /proc, trimmed; empty where there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A value from a file in which a line of names precedes a line of values, both under `prefix`.
fn counter(text: &str, prefix: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(found, _)| *found == name).and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

/// What a process has used so far, all its threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time, user and kernel.
    pub(crate) cpu_ns: f64,
    /// Time in which it could run and had no core.
    pub(crate) wait_ns: f64,
}

impl Usage {
    /// Of another process; none if it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let tasks = Process::new(i32::try_from(pid).ok()?).ok()?.tasks().ok()?;
        let times = tasks.flatten().filter_map(|task| task.schedstat().ok());
        Some(times.fold(Self::default(), |sum, time| Self {
            cpu_ns: sum.cpu_ns + time.sum_exec_runtime as f64,
            wait_ns: sum.wait_ns + time.run_delay as f64,
        }))
    }
}

/// Resident memory of a process in bytes; 0 if it is gone.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let process = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok());
    let memory = process.and_then(|process| process.statm().ok());
    memory.map_or(0, |memory| memory.resident * procfs::page_size())
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// There is no such core, or it is not ours.
pub(crate) fn pin_to(core: u32) -> io::Result<()> {
    let pinned = match usize::try_from(core) {
        Ok(core) if core < rustix::thread::CpuSet::MAX_CPU => js5d::platform::cpu::pin_to(core),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    pinned.map_err(|e| io::Error::new(e.kind(), format!("cannot run on core {core}: {e}")))
}

/// CPU time and run-queue delay of the calling thread, in nanoseconds, for `Recorder::usage`.
///
/// /proc/thread-self/schedstat, which kernels without CONFIG_SCHED_INFO lack: then the CPU time
/// comes from the thread's clock and the delay is unknown, 0.
pub(crate) fn thread_usage() -> (u64, u64) {
    let schedstat = read("/proc/thread-self/schedstat");
    let mut fields = schedstat.split_whitespace().map_while(|field| field.parse().ok());
    if let (Some(cpu_ns), Some(run_queue_ns)) = (fields.next(), fields.next()) {
        return (cpu_ns, run_queue_ns);
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_and_thread_time_grows() {
        let text = "TcpExt: A ListenDrops B\nTcpExt: 1 22 333\nIpExt: ListenDrops\nIpExt: 9";
        assert_eq!(counter(text, "TcpExt:", "ListenDrops"), 22);
        assert_eq!(counter(text, "TcpExt:", "Missing"), 0);
        let (before, _) = thread_usage();
        let spin = (0..20_000_000_u64).fold(0, |sum, i| sum ^ std::hint::black_box(i));
        std::hint::black_box(spin);
        assert!(thread_usage().0 > before);
    }
}
