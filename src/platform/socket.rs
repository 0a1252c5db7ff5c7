//! Socket details that no safe wrapper offers.
#![allow(unsafe_code, reason = "getsockopt and setsockopt on options that no crate wraps")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// How many bytes the peer has acknowledged since the connection began: the only sight of
/// progress while a large send is under way.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn acknowledged_bytes(socket: impl AsFd) -> io::Result<u64> {
    Ok(tcp_info(socket)?.tcpi_bytes_acked)
}

/// Whether the peer has acknowledged everything that was sent, the end of the stream included.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn is_delivered(socket: impl AsFd) -> io::Result<bool> {
    let info = tcp_info(socket)?;
    Ok(info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0)
}

/// How what was sent arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// Bytes that the peer has acknowledged since the connection began.
    pub acknowledged_bytes: u64,
    /// Bytes that have not gone onto the line.
    pub unsent_bytes: u32,
    /// The shortest time that anything took to the peer and back.
    pub round_trip_min: Duration,
}

/// How what was sent arrives, by one question to the kernel.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn delivery(socket: impl AsFd) -> io::Result<Delivery> {
    let info = tcp_info(socket)?;
    Ok(Delivery {
        acknowledged_bytes: info.tcpi_bytes_acked,
        unsent_bytes: info.tcpi_notsent_bytes,
        round_trip_min: Duration::from_micros(info.tcpi_min_rtt.into()),
    })
}

fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` and `len` are valid for writes, and `len` says how much `info` can take.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a valid `tcp_info`; the kernel wrote plain integers.
    Ok(unsafe { info.assume_init() })
}

/// Bounds what the kernel holds of this socket's output that has not gone onto the line yet
/// (`TCP_NOTSENT_LOWAT`). A listener's bound holds for what it accepts.
///
/// # Errors
/// Not a TCP socket.
pub fn bound_unsent(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value)
}

/// Bounds what the kernel holds of this socket's output that the peer has not acknowledged, what
/// it needs to hold it included (`SO_SNDBUF`). None lets the kernel choose again. A listener's
/// bound holds for what it accepts.
///
/// # Errors
/// No socket.
pub fn bound_unacknowledged(socket: impl AsFd, bytes: Option<NonZeroU32>) -> io::Result<()> {
    let Some(bytes) = bytes else {
        let chooses = set_option(&socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0);
        // Before Linux 5.14 it cannot be told to choose again: what it may hold at most then.
        return chooses.or_else(|_| bound_unacknowledged(socket, UNACKNOWLEDGED_ANY));
    };
    // The kernel doubles it.
    let value = libc::c_int::try_from(bytes.get() / 2).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, value)
}

/// Which buffer sizes are set by hand, since Linux 5.14.
const SO_BUF_LOCK: libc::c_int = 72;

/// More than `net.core.wmem_max` usually allows.
const UNACKNOWLEDGED_ANY: Option<NonZeroU32> = NonZeroU32::new(8 << 20);

fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option's value is a C int of the stated length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
