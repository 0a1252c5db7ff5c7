//! Sockets of clients: opened without waiting, bound without a port, sent to directly.

use crate::ring;
use js5d::proxy::{Endpoints, announce};
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Begins to connect from `source`, or from wherever the kernel likes.
///
/// # Errors
/// No descriptor, no port, or the network says no at once.
pub(crate) fn connect(
    target: SocketAddr,
    source: Option<IpAddr>,
    receive_bytes: Option<usize>,
) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_bytes {
        // Before the connect: the window's scale is settled there.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        ring::bind_without_port(&socket, SocketAddr::new(source, 0))?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

/// The error that a connect ended with, if any.
pub(crate) fn connect_result(socket: &OwnedFd) -> io::Result<()> {
    match rustix::net::sockopt::socket_error(socket) {
        Ok(result) => result.map_err(io::Error::from),
        Err(e) => Err(e.into()),
    }
}

/// A PROXY header that announces the socket's own ends.
///
/// # Errors
/// It is not connected, or no longer.
pub(crate) fn proxy_header(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let socket = SockRef::from(socket);
    let ip = |address: SockAddr| address.as_socket().ok_or(io::ErrorKind::Unsupported);
    let (source, destination) = (ip(socket.local_addr()?)?, ip(socket.peer_addr()?)?);
    Ok(announce(Endpoints { source, destination }))
}

/// Sends what the socket takes now; 0 if it takes nothing.
///
/// # Errors
/// The connection is gone.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// Makes the close of `socket` a reset.
pub(crate) fn reset_on_close(socket: &OwnedFd) {
    // A failure leaves an orderly close, which is no worse.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

/// Ends this side, or both.
pub(crate) fn shutdown(socket: &OwnedFd, how: rustix::net::Shutdown) {
    // The peer may be gone already.
    let _ = rustix::net::shutdown(socket, how);
}
