//! A second reader of caches, by the words of docs/cache-format.md and docs/protocol.md alone.
//!
//! Plain and slow: whole files in memory, a checksum bit by bit, numbers as `u64`. It says what
//! may be served, and shares no code with the first reader.

use super::image::{DAT2, Image, SECTOR, idx};
use std::collections::BTreeMap;
use std::io::Read as _;

/// No archive index unpacks to more.
const INDEX_LEN_MAX: u64 = 64 << 20;

/// Containers that may be served, the master index included, by archive and group.
pub(super) type View = BTreeMap<(u8, u32), Vec<u8>>;

/// What may be served of a cache. Empty if nothing.
pub(super) fn view(image: &Image) -> View {
    let mut view = View::new();
    let mut master = Vec::new();
    for archive in 0..255 {
        let Some((index, listed)) = archive_index(image, archive) else { continue };
        master.resize(usize::from(archive) * 8, 0);
        master.extend(crc(&index).to_be_bytes());
        master.extend(listed.version.to_be_bytes());
        view.insert((255, u32::from(archive)), index);
        for (group, expected, version) in listed.groups {
            let Ok(group) = u16::try_from(group) else { continue };
            let Some(stored) = stored(image, archive, group) else { continue };
            let Some(container) = container(&stored) else { continue };
            // Two bytes are a version; fewer or more are none.
            let beyond = &stored[container.len()..];
            let is_version = beyond.len() != 2 || beyond == (version as u16).to_be_bytes();
            if crc(container) == expected && is_version {
                view.insert((archive, group.into()), container.to_vec());
            }
        }
    }
    if !master.is_empty() {
        let len = u32::try_from(master.len()).expect("255 entries at most");
        view.insert((255, 255), [&[0], &len.to_be_bytes()[..], &master].concat());
    }
    view
}

/// CRC-32, a bit at a time.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Follows a chain of sectors.
pub(super) fn stored(image: &Image, archive: u8, group: u16) -> Option<Vec<u8>> {
    let entry = image.files.get(&idx(archive))?.chunks_exact(6).nth(group.into())?;
    let (len, mut sector) = (number(&entry[..3]) as usize, number(&entry[3..]) as usize);
    let dat2 = image.files.get(DAT2)?;
    let (mut out, mut position) = (Vec::new(), 0);
    while out.len() < len {
        let here = (len - out.len()).min(512);
        let bytes = dat2.get(sector * SECTOR..sector * SECTOR + 8 + here)?;
        // The last sector's number of a next one has no meaning.
        let is_ours = number(&bytes[..2]) == u64::from(group)
            && number(&bytes[2..4]) == position
            && bytes[7] == archive;
        if sector == 0 || !is_ours {
            return None;
        }
        out.extend(&bytes[8..]);
        sector = number(&bytes[4..7]) as usize;
        position += 1;
    }
    (len > 0).then_some(out)
}

/// The container at the beginning of what is stored. Its first five bytes say where it ends; the
/// others may be encrypted, and are not looked at.
pub(super) fn container(stored: &[u8]) -> Option<&[u8]> {
    let header = stored.get(..5)?;
    let header_len = if header[0] == 0 { 5 } else { 9 };
    let is_known = header[0] <= 3 && header[1] < 128;
    let len = header_len + number(&header[1..5]) as usize;
    stored.get(..len).filter(|_| is_known)
}

/// What an archive index lists: groups with checksum and version.
pub(super) struct Listing {
    pub(super) version: u32,
    pub(super) groups: Vec<(u64, u32, u32)>,
}

/// What the payload of an archive index lists.
pub(super) fn listing(payload: &[u8]) -> Option<Listing> {
    Reader(payload).listing()
}

/// The container of an archive index, and what it lists.
fn archive_index(image: &Image, archive: u8) -> Option<(Vec<u8>, Listing)> {
    let stored = stored(image, 255, archive.into())?;
    let container = container(&stored)?;
    let payload = match container[0] {
        0 => container[5..].to_vec(),
        2 => {
            let claimed = number(&container[5..9]);
            let mut payload = Vec::new();
            let reader = flate2::read::GzDecoder::new(&container[9..]);
            reader.take(INDEX_LEN_MAX + 1).read_to_end(&mut payload).ok()?;
            let is_right = payload.len() as u64 == claimed && claimed <= INDEX_LEN_MAX;
            is_right.then_some(payload)?
        }
        // Nothing here packs with the others; what came about by a changed byte is damaged.
        _ => return None,
    };
    Some((container.to_vec(), listing(&payload)?))
}

/// Reads an index from its beginning on.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Option<u64> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(number(head))
    }

    /// A count or a distance: two bytes, or four if it is wide and the top bit says so.
    fn sized(&mut self, wide: bool) -> Option<u64> {
        if wide && self.0.first()? & 0x80 != 0 {
            Some(self.take(4)? & 0x7FFF_FFFF)
        } else {
            self.take(2)
        }
    }

    /// Ids, each the last plus a distance.
    fn ids(&mut self, count: u64, wide: bool) -> Option<Vec<u64>> {
        let mut ids: Vec<u64> = Vec::new();
        for _ in 0..count {
            let id = ids.last().unwrap_or(&0) + self.sized(wide)?;
            ids.push(u32::try_from(id).ok()?.into());
        }
        Some(ids)
    }

    fn column(&mut self, count: usize) -> Option<Vec<u32>> {
        (0..count).map(|_| self.take(4).map(|number| number as u32)).collect()
    }

    fn listing(mut self) -> Option<Listing> {
        let format = self.take(1)?;
        if !(5..=7).contains(&format) {
            return None;
        }
        let version = if format == 5 { 0 } else { self.take(4)? as u32 };
        let flags = self.take(1)?;
        let (names, digests, lengths, others) =
            (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 8 != 0);
        let wide = format == 7;
        let count = self.sized(wide)?;
        let ids = self.ids(count, wide)?;
        let count = ids.len();
        if names {
            self.column(count)?;
        }
        let checksums = self.column(count)?;
        if others {
            self.column(count)?;
        }
        if digests {
            self.column(count * 16)?;
        }
        if lengths {
            self.column(count * 2)?;
        }
        let versions = self.column(count)?;
        let files = (0..count).map(|_| self.sized(wide)).collect::<Option<Vec<_>>>()?;
        let total = files.iter().sum::<u64>();
        for count in files {
            for _ in 0..count {
                self.sized(wide)?;
            }
        }
        if names {
            self.column(usize::try_from(total).ok()?)?;
        }
        let groups = ids.into_iter().zip(checksums).zip(versions);
        // Of an id that stands twice the last counts.
        let groups: BTreeMap<_, _> =
            groups.map(|((id, checksum), version)| (id, (checksum, version))).collect();
        let groups = groups.into_iter().map(|(id, (checksum, version))| (id, checksum, version));
        Some(Listing { version, groups: groups.collect() })
    }
}
