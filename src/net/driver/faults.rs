//! Fault injection: results of the kernel that are possible and rare. For tests only.
//!
//! An operation of the ring is replaced when it is submitted: by a no-op whose result is then
//! changed to an error, or by an operation on fewer bytes. A direct system call is left out, or
//! made for fewer bytes. A result therefore always reports exactly the bytes that were moved.

use super::{Sealed, direct};
use io_uring::{opcode, squeue, types};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Errors that say nothing about a socket.
const PASSING: [(i32, &str); 5] = [
    (libc::EINTR, "EINTR"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::ECANCELED, "ECANCELED"),
];

thread_local! {
    static FAULTS: RefCell<Option<Faults>> = const { RefCell::new(None) };
}

/// Which operations of this thread fail.
struct Faults {
    rng: fastrand::Rng,
    one_in: u32,
    /// The results that replace those of operations under way, by the address of their buffer.
    due: HashMap<usize, i32>,
    injected: BTreeMap<String, u64>,
}

/// What is done to an operation.
enum Fate {
    Error(i32),
    Short(u32),
}

impl Faults {
    fn fate(&mut self, kind: &str, len: usize) -> Option<Fate> {
        if self.rng.u32(..self.one_in) != 0 {
            return None;
        }
        if len > 1 && self.rng.bool() {
            *self.injected.entry(format!("{kind}: short")).or_default() += 1;
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            return Some(Fate::Short(self.rng.u32(1..len)));
        }
        let (errno, name) = PASSING[self.rng.usize(..PASSING.len())];
        *self.injected.entry(format!("{kind}: {name}")).or_default() += 1;
        Some(Fate::Error(errno))
    }
}

/// Has one in `one_in` operations of this thread fail, at random from `seed`.
pub(in crate::net) fn begin(seed: u64, one_in: u32) {
    let (rng, injected) = (fastrand::Rng::with_seed(seed), BTreeMap::new());
    let faults = Faults { rng, one_in, due: HashMap::new(), injected };
    FAULTS.with_borrow_mut(|slot| *slot = Some(faults));
}

/// Ends the injection. Returns the faults that were injected and how often.
pub(in crate::net) fn end() -> BTreeMap<String, u64> {
    FAULTS.with_borrow_mut(Option::take).map(|faults| faults.injected).unwrap_or_default()
}

fn with<T>(act: impl FnOnce(&mut Faults) -> Option<T>) -> Option<T> {
    FAULTS.with_borrow_mut(|slot| act(slot.as_mut()?))
}

/// The send that takes the place of `entry`.
pub(super) fn send(entry: squeue::Entry, batch: &Sealed, socket: RawFd) -> squeue::Entry {
    let first = batch.first_piece();
    let other = with(|faults| match faults.fate("send", first.len())? {
        Fate::Error(errno) => {
            faults.due.insert(place_of(batch), -errno);
            Some(opcode::Nop::new().build())
        }
        Fate::Short(len) => {
            let send = opcode::Send::new(types::Fd(socket), first.as_ptr(), len);
            Some(send.flags(libc::MSG_NOSIGNAL).build())
        }
    });
    other.unwrap_or(entry)
}

/// The result of a direct send, if it is chosen to fail or to be short.
pub(super) fn send_now(
    kind: &str,
    batch: &Sealed,
    socket: BorrowedFd<'_>,
) -> Option<io::Result<usize>> {
    let bytes = batch.first_piece();
    with(|faults| match faults.fate(kind, bytes.len())? {
        Fate::Error(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        Fate::Short(len) => not_blocked(direct::send_bytes(socket, bytes.get(..len as usize)?)),
    })
}

/// The result of a direct receive, if it is chosen to fail or to be short.
pub(super) fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    with(|faults| match faults.fate("receive", buffer.len())? {
        Fate::Error(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        Fate::Short(len) => not_blocked(direct::receive(socket, buffer.get_mut(..len as usize)?)),
    })
}

/// `WouldBlock` of the real call is no fault.
fn not_blocked(result: io::Result<usize>) -> Option<io::Result<usize>> {
    let blocks = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    (!result.as_ref().is_err_and(blocks)).then_some(result)
}

/// The result to report for a completed operation on `data`, given the ring's `result`.
pub(super) fn result(data: &dyn Any, result: i32) -> i32 {
    let Some(place) = data.downcast_ref::<Sealed>().map(place_of) else { return result };
    with(|faults| faults.due.remove(&place)).unwrap_or(result)
}

fn place_of(batch: &Sealed) -> usize {
    batch.message().addr()
}
