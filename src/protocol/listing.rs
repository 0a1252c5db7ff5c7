//! What a server offers, as its clients learn it: the archives that the master index lists, and
//! the index of each.

use super::archive_index::ArchiveIndex;
use super::container::decompress;
use super::master_index::{
    self, DIGEST_LEN, MasterEntry, MasterFormat, MasterIndexError, decode_cut,
};
use super::{ARCHIVE_INDEXES, GroupId};

/// An index of 65,536 groups with all columns is 8 MB; no archive index unpacks to more than this.
const INDEX_LEN_MAX: usize = 64 << 20;

/// What the master index says of an archive that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The archive.
    pub archive: u8,
    /// Of the container of its index.
    pub crc: u32,
    /// Of its index; none in a format without.
    pub version: Option<u32>,
    /// The whirlpool digest of the container of its index; none in a format without.
    pub digest: Option<[u8; DIGEST_LEN]>,
}

impl Listed {
    /// The group that is the archive's index.
    #[must_use]
    pub fn id(&self) -> GroupId {
        GroupId { archive: ARCHIVE_INDEXES, group: self.archive.into() }
    }

    /// Decodes the archive's index. A digest is not compared.
    ///
    /// # Errors
    /// The container is none, or not what the master index says, in words.
    pub fn index(&self, container: &[u8]) -> Result<ArchiveIndex, String> {
        let found = crc32fast::hash(container);
        if found != self.crc {
            let expected = self.crc;
            return Err(format!("CRC-32 is {found:08x}, the master index says {expected:08x}"));
        }
        let payload = decompress(container, INDEX_LEN_MAX).map_err(|error| error.to_string())?;
        let index = ArchiveIndex::decode(&payload).map_err(|error| error.to_string())?;
        match self.version {
            Some(version) if version != index.version => {
                Err(format!("version is {}, the master index says {version}", index.version))
            }
            _ => Ok(index),
        }
    }
}

/// Every format in the order in which a master index is tried: the one that the client reads, then
/// those that say how many entries they have.
#[must_use]
pub fn formats_from(likeliest: MasterFormat) -> [MasterFormat; 4] {
    use MasterFormat::{Digests, Lengths, Original, Versioned};
    let mut formats = [Digests, Lengths, Versioned, Original];
    // The order of the others stays.
    formats.sort_by_key(|format| *format != likeliest);
    formats
}

/// The ways in which the container of a master index can be read, in the order of `formats`:
/// nothing in it says of which format it is. The first archive index that comes decides. A table
/// that ends within an entry is read if there is no other way.
///
/// # Errors
/// It can be read in none of these formats; with the reason of the first.
pub fn readings(
    container: &[u8],
    formats: &[MasterFormat],
) -> Result<Vec<Vec<Listed>>, MasterIndexError> {
    let mut readings = Vec::new();
    let mut wrong = None;
    for &format in formats {
        match master_index::decode(format, container) {
            Ok(entries) => readings.push(listed(format, &entries)),
            Err(error) => _ = wrong.get_or_insert(error),
        }
    }
    if readings.is_empty() {
        let cut = formats.iter().filter(|format| !format.has_digests());
        let entries = cut.filter_map(|&format| Some((format, decode_cut(format, container).ok()?)));
        readings.extend(entries.map(|(format, entries)| listed(format, &entries)));
    }
    match wrong {
        Some(error) if readings.is_empty() => Err(error),
        _ => {
            readings.retain(|reading| !reading.is_empty());
            Ok(readings)
        }
    }
}

