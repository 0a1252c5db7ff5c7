//! Loading: what is sound is framed, what is not is named and never served.

use super::*;
use crate::catalog::{NoticeKind, SnapshotTotals};
use crate::protocol::GroupId;
use crate::protocol::MASTER_INDEX;
use crate::protocol::archive_index::{ArchiveIndex, IndexEntry};
use crate::protocol::container::{Compression, compress, decompress};
use crate::protocol::frame::frame;
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// CRC-32 a bit at a time.
fn slow_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    })
}

/// A store in memory, shown in pieces of one length, all groups by turns.
#[derive(Clone)]
struct Memory {
    stored: BTreeMap<(u8, u32), Vec<u8>>,
    piece_len: usize,
    listing: Vec<StoredGroup>,
    legacy: bool,
    cut: Vec<IndexCut>,
    /// Groups that cannot be read: they fail after their first piece.
    unreadable: Vec<(u8, u32)>,
}

impl Source for Memory {
    fn groups(&self) -> &[StoredGroup] {
        &self.listing
    }

    fn data_bytes(&self) -> u64 {
        self.stored.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn has_archive_indexes(&self) -> bool {
        !self.legacy
    }

    fn remarks(&self) -> Vec<String> {
        vec!["a remark".to_owned()]
    }

    fn indexes_cut(&self) -> &[IndexCut] {
        &self.cut
    }

    async fn read_all(&self, visitor: &mut impl GroupVisitor) -> Result<(), StoreError> {
        let longest = self.stored.values().map(Vec::len).max().unwrap_or_default();
        for start in (0..=longest).step_by(self.piece_len) {
            for (slot, (id, bytes)) in self.stored.iter().enumerate() {
                let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) else {
                    continue;
                };
                let piece = &rest[..rest.len().min(self.piece_len)];
                let unreadable = self.unreadable.contains(id);
                if !unreadable || start == 0 {
                    visitor.piece(slot, start as u32, piece);
                }
                match (unreadable, piece.len() == rest.len()) {
                    (true, _) if start == 0 => visitor.failed(slot, unreadable_error(*id)),
                    (false, true) => visitor.complete(slot),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn unreadable_error((archive, group): (u8, u32)) -> crate::cache::GroupError {
    let (len_bytes, found_bytes) = (9, 8);
    crate::cache::GroupError::FileChanged { archive, group, len_bytes, found_bytes }
}

/// Archive 1 with groups 0, 1, 2, 3 and 9 of each compression, archive 3 with one long group.
fn sound() -> Memory {
    let mut stored = BTreeMap::new();
    let noise: Vec<u8> = (0..4000_u32).map(|i| (i * i / 7) as u8).collect();
    let kinds = [Compression::None, Compression::Bzip2, Compression::Gzip, Compression::Lzma];
    for (group, len) in [(0, 1), (1, 300), (2, 1000), (3, 100), (9, 504)] {
        let container = compress(kinds[group as usize % 4], &noise[..len]).unwrap();
        stored.insert((1, group), container);
    }
    stored.insert((3, 7), compress(Compression::None, &noise).unwrap());
    let mut memory = Memory {
        stored,
        piece_len: 512,
        listing: Vec::new(),
        legacy: false,
        cut: Vec::new(),
        unreadable: Vec::new(),
    };
    memory.index(1);
    memory.index(3);
    for ((archive, group), bytes) in &mut memory.stored {
        if *archive != 255 {
            bytes.extend(((version(*group)) as u16).to_be_bytes());
        }
    }
    memory.list();
    memory
}

/// Versions of more than 16 bits among them.
fn version(group: u32) -> u32 {
    65_530 + group * 3
}

impl Memory {
    /// Gives `archive` an index over the containers that it has.
    fn index(&mut self, archive: u8) {
        let of_archive = self.stored.range((archive, 0)..=(archive, u32::MAX));
        let groups = of_archive.map(|(&(_, id), bytes)| IndexEntry {
            id,
            crc: slow_crc(bytes),
            version: version(id),
            file_count: 1,
            ..IndexEntry::default()
        });
        let index = ArchiveIndex {
            format: 7,
            version: 500 + u32::from(archive),
            groups: groups.collect(),
            ..ArchiveIndex::default()
        };
        let container = compress(Compression::Gzip, &index.encode()).unwrap();
        self.stored.insert((255, archive.into()), container);
    }

    fn list(&mut self) {
        let group = |(&(archive, group), bytes): (&(u8, u32), &Vec<u8>)| {
            let len_bytes = bytes.len() as u32;
            StoredGroup { archive, group, len_bytes }
        };
        self.listing = self.stored.iter().map(group).collect();
    }

    /// The same with the stored bytes of a group changed, or the group taken away.
    fn with(&self, id: (u8, u32), change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut memory = self.clone();
        let mut bytes = memory.stored.remove(&id).unwrap_or_default();
        change(&mut bytes);
        if !bytes.is_empty() {
            memory.stored.insert(id, bytes);
        }
        memory.list();
        memory
    }

    fn load(&self, skip_corrupt: bool) -> Result<Loaded, LoadError> {
        run(load(self, LoadOptions { skip_corrupt, ..LoadOptions::default() }, &mut |_, _| {}))
    }

    /// What a client must get: the container as its header says, found without the loader.
    fn framed(&self, archive: u8, group: u32) -> Vec<u8> {
        let stored = &self.stored[&(archive, group)];
        let field = u32::from_be_bytes([stored[1], stored[2], stored[3], stored[4]]) as usize;
        let len = field + if stored[0] == 0 { 5 } else { 9 };
        frame(GroupId { archive, group }, &stored[..len])
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a source in memory never waits"),
    }
}

fn response(loaded: &Loaded, archive: u8, group: u32) -> Option<&[u8]> {
    loaded.snapshot.response(GroupId { archive, group })
}

#[test]
fn every_sound_group_is_served_framed_whatever_the_pieces() {
    let mut memory = sound();
    for piece_len in [1, 4, 8, 9, 10, 511, 512, 5000] {
        memory.piece_len = piece_len;
        let loaded = memory.load(false).unwrap();
        for &(archive, group) in memory.stored.keys() {
            let expected = memory.framed(archive, group);
            assert_eq!(
                response(&loaded, archive, group),
                Some(&expected[..]),
                "{archive}/{group} in pieces of {piece_len}"
            );
        }
        let mut master = vec![0, 0, 0, 0, 32];
        for archive in 0..4_u32 {
            let stored = memory.stored.get(&(255, archive));
            let (crc, version) = stored.map_or((0, 0), |bytes| (slow_crc(bytes), 500 + archive));
            master.extend(crc.to_be_bytes());
            master.extend(version.to_be_bytes());
        }
        assert_eq!(response(&loaded, 255, 255), Some(&frame(MASTER_INDEX, &master)[..]));
        let SnapshotTotals { archives, groups, .. } = loaded.snapshot.totals();
        assert_eq!((archives, groups), (2, 9), "six groups, two indexes, the master index");
        assert!(loaded.report.is_sound());
        let report = loaded.report.to_string();
        let misfits = [
            "a remark",
            "clients of rs2-530 open archives 0 to 28, of which some have no index \
             (archives 0, 2, 4, 5, 6, …)",
            "clients of rs2-530 cannot unpack LZMA, which 1 group uses (archive 1)",
            "clients of rs2-530 know archive indexes up to format 6, and the cache has later ones \
             (archives 1, 3)",
        ];
        assert_eq!(report.lines().collect::<Vec<_>>(), misfits);
    }
}

/// What XTEA makes of the bytes from the fifth on: anything. Every length that could stand there.
const ENCRYPTED_LENGTHS: [[u8; 4]; 6] =
    [[0; 4], [0, 0, 0, 1], [0x7F, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0], [0xFF; 4], [4, 0, 0, 1]];

/// The sound store with archive 5, whose groups are encrypted: each compression with each length,
/// and one shorter than its header would be.
fn encrypted() -> Memory {
    let mut memory = sound();
    let mut trailers = Vec::new();
    for (group, length) in (0..).zip(ENCRYPTED_LENGTHS) {
        for compression in 1..=3_u8 {
            let mut container = vec![compression, 0, 0, 2, 0x33];
            container.extend(length);
            container.extend((0..0x233_u32).map(|i| (i * 37 + group) as u8));
            let group = group * 3 + u32::from(compression);
            memory.stored.insert((5, group), container);
            trailers.push(group);
        }
    }
    memory.index(5);
    for group in trailers {
        let trailer = (version(group) as u16).to_be_bytes();
        memory.stored.get_mut(&(5, group)).unwrap().extend(trailer);
    }
    memory.list();
    memory
}

#[test]
fn encrypted_groups_are_sound_and_served_as_they_are() {
    let mut memory = encrypted();
    for piece_len in [1, 4, 5, 6, 8, 9, 512, 5000] {
        memory.piece_len = piece_len;
        let loaded = memory.load(false).unwrap();
        let lines = loaded.report.to_string();
        let of_cache = lines.lines().filter(|line| !line.starts_with("clients of "));
        assert_eq!(of_cache.collect::<Vec<_>>(), ["a remark"]);
        for &(archive, group) in memory.stored.keys() {
            let expected = memory.framed(archive, group);
            assert_eq!(response(&loaded, archive, group), Some(&expected[..]));
        }
    }
}

#[test]
fn a_byte_changed_in_an_encrypted_group_is_named() {
    let memory = encrypted();
    let len = memory.stored[&(5, 4)].len() - 2;
    for at in [5, 8, 9, 300, len - 1] {
        let changed = memory.with((5, 4), |bytes| bytes[at] ^= 0x10);
        let Err(LoadError::Corrupt(report)) = changed.load(false) else { panic!("byte {at}") };
        assert!(report.to_string().starts_with("archive 5, group 4: CRC-32 is "), "{report}");
        assert_eq!(report.problem_count(), 1, "{report}");
        let loaded = changed.load(true).unwrap();
        assert_eq!(response(&loaded, 5, 4), None);
        assert_eq!(loaded.snapshot.totals().groups, 9 + 18, "all others and the index");
    }
    // The type is plain, and a type of the future is not served on the word of a checksum.
    let mut future = sound();
    let mut container = vec![4, 0, 0, 0, 3];
    container.extend([7; 7]);
    future.stored.insert((5, 1), container);
    future.index(5);
    future.list();
    let Err(LoadError::Corrupt(report)) = future.load(false) else { panic!("type 4") };
    let words = "archive 5, group 1: no sound container: compression 4 is unknown (0 to 3 exist)";
    assert!(report.to_string().starts_with(words), "{report}");
}

#[test]
fn tails_that_are_no_version_are_cut_and_the_group_is_served() {
    let memory = sound();
    for tail in [&[][..], &[9], &[9; 3], &[9; 4], &[9; 600]] {
        let memory = memory.with((1, 1), |bytes| {
            bytes.truncate(bytes.len() - 2);
            bytes.extend(tail);
        });
        let loaded = memory.load(false).unwrap();
        assert_eq!(response(&loaded, 1, 1), Some(&memory.framed(1, 1)[..]), "{tail:?}");
        assert_eq!(loaded.report.notices().count(), 1, "{tail:?}: {}", loaded.report);
    }
}

#[test]
fn a_cut_idx_file_is_damage_that_takes_nothing_else_with_it() {
    let mut memory = sound();
    memory.cut = vec![IndexCut { archive: 3, len_bytes: 45 }];
    let Err(LoadError::Corrupt(report)) = memory.load(false) else { panic!("loaded") };
    let words = "archive 3: main_file_cache.idx3 has 45 bytes, no multiple of 6: it was cut off \
                 within the entry of group 7, and whatever it listed from there on is lost";
    assert_eq!(report.to_string().lines().next(), Some(words));
    assert_eq!(memory.load(true).unwrap().snapshot.totals().groups, 9);
}

#[test]
fn a_group_that_nobody_can_ask_for_may_be_unreadable() {
    let mut memory = sound();
    memory.stored.insert((1, 5), vec![0; 6]);
    memory.unreadable.push((1, 5));
    memory.list();
    let loaded = memory.load(false).unwrap();
    let words = "archive 1: 1 group stored, but not listed by its index; not served (5)";
    assert!(loaded.report.to_string().contains(words), "{}", loaded.report);
}

#[test]
fn an_index_that_clients_accept_is_accepted() {
    let mut memory = sound();
    let mut odd = decompress(&memory.stored[&(255, 3)], 1 << 20).unwrap();
    odd[5] |= 0x60; // flags that add no column
    odd.extend([1, 2]);
    let index = compress(Compression::None, &odd).unwrap();
    memory.stored.insert((255, 3), index);
    memory.list();
    let loaded = memory.load(false).unwrap();
    assert_eq!(response(&loaded, 3, 7), Some(&memory.framed(3, 7)[..]));
    let report = loaded.report.to_string();
    assert!(report.contains("archive 3: its index has 2 unused bytes at its end"), "{report}");
    assert!(report.contains("its index has unknown flags (0x60), which were ignored"), "{report}");
}

/// Loads with and without what is corrupt; group 1/1 must be the only one missing.
fn check_one_bad_group(memory: &Memory, expected: &str) {
    let Err(LoadError::Corrupt(report)) = memory.load(false) else {
        panic!("{expected}: loaded");
    };
    let lines = report.to_string();
    assert_eq!(lines.lines().next(), Some(expected));
    assert_eq!(report.problem_count(), 1, "{report}");
    let loaded = memory.load(true).unwrap();
    assert!(!loaded.report.is_sound());
    for &(archive, group) in memory.stored.keys() {
        let served = response(&loaded, archive, group).map(<[u8]>::to_vec);
        let expected = ((archive, group) != (1, 1)).then(|| memory.framed(archive, group));
        assert_eq!(served, expected, "{archive}/{group}");
    }
}

#[test]
fn a_group_that_fails_is_named_and_never_served() {
    let memory = sound();
    let id = (1, 1);
    let container = memory.stored[&id].clone();
    let len = container.len() - 2;
    let crc = slow_crc(&container[..len]);

    let flipped = memory.with(id, |bytes| bytes[len - 1] ^= 1);
    let found = slow_crc(&flipped.stored[&id][..len]);
    let words =
        format!("archive 1, group 1: CRC-32 is {found:08x}, its archive index says {crc:08x}");
    check_one_bad_group(&flipped, &words);

    let words = "archive 1, group 1: version is 65532, its archive index says 65533 (low 16 bits)";
    check_one_bad_group(&memory.with(id, |bytes| bytes[len + 1] ^= 1), words);

    let words = "archive 1, group 1: no sound container: compression 9 is unknown (0 to 3 exist)";
    check_one_bad_group(&memory.with(id, |bytes| bytes[0] = 9), words);

    let words = format!(
        "archive 1, group 1: no sound container: the container needs {len} bytes, {} are there",
        len - 1
    );
    check_one_bad_group(&memory.with(id, |bytes| bytes.truncate(len - 1)), &words);

    let words = format!(
        "archive 1, group 1: no sound container: the container needs {len} bytes, 8 are there"
    );
    check_one_bad_group(&memory.with(id, |bytes| bytes.truncate(8)), &words);

    let mut unreadable = memory;
    unreadable.unreadable.push((1, 1));
    let words = "archive 1, group 1: 1/1.dat changed while it was read: expected 9 bytes, found 8";
    check_one_bad_group(&unreadable, words);
}

#[test]
fn an_archive_without_a_sound_index_is_absent() {
    let memory = sound();
    let bomb = compress(Compression::Gzip, &vec![0; 65 << 20]).unwrap();
    let cases: [(&str, Option<&[u8]>); 4] = [
        ("its archive index (255, this archive) is missing", None),
        ("at most 67108864 are accepted", Some(&bomb)),
        ("compression 7 is unknown", Some(&[7, 0, 0, 0, 0])),
        ("no sound archive index: index format 4 is unknown", Some(&[0, 0, 0, 0, 1, 4])),
    ];
    for (words, index) in cases {
        let memory = memory.with((255, 3), |bytes| *bytes = index.unwrap_or_default().to_vec());
        let Err(LoadError::Corrupt(report)) = memory.load(false) else { panic!("{words}") };
        assert!(report.to_string().contains(words), "{words}: {report}");
        assert!(report.to_string().contains("archive 3: its 1 stored groups cannot be checked"));
        let loaded = memory.load(true).unwrap();
        assert_eq!(response(&loaded, 3, 7), None);
        assert_eq!(response(&loaded, 255, 3), None);
        let master = response(&loaded, 255, 255).unwrap();
        assert_eq!(master.len(), 3 + 5 + 2 * 8, "archive 1 is the highest");
        assert!(response(&loaded, 1, 9).is_some());
    }
}

#[test]
fn remarkable_groups_are_reported_and_served_if_their_index_lists_them() {
    let mut memory = sound();
    let container = compress(Compression::None, b"extra").unwrap();
    for group in [70_000, 70_001] {
        memory.stored.insert((5, group), container.clone());
    }
    memory.index(5);
    memory.stored.remove(&(5, 70_000)); // listed, not stored
    memory.index(6); // empty
    memory.stored.insert((1, 5), vec![9; 5]); // stored, not listed, and no container either
    memory.stored.insert((255, 255), container);
    let trailer = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 2);
    let memory = memory.with((1, 2), trailer).with((1, 3), |bytes| {
        let version = bytes.split_off(bytes.len() - 2);
        bytes.extend([0xEE; 100]);
        bytes.extend(version);
    });
    let memory = memory.with((255, 1), |bytes| bytes.extend([0, 0])).with((5, 70_001), |bytes| {
        bytes.extend(version(70_001).to_be_bytes().split_at(2).1);
    });

    let loaded = memory.load(false).unwrap();
    let notices: Vec<_> = loaded
        .report
        .notices()
        .map(|notice| (notice.archive, notice.kind, notice.count, notice.examples.clone()))
        .collect();
    let expected = [
        (1, NoticeKind::NotInIndex, 1, vec![5]),
        (1, NoticeKind::NoTrailer, 1, vec![2]),
        (1, NoticeKind::BytesCut, 1, vec![3]),
        (5, NoticeKind::NotInStore, 1, vec![70_000]),
        (5, NoticeKind::BeyondWire, 1, vec![70_001]),
        (6, NoticeKind::Empty, 1, vec![0]),
        (255, NoticeKind::StoredMasterIndex, 1, vec![255]),
    ];
    assert_eq!(notices, expected);
    assert_eq!(response(&loaded, 1, 5), None);
    for (archive, group) in [(1, 2), (1, 3), (255, 1), (255, 6)] {
        let expected = memory.framed(archive, group);
        assert_eq!(response(&loaded, archive, group), Some(&expected[..]));
    }
    assert_ne!(response(&loaded, 255, 255), Some(&memory.framed(255, 255)[..]), "our own");
}

#[test]
fn an_archive_that_was_not_copied_is_named() {
    let loaded = sound().with((3, 7), Vec::clear).load(false).unwrap();
    let words = "archive 3: none of the groups that its index lists (1) is stored; was \
                 main_file_cache.idx3 or the directory 3 left out of the copy?";
    assert!(loaded.report.to_string().contains(words), "{}", loaded.report);
    assert_eq!(loaded.report.notices().count(), 1, "{}", loaded.report);
}

#[test]
fn a_store_without_any_index_is_refused_even_in_part() {
    let memory = sound();
    let none = memory.with((255, 1), Vec::clear).with((255, 3), Vec::clear);
    let Err(LoadError::Corrupt(report)) = none.load(true) else { panic!("loaded") };
    assert!(report.to_string().contains("nothing can be served"), "{report}");
    let legacy = Memory { legacy: true, unreadable: vec![(1, 1)], ..memory };
    let Err(LoadError::Corrupt(report)) = legacy.load(true) else { panic!("loaded") };
    let lines = report.to_string();
    assert!(lines.contains("legacy store"), "{lines}");
    assert!(lines.contains("archive 1, group 1: 1/1.dat changed"), "read all the same: {lines}");
}

#[test]
fn claimed_lengths_allocate_no_memory() {
    let mut memory = sound();
    // Headers that claim 200 bytes, 9 KB or 16 MB, in 1,100 groups that then cannot be read.
    for group in 100..1200 {
        let claimed = [200_u32, 9000, 0x00FF_FF00][group as usize % 3];
        let mut stored = vec![0; 6];
        stored[1..5].copy_from_slice(&claimed.to_be_bytes());
        memory.stored.insert((2, group), stored);
        memory.unreadable.push((2, group));
    }
    memory.index(2);
    memory.list();
    for group in &mut memory.listing {
        if group.archive == 2 {
            group.len_bytes = 0x00FF_FFFF;
        }
    }
    let sizes: Vec<_> = regions(&memory, &Readers::default()).collect();
    assert!(sizes.len() == 1 && sizes[0].1 < 1 << 20, "18 GB are claimed");
    let loaded = memory.load(true).unwrap();
    assert_eq!(loaded.snapshot.totals().groups, 9 + 1, "the sound ones and the index found room");
    let report = loaded.report;
    assert_eq!((report.problem_count(), report.problems().len()), (1100, 1000));
    let lines = report.to_string();
    assert!(lines.lines().count() < 60, "printed in full: {}", lines.lines().count());
    assert!(lines.contains("archive 2: 1100 problems"), "{lines}");
    assert!(lines.contains("2/100.dat changed while it was read"), "{lines}");
    assert_eq!(report.to_json()["problem_count"], 1100);
}

#[test]
fn whatever_byte_is_changed_only_stored_containers_are_served() {
    let memory = sound();
    let ids: Vec<_> = memory.stored.keys().copied().collect();
    let mut rng = fastrand::Rng::with_seed(16);
    for _ in 0..1500 {
        let id = ids[rng.usize(..ids.len())];
        let changed = memory.with(id, |bytes| {
            let at = rng.usize(..bytes.len().min(600));
            bytes[at] ^= rng.u8(1..);
        });
        let Ok(loaded) = changed.load(true) else { panic!("one sound archive is left") };
        for &(archive, group) in &ids {
            let expected = || changed.framed(archive, group);
            if let Some(served) = response(&loaded, archive, group) {
                assert_eq!(served, expected(), "{archive}/{group}, {id:?} changed");
            }
        }
        if id.0 != 255 {
            let served = response(&loaded, id.0, id.1);
            assert_eq!(served, None, "{id:?} was changed");
        }
    }
}
