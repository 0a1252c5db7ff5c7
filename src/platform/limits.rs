//! File descriptors and locked memory: raised to the hard limit at start.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises the soft limit of open descriptors to the hard one, and returns it. No limit at all
/// is `u64::MAX`.
///
/// # Errors
/// The system refuses.
pub fn raise_descriptors() -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// What the soft limit of open descriptors can be raised to; none if the system sets no limit.
#[must_use]
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Makes the process' table of descriptors as large as for `count`. To be called before there are
/// threads: each time that the kernel doubles the table of a process with threads it waits until
/// no core can be using the old one, 10 to 30 ms, and threads that open something wait with it.
///
/// # Errors
/// The limit of descriptors is lower, or the kernel has no memory for the table.
pub fn reserve_descriptors(count: u64) -> io::Result<()> {
    let highest = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // The table grows for a descriptor with a high number, and stays as large without it.
    let some = eventfd(0, EventfdFlags::CLOEXEC)?;
    drop(fcntl_dupfd_cloexec(some, highest)?);
    Ok(())
}

/// Raises the soft limit of locked memory to the hard one. Linux 6.18 counts rings under it, for
/// processes without CAP_IPC_LOCK: a worker's has 0.8 MB, and 8 MB is a usual limit.
///
/// # Errors
/// The system refuses.
pub fn raise_locked_memory() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum })?;
    Ok(())
}
