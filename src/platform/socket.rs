//! Socket details that no safe wrapper offers.
#![allow(unsafe_code, reason = "getsockopt and setsockopt on options that no crate wraps")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

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
pub fn bound_unsent(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_uint::try_from(bytes).unwrap_or(libc::c_uint::MAX);
    // SAFETY: the option's value is a C int of the stated length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const value).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
