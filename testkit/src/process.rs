//! Processes: a child that ends with its owner, and what `/proc` says of one by its id.
//!
//! A process that is gone has used nothing and holds nothing: 0, no error.

use procfs::process::Process;
use std::ops::{Deref, DerefMut};
use std::process::Child;
use std::time::Duration;

/// A child that is killed, and waited for, when it is dropped.
#[derive(Debug)]
pub struct Ending(pub Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for Ending {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Ending {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// CPU time of all its threads, user and kernel.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    let tasks = process(pid).and_then(|process| process.tasks().ok());
    let spent = tasks.into_iter().flatten().flatten();
    Duration::from_nanos(
        spent.filter_map(|task| Some(task.schedstat().ok()?.sum_exec_runtime)).sum(),
    )
}

/// Memory of its own that it has touched, in bytes, to the page. (The numbers in `status` are kept
/// by core, and lag by hundreds of kilobytes.)
#[must_use]
pub fn memory_bytes(pid: u32) -> u64 {
    let maps = process(pid).and_then(|process| process.smaps_rollup().ok());
    let maps = maps.map(|rollup| rollup.memory_map_rollup).into_iter().flatten();
    maps.filter_map(|map| map.extension.map.get("Anonymous").copied()).sum()
}

/// Descriptors that it has open.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    process(pid).and_then(|process| process.fd_count().ok()).unwrap_or(0)
}

/// For how many descriptors the kernel has a table.
#[must_use]
pub fn descriptor_table(pid: u32) -> u64 {
    let status = process(pid).and_then(|process| process.status().ok());
    status.map_or(0, |status| u64::from(status.fdsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_ends_with_its_owner_and_is_measured_meanwhile() {
        let child = Ending(Command::new("sleep").arg("60").spawn().unwrap());
        let pid = child.id();
        let start = std::time::Instant::now();
        // It has become `sleep` when it has memory of its own.
        while memory_bytes(pid) == 0 && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(memory_bytes(pid) > 0 && descriptor_table(pid) > 0);
        assert!(descriptors(pid) >= 3, "the standard streams");
        drop(child);
        assert_eq!((cpu(pid), memory_bytes(pid), descriptors(pid)), (Duration::ZERO, 0, 0));
        assert!(cpu(std::process::id()) > Duration::ZERO);
    }
}
