//! One send's worth of responses: small ones copied together, large ones referred to.

use js5d::protocol::frame::{COMPRESSION_AT, PREFETCH_BIT, append_keyed};

/// Responses up to this length are copied, as in js5d (docs/decisions).
const COPY_LEN_MAX: usize = 2048;

/// Bytes of one send at most: 1 MB and more costs half as much again on loopback.
pub const BATCH_LEN_MAX: usize = 256 << 10;

/// A run of bytes to send.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// In the batch's own buffer.
    Copied { start: usize, len: usize },
    /// In the catalog, which lives as long as the process.
    InPlace(&'static [u8]),
}

/// One send's worth of bytes, and how much of it has been sent.
#[derive(Debug, Default)]
pub struct Batch {
    copied: Vec<u8>,
    parts: Vec<Part>,
    len: usize,
    sent: usize,
}

impl Batch {
    /// Bytes that are to be sent still.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len - self.sent
    }

    /// Whether all of it has been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is as long as a send should be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len >= BATCH_LEN_MAX
    }

    /// Appends a byte as it is: the status.
    pub fn push_byte(&mut self, byte: u8) {
        self.copy(&[byte], 0);
    }

    /// Appends a response, of which `framed` is the urgent, unkeyed form.
    pub fn push(&mut self, framed: &'static [u8], prefetch_bit: bool, key: u8) {
        let copied_len = if key != 0 || framed.len() <= COPY_LEN_MAX {
            framed.len()
        } else if prefetch_bit {
            COMPRESSION_AT + 1
        } else {
            0
        };
        let (head, body) = framed.split_at_checked(copied_len).unwrap_or((framed, &[]));
        let start = self.copied.len();
        self.copy(head, key);
        if prefetch_bit && let Some(byte) = self.copied.get_mut(start + COMPRESSION_AT) {
            // XOR sets the bit under a key, too: no container has it.
            *byte ^= PREFETCH_BIT;
        }
        if !body.is_empty() {
            self.parts.push(Part::InPlace(body));
            self.len += body.len();
        }
    }

    fn copy(&mut self, bytes: &[u8], key: u8) {
        if bytes.is_empty() {
            return;
        }
        let start = self.copied.len();
        append_keyed(&mut self.copied, bytes, key);
        self.len += bytes.len();
        match self.parts.last_mut() {
            Some(Part::Copied { len, .. }) => *len += bytes.len(),
            _ => self.parts.push(Part::Copied { start, len: bytes.len() }),
        }
    }

    /// Counts `sent` more bytes as sent.
    pub fn advance(&mut self, sent: usize) {
        self.sent += sent.min(self.len());
    }

    /// What is to be sent, if it stands in one piece.
    #[must_use]
    pub fn as_one_slice(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [Part::Copied { .. }] => self.copied.get(self.sent..),
            _ => None,
        }
    }

    /// What is to be sent, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.parts.iter().filter_map(move |part| {
            let bytes: &[u8] = match *part {
                Part::Copied { start, len } => self.copied.get(start..start + len)?,
                Part::InPlace(bytes) => bytes,
            };
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            bytes.get(skipped..).filter(|rest| !rest.is_empty())
        })
    }

    /// Empties it for its next use.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.parts.clear();
        self.len = 0;
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(batch: &Batch) -> Vec<u8> {
        batch.pieces().flatten().copied().collect()
    }

    #[test]
    fn a_batch_sends_what_was_pushed_from_where_it_stands() {
        let small: &'static [u8] = &[1, 0, 2, 3, 4];
        let large: &'static [u8] = vec![5; 3000].leak();
        let mut batch = Batch::default();
        batch.push(small, true, 0);
        batch.push(large, true, 0);
        batch.push(small, false, 7);
        let mut expected = vec![1, 0, 2, 0x83, 4, 5, 5, 5, 0x85];
        expected.extend([5; 2996]);
        expected.extend([6, 7, 5, 4, 3]);
        assert_eq!(bytes(&batch), expected);
        for step in [3, 4, 2000, 998] {
            batch.advance(step);
            expected.drain(..step);
            assert_eq!(bytes(&batch), expected);
            assert_eq!(batch.len(), expected.len());
        }
        batch.advance(5);
        assert!(batch.is_empty());
    }
}
