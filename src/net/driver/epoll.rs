//! The verbs on tokio's reactor, for hosts that deny io_uring.
//!
//! An operation is tried first and waits only if the socket would block. A socket is registered
//! once, edge-triggered, when an operation first waits for it; from then on an operation is tried
//! only after the kernel has announced an event. The surprise: a transfer of fewer bytes than asked
//! for has emptied or filled the socket, so the socket counts as blocked without another try.
#![allow(unsafe_code, reason = "the reactor is given a descriptor that it does not own")]

use super::{Buffer, Sealed, Socket, direct};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Bytes of a socket's registration: its entry in the table here, and the reactor's own record,
/// which is aligned to 128 bytes. Measured.
pub(super) const REGISTRATION_BYTES: u64 = 600;

/// Bytes of the reactor's buffer for the kernel's events: 1,024 of 12 bytes.
pub(super) const EVENTS_BYTES: u64 = 12 << 10;

/// A thread's reactor and timers, and the tasks that run on them.
pub(super) struct Runtime {
    /// The first field, because it must be dropped first: its sockets are still registered.
    tasks: LocalSet,
    runtime: tokio::runtime::Runtime,
}

impl Runtime {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { tasks: LocalSet::new(), runtime })
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(self.tasks.run_until(future))
    }
}

thread_local! {
    /// This thread's registered sockets, by descriptor. They are here and not in [`Socket`], where
    /// each socket of the other driver would have an empty field for them.
    static REGISTERED: RefCell<Vec<Option<AsyncFd<RawFd>>>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// What this thread's sockets are registered for.
    static INTEREST: Cell<Interest> =
        const { Cell::new(Interest::READABLE.add(Interest::WRITABLE)) };
}

/// Sockets of this thread are watched otherwise for what there is to read.
pub(super) fn register_for_sends_only() {
    INTEREST.set(Interest::WRITABLE);
}

/// A descriptor registered with the reactor. To be dropped before the descriptor is closed.
pub(super) fn register(descriptor: RawFd, interest: Interest) -> io::Result<AsyncFd<RawFd>> {
    // SAFETY: the descriptor is open, and stays so: whoever has it drops this before.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(io::Error::from)
}

/// Calls a function with a socket's registration, which is none before the socket is registered.
#[inline]
fn with_registered<T>(socket: &Socket, act: impl FnOnce(Option<&AsyncFd<RawFd>>) -> T) -> T {
    let place = usize::try_from(socket.raw()).unwrap_or(usize::MAX);
    REGISTERED.with_borrow(|all| act(all.get(place).and_then(Option::as_ref)))
}

/// Registers a socket that is not registered.
fn register_socket(socket: &Socket) -> io::Result<()> {
    let registration = register(socket.raw(), INTEREST.get())?;
    let place = usize::try_from(socket.raw()).map_err(io::Error::other)?;
    REGISTERED.with_borrow_mut(|all| {
        if all.len() <= place {
            all.resize_with(place + 1, || None);
        }
        if let Some(slot) = all.get_mut(place) {
            *slot = Some(registration);
        }
    });
    Ok(())
}

/// Ends a socket's registration. To be called before its descriptor is closed or passed on.
pub(super) fn forget(socket: &Socket) {
    let Ok(place) = usize::try_from(socket.raw()) else { return };
    // This fails only while the thread ends and its table is dropped; the reactor is then, too.
    let registration =
        REGISTERED.try_with(|all| all.borrow_mut().get_mut(place).and_then(Option::take));
    drop(registration);
}

/// The outcome of a try.
enum Try {
    /// A result; the next try may succeed, too.
    Done(io::Result<usize>),
    /// A result; the next try would block.
    Last(usize),
    /// The try would block.
    Blocks,
}

