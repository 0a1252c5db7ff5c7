//! What `net` asks of the kernel, as a handful of verbs: receive, send, wait for room, wait for a
//! connection, do nothing, sleep, spawn.
//!
//! Two drivers carry them out: `ring`, and `epoll` for hosts that deny io_uring. Each thread uses
//! the driver of its [`Runtime`]; nothing above this folder depends on which it is. Receives and
//! sends are *operations*: they own the memory that the kernel reads or writes until they have
//! completed, and are polled by their owner. The surprise: an operation does not own its socket.
//! Its owner must keep the socket open until the operation has completed; otherwise the kernel
//! could act on a later socket with the same descriptor. Dropping an operation does not cancel it.

mod direct;
mod epoll;
#[cfg(test)]
mod faults;
mod readiness;
mod ready;
mod ring;

#[cfg(test)]
pub(super) use faults::{begin as begin_faults, end as end_faults};
pub(super) use readiness::{BYTES as READINESS_BYTES, Readiness, is_readable, watch};
pub use ready::Key;
pub(super) use ready::{ReadyList, wake};
pub(super) use ring::{GAME, RingSize, WORKER};

use super::batch::Sealed;
use crate::protocol::request::MESSAGE_LEN;
use crate::protocol::session::Received;
use rustix::net::Shutdown;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// How a thread's operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// By an io_uring: operations are submitted, and complete.
    Ring,
    /// By an epoll set: operations are system calls, made when the kernel says that they would
    /// not block.
    Epoll,
}

impl Driver {
    /// Its name in settings, in the log and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }

    /// Bytes that the driver needs for a socket that it sends to, or receives from.
    pub(super) const fn socket_bytes(self) -> u64 {
        match self {
            Self::Ring => 0,
            Self::Epoll => epoll::REGISTRATION_BYTES,
        }
    }

    /// Bytes that the driver needs for each thread.
    pub(super) const fn thread_bytes(self, size: RingSize) -> u64 {
        match self {
            Self::Ring => size.bytes(),
            Self::Epoll => epoll::EVENTS_BYTES,
        }
    }
}

thread_local! {
    /// The driver of the runtime that runs on this thread.
    static DRIVER: Cell<Driver> = const { Cell::new(Driver::Ring) };
}

/// A thread's driver and the tasks that run on it.
pub(super) struct Runtime(ByDriver<tokio_uring::Runtime, epoll::Runtime>);

impl Runtime {
    /// A runtime with this driver; `size` is the size of its ring, if it has one.
    ///
    /// # Errors
    /// The ring, or the epoll set, cannot be set up.
    pub(super) fn new(driver: Driver, size: RingSize) -> io::Result<Self> {
        Ok(Self(match driver {
            Driver::Ring => ByDriver::Ring(ring::runtime(size)?),
            Driver::Epoll => ByDriver::Epoll(epoll::Runtime::new()?),
        }))
    }

    /// Runs `future` and the tasks that it spawns until `future` ends. A thread has one runtime in
    /// its life.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            ByDriver::Ring(runtime) => {
                DRIVER.set(Driver::Ring);
                runtime.block_on(future)
            }
            ByDriver::Epoll(runtime) => {
                DRIVER.set(Driver::Epoll);
                runtime.block_on(future)
            }
        }
    }
}

/// A value of the thread's driver.
enum ByDriver<R, E> {
    Ring(R),
    Epoll(E),
}

/// Runs `task` beside the others of this thread.
pub(super) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(task)
}

/// Milliseconds between two times that a thread checks its deadlines and publishes its counters.
pub(super) const HEARTBEAT_MS: u64 = 100;

/// Bytes of a read, and messages of the shortest form in them. A connection counts messages after
/// each read, and a message may have begun in the read before.
pub(super) const READ_LEN: usize = 1000;
const _: () = assert!(READ_LEN / MESSAGE_LEN < Received::MESSAGES_MAX);

