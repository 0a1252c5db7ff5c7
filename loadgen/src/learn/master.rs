//! The master index in all formats that servers send.
//!
//! It does not say which one it is in. The length tells VERSIONED and ORIGINAL, which are rows
//! of eight and four bytes, from the two that begin with a count and end with a digest; what is
//! still ambiguous is settled by the archive indexes themselves.

use js5d::protocol::container;

/// 255 rows of 80 bytes, a count, and a digest under a long key.
const PAYLOAD_LEN_MAX: usize = 32 << 10;

/// A whirlpool digest, and the byte 10 before it, unencrypted.
const DIGEST_LEN: usize = 65;

/// One way to read a master index: the checksum of each archive index, `None` where the archive
/// is absent, and its version where the format has one.
pub(super) type Reading = Vec<Option<(u32, Option<u32>)>>;

/// The ways in which a master index can be read, the likeliest first.
pub(super) fn readings(master: &[u8]) -> Vec<Reading> {
    let Ok(payload) = container::decompress(master, PAYLOAD_LEN_MAX) else { return Vec::new() };
    let mut readings = Vec::new();
    if payload.len().is_multiple_of(8) {
        readings.push(rows(&payload, 8));
    }
    if payload.len().is_multiple_of(4) {
        readings.push(rows(&payload, 4));
    }
    if let Some((&count, rest)) = payload.split_first() {
        for row in [80, 72] {
            let table = usize::from(count) * row;
            let tail = rest.len().checked_sub(table);
            let Some(tail) = tail else { continue };
            let reading = rows(&rest[..table], row);
            // Without a digest or with a plain one there is no doubt.
            if tail == 0 || tail == DIGEST_LEN {
                readings.insert(0, reading);
            } else {
                readings.push(reading);
            }
        }
    }
    readings.retain(|reading| reading.iter().any(Option::is_some));
    readings
}

fn rows(bytes: &[u8], row: usize) -> Reading {
    let int = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    bytes
        .chunks_exact(row)
        .map(|row| {
            let is_absent = row.iter().all(|byte| *byte == 0);
            let crc = int(row).filter(|_| !is_absent)?;
            Some((crc, row.get(4..).and_then(int)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use js5d::protocol::container::{Compression, compress};

    fn first(payload: &[u8]) -> Reading {
        readings(&compress(Compression::None, payload).unwrap()).swap_remove(0)
    }

    #[test]
    fn each_format_is_read() {
        let entry = [1, 2, 3, 4, 0, 0, 0, 9];
        let known = Some((0x0102_0304, Some(9)));
        assert_eq!(first(&[&entry[..], &[0; 8], &entry].concat()), [known, None, known]);
        let bare = Some((0x0102_0304, None));
        assert_eq!(first(&[&entry[..4], &[0; 4], &entry[..4]].concat()), [bare, None, bare]);
        for row in [72, 80] {
            let mut table = vec![2];
            table.extend(entry);
            table.resize(1 + row, 0x55);
            table.resize(1 + 2 * row, 0);
            table.extend([0xAA; DIGEST_LEN]);
            assert_eq!(first(&table), [known, None], "rows of {row}");
        }
        assert_eq!(readings(&[0, 0, 0, 0, 2, 1, 1]), Vec::<Reading>::new());
    }
}
