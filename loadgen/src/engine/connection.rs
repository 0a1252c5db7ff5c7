//! A client's connection: a socket that is opened without waiting, sent to directly, and received
//! from through the ring.
//!
//! It does not interpret what is sent and received. One thing may surprise: a socket is closed only
//! when no operation of the ring uses it, so that an operation of the old connection is never taken
//! for one of the client's next connection. [`Connection::end`] begins that, and
//! [`Connection::is_quiet`] says when no operation is left.

use super::core::{Core, Op};
use js5_ring::Buffer;
use js5d::proxy::{Endpoints, announce};
use rustix::net::{SendFlags, Shutdown};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// From where to where, and how much of what comes the kernel may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) target: SocketAddr,
    /// Without one the kernel chooses.
    pub(crate) source: Option<IpAddr>,
    pub(crate) receive_bytes: Option<usize>,
}

/// A connection, or the place of one.
#[derive(Debug)]
pub(crate) struct Connection {
    slot: u32,
    socket: Option<OwnedFd>,
    out: Vec<u8>,
    /// How much of `out` has been sent.
    out_sent: usize,
    /// A receive is armed in the ring.
    receiving: bool,
    /// A poll for room, or for the end of the connect, is armed.
    polling: bool,
    /// Bytes that it received.
    bytes: u64,
}

impl Connection {
    /// None yet; `slot` is the client's, under which the ring knows it.
    pub(crate) fn new(slot: u32) -> Self {
        let (out, socket) = (Vec::new(), None);
        Self { slot, socket, out, out_sent: 0, receiving: false, polling: false, bytes: 0 }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// No descriptor, no port, or the network says no at once.
    pub(crate) fn open(&mut self, core: &mut Core, route: &Route) -> io::Result<()> {
        self.out.clear();
        self.out_sent = 0;
        self.bytes = 0;
        let socket = connect(route)?;
        core.poll_out(self.slot, socket.as_fd());
        self.polling = true;
        self.socket = Some(socket);
        Ok(())
    }

    /// What the connect ended with.
    ///
    /// # Errors
    /// The connect failed.
    pub(crate) fn connected(&self) -> io::Result<()> {
        match self.socket.as_ref().map(rustix::net::sockopt::socket_error) {
            None => Ok(()),
            Some(Ok(result)) => result.map_err(io::Error::from),
            Some(Err(e)) => Err(e.into()),
        }
    }

    /// Appends a PROXY header that announces the socket's own ends.
    pub(crate) fn announce(&mut self) {
        let Some(socket) = &self.socket else { return };
        let socket = SockRef::from(socket);
        let ip = |address: SockAddr| address.as_socket();
        let ends = (socket.local_addr().ok().and_then(ip), socket.peer_addr().ok().and_then(ip));
        // If it was cut at once, it has no address; the next operation fails.
        if let (Some(source), Some(destination)) = ends {
            self.out.extend(announce(Endpoints { source, destination }));
        }
    }

    /// What is to be sent; [`Connection::flush`] sends it.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the socket has no room, so that what is said is not sent.
    pub(crate) fn is_blocked(&self) -> bool {
        self.polling
    }

    /// Bytes that it received.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Arms a receive if none is: of at most `len_max` bytes, or of all that comes.
    pub(crate) fn receive(&mut self, core: &mut Core, len_max: Option<u32>) {
        let Some(socket) = &self.socket else { return };
        if self.receiving {
            return;
        }
        let user_data = Op::Receive.user_data(self.slot);
        match len_max {
            None => core.ring.recv_multi(socket.as_fd(), user_data),
            Some(len) => core.ring.recv(socket.as_fd(), user_data, len),
        }
        self.receiving = true;
    }

    /// Bytes have come.
    pub(crate) fn received(&mut self, buffer: &Buffer) {
        self.bytes += buffer.len() as u64;
    }

    /// The receive that was armed has ended: it is armed again by `receive`.
    pub(crate) fn receive_ended(&mut self) {
        self.receiving = false;
    }

    /// The socket has room, or the connect has come to an end.
    pub(crate) fn writable(&mut self) {
        self.polling = false;
    }

    /// Sends what is buffered, and waits for room if the socket is full.
    pub(crate) fn flush(&mut self, core: &mut Core) {
        let Some(socket) = &self.socket else { return };
        if self.polling || self.out.is_empty() {
            return;
        }
        match send(socket, &self.out[self.out_sent..]) {
            Ok(sent) => {
                self.out_sent += sent;
                if self.out_sent == self.out.len() {
                    self.out.clear();
                    self.out_sent = 0;
                } else {
                    core.poll_out(self.slot, socket.as_fd());
                    self.polling = true;
                }
            }
            // The end of the connection is seen where it is read, with its reason.
            Err(_) => self.out_sent = self.out.len(),
        }
    }

    /// Sends each byte in a segment of its own; false if the socket does not take them. Its buffer
    /// holds thousands of such segments.
    pub(crate) fn flush_bytewise(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        let Some(socket) = &self.socket else { return true };
        out.iter().all(|byte| send(socket, &[*byte]).is_ok_and(|sent| sent == 1))
    }

    /// Ends this side, or both.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        if let Some(socket) = &self.socket {
            // The peer may be gone already.
            let _ = rustix::net::shutdown(socket, how);
        }
    }

    /// Makes the close a reset.
    pub(crate) fn reset_on_close(&self) {
        if let Some(socket) = &self.socket {
            let at_once = Some(std::time::Duration::ZERO);
            // A failure leaves an orderly close, which is no worse.
            let _ = rustix::net::sockopt::set_socket_linger(socket, at_once);
        }
    }

    /// Has the ring let go of it.
    pub(crate) fn end(&mut self, core: &mut Core) {
        for (armed, op) in [(self.receiving, Op::Receive), (self.polling, Op::Writable)] {
            if armed {
                core.cancel(self.slot, op);
            }
        }
    }

    /// Whether no operation of the ring is left on it.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.receiving && !self.polling
    }

    /// Closes the socket of a quiet connection.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }
}

fn connect(route: &Route) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(route.target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = route.receive_bytes {
        // Before the connect: the window's scale is settled there.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = route.source {
        bind_without_port(&socket, SocketAddr::new(source, 0))?;
    }
    match socket.connect(&route.target.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

/// Sends what the socket takes now; 0 if it takes nothing.
fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// Binds `socket` to a source address and leaves the port to `connect`, which can then share a
/// port between destinations. Without it the kernel must find a port that is free for all
/// destinations: 1,100 connects a second instead of tens of thousands.
///
/// # Errors
/// As `bind`.
#[allow(unsafe_code, reason = "a socket option that no safe crate offers")]
fn bind_without_port(socket: &Socket, source: SocketAddr) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int that lives through the call, and its size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&source.into())
}
