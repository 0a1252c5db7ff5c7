//! A batch: the responses of one send. Small ones are copied together, large ones are referred to
//! in place.
//!
//! A batch is *filled*, then *sealed* and sent; these are two types. Its bytes come from the
//! snapshot's framed responses; only the prefetch bit and the key are applied here. The message
//! header points into the batch itself and into the snapshot, so a batch keeps the snapshot alive
//! until it is back in the pool.

use crate::catalog::{Place, Snapshot};
use crate::protocol::frame::{Framing, PREFETCH_BIT, append_keyed};
use crate::protocol::session::Response;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

/// Responses up to this many bytes are copied; longer ones cost less as a reference.
pub const COPY_LEN_MAX: usize = 2048;

/// Copied bytes of one batch at which it is full. Responses with a key are copied whatever their
/// length, in pieces of this size, which stay in the core's cache.
pub const SCRATCH_LEN_MAX: usize = 64 << 10;

/// Bytes of buffer that a batch in the pool keeps at most.
pub(super) const SCRATCH_KEPT_MAX: usize = SCRATCH_LEN_MAX + COPY_LEN_MAX;

/// A worker's reference to a snapshot. The worker holds one atomic count; its connections share it
/// by a count that is not atomic.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

/// A response, and how many of its bytes are in batches already.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    response: Response,
    place: Place,
    taken: usize,
}

impl Cursor {
    /// The beginning of a response whose urgent, unkeyed form stands at `place`.
    #[must_use]
    pub fn new(response: Response, place: Place) -> Self {
        Self { response, place, taken: 0 }
    }

    /// The response.
    #[must_use]
    pub fn response(&self) -> Response {
        self.response
    }

    /// Bytes of the response that are in batches already.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes of the response that are in no batch yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.place.len() - self.taken
    }
}

/// A run of bytes to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Segment {
    /// In the scratch buffer, at these offsets.
    Copied { start: usize, len: usize },
    /// In the snapshot, which the batch holds.
    InPlace { start: *const u8, len: usize },
}

/// The content of both types of batch. Boxed, because the kernel reads the message header at a
/// fixed address.
struct Batch {
    /// The copied bytes.
    scratch: Vec<u8>,
    /// The pieces of the batch in their order, up to `run_start` of the scratch buffer; the bytes
    /// from there on are a run that further copies extend. Empty while everything is copied.
    segments: Vec<Segment>,
    run_start: usize,
    /// Bytes of the segments in place.
    in_place_len: usize,
    /// The segments in the kernel's form. Filled by `seal` if there are segments.
    vectors: Vec<libc::iovec>,
    /// The index of the first vector that has not been sent whole.
    first: usize,
    /// Bytes that have been sent.
    sent: usize,
    /// Points into `vectors`; valid from `seal` on.
    message: libc::msghdr,
    /// Keeps the bytes in place alive. Set while there are any.
    snapshot: Option<SnapshotRef>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            segments: Vec::new(),
            run_start: 0,
            in_place_len: 0,
            vectors: Vec::new(),
            first: 0,
            sent: 0,
            message: EMPTY_MESSAGE,
            snapshot: None,
        }
    }
}

/// A batch that takes responses.
pub struct Filling(Box<Batch>);

/// A batch that is complete. It is sent by one or more sends until nothing is left.
pub struct Sealed(Box<Batch>);

