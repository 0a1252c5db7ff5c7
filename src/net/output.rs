//! One send's worth of responses: small ones copied together, large ones referred to in place.
//!
//! The bytes come from the snapshot's framed responses; only the prefetch bit and the key are
//! applied here. The surprise is what it holds on to: the message header points into the output
//! itself and into the snapshot, so an output keeps the snapshot alive until it is cleared.

use crate::catalog::Snapshot;
use crate::protocol::frame::{COMPRESSION_AT, PREFETCH_BIT, append_keyed};
use crate::protocol::session::Response;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

/// Responses up to this length are copied; longer ones cost less as a reference.
pub const COPY_LEN_MAX: usize = 2048;

/// The copied bytes of one output. Keyed responses are copied whatever their length, in pieces
/// of this size, which stay in the core's cache.
pub const SCRATCH_LEN_MAX: usize = 64 << 10;

/// What an output that goes back to the pool may keep.
const SCRATCH_KEPT_MAX: usize = SCRATCH_LEN_MAX + COPY_LEN_MAX;

/// A worker's hold on a snapshot: one count a worker, and a plain count a connection.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

/// A response that has been begun: how many of its bytes are in an output already.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// What is being sent.
    pub response: Response,
    /// Bytes of it that have gone into outputs.
    pub taken: usize,
}

/// A run of bytes to send.
#[derive(Clone, Copy, Debug)]
enum Segment {
    /// In the scratch buffer.
    Copied { start: usize, len: usize },
    /// In the snapshot, which the output holds.
    InPlace { start: *const u8, len: usize },
}

/// One send's worth of bytes.
pub struct Output {
    scratch: Vec<u8>,
    segments: Vec<Segment>,
    /// The segments as the kernel wants them, from `seal` on.
    vectors: Vec<libc::iovec>,
    /// The first vector that has not been sent whole.
    first: usize,
    /// Bytes that have not been sent.
    left: usize,
    /// Points into `vectors`; right from `seal` until the next push.
    message: libc::msghdr,
    /// Set while `segments` has something in place.
    snapshot: Option<SnapshotRef>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            segments: Vec::new(),
            vectors: Vec::new(),
            first: 0,
            left: 0,
            message: empty_message(),
            snapshot: None,
        }
    }
}

impl Output {
    /// Bytes to send.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Whether no further response should go in, for a send of at most `len_max` bytes.
    #[inline]
    #[must_use]
    pub fn is_full(&self, len_max: usize) -> bool {
        self.left >= len_max || self.scratch.len() >= SCRATCH_LEN_MAX.min(len_max)
    }

    /// Appends a byte that is neither framed nor keyed: the status.
    pub fn push_status(&mut self, byte: u8) {
        self.scratch.push(byte);
        self.add_copied(1);
    }

    /// Appends as much of a response as `len_max` leaves room for. `framed` is its urgent,
    /// unkeyed form in `snapshot`. True if the response is complete in this output.
    #[inline]
    pub fn push(
        &mut self,
        cursor: &mut Cursor,
        framed: &[u8],
        snapshot: &SnapshotRef,
        len_max: usize,
    ) -> bool {
        let response = cursor.response;
        let rest = framed.get(cursor.taken..).unwrap_or_default();
        if response.key != 0 {
            let room = len_max.min(SCRATCH_LEN_MAX).saturating_sub(self.scratch.len());
            // A small response is not cut for a few bytes.
            let room = if rest.len() <= COPY_LEN_MAX { rest.len() } else { room };
            self.copy(cursor, rest.get(..room).unwrap_or(rest));
        } else if rest.len() <= COPY_LEN_MAX {
            self.copy(cursor, rest);
        } else {
            let room = len_max.saturating_sub(self.left).max(COPY_LEN_MAX);
            self.refer(cursor, rest.get(..room).unwrap_or(rest), snapshot);
        }
        cursor.taken == framed.len()
    }

    /// Prepares the message header. Nothing may be pushed until the output is cleared.
    pub fn seal(&mut self) {
        let base = self.scratch.as_ptr();
        self.vectors.clear();
        self.vectors.extend(self.segments.iter().map(|segment| match *segment {
            Segment::Copied { start, len } => {
                libc::iovec { iov_base: base.wrapping_add(start).cast_mut().cast(), iov_len: len }
            }
            Segment::InPlace { start, len } => {
                libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
            }
        }));
        self.first = 0;
        self.point_message();
    }

