//! A send of `ring-limit`: a batch with the message header and the vectors that the kernel reads.
#![allow(unsafe_code, reason = "an operation of the ring that reads its user's memory")]

use crate::batch::Batch;
use io_uring::{opcode, types::Fd};
use js5_ring::Ring;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel takes this many pieces in one send.
const PIECES_MAX: usize = 1024;

/// A batch on its way. Boxed: it stays put.
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
    /// Sends what is left of the batch. It must be kept until this completes.
    pub fn send(self: &mut Box<Self>, ring: &mut Ring, socket: BorrowedFd<'_>, user_data: u64) {
        self.vectors.clear();
        let pieces = self.batch.pieces().take(PIECES_MAX);
        self.vectors.extend(pieces.map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len();
        let entry = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const self.message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32);
        // SAFETY: the header, the vectors and the batch are boxed, and their owner keeps them
        // until the completion.
        unsafe { ring.push(&entry.build().user_data(user_data)) };
    }
}
