//! The groups that a server offers: its master index, and the archive indexes in it.

use crate::protocol::archive_index::ArchiveIndex;
use crate::protocol::container::decompress;
use crate::protocol::master_index::{MASTER_ENTRIES_MAX, MasterFormat};
use crate::protocol::{ARCHIVE_INDEXES, GroupId};

/// No archive index unpacks to more.
const INDEX_LEN_MAX: usize = 64 << 20;
/// No master index is longer: an uncompressed container of 255 entries of 80 bytes, and a
/// signature.
const MASTER_LEN_MAX: usize = 64 << 10;
/// The length of a master index's digests and signature, at least: a byte and a digest.
const SIGNATURE_LEN_MIN: usize = 65;

/// What the master index says of an archive that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) struct MasterEntry {
    pub(in crate::command) archive: u8,
    /// Of the container of its index.
    pub(in crate::command) crc: u32,
    /// Of its index; none in a format without.
    pub(in crate::command) version: Option<u32>,
}

impl MasterEntry {
    /// The group that is the archive's index.
    pub(in crate::command) fn id(&self) -> GroupId {
        GroupId { archive: ARCHIVE_INDEXES, group: self.archive.into() }
    }
}

/// The ways in which the container of a master index can be read, the likeliest first: nothing in
/// it says of which format it is. That of `format`, which the client reads, is the likeliest of
/// all. The first archive index that comes decides.
pub(in crate::command) fn readings(
    container: &[u8],
    format: MasterFormat,
) -> Result<Vec<Vec<MasterEntry>>, String> {
    let payload = decompress(container, MASTER_LEN_MAX).map_err(|error| error.to_string())?;
    let (count, entries) =
        payload.split_first().map_or((0, &[][..]), |(&count, rest)| (usize::from(count), rest));
    let mut readings = Vec::new();
    // DIGESTS and LENGTHS begin with a count; what follows the entries is the signature.
    for (like, len) in [(MasterFormat::Digests, 72), (MasterFormat::Lengths, 80)] {
        let signature = entries.len().checked_sub(count * len);
        if count > 0 && signature.is_some_and(|len| len >= SIGNATURE_LEN_MIN) {
            readings.push((like, read(&entries[..count * len], len, true)));
        }
    }
    // VERSIONED, then ORIGINAL. A client looks entries up by archive and never at the end, so that
    // it does not notice if a part of a row is left over.
    let rows = [(MasterFormat::Versioned, 8), (MasterFormat::Original, 4)];
    let rows = rows.into_iter().filter(|(_, len)| payload.len() / len <= MASTER_ENTRIES_MAX);
    let (whole, cut): (Vec<_>, Vec<_>) = rows.partition(|(_, len)| payload.len() % len == 0);
    let is_cut = readings.is_empty() && whole.is_empty();
    for (like, len) in if is_cut { cut } else { whole } {
        readings.push((like, read(&payload, len, like != MasterFormat::Original)));
    }
    readings.retain(|(_, entries): &(_, Vec<_>)| !entries.is_empty());
    // The order of the others stays.
    readings.sort_by_key(|(like, _)| *like != format);
    Ok(readings.into_iter().map(|(_, entries)| entries).collect())
}

fn read(bytes: &[u8], len: usize, has_version: bool) -> Vec<MasterEntry> {
    let int = |bytes: &[u8], at: usize| {
        bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    };
    let entries = (0..ARCHIVE_INDEXES).zip(bytes.chunks_exact(len));
    let present = entries.filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
    let entry = |(archive, bytes)| MasterEntry {
        archive,
        crc: int(bytes, 0),
        version: has_version.then(|| int(bytes, 4)),
    };
    present.map(entry).collect()
}

/// Whether a container is what the master index says of an archive's index; else what is wrong.
pub(in crate::command) fn index(
    entry: &MasterEntry,
    container: &[u8],
) -> Result<ArchiveIndex, String> {
    let found = crc32fast::hash(container);
    if found != entry.crc {
        let expected = entry.crc;
        return Err(format!("CRC-32 is {found:08x}, the master index says {expected:08x}"));
    }
    let payload = decompress(container, INDEX_LEN_MAX).map_err(|error| error.to_string())?;
    let index = ArchiveIndex::decode(&payload).map_err(|error| error.to_string())?;
    match entry.version {
        Some(version) if version != index.version => {
            Err(format!("version is {}, the master index says {version}", index.version))
        }
        _ => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(payload: &[u8]) -> Vec<u8> {
        [&[0][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    }

    #[test]
    fn each_format_of_a_master_index_is_among_its_readings() {
        let entry = |archive, crc, version| MasterEntry { archive, crc, version };
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
        for (payload, format) in [
            (&versioned, MasterFormat::Versioned),
            (&digests, MasterFormat::Digests),
            (&lengths, MasterFormat::Lengths),
        ] {
            let likeliest = readings(&container(payload), format).expect("a container");
            assert_eq!(likeliest[0], expected, "as the client reads it");
            let others = readings(&container(payload), MasterFormat::Original).expect("one");
            assert!(others.contains(&expected.to_vec()), "{others:?}");
        }
        let original = ints(&[0x0102_0304, 0, 0x0506_0708]);
        let readings = readings(&container(&original), MasterFormat::Versioned).expect("one");
        assert_eq!(readings, [[entry(0, 0x0102_0304, None), entry(2, 0x0506_0708, None)].to_vec()]);
    }
}