impl Filling {
    /// Bytes in the batch.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.scratch.len() + self.0.in_place_len
    }

    /// Whether the batch has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no further response should go in, for a send of at most `len_max` bytes.
    #[inline]
    #[must_use]
    pub fn is_full(&self, len_max: usize) -> bool {
        self.len() >= len_max || self.0.scratch.len() >= SCRATCH_LEN_MAX
    }

    /// Appends a byte that is neither framed nor keyed: the status.
    pub fn push_status(&mut self, byte: u8) {
        self.0.scratch.push(byte);
    }

    /// Appends bytes that are neither framed nor keyed: the greeting that some clients read after
    /// the status.
    pub fn push_plain(&mut self, bytes: &[u8]) {
        self.0.scratch.extend_from_slice(bytes);
    }

    /// Appends a whole response of at most [`COPY_LEN_MAX`] bytes, as most are. It is not cut, even
    /// if the batch then exceeds the length of its send. `framed` is its urgent, unkeyed form.
    /// False, without an effect, if it is longer.
    #[inline]
    #[must_use]
    pub fn push_small(&mut self, response: Response, framed: &[u8]) -> bool {
        let small = framed.len() <= COPY_LEN_MAX;
        if small {
            self.0.copy(response, 0, framed);
        }
        small
    }

    /// Appends as much of a response as `len_max` leaves room for. True if it is complete.
    pub fn push(&mut self, cursor: &mut Cursor, snapshot: &SnapshotRef, len_max: usize) -> bool {
        let framed = snapshot.view(cursor.response.dialect()).framed(cursor.place);
        let rest = framed.get(cursor.taken..).unwrap_or_default();
        let room = len_max.saturating_sub(self.len());
        // Each block has a prefetch bit to set, and the blocks are short: references to the bytes
        // between the bits would be too many.
        let is_patched_often =
            cursor.response.prefetch_bit() && cursor.response.framing() == Framing::Multi512;
        if cursor.response.key() != 0 || is_patched_often {
            let room = room.min(SCRATCH_LEN_MAX.saturating_sub(self.0.scratch.len()));
            let piece = rest.get(..room).unwrap_or(rest);
            self.0.copy(cursor.response, cursor.taken, piece);
            cursor.taken += piece.len();
        } else {
            let piece = rest.get(..room.max(COPY_LEN_MAX)).unwrap_or(rest);
            self.0.refer(cursor, piece, snapshot);
        }
        cursor.taken == framed.len()
    }

    /// Appends as much of a response as brings the batch to exactly `len_max` bytes. True if the
    /// response is complete. Unlike [`Self::push`], never exceeds `len_max`.
    pub fn push_exactly(
        &mut self,
        cursor: &mut Cursor,
        snapshot: &SnapshotRef,
        len_max: usize,
    ) -> bool {
        let framed = snapshot.view(cursor.response.dialect()).framed(cursor.place);
        let room = len_max.saturating_sub(self.len());
        if room > COPY_LEN_MAX {
            return self.push(cursor, snapshot, len_max);
        }
        let end = cursor.taken.saturating_add(room).min(framed.len());
        self.0.copy(
            cursor.response,
            cursor.taken,
            framed.get(cursor.taken..end).unwrap_or_default(),
        );
        cursor.taken = end;
        cursor.taken == framed.len()
    }

    /// Ends the filling.
    #[must_use]
    pub fn seal(mut self) -> Sealed {
        self.0.seal();
        Sealed(self.0)
    }
}

impl Sealed {
    /// Bytes that have not been sent.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.scratch.len() + self.0.in_place_len - self.0.sent
    }

    /// Whether all of it has been sent.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records that `sent` more bytes have been sent. True if nothing is left.
    #[inline]
    pub fn advance(&mut self, sent: usize) -> bool {
        self.0.sent += sent;
        if !self.0.vectors.is_empty() {
            self.0.advance_vectors(sent);
        }
        self.is_empty()
    }

    /// The bytes that have not been sent, if the whole batch is copied.
    #[inline]
    #[must_use]
    pub(super) fn as_one_slice(&self) -> Option<&[u8]> {
        let copied = self.0.vectors.is_empty();
        copied.then(|| self.0.scratch.get(self.0.sent..).unwrap_or_default())
    }

    /// The header for `sendmsg`, valid while the batch is neither changed nor dropped. It is empty
    /// if the whole batch is copied: see [`Self::as_one_slice`].
    pub(super) fn message(&self) -> *const libc::msghdr {
        &raw const self.0.message
    }

    /// The bytes that the next send would begin with.
    #[cfg(test)]
    pub(super) fn first_piece(&self) -> &[u8] {
        match (self.as_one_slice(), self.0.vectors.get(self.0.first)) {
            (None, Some(vector)) => {
                let (start, len) = (vector.iov_base.cast_const().cast::<u8>(), vector.iov_len);
                let copied = self.0.scratch.as_ptr_range();
                if copied.contains(&start) {
                    let at = start.addr() - copied.start.addr();
                    return &self.0.scratch[at..at + len];
                }
                self.0.in_place(start, len)
            }
            (slice, _) => slice.unwrap_or_default(),
        }
    }

    /// A copy of all bytes of the batch, for tests and checks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.segments.is_empty() {
            return self.0.scratch.clone();
        }
        let mut bytes = Vec::with_capacity(self.len());
        for segment in &self.0.segments {
            match *segment {
                Segment::Copied { start, len } => {
                    bytes.extend(self.0.scratch.get(start..start + len).unwrap_or_default());
                }
                Segment::InPlace { start, len } => bytes.extend(self.0.in_place(start, len)),
            }
        }
        bytes
    }
}

impl Batch {
    fn seal(&mut self) {
        if self.segments.is_empty() {
            return;
        }
        self.close_run();
        let base = self.scratch.as_ptr();
        self.vectors.extend(self.segments.iter().map(|segment| match *segment {
            Segment::Copied { start, len } => {
                libc::iovec { iov_base: base.wrapping_add(start).cast_mut().cast(), iov_len: len }
            }
            Segment::InPlace { start, len } => {
                libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
            }
        }));
        self.point_message();
    }

    fn advance_vectors(&mut self, mut sent: usize) {
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
    }

