//! How long a thread may run at a stretch, which decides how soon it runs after it wakes.
#![allow(unsafe_code, reason = "sched_getattr and sched_setattr, which no crate wraps")]

use std::io;
use std::mem::{MaybeUninit, size_of};

/// The shortest slice that the kernel grants (`sched_ext` and real-time policies aside).
const SLICE_MIN_NS: u64 = 100_000;

/// Asks for short slices for the calling thread: a thread that runs little and wakes often then
/// goes before one that has a core for itself. Needs no privilege. Kernels before 6.12 ignore it.
///
/// # Errors
/// The system does not allow it, or knows no slices at all.
pub fn shorten() -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: the attributes are valid for writes of `size` bytes; thread 0 is the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a valid value; the kernel wrote plain integers.
    let mut attributes = unsafe { attributes.assume_init() };
    attributes.sched_runtime = SLICE_MIN_NS;
    // SAFETY: the attributes are valid for reads, and say their own size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_have_shorter_slices() {
        assert!(shorten().is_ok());
    }
}
