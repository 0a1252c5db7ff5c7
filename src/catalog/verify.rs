//! Compares what is stored with what the archive indexes say, and publishes what agrees.
//!
//! Without a readable index no group of an archive can be verified, so none is served, and the
//! master index has no entry for the archive.

use super::fill::{Filled, Slot, State};
use super::readers::Readers;
use super::report::{ArchiveReport, Cause, NoticeKind, Problem, Report};
use crate::cache::StoredGroup;
use crate::protocol::archive_index::{ArchiveIndex, FLAGS_KNOWN, IndexEntry};
use crate::protocol::container::{Compression, decompress};
use crate::protocol::master_index::{self, DIGEST_LEN, MasterEntry};
use crate::protocol::{ARCHIVE_INDEXES, GROUPS_NARROW, GroupId};
use std::ops::Range;

/// No archive index unpacks to more: the largest of a build 550 cache has about 1 MB, those of
/// the youngest caches a few.
pub(super) const ARCHIVE_INDEX_LEN_MAX: usize = 64 << 20;

/// The bytes of a version trailer.
const TRAILER_LEN: u32 = 2;

/// Checks everything and publishes what passes. Comes back with the entries of the master
/// index, up to the highest archive present.
pub(super) fn verify(
    groups: &[StoredGroup],
    readers: &Readers,
    filled: &mut Filled,
    report: &mut Report,
) -> Vec<MasterEntry> {
    let mut master = Vec::new();
    for archive in 0..ARCHIVE_INDEXES {
        let slots = slots_of(groups, archive);
        let Some(index) = archive_index(groups, readers, filled, report, archive) else {
            if !slots.is_empty() {
                without_index(groups, slots, filled, report, archive);
            }
            continue;
        };
        master.resize(usize::from(archive), MasterEntry::default());
        master.push(index.entry);
        check_archive(groups, slots, filled, report, archive, &index);
    }
    beyond_indexes(groups, report);
    master
}

/// The slots of an archive: the listing is sorted.
fn slots_of(groups: &[StoredGroup], archive: u8) -> Range<usize> {
    let start = groups.partition_point(|group| group.archive < archive);
    let end = groups.partition_point(|group| group.archive <= archive);
    start..end
}

/// An archive index that can be read.
struct Index {
    entry: MasterEntry,
    /// How its own container is packed.
    compression: Option<Compression>,
    decoded: ArchiveIndex,
}

/// Reads the index of `archive` out of the arena and publishes it. None if it is not there, or
/// is reported.
fn archive_index(
    groups: &[StoredGroup],
    readers: &Readers,
    filled: &mut Filled,
    report: &mut Report,
    archive: u8,
) -> Option<Index> {
    let wanted = (ARCHIVE_INDEXES, u32::from(archive));
    let number = groups.binary_search_by_key(&wanted, |group| (group.archive, group.group)).ok()?;
    let slot = filled.slots[number];
    let mut digest = [0; DIGEST_LEN];
    let result = match (slot.state, slot.room) {
        (State::Whole, Some(room)) => {
            let container = filled.builder.container(room);
            if readers.need_digests() {
                digest = master_index::digest(&container);
            }
            decompress(&container, ARCHIVE_INDEX_LEN_MAX)
                .map_err(Cause::Container)
                .and_then(|payload| ArchiveIndex::decode(&payload).map_err(Cause::ArchiveIndex))
        }
        _ => Err(filled.cause(number)),
    };
    let group = u32::from(archive);
    match result {
        Ok(decoded) => {
            let id = GroupId { archive: ARCHIVE_INDEXES, group };
            filled.builder.publish(id, slot.room?);
            note_length(groups[number], slot, report);
            if decoded.trailing_len > 0 {
                report.note(archive, NoticeKind::IndexTrailing, decoded.trailing_len as u32);
            }
            if decoded.flags & !FLAGS_KNOWN != 0 {
                let unknown = decoded.flags & !FLAGS_KNOWN;
                report.note(archive, NoticeKind::IndexFlags, unknown.into());
            }
            if decoded.repeated_count > 0 {
                report.note(archive, NoticeKind::IndexRepeated, decoded.repeated_count as u32);
            }
            let (crc, version) = (slot.crc, decoded.version);
            let groups = decoded.groups.last().map_or(0, |last| last.id.saturating_add(1));
            let add = |sum: u32, group: &IndexEntry| sum.wrapping_add(group.lengths[1]);
            let length = decoded.groups.iter().fold(0, add);
            let entry = MasterEntry { crc, version, groups, length, digest };
            Some(Index { entry, compression: slot.compression, decoded })
        }
        Err(cause) => {
            let (archive, group) = (Some(ARCHIVE_INDEXES), Some(group));
            report.problem(Problem { archive, group, cause });
            None
        }
    }
}

/// Reports each of these groups that could not be read, where there is no index to check the
/// others against.
pub(super) fn report_unreadable(
    groups: &[StoredGroup],
    slots: Range<usize>,
    filled: &mut Filled,
    report: &mut Report,
) {
    for number in slots {
        let group = groups[number];
        if filled.slots[number].state == State::Failed {
            let (archive, group) = (Some(group.archive), Some(group.group));
            report.problem(Problem { archive, group, cause: filled.cause(number) });
        }
    }
}

