//! What the process uses: memory, CPU, descriptors, threads. From /proc.

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats, ProcResult, WithCurrentSystemInfo};
use std::sync::OnceLock;

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) descriptors_max: u64,
    pub(super) threads: u64,
    /// Since 1970.
    pub(super) start_seconds: f64,
}

/// What the process uses, or nothing where /proc cannot be read.
pub(super) fn usage() -> Option<Usage> {
    read().ok()
}

fn read() -> ProcResult<Usage> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let descriptors_max = match process.limits()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => limit,
        LimitValue::Unlimited => u64::MAX,
    };
    Ok(Usage {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: stat.vsize,
        descriptors: process.fd_count()? as u64,
        descriptors_max,
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
        start_seconds: booted_seconds() + stat.starttime as f64 / ticks,
    })
}

/// When the system was started, since 1970. Asked for once: the kernel adds up every interrupt of
/// every core for the file in which it stands.
fn booted_seconds() -> f64 {
    static BOOTED: OnceLock<f64> = OnceLock::new();
    *BOOTED.get_or_init(|| KernelStats::current().map_or(0.0, |stats| stats.btime as f64))
}
