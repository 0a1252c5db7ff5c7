//! The master index in all formats that servers send.
//!
//! A master index does not say which format it has. VERSIONED and ORIGINAL are rows of eight and
//! four bytes; the other two begin with a count and end with a digest, so that the length usually
//! tells them apart. Where it does not, the archive indexes decide.
//!
//! A client looks entries up by archive, and never at the end of the table. So does this: a table
//! of VERSIONED or ORIGINAL may end within a row, as that of RuneJS does.

use js5d::protocol::container;
use js5d::protocol::master_index::{self, MasterEntry, MasterFormat, decode};

/// 255 rows of 80 bytes, a count, and a digest under a long key.
const PAYLOAD_LEN_MAX: usize = 32 << 10;

/// A whirlpool digest, and the byte 10 before it, unencrypted.
const DIGEST_LEN: usize = 65;

/// What a master index says of an archive that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) crc: u32,
    /// Where the format has one.
    pub(super) version: Option<u32>,
    /// Where the format is known to have one.
    pub(super) digest: Option<[u8; master_index::DIGEST_LEN]>,
}

/// One way to read a master index: `None` where the archive is absent.
pub(super) type Reading = Vec<Option<Entry>>;

/// The ways in which a master index can be read, the likeliest first; one at most if the format is
/// known.
pub(super) fn readings(master: &[u8], format: Option<MasterFormat>) -> Vec<Reading> {
    let Ok(payload) = container::decompress(master, PAYLOAD_LEN_MAX) else { return Vec::new() };
    let table = |row| {
        let reading = rows(&payload, row);
        reading.iter().any(Option::is_some).then_some(reading)
    };
    if let Some(format) = format {
        match format {
            MasterFormat::Original => return table(4).into_iter().collect(),
            MasterFormat::Versioned => return table(8).into_iter().collect(),
            MasterFormat::Digests | MasterFormat::Lengths => {}
        }
        let entry = |entry: MasterEntry| {
            (entry != MasterEntry::default()).then_some(Entry {
                crc: entry.crc,
                version: Some(entry.version),
                digest: Some(entry.digest),
            })
        };
        let reading = |entries: Vec<_>| entries.into_iter().map(entry).collect();
        return decode(format, master).map(reading).into_iter().collect();
    }
    let is_whole = |row: &usize| payload.len().is_multiple_of(*row);
    let mut readings: Vec<_> = [8, 4].into_iter().filter(is_whole).filter_map(table).collect();
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
    if readings.is_empty() {
        readings.extend([8, 4].into_iter().filter_map(table));
    }
    readings
}

fn rows(bytes: &[u8], row: usize) -> Reading {
    let int = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    bytes
        .chunks_exact(row)
        .take(master_index::MASTER_ENTRIES_MAX)
        .map(|row| {
            let is_absent = row.iter().all(|byte| *byte == 0);
            let crc = int(row).filter(|_| !is_absent)?;
            Some(Entry { crc, version: row.get(4..).and_then(int), digest: None })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use js5d::protocol::container::{Compression, compress};

    fn first(payload: &[u8]) -> Reading {
        readings(&compress(Compression::None, payload).unwrap(), None).swap_remove(0)
    }

    #[test]
    fn each_format_is_read() {
        let entry = [1, 2, 3, 4, 0, 0, 0, 9];
        let entry_of = |version| Entry { crc: 0x0102_0304, version, digest: None };
        let known = Some(entry_of(Some(9)));
        assert_eq!(first(&[&entry[..], &[0; 8], &entry].concat()), [known, None, known]);
        let bare = Some(entry_of(None));
        assert_eq!(first(&[&entry[..4], &[0; 4], &entry[..4]].concat()), [bare, None, bare]);
        for row in [72, 80] {
            let mut table = vec![2];
            table.extend(entry);
            table.resize(1 + row, 0x55);
            table.resize(1 + 2 * row, 0);
            table.extend([0xAA; DIGEST_LEN]);
            assert_eq!(first(&table), [known, None], "rows of {row}");
        }
        assert_eq!(readings(&[0, 0, 0, 0, 2, 1, 1], None), Vec::<Reading>::new());
    }

    #[test]
    fn a_format_that_is_known_is_the_only_one_that_is_read() {
        let mut payload = vec![1, 1, 2, 3, 4, 0, 0, 0, 9];
        payload.extend([0x55; 64]);
        payload.push(10);
        payload.extend([0xAA; 64]);
        let master = compress(Compression::None, &payload).unwrap();
        let entry = Entry { crc: 0x0102_0304, version: Some(9), digest: Some([0x55; 64]) };
        assert_eq!(readings(&master, Some(MasterFormat::Digests)), [[Some(entry)]]);
        assert_eq!(readings(&master, Some(MasterFormat::Lengths)), Vec::<Reading>::new());
    }

    #[test]
    fn a_table_that_ends_within_a_row_is_read_as_clients_read_it() {
        // RuneJS gives 6 bytes an archive as the length of 4 bytes an archive, and zeros.
        let mut payload = [1, 2, 3, 4].repeat(3);
        payload.resize(18, 0);
        let bare = Some(Entry { crc: 0x0102_0304, version: None, digest: None });
        let master = compress(Compression::None, &payload).unwrap();
        let expected = vec![bare, bare, bare, None];
        assert_eq!(
            readings(&master, Some(MasterFormat::Original)),
            std::slice::from_ref(&expected)
        );
        assert!(readings(&master, None).contains(&expected));
        let versioned = compress(Compression::None, &[1, 2, 3, 4, 0, 0, 0, 9, 0, 0]).unwrap();
        let known = Some(Entry { crc: 0x0102_0304, version: Some(9), digest: None });
        assert_eq!(readings(&versioned, Some(MasterFormat::Versioned)), [[known]]);
    }
}