impl Try {
    /// Of a transfer of `asked` bytes.
    #[inline]
    fn of(asked: usize, result: io::Result<usize>) -> Self {
        match result {
            Ok(len) if len > 0 && len < asked => Self::Last(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::Blocks,
            result => Self::Done(result),
        }
    }
}

/// Tries an operation, again after each event of its socket, until there is a result.
#[inline]
fn poll_until_done(
    socket: &Socket,
    interest: Interest,
    context: &mut Context<'_>,
    mut attempt: impl FnMut(BorrowedFd<'_>) -> Try,
) -> Poll<io::Result<usize>> {
    loop {
        let (outcome, is_registered) = with_registered(socket, |registered| {
            let Some(registered) = registered else { return (attempt(socket.as_fd()), false) };
            let mut outcome = Try::Blocks;
            // WouldBlock has the reactor wait for the next event. The reactor also returns it
            // without a try if the last event is used up.
            let _ = registered.try_io(interest, |_| {
                outcome = attempt(socket.as_fd());
                match outcome {
                    Try::Done(_) => Ok(()),
                    Try::Last(_) | Try::Blocks => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            (outcome, true)
        });
        match outcome {
            Try::Done(result) => return Poll::Ready(result),
            Try::Last(len) => return Poll::Ready(Ok(len)),
            Try::Blocks => {}
        }
        if !is_registered && let Err(error) = register_socket(socket) {
            return Poll::Ready(Err(error));
        }
        let waits = with_registered(socket, |registered| match (registered, interest) {
            (None, _) => Poll::Pending,
            (Some(registered), Interest::READABLE) => {
                registered.poll_read_ready(context).map_ok(drop)
            }
            (Some(registered), _) => registered.poll_write_ready(context).map_ok(drop),
        });
        if let Err(error) = ready!(waits) {
            return Poll::Ready(Err(error));
        }
    }
}

/// A receive, until it has completed.
pub(super) struct Receiving(Option<Buffer>);

impl Receiving {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self(Some(buffer))
    }

    #[inline]
    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Buffer)> {
        let Some(mut buffer) = self.0.take() else { return Poll::Pending };
        let polled = poll_until_done(socket, Interest::READABLE, context, |socket| {
            Try::of(buffer.len(), direct::receive(socket, &mut buffer[..]))
        });
        match polled {
            Poll::Ready(result) => Poll::Ready((result, buffer)),
            Poll::Pending => {
                self.0 = Some(buffer);
                Poll::Pending
            }
        }
    }
}

/// A send of a batch, until it has completed, and how many bytes were sent.
pub(super) struct Sending(Option<Sealed>, usize);

impl Sending {
    pub(super) fn new(batch: Sealed) -> Self {
        Self(Some(batch), 0)
    }

    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Sealed)> {
        let Self(Some(batch), sent) = self else { return Poll::Pending };
        let result = loop {
            let polled = poll_until_done(socket, Interest::WRITABLE, context, |socket| {
                #[cfg(test)]
                if let Some(result) = super::faults::send_now("send", batch, socket) {
                    return Try::Done(result);
                }
                Try::of(batch.len(), direct::send(socket, batch))
            });
            match ready!(polled) {
                Ok(len) if len > 0 => {
                    *sent += len;
                    if batch.advance(len) {
                        break Ok(*sent);
                    }
                }
                // The next send shows the error.
                _ if *sent > 0 => break Ok(*sent),
                result => break result,
            }
        };
        self.0.take().map_or(Poll::Pending, |batch| Poll::Ready((result, batch)))
    }
}

/// A send of a buffer's range, until it has completed, and how many bytes were sent.
pub(super) struct SendingBuffer(Option<Buffer>, Range<usize>, usize);

impl SendingBuffer {
    pub(super) fn new(buffer: Buffer, range: Range<usize>) -> Self {
        Self(Some(buffer), range, 0)
    }

    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<(io::Result<usize>, Buffer)> {
        let Self(Some(buffer), rest, sent) = self else { return Poll::Pending };
        let result = loop {
            let bytes = buffer.get(rest.clone()).unwrap_or_default();
            let polled = poll_until_done(socket, Interest::WRITABLE, context, |socket| {
                Try::of(bytes.len(), direct::send_bytes(socket, bytes))
            });
            match ready!(polled) {
                Ok(len) if len > 0 => {
                    *sent += len;
                    rest.start += len;
                    if rest.start >= rest.end {
                        break Ok(*sent);
                    }
                }
                _ if *sent > 0 => break Ok(*sent),
                result => break result,
            }
        };
        self.0.take().map_or(Poll::Pending, |buffer| Poll::Ready((result, buffer)))
    }
}

/// Ready when there is room. The reactor's last event may be out of date, so the kernel is asked.
pub(super) fn poll_room(socket: &Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let polled = poll_until_done(socket, Interest::WRITABLE, context, |socket| {
        match direct::has_room(socket) {
            Ok(false) => Try::Blocks,
            Ok(true) => Try::Done(Ok(0)),
            Err(error) => Try::Done(Err(error)),
        }
    });
    polled.map(|result| result.map(drop))
}

thread_local! {
    /// Notified when waits for a connection are given up.
    static GIVEN_UP: Rc<Notify> = Rc::default();
}

/// Waits until a listening socket has a connection to accept, or waits are given up.
///
/// The socket is registered anew for each wait, so that the kernel reports connections that wait
/// already: a worker does not accept until none is left, and another process may share the socket.
pub(super) async fn acceptable(listening: BorrowedFd<'_>) -> io::Result<()> {
    let given_up = GIVEN_UP.with(Rc::clone);
    let mut given_up = pin!(given_up.notified());
    let listening = register(listening.as_raw_fd(), Interest::READABLE)?;
    poll_fn(|context| {
        if given_up.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        listening.poll_read_ready(context).map(|ready| ready.map(drop))
    })
    .await
}

/// Ends all waits for a connection on this thread. A caller that needs to wait on calls again.
pub(super) fn give_up_accepting() {
    GIVEN_UP.with(|given_up| given_up.notify_waiters());
}

/// Lets the reactor take up new events, and then the other tasks run.
pub(super) async fn everything_tried() {
    tokio::task::yield_now().await;
}

/// Waits for some microseconds; the runtime's timers are exact to milliseconds only.
pub(super) async fn pause_us(microseconds: u64) {
    if wait_for_timer(Duration::from_micros(microseconds)).await.is_err() {
        // No descriptor is left for a timer: the pause takes milliseconds.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn wait_for_timer(time: Duration) -> io::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let it_value = Timespec::try_from(time).map_err(io::Error::other)?;
    let once = Itimerspec { it_interval: Timespec::default(), it_value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    register(timer.as_raw_fd(), Interest::READABLE)?.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{self, Driver, WORKER};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_with_the_number_of_an_earlier_one_waits_for_its_own_bytes() {
        let runtime = driver::Runtime::new(Driver::Epoll, WORKER).unwrap();
        runtime.block_on(async {
            for is_passed_on in [false, true, false] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                let socket = Socket::new(ours.into());
                assert!(with_registered(&socket, |registered| registered.is_none()));
                let mut receiving = socket.receive(Box::new([0; 4]));
                poll_fn(|context| {
                    assert!(receiving.poll(&socket, context).is_pending(), "nothing is there");
                    Poll::Ready(())
                })
                .await;
                assert!(with_registered(&socket, |registered| registered.is_some()));
                theirs.write_all(b"js5d").unwrap();
                let (result, buffer) = receiving.done(&socket).await;
                assert_eq!((result.unwrap(), &*buffer), (4, &b"js5d"[..]));
                if is_passed_on {
                    drop(socket.into_descriptor());
                }
            }
        });
    }
}
