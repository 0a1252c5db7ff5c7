//! A small cache as the bytes of its files, laid out by hand.
//!
//! Sectors are handed out in the order in which groups are stored, from sector 1 on, so that a
//! table of edits knows where everything is. Shares no code with `js5d::cache`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

pub(super) const DAT2: &str = "main_file_cache.dat2";
pub(super) const SECTOR: usize = 520;

/// The name of an archive's idx file.
pub(super) fn idx(archive: u8) -> String {
    format!("main_file_cache.idx{archive}")
}

/// A cache.
#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// What an archive index says of a group.
pub(super) struct Listed {
    pub(super) group: u32,
    pub(super) crc: u32,
    pub(super) version: u32,
}

impl Image {
    /// Stores a group at the end of the dat2 file.
    pub(super) fn store(&mut self, archive: u8, group: u16, bytes: &[u8]) {
        let dat2 = self.files.entry(DAT2.into()).or_insert_with(|| vec![0; SECTOR]);
        let first = dat2.len() / SECTOR;
        let last = bytes.len().div_ceil(512).max(1) - 1;
        for (position, part) in bytes.chunks(512).enumerate() {
            let next = if position == last { 0 } else { first + position + 1 };
            dat2.extend(group.to_be_bytes());
            dat2.extend(u16::try_from(position).expect("a small group").to_be_bytes());
            dat2.extend(u24(next));
            dat2.push(archive);
            dat2.extend(part);
            dat2.resize(dat2.len().next_multiple_of(SECTOR), 0);
        }
        self.list(archive, group, bytes.len(), first);
    }

    /// Writes an idx entry.
    pub(super) fn list(&mut self, archive: u8, group: u16, len: usize, first: usize) {
        let idx = self.files.entry(idx(archive)).or_default();
        let place = usize::from(group) * 6;
        idx.resize(idx.len().max(place + 6), 0);
        idx[place..place + 3].copy_from_slice(&u24(len));
        idx[place + 3..place + 6].copy_from_slice(&u24(first));
    }

    /// Changes bytes of a sector.
    pub(super) fn patch(&mut self, sector: usize, at: usize, bytes: &[u8]) {
        let place = sector * SECTOR + at;
        self.file(DAT2)[place..place + bytes.len()].copy_from_slice(bytes);
    }

    /// The bytes of a file that is there.
    pub(super) fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.get_mut(name).expect("a file of the image")
    }

    /// Writes the files whose bytes are others than in `before`, which are there already, and
    /// takes away those that it lacks.
    pub(super) fn write(&self, dir: &Path, before: &Self) -> io::Result<()> {
        for name in before.files.keys().filter(|name| !self.files.contains_key(*name)) {
            fs::remove_file(dir.join(name))?;
        }
        for (name, bytes) in &self.files {
            if before.files.get(name) != Some(bytes) {
                let mut options = File::options();
                let mut file =
                    options.write(true).create(true).truncate(false).open(dir.join(name))?;
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
            }
        }
        Ok(())
    }
}

/// An archive index of format 6, a file a group.
pub(super) fn index(version: u32, groups: &[Listed]) -> Vec<u8> {
    let mut out = vec![6];
    out.extend(version.to_be_bytes());
    out.push(0);
    let count = u16::try_from(groups.len()).expect("few groups");
    out.extend(count.to_be_bytes());
    let mut previous = 0;
    for listed in groups {
        out.extend(u16::try_from(listed.group - previous).expect("near").to_be_bytes());
        previous = listed.group;
    }
    out.extend(groups.iter().flat_map(|listed| listed.crc.to_be_bytes()));
    out.extend(groups.iter().flat_map(|listed| listed.version.to_be_bytes()));
    out.extend(groups.iter().flat_map(|_| [0, 1]));
    out.extend(groups.iter().flat_map(|_| [0, 0]));
    out
}

/// An uncompressed container.
pub(super) fn packed_plain(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small");
    [&[0], &len.to_be_bytes()[..], payload].concat()
}

/// A gzip container that claims to unpack to `claimed` bytes.
pub(super) fn packed_gzip(payload: &[u8], claimed: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(payload).expect("memory");
    let data = encoder.finish().expect("memory");
    let len = u32::try_from(data.len()).expect("small");
    [&[2], &len.to_be_bytes()[..], &claimed.to_be_bytes(), &data].concat()
}

pub(super) fn u24(number: usize) -> [u8; 3] {
    let [.., a, b, c] = number.to_be_bytes();
    [a, b, c]
}