    /// Empties the batch for its next use, and drops its reference to the snapshot.
    fn clear(&mut self) {
        self.scratch.clear();
        self.sent = 0;
        if self.scratch.capacity() > SCRATCH_KEPT_MAX {
            self.scratch.shrink_to(SCRATCH_KEPT_MAX);
        }
        if !self.segments.is_empty() {
            self.segments.clear();
            self.vectors.clear();
            self.run_start = 0;
            self.in_place_len = 0;
            self.first = 0;
            self.message = EMPTY_MESSAGE;
            self.snapshot = None;
        }
    }

    /// The bytes of an in-place segment, as a slice of the snapshot.
    fn in_place(&self, start: *const u8, len: usize) -> &[u8] {
        let Some(snapshot) = &self.snapshot else { return &[] };
        let found = Framing::ALL.into_iter().find_map(|framing| {
            let wire = snapshot.wire_bytes_in(framing);
            let offset = start.addr().wrapping_sub(wire.as_ptr().addr());
            wire.get(offset..offset.saturating_add(len))
        });
        found.unwrap_or_default()
    }

    /// Copies `bytes` of a response, with key and prefetch bit applied. `taken` is their offset in
    /// the response.
    #[inline]
    fn copy(&mut self, response: Response, taken: usize, bytes: &[u8]) {
        let start = self.scratch.len();
        append_keyed(&mut self.scratch, bytes, response.key());
        if response.prefetch_bit() {
            let piece = self.scratch.get_mut(start..).unwrap_or_default();
            response.framing().mark(piece, taken);
        }
    }

    /// Appends bytes in place. Of a prefetch response, the bytes up to the prefetch bit are copied.
    fn refer(&mut self, cursor: &mut Cursor, bytes: &[u8], snapshot: &SnapshotRef) {
        let framing = cursor.response.framing();
        let has_bit = cursor.response.prefetch_bit();
        if has_bit && framing.is_multi() && cursor.taken + bytes.len() > framing.block_len() {
            return self.refer_blocks(cursor, bytes, snapshot);
        }
        let patched = has_bit && cursor.taken == 0;
        let mut body = bytes;
        if patched && let Some((head, later)) = bytes.split_at_checked(framing.first_mark() + 1) {
            self.push_patched(head);
            body = later;
        }
        self.push_in_place(body, snapshot);
        cursor.taken += bytes.len();
    }

    /// Appends bytes in place for framings in which each block has a prefetch bit.
    #[inline(never)]
    fn refer_blocks(&mut self, cursor: &mut Cursor, bytes: &[u8], snapshot: &SnapshotRef) {
        let (response, mut rest) = (cursor.response, bytes);
        while let Some(mark) = response.framing().next_mark(cursor.taken)
            && let Some((head, later)) = rest.split_at_checked(mark + 1 - cursor.taken)
        {
            // Of a long run, only the last byte, which has the bit, is copied.
            let in_place_len = if head.len() > COPY_LEN_MAX { head.len() - 1 } else { 0 };
            let (long, patched) = head.split_at(in_place_len);
            if !long.is_empty() {
                self.push_in_place(long, snapshot);
            }
            self.push_patched(patched);
            cursor.taken += head.len();
            rest = later;
        }
        if !rest.is_empty() {
            self.push_in_place(rest, snapshot);
        }
        cursor.taken += rest.len();
    }

    /// Copies bytes of a response without a key, and sets the prefetch bit in the last of them.
    #[inline]
    fn push_patched(&mut self, bytes: &[u8]) {
        self.scratch.extend_from_slice(bytes);
        if let Some(last) = self.scratch.last_mut() {
            *last ^= PREFETCH_BIT;
        }
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

const EMPTY_MESSAGE: libc::msghdr = libc::msghdr {
    msg_name: ptr::null_mut(),
    msg_namelen: 0,
    msg_iov: ptr::null_mut(),
    msg_iovlen: 0,
    msg_control: ptr::null_mut(),
    msg_controllen: 0,
    msg_flags: 0,
};

/// Batches for reuse. An idle connection holds none; a worker keeps at most [`POOL_LEN_MAX`].
#[derive(Default)]
pub struct BatchPool {
    #[allow(clippy::vec_box, reason = "batches are boxed in and outside the pool")]
    free: Vec<Box<Batch>>,
}

/// Number of batches that a worker keeps for reuse: 4 MB at most.
pub const POOL_LEN_MAX: usize = 64;

impl BatchPool {
    /// An empty batch.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Filling {
        Filling(self.free.pop().unwrap_or_default())
    }

    /// Takes back a batch that will not be sent.
    #[inline]
    pub fn put_unused(&mut self, batch: Filling) {
        self.put(Sealed(batch.0));
    }

    /// Takes a batch back.
    #[inline]
    pub fn put(&mut self, batch: Sealed) {
        let mut batch = batch.0;
        batch.clear();
        if self.free.len() < POOL_LEN_MAX {
            self.free.push(batch);
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