/// Memory that a receive writes to, all of it.
pub(super) type Buffer = Box<[u8]>;

/// A connected socket. It must stay on the thread that made it: the epoll driver keeps the
/// registrations of sockets by thread and descriptor.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
}

impl Socket {
    /// A socket for operations on this thread.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// The descriptor, to be used elsewhere. No operation may be under way.
    #[allow(unsafe_code, reason = "a descriptor taken out of what forgets it when dropped")]
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.forget();
        readiness::unwatch(&self);
        let socket = ManuallyDrop::new(self);
        // SAFETY: the descriptor is read once and has no other owner from here on, as what it is
        // read from is never dropped.
        unsafe { ptr::read(&raw const socket.descriptor) }
    }

    /// Has the driver forget the descriptor.
    fn forget(&self) {
        if DRIVER.get() == Driver::Epoll {
            epoll::forget(self);
        }
    }

    fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Shuts both sides down, so that operations under way complete.
    pub(super) fn shut_down(&self) {
        // An error means that the connection has ended already.
        let _ = rustix::net::shutdown(self, Shutdown::Both);
    }

    /// Ends our side in good order: what was sent is delivered, then the end of the stream.
    pub(super) fn end_output(&self) {
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }

    /// Sends as much as the socket takes at once, by a system call. `WouldBlock` if it takes
    /// nothing.
    #[inline]
    pub(super) fn send_now(&self, batch: &Sealed) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(result) = faults::send_now("direct send", batch, self.as_fd()) {
            return result;
        }
        direct::send(self.as_fd(), batch)
    }

    /// Receives what has arrived on the socket of a connection that is watched; 0 is the end of the
    /// stream. If nothing has arrived, this returns none, and the connection is woken when
    /// something has.
    #[inline]
    pub(super) fn receive_now(&self, key: Key, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        readiness::receive(self.as_fd(), key, buffer)
    }

    /// Starts to receive at least one byte, and more if more has arrived. A result of 0 is the end
    /// of the stream.
    #[inline]
    pub(super) fn receive(&self, buffer: Buffer) -> Receiving {
        Receiving(match DRIVER.get() {
            Driver::Ring => ByDriver::Ring(ring::receive(self.raw(), buffer)),
            Driver::Epoll => ByDriver::Epoll(epoll::Receiving::new(buffer)),
        })
    }

    /// Starts to send all of `batch`. The result may be shorter if an error came after a part.
    pub(super) fn send(&self, batch: Sealed) -> Sending {
        Sending(match DRIVER.get() {
            Driver::Ring => ByDriver::Ring(ring::send(self.raw(), batch)),
            Driver::Epoll => ByDriver::Epoll(epoll::Sending::new(batch)),
        })
    }

    /// Starts to send all of these bytes of `buffer`. The result may be shorter if an error came
    /// after a part.
    pub(super) fn send_buffer(&self, buffer: Buffer, range: Range<usize>) -> SendingBuffer {
        SendingBuffer(match DRIVER.get() {
            Driver::Ring => ByDriver::Ring(ring::send_buffer(self.raw(), buffer, range)),
            Driver::Epoll => ByDriver::Epoll(epoll::SendingBuffer::new(buffer, range)),
        })
    }

    /// Whether the socket takes more at once, or has failed.
    pub(super) fn has_room(&self) -> bool {
        direct::has_room(self).unwrap_or(true)
    }

    /// Starts to wait until the socket takes more, has failed, or a connect has succeeded or
    /// failed.
    pub(super) fn room(&self) -> Room {
        Room(match DRIVER.get() {
            Driver::Ring => ByDriver::Ring(ring::writable(self.raw())),
            Driver::Epoll => ByDriver::Epoll(()),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.forget();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Has a task yield from time to time even if its operations complete at once, as they may with
/// epoll. With a ring each operation makes the task wait.
async fn take_turns() {
    tokio::task::consume_budget().await;
}

/// A receive.
pub(super) struct Receiving(ByDriver<ring::InFlight<Buffer>, epoll::Receiving>);

impl Receiving {
    /// The result and the buffer, once it has completed. Not to be polled again after that.
    #[inline]
    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Buffer)> {
        match &mut self.0 {
            ByDriver::Ring(operation) => ring::poll(operation, context),
            ByDriver::Epoll(operation) => operation.poll(socket, context),
        }
    }

    /// Waits for the result.
    pub(super) async fn done(mut self, socket: &Socket) -> (io::Result<usize>, Buffer) {
        take_turns().await;
        poll_fn(|context| self.poll(socket, context)).await
    }
}

/// A send of a buffer.
pub(super) struct SendingBuffer(ByDriver<ring::InFlight<Buffer>, epoll::SendingBuffer>);

impl SendingBuffer {
    /// Waits for the result.
    pub(super) async fn done(mut self, socket: &Socket) -> (io::Result<usize>, Buffer) {
        take_turns().await;
        poll_fn(|context| match &mut self.0 {
            ByDriver::Ring(operation) => ring::poll(operation, context),
            ByDriver::Epoll(operation) => operation.poll(socket, context),
        })
        .await
    }
}

/// A send of a batch.
pub(super) struct Sending(ByDriver<ring::InFlight<Sealed>, epoll::Sending>);

impl Sending {
    /// The result and the batch, once the send has completed; the batch has recorded the bytes
    /// sent. Not to be polled again after that.
    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Sealed)> {
        match &mut self.0 {
            ByDriver::Ring(operation) => ring::poll(operation, context).map(|(result, batch)| {
                let mut batch = batch;
                if let Ok(len) = result {
                    batch.advance(len);
                }
                (result, batch)
            }),
            ByDriver::Epoll(operation) => operation.poll(socket, context),
        }
    }
}

/// A wait for room.
pub(super) struct Room(ByDriver<ring::InFlight<()>, ()>);

impl Room {
    /// Ready when there is room, or the socket has failed.
    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            ByDriver::Ring(operation) => {
                ring::poll(operation, context).map(|(result, ())| result.map(drop))
            }
            ByDriver::Epoll(()) => epoll::poll_room(socket, context),
        }
    }

    /// Waits for room.
    pub(super) async fn done(mut self, socket: &Socket) -> io::Result<()> {
        poll_fn(|context| self.poll(socket, context)).await
    }
}

