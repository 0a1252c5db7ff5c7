//! The verbs on tokio-uring: operations made by hand, one completion each, buffers owned.
//!
//! tokio-uring's own operations cost an allocation and a shared descriptor each. The operations
//! here own the memory that the kernel writes to or reads from until they have completed. If one is
//! dropped earlier, the runtime keeps that memory until then.
use super::{Buffer, Sealed};
use io_uring::{cqueue, opcode, squeue, types};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// The number of entries of a thread's ring.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct RingSize {
    /// Submissions that wait for the kernel.
    pub(in crate::net) entries: u32,
    /// Completions that wait for the thread: many more, because thousands may complete at once.
    pub(in crate::net) completions: u32,
}

impl RingSize {
    /// Submissions of 64 bytes with an index of 4, completions of 16.
    pub(super) const fn bytes(self) -> u64 {
        self.entries as u64 * (64 + 4) + self.completions as u64 * 16
    }
}

/// The ring of a worker.
pub(in crate::net) const WORKER: RingSize = RingSize { entries: 4096, completions: 32768 };

/// The ring of the thread of game connections. Each of these has at most three completions: one for
/// each direction, and one of a deadline.
pub(in crate::net) const GAME: RingSize = RingSize { entries: 1024, completions: 16384 };

/// A runtime with a ring of that size.
pub(super) fn runtime(size: RingSize) -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    // Not DEFER_TASKRUN, with which the runtime hangs: it never enters to reap events.
    ring.setup_cqsize(size.completions).setup_coop_taskrun().setup_single_issuer();
    tokio_uring::Runtime::new(tokio_uring::builder().entries(size.entries).uring_builder(&ring))
}

/// An operation under way.
pub(super) type InFlight<T> = InFlightOneshot<T, GiveBack<T>>;

/// Turns a completion into its result and what the operation owned.
pub(super) struct GiveBack<T>(PhantomData<T>);

impl<T: 'static> OneshotOutputTransform for GiveBack<T> {
    type Output = (io::Result<usize>, T);
    type StoredData = T;

    fn transform_oneshot_output(self, data: T, completion: cqueue::Entry) -> Self::Output {
        let result = completion.result();
        #[cfg(test)]
        let result = super::faults::result(&data, result);
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        (result, data)
    }
}

fn submit<T: 'static>(owned: T, entry: squeue::Entry) -> InFlight<T> {
    UnsubmittedOneshot::new(owned, GiveBack(PhantomData), entry).submit()
}

#[inline]
pub(super) fn poll<T: Unpin + 'static>(
    operation: &mut InFlight<T>,
    context: &mut Context<'_>,
) -> Poll<(io::Result<usize>, T)> {
    Pin::new(operation).poll(context)
}

#[inline]
pub(super) fn receive(socket: RawFd, mut buffer: Buffer) -> InFlight<Buffer> {
    let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(types::Fd(socket), buffer.as_mut_ptr(), len).build();
    submit(buffer, entry)
}

/// Completes with fewer bytes only if it was interrupted.
pub(super) fn send(socket: RawFd, batch: Sealed) -> InFlight<Sealed> {
    let (socket, flags) = (types::Fd(socket), libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
    let entry = match batch.as_one_slice().map(|bytes| (bytes, u32::try_from(bytes.len()))) {
        Some((bytes, Ok(len))) => {
            opcode::Send::new(socket, bytes.as_ptr(), len).flags(flags).build()
        }
        _ => opcode::SendMsg::new(socket, batch.message()).flags(flags as u32).build(),
    };
    #[cfg(test)]
    let entry = super::faults::send(entry, &batch, socket.0);
    submit(batch, entry)
}

pub(super) fn send_buffer(socket: RawFd, buffer: Buffer, range: Range<usize>) -> InFlight<Buffer> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let bytes = buffer.get(range).unwrap_or_default();
    let len = u32::try_from(bytes.len()).unwrap_or_default();
    let entry = opcode::Send::new(types::Fd(socket), bytes.as_ptr(), len).flags(flags).build();
    submit(buffer, entry)
}

pub(super) fn writable(socket: RawFd) -> InFlight<()> {
    submit((), opcode::PollAdd::new(types::Fd(socket), libc::POLLOUT as u32).build())
}

pub(super) fn acceptable(listening: RawFd) -> InFlight<()> {
    submit((), opcode::PollAdd::new(types::Fd(listening), libc::POLLIN as u32).build())
}

/// Ends what [`acceptable`] waits for on a listening socket, whose descriptor the ring would keep
/// open.
pub(super) fn give_up_accepting(listening: RawFd) -> InFlight<()> {
    let all = types::CancelBuilder::fd(types::Fd(listening)).all();
    submit((), opcode::AsyncCancel2::new(all).build())
}

/// Completes when all operations that were submitted before it have been tried once.
pub(super) async fn everything_tried() {
    let (_tried, ()) = submit((), opcode::Nop::new().build()).await;
}

/// Waits for some microseconds; the runtime's timers are exact to milliseconds only.
pub(super) async fn pause_us(microseconds: u64) {
    let timespec = Box::new(types::Timespec::from(Duration::from_micros(microseconds)));
    let entry = opcode::Timeout::new(&raw const *timespec).build();
    // The kernel reports the end of the time as an error, ETIME.
    let (_over, _timespec) = submit(timespec, entry).await;
}
