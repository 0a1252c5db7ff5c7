//! Caches laid out by hand, and a slow model of the wire. Neither uses the code under test:
//! what is written and what must come back is known here independently.

use flate2::{Compression, write::GzEncoder};
use js5d::protocol::GroupId;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Groups by id, as their containers.
#[derive(Clone)]
pub(crate) struct Cache {
    containers: BTreeMap<GroupId, Vec<u8>>,
}

pub(crate) fn id(archive: u8, group: u32) -> GroupId {
    GroupId { archive, group }
}

impl Cache {
    /// Small groups and large ones:
    /// - archive 0: containers that end at and around the edges of blocks, and at and around
    ///   the lengths at which the server goes another way; the last group is 65535;
    /// - archive 1: 100 groups of 200 to 300 bytes, groups 0 to 99;
    /// - archive 2: 40 groups of 100,000 bytes, groups 0 to 39;
    /// - archive 3: one group of 500,000 bytes;
    /// - archive 5: no group. There is no archive 4.
    pub(crate) fn sample() -> Self {
        let mut groups = BTreeMap::new();
        let edges = [5, 6, 7, 508, 509, 510, 511, 512, 1019, 1020, 1021, 1022, 1531, 1532]
            .into_iter()
            .chain(2038..=2050)
            .chain([65_400, 65_535, 65_536, 70_000, 262_000]);
        for (place, len) in (0..).zip(edges) {
            groups.insert(id(0, place * 3), container(0, place * 3, len));
        }
        groups.insert(id(0, 65535), container(0, 65535, 777));
        for group in 0..100 {
            groups.insert(id(1, group), container(1, group, 200 + group as usize));
        }
        for group in 0..40 {
            groups.insert(id(2, group), container(2, group, 100_000));
        }
        groups.insert(id(3, 0), container(3, 0, 500_000));
        Self::of(groups, &[0, 1, 2, 3, 5])
    }

    /// The sample, if it had no archive 5: the master index ends before it.
    pub(crate) fn without_archive_5() -> Self {
        Self::of(Self::sample().containers, &[0, 1, 2, 3])
    }

    /// The sample with other bytes in archives 1 and 3: another generation.
    pub(crate) fn reworked() -> Self {
        let mut groups = Self::sample().containers;
        for (id, bytes) in &mut groups {
            if id.archive == 1 || id.archive == 3 {
                *bytes = container(id.archive + 100, id.group, bytes.len());
            }
        }
        Self::of(groups, &[0, 1, 2, 3, 5])
    }

    /// The sample and group 3/1 of 9 MB, which no socket takes at once.
    pub(crate) fn huge() -> Self {
        let mut groups = Self::sample().containers;
        groups.insert(id(3, 1), container(3, 1, 9_000_000));
        Self::of(groups, &[0, 1, 2, 3, 5])
    }

    /// Adds the indexes of these archives and the master index.
    fn of(mut groups: BTreeMap<GroupId, Vec<u8>>, archives: &[u8]) -> Self {
        groups.retain(|id, _| id.archive != 255);
        let mut master = Vec::new();
        for &archive in archives {
            let index = index(archive, &groups);
            master.resize(usize::from(archive) * 8, 0);
            master.extend(crc32fast::hash(&index).to_be_bytes());
            master.extend(index_version(archive).to_be_bytes());
            groups.insert(id(255, archive.into()), index);
        }
        groups.insert(id(255, 255), uncompressed(&master));
        Self { containers: groups }
    }

    /// The bytes of a group's container.
    pub(crate) fn container(&self, id: GroupId) -> &[u8] {
        &self.containers[&id]
    }

    /// Every group that can be asked for.
    pub(crate) fn ids(&self) -> impl Iterator<Item = GroupId> {
        self.containers.keys().copied()
    }

