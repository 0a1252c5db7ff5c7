//! Which connections of a worker have something to read: one epoll set for all of its sockets.
//!
//! A socket is in the set from the connection's first moment to its last, edge-triggered, with the
//! connection's key. Nothing is submitted or armed to receive, and a connection that waits for its
//! peer has no buffer: it is read by a system call, into a buffer that all connections of the
//! worker share, when the set has announced it (docs/decisions/0019). Both drivers do this; the
//! worker's runtime waits for the set as for one descriptor.
//!
//! The surprise: an event is announced once. What it says is kept here until a read has found the
//! socket empty, however long the connection does not want to read. A read that finds it empty does
//! not find the end of the stream behind the last bytes, so the end is kept, too.

use super::direct;
use super::epoll::{register, register_for_sends_only};
use super::ready::{Key, wake};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Events that are taken from the set at once; fewer in tests, so that a set can have more.
const EVENTS_MAX: usize = if cfg!(test) { 8 } else { 1024 };

/// Bytes of a worker's set, beside those of its connections: the events.
pub(in crate::net) const BYTES: u64 = 12 * EVENTS_MAX as u64;

/// What a socket is watched for.
const WATCHED: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// The events that nothing follows: the end of the stream, and failures.
const LAST: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// What is known of a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Empty, and the connection does not want to read.
    Empty,
    /// Empty, and the connection is to be woken when it can be read.
    Awaited,
    /// It can be read, and may be empty after that.
    Readable,
    /// It can be read up to its end.
    Ended,
}

/// The sockets of this thread that are watched.
struct Watched {
    set: Rc<OwnedFd>,
    /// By the connection's key.
    states: Vec<State>,
}

