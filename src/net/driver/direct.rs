//! System calls on a socket that do not wait, for both drivers.
#![allow(unsafe_code, reason = "sendmsg with a message header that points into its own batch")]

use super::Sealed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Receives what has arrived, as far as it fits; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` if nothing has arrived.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (len, _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(len)
}

/// Sends what the socket takes of a batch.
///
/// # Errors
/// `WouldBlock` if it takes nothing.
#[inline]
pub(super) fn send(socket: BorrowedFd<'_>, batch: &Sealed) -> io::Result<usize> {
    match batch.as_one_slice() {
        Some(bytes) => send_bytes(socket, bytes),
        None => send_message(socket, batch),
    }
}

/// Sends what the socket takes of these bytes.
///
/// # Errors
/// `WouldBlock` if it takes nothing.
#[inline]
pub(super) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Sends as [`send`], for a batch of several pieces.
fn send_message(socket: BorrowedFd<'_>, batch: &Sealed) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the header and everything it points to live as long as `batch`, which is borrowed
    // for the call; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), batch.message(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether the socket takes more, has failed, or a connect has succeeded or failed. If not, a wait
/// that begins after this call is told as soon as one of these holds.
pub(super) fn has_room(socket: impl AsFd) -> io::Result<bool> {
    let mut asked = [PollFd::new(&socket, PollFlags::OUT)];
    Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
}
