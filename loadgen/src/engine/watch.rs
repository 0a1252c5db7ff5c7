//! Cores and CPU times of threads and processes.

use std::fs;
use std::io;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_first_two_numbers() {
        assert_eq!(schedstat("12 34 5\n"), (12, 34));
    }
}
