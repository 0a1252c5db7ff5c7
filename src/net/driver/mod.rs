//! What `net` asks of the kernel, as a handful of verbs: receive, send, wait for room, wait for a
//! connection, do nothing, sleep, spawn.
//!
//! Nothing above this folder names a ring or a reactor. Receives and sends are *operations*: they
//! own the memory that the kernel reads or writes until they have completed, and are polled by
//! whoever started them. The surprise: an operation does not own its socket. Whoever starts one
//! keeps the socket open until the operation has completed, or a later socket with the same
//! number would be read from. Dropping an operation does not cancel it.

#[cfg(test)]
mod faults;
mod ready;
mod ring;

#[cfg(test)]
pub(super) use faults::{begin as begin_faults, end as end_faults};
pub use ready::Key;
pub(super) use ready::{ReadyList, wake};
pub(super) use ring::{GAME, RingSize, Runtime, WORKER, everything_tried, pause_us, spawn};

use super::batch::Sealed;
use crate::protocol::request::MESSAGE_LEN;
use crate::protocol::session::Received;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll};

/// How often a thread looks at its deadlines and publishes its counters.
pub(super) const HEARTBEAT_MS: u64 = 100;

/// Bytes read at once: 64 requests of build 550, 25 of the youngest clients, for which a
/// connection reads on at once. 64 bytes cost 2.2 times as much CPU a request at 40 in
/// flight, 1,024 gain nothing (docs/decisions/0002).
pub(super) const READ_LEN: usize = 256;

// A connection counts what a read brought after each read, a message that began before included.
const _: () = assert!(READ_LEN.div_ceil(MESSAGE_LEN) <= Received::MESSAGES_MAX);

/// Memory that a receive writes to.
pub(super) type Buffer<const LEN: usize> = Box<[u8; LEN]>;

/// A JS5 connection's read buffer.
pub(super) type ReadBuffer = Buffer<READ_LEN>;

/// A connected or listening socket.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// The descriptor, for whoever goes on with it. No operation may be under way.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Shuts both sides down, so that operations under way complete.
    pub(super) fn shut_down(&self) {
        // An error means that it is over already.
        let _ = rustix::net::shutdown(self, Shutdown::Both);
    }

    /// Ends our side in good order: what was sent is delivered, then the end of the stream.
    pub(super) fn end_output(&self) {
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }

    /// Sends at once what the socket takes. `WouldBlock` if it takes nothing.
    pub(super) fn send_now(&self, batch: &Sealed) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(result) = faults::send_now(batch, self) {
            return result;
        }
        match batch.as_one_slice() {
            Some(bytes) => self.send_bytes_now(bytes),
            None => ring::send_message_now(self.raw(), batch),
        }
    }

    /// Sends at once what the socket takes of these bytes.
    pub(super) fn send_bytes_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::send(self, bytes, flags)?)
    }

    /// Reads at once what is there. `WouldBlock` if it is nothing.
    pub(super) fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (len, _) = rustix::net::recv(self, buffer, RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    /// Begins to read what is there, at least a byte; 0 is the end of the stream.
    #[inline]
    pub(super) fn receive<const LEN: usize>(&self, buffer: Buffer<LEN>) -> Receiving<LEN> {
        Receiving(ring::receive(self.raw(), buffer))
    }

    /// Begins to send all of `batch`, or what goes before an error.
    pub(super) fn send(&self, batch: Sealed) -> Sending {
        Sending(ring::send(self.raw(), batch))
    }

    /// Begins to send these bytes of `buffer`, all of them, or what goes before an error.
    pub(super) fn send_buffer<const LEN: usize>(
        &self,
        buffer: Buffer<LEN>,
        range: Range<usize>,
    ) -> Receiving<LEN> {
        Receiving(ring::send_buffer(self.raw(), buffer, range))
    }

    /// Waits until the socket takes more, has failed, or a connect is decided.
    pub(super) fn room(&self) -> Room {
        Room(ring::writable(self.raw()))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// An operation on a buffer: a receive, or a send of a game connection.
pub(super) struct Receiving<const LEN: usize>(ring::InFlight<Buffer<LEN>>);

impl<const LEN: usize> Receiving<LEN> {
    /// The result and the buffer, once it has completed. Not to be polled again after that.
    #[inline]
    pub(super) fn poll(
        &mut self,
        _socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Buffer<LEN>)> {
        ring::poll(&mut self.0, context)
    }

    /// Waits for the result.
    pub(super) async fn done(mut self, socket: &Socket) -> (io::Result<usize>, Buffer<LEN>) {
        poll_fn(|context| self.poll(socket, context)).await
    }
}

/// A send of a batch.
pub(super) struct Sending(ring::InFlight<Sealed>);

impl Sending {
    /// The result and the batch, once it has completed. Not to be polled again after that.
    pub(super) fn poll(
        &mut self,
        _socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Sealed)> {
        ring::poll(&mut self.0, context)
    }
}

/// A wait for room.
pub(super) struct Room(ring::InFlight<()>);

impl Room {
    /// Ready when there is room, or the socket has failed.
    pub(super) fn poll(
        &mut self,
        _socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ring::poll(&mut self.0, context).map(|(result, ())| result.map(drop))
    }

    /// Waits for it.
    pub(super) async fn done(mut self, socket: &Socket) -> io::Result<()> {
        poll_fn(|context| self.poll(socket, context)).await
    }
}

/// Waits until a listening socket has a connection to accept. It takes none, so that dropping it
/// at the end loses none. The descriptor stays open until it has completed or the thread ends.
pub(super) async fn connection_waits(listening: BorrowedFd<'_>) -> io::Result<()> {
    ring::acceptable(listening.as_raw_fd()).await.0.map(drop)
}

/// Ends every wait for a connection on a listening socket: the kernel would keep it open for them.
pub(super) async fn give_up_waiting(listening: BorrowedFd<'_>) {
    // That there was nothing to give up is an error, too.
    let (_, ()) = ring::give_up_accepting(listening.as_raw_fd()).await;
}

/// Failures of an operation that say nothing about the socket: try again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::ECANCELED)
    )
}
