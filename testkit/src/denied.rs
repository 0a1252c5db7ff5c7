//! A host that denies io_uring, as containers' default profiles do.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::io;

/// The number of `io_uring_setup`, which is the same on every architecture.
const IO_URING_SETUP: i64 = 425;

/// What a container's default profile answers.
const EPERM: u32 = 1;

/// What becomes of who asks for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is told that this is not permitted.
    NotPermitted,
    /// Its process ends at once.
    Kills,
}

/// Forbids io_uring to this thread, and to the processes and threads that it starts, for good.
///
/// # Errors
/// The kernel has no seccomp filters.
pub fn deny_ring(denial: Denial) -> io::Result<()> {
    let answer = match denial {
        Denial::NotPermitted => SeccompAction::Errno(EPERM),
        Denial::Kills => SeccompAction::KillProcess,
    };
    let denied = [(IO_URING_SETUP, vec![])].into_iter().collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, answer, architecture)
        .map_err(io::Error::other)?;
    apply_filter(&BpfProgram::try_from(filter).map_err(io::Error::other)?).map_err(io::Error::other)
}