/// Waits until a listening socket has a connection to accept. It accepts none, so none is lost when
/// this is dropped. The descriptor must stay open until this has completed or the thread ends.
pub(super) async fn connection_waits(listening: BorrowedFd<'_>) -> io::Result<()> {
    match DRIVER.get() {
        Driver::Ring => ring::acceptable(listening.as_raw_fd()).await.0.map(drop),
        Driver::Epoll => epoll::acceptable(listening).await,
    }
}

/// Ends every wait for a connection on a listening socket, because a ring keeps the socket open for
/// them. Waits on this thread's other listening sockets may end, too.
pub(super) async fn give_up_waiting(listening: BorrowedFd<'_>) {
    match DRIVER.get() {
        // If there was no wait, this returns an error, which has no meaning here.
        Driver::Ring => drop(ring::give_up_accepting(listening.as_raw_fd()).await),
        Driver::Epoll => epoll::give_up_accepting(),
    }
}

/// Completes when all operations that were started before it have been tried once.
pub(super) async fn everything_tried() {
    match DRIVER.get() {
        Driver::Ring => ring::everything_tried().await,
        Driver::Epoll => epoll::everything_tried().await,
    }
}

/// Waits for some microseconds; the runtime's timers are exact to milliseconds only.
pub(super) async fn pause_us(microseconds: u64) {
    match DRIVER.get() {
        Driver::Ring => ring::pause_us(microseconds).await,
        Driver::Epoll => epoll::pause_us(microseconds).await,
    }
}

/// Whether a failure of an operation says nothing about its socket, so that the operation should be
/// tried again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::ECANCELED)
    )
}