fn listed(format: MasterFormat, entries: &[MasterEntry]) -> Vec<Listed> {
    let present =
        (0..ARCHIVE_INDEXES).zip(entries).filter(|(_, entry)| **entry != MasterEntry::default());
    let listed = present.map(|(archive, entry)| Listed {
        archive,
        crc: entry.crc,
        version: (format != MasterFormat::Original).then_some(entry.version),
        digest: format.has_digests().then_some(entry.digest),
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(payload: &[u8]) -> Vec<u8> {
        [&[0][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    }

    #[test]
    fn each_format_of_a_master_index_is_among_its_readings() {
        let entry = |archive, crc, version| (archive, crc, version);
        let expected = [entry(0, 0x0102_0304, Some(7)), entry(2, 0x0506_0708, Some(8))];
        let ints = |ints: &[u32]| ints.iter().flat_map(|i| i.to_be_bytes()).collect::<Vec<_>>();
        let versioned = ints(&[0x0102_0304, 7, 0, 0, 0x0506_0708, 8]);
        let mut digests = vec![3];
        let mut lengths = vec![3];
        for pair in [[0x0102_0304, 7], [0, 0], [0x0506_0708, 8]] {
            let rest = if pair[0] == 0 { 0 } else { 1 };
            digests.extend([ints(&pair), vec![rest; 64]].concat());
            lengths.extend([ints(&pair), vec![rest; 72]].concat());
        }
        for payload in [&mut digests, &mut lengths] {
            payload.push(10);
            payload.extend([9; 64]);
        }
        let plain = |reading: &Vec<Listed>| {
            reading.iter().map(|it| (it.archive, it.crc, it.version)).collect::<Vec<_>>()
        };
        let readings = |payload: &[u8], likeliest| {
            readings(&container(payload), &formats_from(likeliest)).expect("a container")
        };
        for (payload, format) in [
            (&versioned, MasterFormat::Versioned),
            (&digests, MasterFormat::Digests),
            (&lengths, MasterFormat::Lengths),
        ] {
            let likeliest = readings(payload, format);
            assert_eq!(plain(&likeliest[0]), expected, "as the client reads it");
            let others = readings(payload, MasterFormat::Original);
            assert!(others.iter().any(|other| plain(other) == expected), "{others:?}");
        }
        let original = ints(&[0x0102_0304, 0, 0x0506_0708]);
        let found = readings(&original, MasterFormat::Versioned);
        assert_eq!(found.len(), 1);
        assert_eq!(plain(&found[0]), [entry(0, 0x0102_0304, None), entry(2, 0x0506_0708, None)]);
    }

    #[test]
    fn a_format_that_is_known_is_the_only_one_that_is_read() {
        let mut payload = vec![1, 1, 2, 3, 4, 0, 0, 0, 9];
        payload.extend([0x55; 64]);
        payload.push(10);
        payload.extend([0xAA; 64]);
        let master = container(&payload);
        let digest = Some([0x55; 64]);
        let entry = Listed { archive: 0, crc: 0x0102_0304, version: Some(9), digest };
        assert_eq!(readings(&master, &[MasterFormat::Digests]), Ok(vec![vec![entry]]));
        assert!(readings(&master, &[MasterFormat::Lengths]).is_err());
    }

    #[test]
    fn a_table_that_ends_within_an_entry_is_read_as_clients_read_it() {
        // RuneJS makes room for 6 bytes an archive and writes 4 for each: zeros follow.
        let mut payload = [1, 2, 3, 4].repeat(3);
        payload.resize(18, 0);
        let bare = |archive| (archive, 0x0102_0304, None);
        let plain = |readings: Vec<Vec<Listed>>| {
            let plain = |it: &Listed| (it.archive, it.crc, it.version);
            readings.iter().map(|all| all.iter().map(plain).collect()).collect::<Vec<Vec<_>>>()
        };
        let read = |payload: &[u8], formats: &[_]| {
            plain(readings(&container(payload), formats).expect("a container"))
        };
        let expected = [bare(0), bare(1), bare(2)];
        assert_eq!(read(&payload, &[MasterFormat::Original]), [expected]);
        let all = read(&payload, &formats_from(MasterFormat::Versioned));
        assert!(all.iter().any(|reading| *reading == expected), "{all:?}");
        let versioned = [1, 2, 3, 4, 0, 0, 0, 9, 0, 0];
        let known = vec![(0, 0x0102_0304, Some(9))];
        assert_eq!(read(&versioned, &[MasterFormat::Versioned]), [known]);
    }
}
