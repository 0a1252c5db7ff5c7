//! Real-time priority, for a thread with little work that must not wait.
#![allow(unsafe_code, reason = "sched_setscheduler, which no crate in use wraps")]

use std::io;

/// The lowest there is. Any of them goes before all ordinary threads.
const PRIORITY: libc::c_int = 1;

/// Lets the calling thread run as soon as it has something to do (`SCHED_RR`). An ordinary thread
/// waits for a tick, some milliseconds, if others have every core. What the thread starts is
/// ordinary again, the ring's helpers in the kernel included.
///
/// # Errors
/// The system refuses: it takes a limit of real-time priorities (`RLIMIT_RTPRIO`) of 1 at least,
/// or `CAP_SYS_NICE`.
pub fn enter() -> io::Result<()> {
    let policy = libc::c_long::from(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
    let this_thread: libc::c_long = 0;
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // Not the C library's function of this name: POSIX means a process by it, Linux a thread, and
    // musl therefore has one that only refuses.
    // SAFETY: the call reads a `sched_param` through the valid pointer, and keeps nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, this_thread, policy, &raw const parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::thread;

    /// Field 41 of `stat`, counted after the name, which is field 2 and may have blanks in it.
    fn policy() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").expect("Linux says so");
        let (_, rest) = stat.rsplit_once(") ").expect("a name");
        rest.split(' ').nth(41 - 3).and_then(|field| field.parse().ok()).expect("a number")
    }

    #[test]
    fn a_thread_has_the_priority_or_is_told_that_it_may_not() {
        let (entered, own, started) = thread::spawn(|| {
            let entered = enter();
            (entered, policy(), thread::spawn(policy).join().expect("it ends"))
        })
        .join()
        .expect("it ends");
        match entered {
            Ok(()) => assert_eq!(own, libc::SCHED_RR),
            Err(error) => {
                eprintln!("not shown: real-time priority is refused here: {error}");
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(own, libc::SCHED_OTHER);
            }
        }
        assert_eq!(started, libc::SCHED_OTHER);
    }
}