    /// Every group as it is stored: with its version behind it, if it has one.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (GroupId, Vec<u8>)> {
        // The server makes the master index itself.
        let groups = self.containers.iter().filter(|&(&at, _)| at != id(255, 255));
        groups.map(|(&id, container)| {
            let mut stored = container.clone();
            if id.archive != 255 {
                stored.extend((version(id) as u16).to_be_bytes());
            }
            (id, stored)
        })
    }

    /// Writes ARCHIVE/GROUP.dat files.
    pub(crate) fn write_flat(&self, dir: &Path) {
        for (id, stored) in self.stored() {
            let archive = dir.join(id.archive.to_string());
            fs::create_dir_all(&archive).expect("a directory");
            fs::write(archive.join(format!("{}.dat", id.group)), stored).expect("a file");
        }
    }
}

/// A container of `len` bytes, of each compression in turn. What stands behind its type and
/// length is noise, as in encrypted groups: the server does not look at it.
fn container(archive: u8, group: u32, len: usize) -> Vec<u8> {
    let compression = if len < 9 { 0 } else { (group / 3 % 4) as u8 };
    let header_len = if compression == 0 { 5 } else { 9 };
    let mut bytes = vec![compression];
    bytes.extend(((len - header_len) as u32).to_be_bytes());
    let mut rng = fastrand::Rng::with_seed(u64::from(archive) << 16 | u64::from(group));
    bytes.resize(len, 0);
    rng.fill(&mut bytes[5..]);
    bytes
}

fn uncompressed(payload: &[u8]) -> Vec<u8> {
    let mut container = vec![0];
    container.extend((payload.len() as u32).to_be_bytes());
    container.extend(payload);
    container
}

fn gzipped(payload: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(payload).expect("memory");
    let packed = encoder.finish().expect("memory");
    let mut container = vec![2];
    container.extend((packed.len() as u32).to_be_bytes());
    container.extend((payload.len() as u32).to_be_bytes());
    container.extend(packed);
    container
}

fn version(id: GroupId) -> u32 {
    0x0007_0000 + id.group * 5 + u32::from(id.archive)
}

fn index_version(archive: u8) -> u32 {
    0x0100_0000 + u32::from(archive)
}

/// An archive index of format 6 without flags, each group of one file.
fn index(archive: u8, groups: &BTreeMap<GroupId, Vec<u8>>) -> Vec<u8> {
    let range = id(archive, 0)..=id(archive, 0xFFFF);
    let groups: Vec<_> = groups.range(range).collect();
    let mut payload = vec![6];
    payload.extend(index_version(archive).to_be_bytes());
    payload.push(0);
    payload.extend((groups.len() as u16).to_be_bytes());
    let mut last = 0;
    for (id, _) in &groups {
        payload.extend(((id.group - last) as u16).to_be_bytes());
        last = id.group;
    }
    for (_, container) in &groups {
        payload.extend(crc32fast::hash(container).to_be_bytes());
    }
    for (id, _) in &groups {
        payload.extend(version(**id).to_be_bytes());
    }
    payload.extend(groups.iter().flat_map(|_| [0, 1]));
    payload.extend(groups.iter().flat_map(|_| [0, 0]));
    if archive == 1 { gzipped(&payload) } else { uncompressed(&payload) }
}

/// The container at the beginning of stored bytes, by its own length.
pub(crate) fn container_of(stored: &[u8]) -> &[u8] {
    let length = u32::from_be_bytes([stored[1], stored[2], stored[3], stored[4]]) as usize;
    &stored[..length + if stored[0] == 0 { 5 } else { 9 }]
}

/// A response as the contract describes it, byte by byte.
pub(crate) fn framed_by_hand(id: GroupId, container: &[u8], prefetch: bool, key: u8) -> Vec<u8> {
    let mut plain = vec![id.archive, (id.group >> 8) as u8, id.group as u8];
    plain.extend(container);
    plain[3] |= if prefetch { 0x80 } else { 0 };
    let mut wire = Vec::new();
    for byte in plain {
        if !wire.is_empty() && wire.len() % 512 == 0 {
            wire.push(0xFF ^ key);
        }
        wire.push(byte ^ key);
    }
    wire
}
