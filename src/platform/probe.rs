//! Checks at start whether io_uring can be used; if not, finds the cause and the remedy.
//!
//! io_uring is often switched off: by Docker's and containerd's default profiles, by
//! `kernel.io_uring_disabled`, or by an old kernel. Only errno, the sysctl and `/proc/self/status`
//! together tell these causes apart.

use std::fs;
use std::io;

/// Entries of the ring that is made to find out; freed at once.
const PROBE_ENTRIES: u32 = 8;

/// Why the ring cannot be used. `Display` says the cause, [`RingMissing::remedy`] what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingMissing {
    /// ENOSYS: no such system call, or a filter that says so.
    #[error("the kernel has no io_uring")]
    NotInKernel,
    /// EINVAL: set-up flags are not known.
    #[error("this kernel's io_uring is too old ({release}); 6.0 is needed")]
    TooOld {
        /// What `uname -r` says.
        release: String,
    },
    /// `kernel.io_uring_disabled` is 1 or 2.
    #[error("io_uring is switched off by kernel.io_uring_disabled={value}")]
    Sysctl {
        /// The sysctl's value.
        value: u8,
    },
    /// EPERM under a seccomp filter.
    #[error("a seccomp filter forbids io_uring, as containers' default profiles do")]
    Seccomp,
    /// EPERM without a filter or a sysctl.
    #[error("io_uring is not permitted to this user (a security module, perhaps)")]
    NotPermitted,
    /// ENOMEM: old kernels count the ring as locked memory.
    #[error("there is not enough lockable memory for a ring")]
    Memory,
    /// EMFILE and ENFILE.
    #[error("no file descriptor is left for a ring")]
    Descriptors,
    /// Anything else.
    #[error("io_uring cannot be set up: {0}")]
    Other(String),
}

impl RingMissing {
    /// The one thing to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotInKernel | Self::TooOld { .. } => {
                "run js5d on Linux 6.0 or later, built with CONFIG_IO_URING"
            }
            Self::Sysctl { .. } => "run 'sysctl -w kernel.io_uring_disabled=0' on the host",
            Self::Seccomp => {
                "start the container with a seccomp profile that allows io_uring_setup, \
                 io_uring_enter and io_uring_register (docker run --security-opt seccomp=FILE)"
            }
            Self::NotPermitted => {
                "allow io_uring in the host's security policy, or run js5d on another host"
            }
            Self::Memory => "raise the locked-memory limit: 'ulimit -l unlimited'",
            Self::Descriptors => "raise the descriptor limit: 'ulimit -n 20000'",
            Self::Other(_) => "read dmesg, and report it with the kernel's version",
        }
    }
}

/// Makes a ring as the workers do, and drops it.
///
/// # Errors
/// The ring cannot be used; the cause is told apart as far as the system allows.
pub fn ring() -> Result<(), RingMissing> {
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_coop_taskrun().setup_single_issuer();
    match builder.build(PROBE_ENTRIES) {
        Ok(_ring) => Ok(()),
        Err(error) => Err(diagnose(&error, sysctl_value(), under_seccomp())),
    }
}

fn diagnose(error: &io::Error, sysctl: u8, seccomp: bool) -> RingMissing {
    match error.raw_os_error() {
        Some(libc::EPERM) if sysctl > 0 => RingMissing::Sysctl { value: sysctl },
        Some(libc::EPERM) if seccomp => RingMissing::Seccomp,
        Some(libc::EPERM | libc::EACCES) => RingMissing::NotPermitted,
        Some(libc::ENOSYS) if seccomp => RingMissing::Seccomp,
        Some(libc::ENOSYS) => RingMissing::NotInKernel,
        Some(libc::EINVAL) => RingMissing::TooOld {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
        },
        Some(libc::ENOMEM) => RingMissing::Memory,
        Some(libc::EMFILE | libc::ENFILE) => RingMissing::Descriptors,
        _ => RingMissing::Other(error.to_string()),
    }
}

fn sysctl_value() -> u8 {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn under_seccomp() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_leads_to_its_cause() {
        let cases = [
            (libc::EPERM, 2, false, RingMissing::Sysctl { value: 2 }),
            (libc::EPERM, 0, true, RingMissing::Seccomp),
            (libc::EPERM, 0, false, RingMissing::NotPermitted),
            (libc::ENOSYS, 0, true, RingMissing::Seccomp),
            (libc::ENOSYS, 0, false, RingMissing::NotInKernel),
            (libc::ENOMEM, 0, false, RingMissing::Memory),
            (libc::EMFILE, 0, false, RingMissing::Descriptors),
        ];
        for (errno, sysctl, seccomp, expected) in cases {
            assert_eq!(diagnose(&io::Error::from_raw_os_error(errno), sysctl, seccomp), expected);
        }
    }
}
