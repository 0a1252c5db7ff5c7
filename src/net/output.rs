//! One send's worth of responses: small ones copied together, large ones referred to in place.
//!
//! The bytes come from the snapshot's framed responses; only the prefetch bit and the key are
//! applied here. The surprise is what it holds on to: the message header points into the output
//! itself and into the snapshot, so an output keeps the snapshot alive until it is cleared.

use crate::catalog::Snapshot;
use crate::protocol::frame::{Framing, append_keyed};
use crate::protocol::session::Response;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Responses up to this length are copied; longer ones cost less as a reference.
pub const COPY_LEN_MAX: usize = 2048;

/// The copied bytes of one output. Keyed responses are copied whatever their length, in pieces
/// of this size, which stay in the core's cache.
pub const SCRATCH_LEN_MAX: usize = 64 << 10;

/// What an output that goes back to the pool may keep.
pub(super) const SCRATCH_KEPT_MAX: usize = SCRATCH_LEN_MAX + COPY_LEN_MAX;

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
pub(super) enum Segment {
    /// In the scratch buffer.
    Copied { start: usize, len: usize },
    /// In the snapshot, which the output holds.
    InPlace { start: *const u8, len: usize },
}

/// One send's worth of bytes.
pub struct Output {
    scratch: Vec<u8>,
    /// Closed runs; what stands in the scratch buffer from `run_start` on is still open.
    segments: Vec<Segment>,
    run_start: usize,
    /// Bytes in place.
    in_place_len: usize,
    /// The segments as the kernel wants them, from `seal` on.
    vectors: Vec<libc::iovec>,
    /// The first vector that has not been sent whole.
    first: usize,
    /// Bytes that have been sent.
    sent: usize,
    /// Points into `vectors`; right from `seal` until the next push.
    message: libc::msghdr,
    /// Set while `segments` has something in place.
    snapshot: Option<SnapshotRef>,
    /// When the ring was first given it, or an output before it that a wait for room follows.
    pub(super) submitted: Option<Instant>,
    /// Not 0 while it is empty and waits for room: what was sent before it.
    pub(super) sent_before: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            segments: Vec::new(),
            run_start: 0,
            in_place_len: 0,
            vectors: Vec::new(),
            first: 0,
            sent: 0,
            message: empty_message(),
            snapshot: None,
            submitted: None,
            sent_before: 0,
        }
    }
}

