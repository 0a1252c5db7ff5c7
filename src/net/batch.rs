//! One send's worth of responses: small ones copied together, large ones referred to in place.
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

/// Responses up to this length are copied; longer ones cost less as a reference.
pub const COPY_LEN_MAX: usize = 2048;

/// The copied bytes of one batch. Keyed responses are copied whatever their length, in pieces
/// of this size, which stay in the core's cache.
pub const SCRATCH_LEN_MAX: usize = 64 << 10;

/// What a batch that goes back to the pool may keep.
pub(super) const SCRATCH_KEPT_MAX: usize = SCRATCH_LEN_MAX + COPY_LEN_MAX;

/// A worker's hold on a snapshot: one count a worker, and a plain count a connection.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

/// A response that has been begun: how many of its bytes are in a batch already.
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

    /// What is being sent.
    #[must_use]
    pub fn response(&self) -> Response {
        self.response
    }

    /// Bytes of it that have gone into batches.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes of it that have not.
    #[must_use]
    pub fn left(&self) -> usize {
        self.place.len() - self.taken
    }
}

/// A run of bytes to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Segment {
    /// In the scratch buffer.
    Copied { start: usize, len: usize },
    /// In the snapshot, which the batch holds.
    InPlace { start: *const u8, len: usize },
}

/// What both types of batch hold. Boxed, as the kernel reads the header at a fixed address.
struct Batch {
    scratch: Vec<u8>,
    /// Closed runs, once something is in place; what stands in the scratch buffer from
    /// `run_start` on is still open.
    segments: Vec<Segment>,
    run_start: usize,
    /// Bytes in place.
    in_place_len: usize,
    /// The segments as the kernel wants them, if something is in place; from `seal` on.
    vectors: Vec<libc::iovec>,
    /// The first vector that has not been sent whole.
    first: usize,
    /// Bytes that have been sent.
    sent: usize,
    /// Points into `vectors`; right from `seal` on.
    message: libc::msghdr,
    /// Set while `segments` has something in place.
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

/// A batch that is complete: to be sent, as often as it takes.
pub struct Sealed(Box<Batch>);

impl Filling {
    /// Bytes in it.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.scratch.len() + self.0.in_place_len
    }

    /// Whether there is nothing in it.
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

    /// Appends bytes that are neither framed nor keyed: what some clients read behind the status.
    pub fn push_plain(&mut self, bytes: &[u8]) {
        self.0.scratch.extend_from_slice(bytes);
    }

    /// Appends a whole response of at most [`COPY_LEN_MAX`] bytes: most are, and none of them is
    /// cut for a few bytes. `framed` is its urgent, unkeyed form. False if it is longer.
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
        // Where each short block has the prefetch bit, too, all would be pieces.
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

    /// Appends of a response what brings the batch to `len_max` bytes, and no more. True if the
    /// response is complete.
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
    /// Bytes that are to be sent still.
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

    /// Takes note that `sent` bytes have gone out. True if that was all.
    #[inline]
    pub fn advance(&mut self, sent: usize) -> bool {
        self.0.sent += sent;
        if !self.0.vectors.is_empty() {
            self.0.advance_vectors(sent);
        }
        self.is_empty()
    }

    /// What is to be sent still, if it is one run of copied bytes.
    #[inline]
    #[must_use]
    pub(super) fn as_one_slice(&self) -> Option<&[u8]> {
        let copied = self.0.vectors.is_empty();
        copied.then(|| self.0.scratch.get(self.0.sent..).unwrap_or_default())
    }

    /// The header for `sendmsg`, valid while the batch is neither changed nor dropped. Empty of a
    /// batch that is one slice.
    pub(super) fn message(&self) -> *const libc::msghdr {
        &raw const self.0.message
    }

    /// What a send would begin with.
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

    /// Collects what the whole batch sends, for tests and checks.
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

    /// Empties the batch for its next use, and lets the snapshot go.
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
    #[inline]
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
            self.push_patched(patched);
            cursor.taken += head.len();
            rest = later;
        }
        if !rest.is_empty() {
            self.push_in_place(rest, snapshot);
        }
        cursor.taken += rest.len();
    }

    /// Copies bytes of a response without a key, the last of which has the prefetch bit.
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
    #[allow(clippy::vec_box, reason = "batches are boxed when they come and when they go")]
    free: Vec<Box<Batch>>,
}

/// Batches that a worker keeps for reuse: 4 MB at most.
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
