//! Failures counted by errno: a small fixed table, and one place for all others.

use super::cell::add;
use std::cell::Cell;
use std::io;

/// What accepting and the ring are known to fail with.
const KNOWN: [(i32, &str); 16] = [
    (libc::EINTR, "EINTR"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENFILE, "ENFILE"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EBUSY, "EBUSY"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::EINVAL, "EINVAL"),
    (libc::EBADF, "EBADF"),
    (libc::EIO, "EIO"),
    (libc::EPROTO, "EPROTO"),
    (libc::ENETDOWN, "ENETDOWN"),
];

/// Whether an operation on a connection failed because of the other end, or the way to it.
#[must_use]
pub fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNRESET
                | libc::EPIPE
                | libc::ETIMEDOUT
                | libc::ECONNABORTED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

/// Whether an accept failed because the socket listens no more, which does not pass.
#[must_use]
pub fn is_of_listener(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP)
    )
}

/// Counts that a table of errnos has: one a known errno, and one for the others.
pub const ERRNOS_LEN: usize = KNOWN.len() + 1;

/// Counts a failure.
pub fn count(errnos: &[Cell<u64>; ERRNOS_LEN], error: &io::Error) {
    let place = KNOWN.iter().position(|&(errno, _)| error.raw_os_error() == Some(errno));
    if let Some(counter) = errnos.get(place.unwrap_or(KNOWN.len())) {
        add(counter, 1);
    }
}

/// The names that go with a table's counts, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|&(_, name)| name).chain(["other"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_under_its_name() {
        let errnos: [Cell<u64>; ERRNOS_LEN] = Default::default();
        for errno in [libc::EMFILE, libc::EMFILE, libc::EXDEV] {
            count(&errnos, &io::Error::from_raw_os_error(errno));
        }
        count(&errnos, &io::Error::other("no errno at all"));
        let named = names().zip(errnos.iter().map(Cell::get)).filter(|(_, count)| *count > 0);
        assert_eq!(named.collect::<Vec<_>>(), [("EMFILE", 2), ("other", 2)]);
        assert_eq!(names().count(), ERRNOS_LEN);
    }
}