    /// Takes note that `sent` bytes have gone out. True if that was all.
    pub fn advance(&mut self, sent: usize) -> bool {
        self.left = self.left.saturating_sub(sent);
        let mut sent = sent;
        while let Some(vector) = self.vectors.get_mut(self.first)
            && sent > 0
        {
            let step = sent.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(step);
            vector.iov_len -= step;
            sent -= step;
            if vector.iov_len == 0 {
                self.first += 1;
            }
        }
        self.point_message();
        self.left == 0
    }

    /// Empties the output for its next use, and lets the snapshot go.
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT_MAX);
        self.segments.clear();
        self.vectors.clear();
        self.left = 0;
        self.first = 0;
        self.message = empty_message();
        self.snapshot = None;
    }

    /// The whole output, if it is one run of copied bytes of which none has been sent.
    #[must_use]
    pub(super) fn as_one_slice(&self) -> Option<&[u8]> {
        match *self.segments.as_slice() {
            [Segment::Copied { start, len }] if len == self.left => {
                self.scratch.get(start..start + len)
            }
            _ => None,
        }
    }

    /// The header for `sendmsg`, valid while the output is neither changed nor dropped.
    pub(super) fn message(&self) -> *const libc::msghdr {
        &raw const self.message
    }

    /// Collects what would be sent, for tests and checks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.left);
        for segment in &self.segments {
            match *segment {
                Segment::Copied { start, len } => {
                    bytes.extend(self.scratch.get(start..start + len).unwrap_or_default());
                }
                Segment::InPlace { start, len } => bytes.extend(self.in_place(start, len)),
            }
        }
        bytes
    }

    /// The bytes behind an in-place segment, found again in the snapshot that is held.
    fn in_place(&self, start: *const u8, len: usize) -> &[u8] {
        let wire = self.snapshot.as_ref().map_or(&[][..], |snapshot| snapshot.wire_bytes());
        let offset = start.addr().wrapping_sub(wire.as_ptr().addr());
        wire.get(offset..offset.saturating_add(len)).unwrap_or_default()
    }

    #[inline]
    fn copy(&mut self, cursor: &mut Cursor, bytes: &[u8]) {
        let start = self.scratch.len();
        append_keyed(&mut self.scratch, bytes, cursor.response.key);
        if cursor.response.prefetch_bit
            && cursor.taken <= COMPRESSION_AT
            && let Some(compression) = self.scratch.get_mut(start + COMPRESSION_AT - cursor.taken)
        {
            // Under a key too: XOR of a bit that is clear in every container sets it.
            *compression ^= PREFETCH_BIT;
        }
        cursor.taken += bytes.len();
        self.add_copied(bytes.len());
    }

    /// Adds bytes in place; of a prefetch's beginning only what holds the patched bit is copied.
    fn refer(&mut self, cursor: &mut Cursor, bytes: &[u8], snapshot: &SnapshotRef) {
        let copied = match cursor.response.prefetch_bit && cursor.taken == 0 {
            true => COMPRESSION_AT + 1,
            false => 0,
        };
        let (head, body) = bytes.split_at_checked(copied).unwrap_or((bytes, &[]));
        if !head.is_empty() {
            self.copy(cursor, head);
        }
        self.segments.push(Segment::InPlace { start: body.as_ptr(), len: body.len() });
        if self.snapshot.is_none() {
            self.snapshot = Some(Rc::clone(snapshot));
        }
        cursor.taken += body.len();
        self.left += body.len();
    }

    fn add_copied(&mut self, added: usize) {
        self.left += added;
        if let Some(Segment::Copied { len, .. }) = self.segments.last_mut() {
            *len += added;
        } else {
            let start = self.scratch.len() - added;
            self.segments.push(Segment::Copied { start, len: added });
        }
    }

    fn point_message(&mut self) {
        self.message.msg_iov = self.vectors.as_mut_ptr().wrapping_add(self.first);
        self.message.msg_iovlen = self.vectors.len() - self.first;
    }
}

const fn empty_message() -> libc::msghdr {
    libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// Outputs for reuse. An idle connection holds none; a worker keeps at most [`POOL_LEN_MAX`].
#[derive(Default)]
pub struct OutputPool {
    /// Boxed already: the kernel reads an output's message header at a fixed address.
    #[allow(clippy::vec_box, reason = "outputs are boxed when they come and when they go")]
    free: Vec<Box<Output>>,
}

/// Outputs that a worker keeps for reuse: 4 MB at most.
pub const POOL_LEN_MAX: usize = 64;

impl OutputPool {
    /// An empty output.
    pub fn take(&mut self) -> Box<Output> {
        self.free.pop().unwrap_or_default()
    }

    /// Gives an output back.
    pub fn put(&mut self, mut output: Box<Output>) {
        output.clear();
        if self.free.len() < POOL_LEN_MAX {
            self.free.push(output);
        }
    }
}
