//! The ring: the only file here with `unsafe`, one operation a block.
//!
//! Multishot accept and receive, a ring of provided buffers, sends with a message header. The
//! surprise is who owns what: memory that the kernel reads belongs to a [`Sending`], which the
//! server keeps until its completion, and the process ends with the ring.
#![allow(unsafe_code, reason = "ring operations, and the memory that the kernel reads and writes")]

use crate::batch::Batch;
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicU16, Ordering};

/// Submissions before the kernel must be asked, and completions that may wait.
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 32768;

/// Provided buffers, and their length: 64 requests.
const BUFFERS: u16 = 8192;
const BUFFER_LEN: usize = 256;
const BUFFER_GROUP: u16 = 0;

/// The kernel takes this many pieces in one send.
const PIECES_MAX: usize = 1024;

/// A ring with provided buffers. It is not dropped before the process ends.
pub struct Ring {
    uring: IoUring,
    /// `BUFFERS` times `BUFFER_LEN` bytes, leaked: the kernel writes to them.
    memory: *mut u8,
    table: *mut BufRingEntry,
    tail: u16,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// What it was submitted with.
    pub user_data: u64,
    /// As the system call would have returned; negative is an errno.
    pub result: i32,
    /// The provided buffer with what was received.
    pub buffer: Option<u16>,
    /// Whether more completions of it follow.
    pub more: bool,
}

/// A table of provided buffers stands on pages of its own.
#[repr(C, align(4096))]
struct Table([[u64; 2]; BUFFERS as usize]);

impl Ring {
    /// A ring for this thread.
    ///
    /// # Errors
    /// The kernel refuses: io_uring is off, or older than 6.1.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_LEN].leak().as_mut_ptr();
        let table = Box::leak(Box::new(Table([[0; 2]; BUFFERS as usize])));
        let table = std::ptr::from_mut(table).cast::<BufRingEntry>();
        // SAFETY: the table is page-aligned, holds `BUFFERS` entries of 16 bytes and is leaked.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(table as u64, BUFFERS, BUFFER_GROUP, 0)
        }?;
        let mut ring = Self { uring, memory, table, tail: 0 };
        for buffer in 0..BUFFERS {
            ring.give_back(buffer);
        }
        ring.publish_buffers();
        Ok(ring)
    }

    /// Accepts from now on.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, user_data: u64) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        self.push(&entry.build().user_data(user_data));
    }

    /// Receives from now on.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, user_data: u64) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BUFFER_GROUP);
        self.push(&entry.build().user_data(user_data));
    }

    /// Sends; `sending` must be kept until this completes.
    pub fn send(&mut self, socket: BorrowedFd<'_>, sending: &mut Sending, user_data: u64) {
        sending.point();
        let entry = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const sending.message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32);
        self.push(&entry.build().user_data(user_data));
    }

    /// Submits, waits for a completion, and moves all there are to `into`.
    ///
    /// # Errors
    /// The ring itself fails.
    pub fn wait(&mut self, into: &mut Vec<Completion>) -> io::Result<()> {
        match self.uring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
            _ => {}
        }
        into.extend(self.uring.completion().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
        }));
        Ok(())
    }

    /// The first `len` bytes of a buffer that the kernel has handed over.
    #[must_use]
    pub fn received(&self, buffer: u16, len: usize) -> &[u8] {
        let start = self.memory.wrapping_add(usize::from(buffer % BUFFERS) * BUFFER_LEN);
        // SAFETY: within the leaked memory, which was zeroed; the kernel does not write to a
        // buffer before it is given back, for which the caller must let this slice go.
        unsafe { std::slice::from_raw_parts(start, len.min(BUFFER_LEN)) }
    }

    /// Gives a buffer back; the kernel sees it with the next [`Ring::publish_buffers`].
    pub fn give_back(&mut self, buffer: u16) {
        let place = usize::from(self.tail % BUFFERS);
        let start = self.memory.wrapping_add(usize::from(buffer) * BUFFER_LEN);
        // SAFETY: `place` is below `BUFFERS`, the table's length.
        let entry = unsafe { self.table.add(place) };
        // SAFETY: the kernel reads only entries before the tail, and this one is at the tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(start as u64);
        entry.set_len(BUFFER_LEN as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers that were given back.
    pub fn publish_buffers(&mut self) {
        // SAFETY: the table's base is its first entry.
        let tail = unsafe { BufRingEntry::tail(self.table) };
        // SAFETY: an aligned u16 that is shared with the kernel, in leaked memory.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry names a descriptor, leaked buffers, and the header of a `Sending`
        // that its owner keeps until the completion.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            // The queue is full. If the kernel cannot take it, waiting finds the same error.
            drop(self.uring.submit());
        }
    }
}

/// A batch on its way, with the header and vectors that the kernel reads. Boxed: it stays put.
pub struct Sending {
    /// What is sent; not to be changed while it is on its way.
    pub batch: Batch,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
}

impl Default for Sending {
    fn default() -> Self {
        // SAFETY: a message header of zeros is valid and names nothing.
        let message = unsafe { std::mem::zeroed() };
        Self { batch: Batch::default(), vectors: Vec::new(), message }
    }
}

impl Sending {
    /// Points the header at what is left of the batch.
    fn point(&mut self) {
        self.vectors.clear();
        let pieces = self.batch.pieces().take(PIECES_MAX);
        self.vectors.extend(pieces.map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len();
    }
}

/// The socket that a completion of [`Ring::accept`] brought, if it did.
#[must_use]
pub fn accepted(completion: Completion) -> Option<TcpStream> {
    // SAFETY: the kernel has just opened the descriptor for this completion; nobody else has it.
    (completion.result >= 0).then(|| unsafe { TcpStream::from_raw_fd(completion.result) })
}
