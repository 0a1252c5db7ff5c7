//! Memory: how much there is, and how the allocator returns memory after many peers have gone.
#![allow(unsafe_code, reason = "mallopt and malloc_trim, which no crate wraps")]

use std::fs;
use std::path::Path;

/// Blocks of this many bytes and more are mappings of their own, which end when they are freed.
///
/// The copied bytes of a full output are as long. Left among small blocks they are freed into
/// the heap, which glibc shrinks from its end only: after 2,400 peers that had read nothing were
/// cut, 131 of 158 MB stayed with the process. As mappings, all but the 4 MB of the pool go.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: i32 = 64 << 10;

/// Makes large blocks go back to the system when they are freed. To be called before there are
/// threads. Does nothing where the allocator is not glibc's.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        // Refused by an allocator in glibc's place, a sanitizer's or a preloaded one, which gives
        // back as it likes.
        // SAFETY: it sets a parameter of the allocator, and is given plain integers.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) };
    }
}

/// Gives all that is free in the heaps back to the system, wherever it lies: 0.7 ms after
/// 2,000 busy peers, 1.8 ms after 9,000. Does nothing where the C library is not glibc.
pub fn return_free_blocks() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it looks at free blocks only, under the allocator's own locks, from any thread.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// The memory that this process may use together with its neighbours: the machine's, or the
/// limit of its control group (a container's) where that is lower.
#[must_use]
pub fn total_bytes() -> u64 {
    container_bytes().unwrap_or_else(machine_bytes)
}

fn machine_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    (system.totalram as u64).saturating_mul(u64::from(system.mem_unit))
}

/// The limit of this process' control group, a container's or a unit's, if it has one.
#[must_use]
pub fn container_bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // Version 1 writes a number beyond any machine where there is no limit.
    group_limit(Path::new("/sys/fs/cgroup"), &own).filter(|&limit| limit < machine_bytes())
}

/// The lowest memory limit from a process' control group up to the root, of version 2 or 1.
fn group_limit(root: &Path, own: &str) -> Option<u64> {
    let line = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let group = root.join(line.trim_start_matches('/'));
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let from_own_up = group.ancestors().take_while(|dir| dir.starts_with(root));
    let v2 = from_own_up.filter_map(|dir| number(&dir.join("memory.max"))).min();
    v2.or_else(|| number(&root.join("memory/memory.limit_in_bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_to_the_root_counts() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let own = "0::/system.slice/js5d.service\n";
        assert_eq!(group_limit(dir.path(), own), None);
        let group = dir.path().join("system.slice/js5d.service");
        fs::create_dir_all(&group).expect("a directory");
        fs::write(group.join("memory.max"), "max\n").expect("a file");
        assert_eq!(group_limit(dir.path(), own), None);
        fs::write(dir.path().join("system.slice/memory.max"), "1000000\n").expect("a file");
        assert_eq!(group_limit(dir.path(), own), Some(1_000_000));
        fs::write(group.join("memory.max"), "2000000\n").expect("a file");
        assert_eq!(group_limit(dir.path(), own), Some(1_000_000));
    }

    #[test]
    fn there_is_some_memory() {
        assert!(total_bytes() > 1 << 20);
    }
}