thread_local! {
    static WATCHED_SOCKETS: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// A thread's set of watched sockets, and its registration with the runtime.
pub(in crate::net) struct Readiness {
    set: AsyncFd<RawFd>,
    /// The descriptor that is registered. The second field, because it must be dropped second.
    descriptor: Rc<OwnedFd>,
}

impl Readiness {
    /// The set of this thread, on which a runtime runs.
    ///
    /// # Errors
    /// No descriptor is left for it.
    pub(in crate::net) fn new() -> io::Result<Self> {
        let descriptor = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let set = register(descriptor.as_raw_fd(), Interest::READABLE)?;
        let watched = Watched { set: Rc::clone(&descriptor), states: Vec::new() };
        WATCHED_SOCKETS.set(Some(watched));
        register_for_sends_only();
        Ok(Self { set, descriptor })
    }

    /// Wakes connections whose sockets can be read, for as long as the worker runs.
    pub(in crate::net) async fn wake_readable(self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        // An error means that the runtime ends.
        while let Ok(mut announced) = self.set.readable().await {
            events.clear();
            let at_once = Timespec::default();
            // Of a set of one's own, a wait fails only if it is interrupted.
            let taken = epoll::wait(&self.descriptor, spare_capacity(&mut events), Some(&at_once));
            if taken.is_ok_and(|taken| taken < EVENTS_MAX) {
                announced.clear_ready();
            }
            drop(announced);
            events.iter().for_each(announce);
            if events.len() == EVENTS_MAX {
                // There may be more. The connections have their turn first, and so has what was
                // given to the driver: a task that only yields keeps a ring from being entered.
                super::everything_tried().await;
            }
        }
    }
}

/// Keeps what an event says, and wakes its connection if that waits.
fn announce(event: &epoll::Event) {
    // The kernel's record is packed: its fields are copied out.
    let (flags, data) = (event.flags, event.data);
    let key = Key::new(usize::try_from(data.u64()).unwrap_or(usize::MAX));
    with_state(key, |state| {
        if *state == State::Awaited {
            wake(key);
        }
        let is_last = *state == State::Ended || flags.intersects(LAST);
        *state = if is_last { State::Ended } else { State::Readable };
    });
}

/// Calls a function with the state of a connection that is watched.
#[inline]
fn with_state<T>(key: Key, act: impl FnOnce(&mut State) -> T) -> Option<T> {
    WATCHED_SOCKETS.with_borrow_mut(|watched| {
        let watched = watched.as_mut()?;
        watched.states.get_mut(key.index()).map(act)
    })
}

/// Has the connection of a socket be woken when it waits in [`receive`] and the socket can be read.
/// The socket is watched until it is closed, or [`unwatch`] is called.
///
/// # Errors
/// The kernel has no memory for it, or the user has as many watched descriptors as are allowed
/// (`fs.epoll.max_user_watches`).
pub(in crate::net) fn watch(socket: impl AsFd, key: Key) -> io::Result<()> {
    WATCHED_SOCKETS.with_borrow_mut(|watched| {
        let watched = watched.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let len = watched.states.len().max(key.index() + 1);
        watched.states.resize(len, State::Empty);
        // An earlier connection may have had the key.
        if let Some(state) = watched.states.get_mut(key.index()) {
            *state = State::Empty;
        }
        epoll::add(&watched.set, socket, EventData::new_u64(key.index() as u64), WATCHED)?;
        Ok(())
    })
}

/// No longer watches a socket that stays open.
pub(super) fn unwatch(socket: impl AsFd) {
    WATCHED_SOCKETS.with_borrow(|watched| {
        if let Some(watched) = watched {
            // This fails if the socket is not watched.
            let _ = epoll::delete(&watched.set, socket);
        }
    });
}

/// Whether a connection's socket can be read, as far as is known.
pub(in crate::net) fn is_readable(key: Key) -> bool {
    with_state(key, |state| matches!(state, State::Readable | State::Ended)).unwrap_or(false)
}

/// Receives what has arrived on a connection's socket, as far as it fits; 0 is the end of the
/// stream. If nothing has arrived, this returns none, and the connection is woken when something
/// has.
#[inline]
pub(in crate::net) fn receive(
    socket: BorrowedFd<'_>,
    key: Key,
    buffer: &mut [u8],
) -> Option<io::Result<usize>> {
    let can_be_read = with_state(key, |state| {
        if *state == State::Empty {
            *state = State::Awaited;
        }
        *state != State::Awaited
    });
    if can_be_read != Some(true) {
        return None;
    }
    #[cfg(test)]
    if let Some(result) = super::faults::receive_now(socket, buffer) {
        return Some(result);
    }
    let result = direct::receive(socket, buffer);
    let (is_short, blocks) = match &result {
        Ok(len) => (*len < buffer.len(), false),
        Err(error) => (false, error.kind() == io::ErrorKind::WouldBlock),
    };
    with_state(key, |state| match state {
        _ if blocks => *state = State::Awaited,
        State::Readable if is_short => *state = State::Empty,
        _ => {}
    });
    (!blocks).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{self, Driver, ReadyList, Runtime, WORKER};
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    /// Has the set's task run until the runtime has seen what the kernel announced.
    async fn settle() {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }

    fn text(received: Option<io::Result<usize>>, buffer: &[u8]) -> Option<&[u8]> {
        received.map(|len| &buffer[..len.unwrap()])
    }

    fn check(driver: Driver) {
        Runtime::new(driver, WORKER).unwrap().block_on(async {
            let task = tokio::task::spawn_local(Readiness::new().unwrap().wake_readable());
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (key, mut buffer) = (Key::new(7), [0; 8]);
            watch(&ours, key).unwrap();
            let mut read = || {
                let received = receive(ours.as_fd(), key, &mut buffer);
                text(received, &buffer).map(<[u8]>::to_vec)
            };
            assert_eq!(read(), None);
            theirs.write_all(b"longer than eight").unwrap();
            settle().await;
            assert_eq!(read().as_deref(), Some(&b"longer t"[..]));
            assert_eq!(read().as_deref(), Some(&b"han eigh"[..]), "without another event");
            assert_eq!(read().as_deref(), Some(&b"t"[..]));
            assert_eq!(read(), None);
            theirs.write_all(b"last").unwrap();
            drop(theirs);
            settle().await;
            assert_eq!(read().as_deref(), Some(&b"last"[..]));
            assert_eq!(read().as_deref(), Some(&b""[..]), "the end has no event of its own");
            task.abort();
        });
    }

    #[test]
    fn a_socket_is_read_until_it_is_empty_and_to_its_end() {
        check(Driver::Ring);
    }

    #[test]
    fn the_same_on_a_runtime_without_a_ring() {
        check(Driver::Epoll);
    }

    /// With sockets that can always be read, more of them than are taken from the set at once.
    fn the_driver_has_its_turn(driver: Driver) {
        Runtime::new(driver, WORKER).unwrap().block_on(async {
            let task = tokio::task::spawn_local(Readiness::new().unwrap().wake_readable());
            let mut pairs: Vec<_> =
                (0..2 * EVENTS_MAX).map(|_| UnixStream::pair().unwrap()).collect();
            for (index, (ours, theirs)) in pairs.iter_mut().enumerate() {
                watch(&*ours, Key::new(index)).unwrap();
                assert!(receive(ours.as_fd(), Key::new(index), &mut [0; 8]).is_none());
                theirs.write_all(b"?").unwrap();
            }
            let reader = tokio::task::spawn_local(async move {
                let mut ready = ReadyList::default();
                loop {
                    poll_fn(|context| ready.poll_take(context)).await;
                    for &key in ready.keys() {
                        let (ours, theirs) = &mut pairs[key.index()];
                        assert!(receive(ours.as_fd(), key, &mut [0; 8]).is_some());
                        assert!(receive(ours.as_fd(), key, &mut [0; 8]).is_none());
                        theirs.write_all(b"?").unwrap();
                    }
                }
            });
            // Until both tasks go round without a pause.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let tried = tokio::task::spawn_local(driver::everything_tried());
            let begin = Instant::now();
            while !tried.is_finished() {
                assert!(begin.elapsed().as_secs() < 5, "what was given to it is not submitted");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            task.abort();
            reader.abort();
        });
    }

    #[test]
    fn sockets_that_can_always_be_read_leave_the_driver_its_turn() {
        the_driver_has_its_turn(Driver::Ring);
        the_driver_has_its_turn(Driver::Epoll);
    }
}