impl Output {
    /// Bytes that are to be sent still.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.scratch.len() + self.in_place_len - self.sent
    }

    /// Whether there is nothing to send.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no further response should go in, for a send of at most `len_max` bytes.
    #[inline]
    #[must_use]
    pub fn is_full(&self, len_max: usize) -> bool {
        self.len() >= len_max || self.scratch.len() >= SCRATCH_LEN_MAX
    }

    /// Appends a byte that is neither framed nor keyed: the status.
    pub fn push_status(&mut self, byte: u8) {
        self.scratch.push(byte);
    }

    /// Appends bytes that are neither framed nor keyed: what some clients read behind the status.
    pub fn push_plain(&mut self, bytes: &[u8]) {
        self.scratch.extend_from_slice(bytes);
    }

    /// Appends a whole response of at most [`COPY_LEN_MAX`] bytes: most are, and none of them is
    /// cut for a few bytes. `framed` is its urgent, unkeyed form. False if it is longer.
    #[inline]
    #[must_use]
    pub fn push_small(&mut self, response: Response, framed: &[u8]) -> bool {
        let small = framed.len() <= COPY_LEN_MAX;
        if small {
            self.copy(response, 0, framed);
        }
        small
    }

    /// Appends as much of a response as `len_max` leaves room for. `framed` is its urgent,
    /// unkeyed form in `snapshot`. True if the response is complete in this output.
    pub fn push(
        &mut self,
        cursor: &mut Cursor,
        framed: &[u8],
        snapshot: &SnapshotRef,
        len_max: usize,
    ) -> bool {
        let rest = framed.get(cursor.taken..).unwrap_or_default();
        let room = len_max.saturating_sub(self.len());
        // Where each short block has the bit, too, all would be pieces.
        let is_patched_often =
            cursor.response.prefetch_bit() && cursor.response.framing() == Framing::Multi512;
        if cursor.response.key() != 0 || is_patched_often {
            let room = room.min(SCRATCH_LEN_MAX.saturating_sub(self.scratch.len()));
            let piece = rest.get(..room).unwrap_or(rest);
            self.copy(cursor.response, cursor.taken, piece);
            cursor.taken += piece.len();
        } else {
            let piece = rest.get(..room.max(COPY_LEN_MAX)).unwrap_or(rest);
            self.refer(cursor, piece, snapshot);
        }
        cursor.taken == framed.len()
    }

    /// Prepares the message header. Nothing may be pushed until the output is cleared.
    pub fn seal(&mut self) {
        self.close_run();
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
        self.sent += sent;
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
        self.is_empty()
    }

    /// Empties the output for its next use, and lets the snapshot go.
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT_MAX);
        self.segments.clear();
        self.vectors.clear();
        self.run_start = 0;
        self.in_place_len = 0;
        self.first = 0;
        self.sent = 0;
        self.message = empty_message();
        self.snapshot = None;
        self.submitted = None;
        self.sent_before = 0;
    }

    /// Empties an output that has been sent, to wait for room with it.
    pub(super) fn wait_for_room(&mut self) {
        let (sent, submitted) = (self.sent, self.submitted);
        self.clear();
        self.sent_before = sent;
        self.submitted = submitted;
    }

    /// The whole output, if it is one run of copied bytes of which none has been sent.
    #[inline]
    #[must_use]
    pub(super) fn as_one_slice(&self) -> Option<&[u8]> {
        (self.in_place_len == 0 && self.sent == 0).then_some(&self.scratch)
    }

    /// The header for `sendmsg`, valid while the output is neither changed nor dropped.
    pub(super) fn message(&self) -> *const libc::msghdr {
        &raw const self.message
    }

    /// What a send of a sealed output would begin with.
    #[cfg(test)]
    pub(super) fn first_vector(&self) -> libc::iovec {
        self.vectors[self.first]
    }

    /// Collects what a sealed output would send, for tests and checks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
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
        let Some(snapshot) = &self.snapshot else { return &[] };
        let found = Framing::ALL.into_iter().find_map(|framing| {
            let wire = snapshot.wire_bytes_in(framing);
            let offset = start.addr().wrapping_sub(wire.as_ptr().addr());
            wire.get(offset..offset.saturating_add(len))
        });
        found.unwrap_or_default()
    }

    /// Copies a response's bytes from `taken` on, with key and prefetch bit applied.
    #[inline(always)]
    fn copy(&mut self, response: Response, taken: usize, bytes: &[u8]) {
        let start = self.scratch.len();
        append_keyed(&mut self.scratch, bytes, response.key());
        if response.prefetch_bit() {
            let piece = self.scratch.get_mut(start..).unwrap_or_default();
            response.framing().mark(piece, taken);
        }
    }

    /// Adds bytes in place; of a prefetch only what holds a patched bit is copied.
    fn refer(&mut self, cursor: &mut Cursor, bytes: &[u8], snapshot: &SnapshotRef) {
        let framing = cursor.response.framing();
        if framing.is_multi() && cursor.response.prefetch_bit() {
            return self.refer_blocks(cursor, bytes, snapshot);
        }
        let patched = cursor.response.prefetch_bit() && cursor.taken == 0;
        let mut body = bytes;
        if patched && let Some((head, later)) = bytes.split_at_checked(framing.header_len() + 1) {
            self.copy(cursor.response, 0, head);
            body = later;
        }
        self.push_in_place(body, snapshot);
        cursor.taken += bytes.len();
    }

    /// The same where each block is patched.
    #[inline(never)]
    fn refer_blocks(&mut self, cursor: &mut Cursor, bytes: &[u8], snapshot: &SnapshotRef) {
        let (response, mut rest) = (cursor.response, bytes);
        while let Some(mark) = response.framing().next_mark(cursor.taken)
            && let Some((head, later)) = rest.split_at_checked(mark + 1 - cursor.taken)
        {
            // A long one goes in place, but for its last byte.
            let in_place_len = if head.len() > COPY_LEN_MAX { head.len() - 1 } else { 0 };
            let (long, patched) = head.split_at(in_place_len);
            if !long.is_empty() {
                self.push_in_place(long, snapshot);
            }
            self.copy_apart(response, cursor.taken + in_place_len, patched);
            cursor.taken += head.len();
            rest = later;
        }
        if !rest.is_empty() {
            self.push_in_place(rest, snapshot);
        }
        cursor.taken += rest.len();
    }

    /// As [`Self::copy`], where speed matters less than that the others are compiled into their
    /// callers.
    #[inline(never)]
    fn copy_apart(&mut self, response: Response, taken: usize, bytes: &[u8]) {
        self.copy(response, taken, bytes);
    }

    #[inline]
    fn push_in_place(&mut self, bytes: &[u8], snapshot: &SnapshotRef) {
        self.close_run();
        self.segments.push(Segment::InPlace { start: bytes.as_ptr(), len: bytes.len() });
        if self.snapshot.is_none() {
            self.snapshot = Some(Rc::clone(snapshot));
        }
        self.in_place_len += bytes.len();
    }

    fn close_run(&mut self) {
        let (start, end) = (self.run_start, self.scratch.len());
        if end > start {
            self.segments.push(Segment::Copied { start, len: end - start });
            self.run_start = end;
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

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
