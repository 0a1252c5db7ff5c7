//! The ring's operations, made by hand: one completion each, buffers and socket owned.
//!
//! tokio-uring's own operations cost an allocation and a shared descriptor each. These own what
//! the kernel writes to or reads from, and the [`Peer`] whose socket they use, until the
//! completion has come: dropping one early keeps all of it alive.
#![allow(unsafe_code, reason = "sendmsg with a message header that points into its own output")]

use super::listener::Listener;
use super::output::Output;
use super::peer::Peer;
use io_uring::{cqueue, opcode, squeue, types};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// Bytes read at once: 64 requests. 64 bytes cost 2.2 times as much CPU a request at 40 in
/// flight, 1,024 gain nothing (docs/decisions/0002).
pub(super) const READ_LEN: usize = 256;

/// A connection's read buffer.
pub(super) type ReadBuffer = Box<[u8; READ_LEN]>;

/// An operation under way. Never drop one before its completion; see `close.rs`.
pub(super) type InFlight<T> = InFlightOneshot<T, GiveBack<T>>;

/// Turns a completion into its result and what the operation owned.
pub(super) struct GiveBack<T>(PhantomData<T>);

impl<T: 'static> OneshotOutputTransform for GiveBack<T> {
    type Output = (io::Result<usize>, T);
    type StoredData = T;

    fn transform_oneshot_output(self, data: T, completion: cqueue::Entry) -> Self::Output {
        let result = completion.result();
        #[cfg(test)]
        let result = super::ops_faults::result(&data, result);
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        (result, data)
    }
}

/// What a receive owns.
pub(super) type Receiving = (ReadBuffer, Rc<Peer>);

/// What a send owns.
pub(super) type Sending = (Box<Output>, Rc<Peer>);

/// Reads what is there, at least a byte; 0 is the end of the stream.
pub(super) fn receive(mut buffer: ReadBuffer, peer: Rc<Peer>) -> InFlight<Receiving> {
    let len = u32::try_from(READ_LEN).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(types::Fd(peer.raw_fd()), buffer.as_mut_ptr(), len).build();
    #[cfg(test)]
    let entry = super::ops_faults::receive(entry, &mut buffer, &peer);
    submit((buffer, peer), entry)
}

/// Sends all of `output`, or what went before an error. Completes short only if interrupted.
pub(super) fn send(output: Box<Output>, peer: Rc<Peer>) -> InFlight<Sending> {
    let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
    let entry = opcode::SendMsg::new(types::Fd(peer.raw_fd()), output.message()).flags(flags);
    let entry = entry.build();
    #[cfg(test)]
    let entry = super::ops_faults::send(entry, &output, &peer);
    submit((output, peer), entry)
}

/// A buffer of a game connection, one a direction: a game's largest packet, and what both sides
/// have to wait for each other.
pub(super) const GAME_BUFFER_LEN: usize = 4096;

/// What is being forwarded in one direction of a game connection.
pub(super) type GameBuffer = Box<[u8; GAME_BUFFER_LEN]>;

/// Reads what is there of a game connection, at least a byte; 0 is the end of the stream.
pub(super) fn receive_game(
    mut buffer: GameBuffer,
    socket: Rc<OwnedFd>,
) -> InFlight<(GameBuffer, Rc<OwnedFd>)> {
    let len = u32::try_from(GAME_BUFFER_LEN).unwrap_or(u32::MAX);
    let fd = types::Fd(socket.as_raw_fd());
    let entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), len).build();
    submit((buffer, socket), entry)
}

/// Sends these bytes of `buffer`, all of them, or what went before an error.
pub(super) fn send_game(
    buffer: GameBuffer,
    range: Range<usize>,
    socket: Rc<OwnedFd>,
) -> InFlight<(GameBuffer, Rc<OwnedFd>)> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let bytes = buffer.get(range).unwrap_or_default();
    let len = u32::try_from(bytes.len()).unwrap_or_default();
    let fd = types::Fd(socket.as_raw_fd());
    let entry = opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build();
    submit((buffer, socket), entry)
}

/// Completes when a connect has succeeded or failed.
pub(super) fn connected(socket: Rc<OwnedFd>) -> InFlight<Rc<OwnedFd>> {
    let events = libc::POLLOUT as u32;
    let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events).build();
    submit(socket, entry)
}

/// Completes when the socket takes more; the output comes back as it is.
pub(super) fn writable(output: Box<Output>, peer: Rc<Peer>) -> InFlight<Sending> {
    let events = libc::POLLOUT as u32;
    let entry = opcode::PollAdd::new(types::Fd(peer.raw_fd()), events).build();
    submit((output, peer), entry)
}

/// Completes when `listener` has a connection to accept. It takes none, so that dropping it at
/// the end loses none.
pub(super) fn acceptable(listener: Rc<Listener>) -> InFlight<Rc<Listener>> {
    let events = libc::POLLIN as u32;
    let entry = opcode::PollAdd::new(types::Fd(listener.socket.as_raw_fd()), events).build();
    submit(listener, entry)
}

/// Ends what [`acceptable`] waits for on `listener`, whose descriptor the ring would keep open.
pub(super) fn give_up_accepting(listener: Rc<Listener>) -> InFlight<Rc<Listener>> {
    let all = types::CancelBuilder::fd(types::Fd(listener.socket.as_raw_fd())).all();
    submit(listener, opcode::AsyncCancel2::new(all).build())
}

/// Does nothing: it completes when everything that was submitted before it has been tried.
pub(super) fn nothing() -> InFlight<()> {
    submit((), opcode::Nop::new().build())
}

/// Completes after `duration`, to some microseconds; the runtime's timers know milliseconds.
pub(super) fn timer(duration: Duration) -> InFlight<Box<types::Timespec>> {
    let timespec = Box::new(types::Timespec::from(duration));
    let entry = opcode::Timeout::new(&raw const *timespec).build();
    submit(timespec, entry)
}

fn submit<T: 'static>(owned: T, entry: squeue::Entry) -> InFlight<T> {
    UnsubmittedOneshot::new(owned, GiveBack(PhantomData), entry).submit()
}

/// Sends at once what the socket takes, without the ring. `WouldBlock` if it takes nothing.
pub(super) fn send_now(output: &Output, peer: &Peer) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    #[cfg(test)]
    if let Some(result) = super::ops_faults::send_now(output, peer) {
        return result;
    }
    if let Some(bytes) = output.as_one_slice() {
        use rustix::net::SendFlags;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        return Ok(rustix::net::send(peer, bytes, flags)?);
    }
    // SAFETY: the header and everything it points to live as long as `output`, which is
    // borrowed for the call; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(peer.raw_fd(), output.message(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// How long to wait before an operation that failed in passing is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The wait before another try, and the send that follows it, if there is one to follow. Boxed:
/// it is rare, and would make each idle connection larger.
pub(super) type Retry = Pin<Box<dyn Future<Output = Option<InFlight<Sending>>>>>;

/// Waits, after which a receive may be tried again.
pub(super) fn pause() -> Retry {
    Box::pin(async {
        tokio::time::sleep(RETRY_PAUSE).await;
        None
    })
}

/// Waits, and sends `output` again, of which nothing went out.
pub(super) fn send_again(output: Box<Output>, peer: Rc<Peer>) -> Retry {
    Box::pin(async {
        tokio::time::sleep(RETRY_PAUSE).await;
        Some(send(output, peer))
    })
}

/// Failures of an operation that say nothing about the socket: try again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::ECANCELED)
    )
}
