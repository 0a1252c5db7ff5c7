//! A ring for one thread, of the load generator and of the server that is compared with as the
//! limit of what a ring can do.
//!
//! Its safe operations are: receive into a buffer of the ring's own pool, wait until a socket
//! can be read or written, cancel. The kernel writes only to memory of that pool, so that
//! safe code cannot cause a wrong write. A [`Buffer`] exists only while the kernel has handed it
//! over, and is given back by value.
//!
//! An operation that reads its user's memory, as a send does, is submitted with [`Ring::push`],
//! which is unsafe: the ring cannot see how long that memory lives.
#![allow(unsafe_code, reason = "ring operations and the pool that the kernel writes to")]

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::alloc::Layout;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The kernel wants the pool's table on a page of its own.
const PAGE_BYTES: usize = 4096;

/// The one pool of a ring.
const POOL_GROUP: u16 = 0;

/// A ring for one thread, with a pool of receive buffers.
pub struct Ring {
    // Declared before the pool: the ring must be gone before the memory that it writes to.
    uring: IoUring,
    pool: Pool,
}

/// How much a ring holds.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Submissions before the kernel must be asked to take them.
    pub submissions: u32,
    /// Completions that wait for the thread.
    pub completions: u32,
    /// Buffers of the pool; a power of two.
    pub buffers: u16,
    /// Buffers that are used until [`Ring::grow`] is called.
    pub buffers_at_first: u16,
    /// Bytes of each buffer.
    pub buffer_bytes: usize,
}

/// A buffer of the pool that holds received bytes. Back to the pool with [`Ring::give_back`].
#[derive(Debug)]
pub struct Buffer {
    id: u16,
    len: usize,
}

impl Buffer {
    /// How many bytes it holds; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The completion of an operation.
#[derive(Debug)]
pub struct Completion {
    /// What the operation was submitted with.
    pub user_data: u64,
    /// As the system call would have returned; negative is an errno.
    pub result: i32,
    /// The received bytes, for a receive that got any.
    pub buffer: Option<Buffer>,
    /// Whether the operation is still armed and more completions follow.
    pub more: bool,
}

impl Ring {
    /// A ring of that size.
    ///
    /// # Errors
    /// The kernel refuses: io_uring is off, too old (6.1 is needed), or out of locked memory.
    pub fn new(size: Size) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(size.completions)
            .setup_clamp()
            .build(size.submissions)?;
        let mut pool = Pool::new(size.buffers, size.buffer_bytes)?;
        let (table, entries) = (pool.table.as_ptr() as u64, pool.buffers);
        // SAFETY: the table is page-aligned, has `entries` entries and outlives the ring, which
        // is declared, and thus dropped, before it.
        unsafe { uring.submitter().register_buf_ring_with_flags(table, entries, POOL_GROUP, 0) }?;
        pool.use_up_to(size.buffers_at_first);
        Ok(Self { uring, pool })
    }

    /// Doubles the buffers in use. Few of them stay in a core's cache; but a receive that finds
    /// none must be asked for again, and thousands of those at once are worse.
    pub fn grow(&mut self) {
        self.pool.use_up_to(self.pool.in_use.saturating_mul(2));
    }

    /// Buffers in use.
    #[must_use]
    pub fn buffers_in_use(&self) -> u16 {
        self.pool.in_use
    }

    /// Receives at most `len_max` bytes, once.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, user_data: u64, len_max: u32) {
        let len = len_max.min(self.pool.buffer_bytes as u32);
        let entry = opcode::Recv::new(Fd(socket.as_raw_fd()), std::ptr::null_mut(), len)
            .buf_group(POOL_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push_safe(&entry.user_data(user_data));
    }

    /// Receives again and again, until a completion says that no more follow.
    pub fn recv_multi(&mut self, socket: BorrowedFd<'_>, user_data: u64) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), POOL_GROUP).build();
        self.push_safe(&entry.user_data(user_data));
    }

    /// Completes once `socket` can be written, or a connect on it has come to an end.
    pub fn poll_out(&mut self, socket: BorrowedFd<'_>, user_data: u64) {
        self.poll(socket, user_data, libc::POLLOUT);
    }

    /// Completes once `socket` can be read, or accepted from.
    pub fn poll_in(&mut self, socket: BorrowedFd<'_>, user_data: u64) {
        self.poll(socket, user_data, libc::POLLIN);
    }