/// Reports the groups of an archive whose index is missing or bad.
fn without_index(
    groups: &[StoredGroup],
    slots: Range<usize>,
    filled: &mut Filled,
    report: &mut Report,
    archive: u8,
) {
    let group_count = slots.len();
    let wanted = (ARCHIVE_INDEXES, u32::from(archive));
    let stored = groups.binary_search_by_key(&wanted, |group| (group.archive, group.group));
    let cause = Cause::NoIndex { group_count, stored: stored.is_ok() };
    report.problem(Problem { archive: Some(archive), group: None, cause });
    report_unreadable(groups, slots, filled, report);
}

/// Goes through the index and the stored groups of one archive side by side.
fn check_archive(
    groups: &[StoredGroup],
    slots: Range<usize>,
    filled: &mut Filled,
    report: &mut Report,
    archive: u8,
    index: &Index,
) {
    let is_lzma = |compression| compression == Some(Compression::Lzma);
    let mut lzma = usize::from(is_lzma(index.compression));
    let index = &index.decoded;
    if index.groups.is_empty() {
        report.note(archive, NoticeKind::Empty, 0);
    }
    let (mut served, mut wide) = (0, 0);
    let absent = match slots.is_empty() {
        true => NoticeKind::NoneStored,
        false => NoticeKind::NotInStore,
    };
    let mut stored = slots.peekable();
    for entry in &index.groups {
        while let Some(number) = stored.next_if(|&number| groups[number].group < entry.id) {
            report.note(archive, NoticeKind::NotInIndex, groups[number].group);
        }
        let Some(number) = stored.next_if(|&number| groups[number].group == entry.id) else {
            report.note(archive, absent, entry.id);
            continue;
        };
        let group = groups[number];
        match check_group(entry, group, number, filled) {
            Ok(()) => {}
            Err(cause) => {
                let (archive, group) = (Some(archive), Some(entry.id));
                report.problem(Problem { archive, group, cause });
                continue;
            }
        }
        let slot = filled.slots[number];
        note_length(group, slot, report);
        lzma += usize::from(is_lzma(slot.compression));
        match slot.room {
            Some(room) => {
                filled.builder.publish(GroupId { archive, group: entry.id }, room);
                served += 1;
                wide += usize::from(entry.id >= GROUPS_NARROW);
            }
            None => report.note(archive, NoticeKind::BeyondWire, entry.id),
        }
    }
    for number in stored {
        report.note(archive, NoticeKind::NotInIndex, groups[number].group);
    }
    report.archives.push(ArchiveReport {
        archive,
        format: index.format,
        version: index.version,
        groups_listed: index.groups.len(),
        groups_served: served,
        flags: index.flags,
        lzma,
        wide,
    });
}

/// Whether a stored group is what its index entry says.
fn check_group(
    entry: &IndexEntry,
    group: StoredGroup,
    number: usize,
    filled: &mut Filled,
) -> Result<(), Cause> {
    let slot = filled.slots[number];
    if slot.state != State::Whole {
        return Err(filled.cause(number));
    }
    if slot.crc != entry.crc {
        return Err(Cause::Checksum { expected: entry.crc, found: slot.crc });
    }
    // The trailer has the low half of the version. If there are more or fewer bytes than two, they
    // are no version: they are cut off, and only the checksum is compared.
    let found = u16::from_be_bytes(slot.trailer);
    let [_, _, high, low] = entry.version.to_be_bytes();
    let expected = u16::from_be_bytes([high, low]);
    if beyond_container(group, slot) == TRAILER_LEN && found != expected {
        return Err(Cause::Version { expected, found });
    }
    Ok(())
}

/// How many stored bytes are not the container's.
fn beyond_container(group: StoredGroup, slot: Slot) -> u32 {
    group.len_bytes.saturating_sub(slot.container_len)
}

/// Remarks a stored length that is neither the container nor the container and its trailer.
fn note_length(group: StoredGroup, slot: Slot, report: &mut Report) {
    match beyond_container(group, slot) {
        TRAILER_LEN => {}
        // Archive indexes are stored without.
        0 if group.archive == ARCHIVE_INDEXES => {}
        0 => report.note(group.archive, NoticeKind::NoTrailer, group.group),
        _ => report.note(group.archive, NoticeKind::BytesCut, group.group),
    }
}

/// Remarks groups of archive 255 that are no archive's index.
fn beyond_indexes(groups: &[StoredGroup], report: &mut Report) {
    for group in &groups[slots_of(groups, ARCHIVE_INDEXES)] {
        match group.group {
            0..255 => {}
            255 => report.note(ARCHIVE_INDEXES, NoticeKind::StoredMasterIndex, 255),
            GROUPS_NARROW.. => {
                report.note(ARCHIVE_INDEXES, NoticeKind::BeyondWire, group.group);
            }
            _ => report.note(ARCHIVE_INDEXES, NoticeKind::NotInIndex, group.group),
        }
    }
}
