//! Cores: which ones the process may use, pinning a thread to one, and leaving them to others.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::time::Duration;

/// The cores that this process is allowed to run on (cgroups' cpusets and `taskset` count).
///
/// # Errors
/// The system does not tell.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Binds the calling thread to one core.
///
/// # Errors
/// The core is not allowed to this process.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// How long the calling thread has run on any core.
#[must_use]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Gives the calling thread a low priority (nice 10): it gets about a tenth of a core that another
/// thread of ordinary priority uses, and the whole of an idle one.
///
/// # Errors
/// The system refuses.
pub fn lower_priority() -> io::Result<()> {
    // Linux keeps the value for each thread: 0, "this process" elsewhere, is the calling thread.
    Ok(setpriority_process(None, 10)?)
}