    fn poll(&mut self, socket: BorrowedFd<'_>, user_data: u64, events: i16) {
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events as u32).build();
        self.push_safe(&entry.user_data(user_data));
    }

    /// Cancels the operation submitted with `target`; it completes with `ECANCELED`.
    pub fn cancel(&mut self, target: u64, user_data: u64) {
        self.push_safe(&opcode::AsyncCancel::new(target).build().user_data(user_data));
    }

    /// Submits what has been asked for and waits for a completion, no longer than `timeout` if
    /// there is one.
    ///
    /// # Errors
    /// The ring itself failed; time-outs, signals and a full completion queue are none.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let submitted = if let Some(timeout) = timeout {
            let timespec = Timespec::from(timeout);
            let args = SubmitArgs::new().timespec(&timespec);
            self.uring.submitter().submit_with_args(1, &args)
        } else {
            self.uring.submit_and_wait(1)
        };
        match submitted {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Moves what has completed to the end of `into`.
    pub fn completions(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.uring.completion().map(|entry| {
            let (result, flags) = (entry.result(), entry.flags());
            let len = usize::try_from(result).unwrap_or(0);
            let buffer = cqueue::buffer_select(flags).map(|id| Buffer { id, len });
            Completion { user_data: entry.user_data(), result, buffer, more: cqueue::more(flags) }
        }));
    }

    /// The received bytes in `buffer`.
    #[must_use]
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.pool.bytes(buffer)
    }

    /// Lets the kernel fill `buffer` again.
    pub fn give_back(&mut self, buffer: &mut Option<Buffer>) {
        if let Some(buffer) = buffer.take() {
            self.pool.give_back(buffer.id);
        }
    }

    fn push_safe(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry names no memory but the pool's, which lives as long as the ring.
        unsafe { self.push(entry) };
    }

    /// Asks for any operation.
    ///
    /// # Panics
    /// The kernel takes nothing from a full queue.
    ///
    /// # Safety
    /// The memory that `entry` names must live, and stay where it is, until the operation has
    /// completed. A wrong descriptor harms no memory.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the caller keeps what the entry names.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it to the kernel, which takes all of it.
            if let Err(e) = self.uring.submit() {
                let passes = matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY));
                assert!(passes, "io_uring_enter failed with a full queue: {e}");
            }
        }
    }
}

/// Buffers in one piece of memory, and the table through which the kernel takes them.
struct Pool {
    table: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    buffers: u16,
    /// Buffers that the kernel or a [`Buffer`] has: those with the lowest ids.
    in_use: u16,
    buffer_bytes: usize,
    /// Where the next buffer goes in the table; the kernel sees it as the table's tail.
    tail: u16,
}

impl Pool {
    fn new(buffers: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(buffers.is_power_of_two() && buffer_bytes > 0, "the kernel wants a power of two");
        let (table, memory) = Self::layouts(buffers, buffer_bytes)?;
        // SAFETY: the layout is not empty: there is at least one buffer.
        let table = unsafe { std::alloc::alloc_zeroed(table) };
        // SAFETY: as above.
        let memory = unsafe { std::alloc::alloc_zeroed(memory) };
        let (Some(table), Some(memory)) = (NonNull::new(table), NonNull::new(memory)) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        Ok(Self { table: table.cast(), memory, buffers, in_use: 0, buffer_bytes, tail: 0 })
    }

    fn layouts(buffers: u16, buffer_bytes: usize) -> io::Result<(Layout, Layout)> {
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let table_bytes = usize::from(buffers) * size_of::<BufRingEntry>();
        let table = Layout::from_size_align(table_bytes, PAGE_BYTES).map_err(too_large)?;
        let memory_bytes = usize::from(buffers).saturating_mul(buffer_bytes);
        let memory = Layout::from_size_align(memory_bytes, PAGE_BYTES).map_err(too_large)?;
        Ok((table, memory))
    }

    fn use_up_to(&mut self, count: u16) {
        let count = count.min(self.buffers);
        for id in self.in_use..count {
            self.give_back(id);
        }
        self.in_use = self.in_use.max(count);
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.buffers, "the kernel names only buffers of the pool");
        // SAFETY: the pool is `buffers * buffer_bytes` long, and `id` is below `buffers`.
        unsafe { self.memory.add(usize::from(id) * self.buffer_bytes) }
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let start = self.start_of(buffer.id);
        let len = buffer.len.min(self.buffer_bytes);
        // SAFETY: a `Buffer` exists only between its completion and `give_back`; in that time
        // the kernel does not write to it, and the memory was zeroed at the start.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    fn give_back(&mut self, id: u16) {
        let place = usize::from(self.tail & (self.buffers - 1));
        let start = self.start_of(id);
        // SAFETY: `place` is below `buffers`, which is how many entries the table has.
        let mut entry = unsafe { self.table.add(place) };
        // SAFETY: the kernel reads entries before the tail only; this one is at the tail.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(start.as_ptr() as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the table's base is its first entry, initialised at the start.
        let tail = unsafe { BufRingEntry::tail(self.table.as_ptr()) };
        // SAFETY: the tail is an aligned u16 that is shared with the kernel for as long as the
        // table lives.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The entry must be visible before the tail that covers it.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Ok((table, memory)) = Self::layouts(self.buffers, self.buffer_bytes) else { return };
        // SAFETY: allocated in `new` with this layout; the ring is gone.
        unsafe { std::alloc::dealloc(self.table.as_ptr().cast(), table) };
        // SAFETY: as above.
        unsafe { std::alloc::dealloc(self.memory.as_ptr(), memory) };
    }
}
