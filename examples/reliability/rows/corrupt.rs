//! Row 16: caches that are corrupt in known ways.
//!
//! A table of edits of one small sound cache. Each must be named by archive, group and place, in
//! bounded time and memory, and only groups that the plain reader finds sound may be served. The
//! archives are 7, of two groups with two sectors each, and 8, with one.

use super::Case;
use super::image::{DAT2, Image, Listed, SECTOR, idx, index, packed_gzip, packed_plain};
use super::mutations::{check, readers};
use super::plain;
use js5d::cache::{Store, block_on};
use js5d::catalog::{LoadOptions, load};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Loading a cache of a few KB takes at most this long, whatever is in it.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What loading may add to the process's memory: read buffers of 8.5 MB, one huge page, and
/// twice the longest index that is unpacked at all.
const MEMORY_MAX: u64 = 16 << 20;
const MEMORY_UNPACKING_MAX: u64 = MEMORY_MAX + (128 << 20);

/// Where the sectors are.
const INDEX_7: usize = 1;
const INDEX_8: usize = 2;

const GROUP_7_5: usize = 4;
const GROUP_7_4: usize = 6;
const LAST: usize = 7;

/// One corrupt cache: what it is called, how it comes about, what must be said of it.
type Edit = (&'static str, fn(&mut Image), &'static str);

/// The table.
pub(super) const EDITS: &[Edit] = &[
    (
        "a dat2 file that ends within a sector's data",
        |image| cut(image, LAST * SECTOR + 100),
        "archive 7, group 4: sector 7 (byte 3640 of main_file_cache.dat2) is cut \
         off: 100 bytes are there, expected 198",
    ),
    (
        "a dat2 file that ends within a sector's header",
        |image| cut(image, LAST * SECTOR + 5),
        "archive 7, group 4: sector 7 (byte 3640 of main_file_cache.dat2) is cut \
         off: 5 bytes are there, expected 198",
    ),
    (
        "a dat2 file that ends before the last sector",
        |image| cut(image, LAST * SECTOR),
        "archive 7, group 4: sector 6 (byte 3120 of main_file_cache.dat2) names \
         sector 7 as the next, but that file has 3640 bytes",
    ),
    (
        "a dat2 file of no bytes",
        |image| cut(image, 0),
        "archive 8, group 0: main_file_cache.idx8 (byte 0) says 102 bytes from \
         sector 3 on, which is byte 1560 of main_file_cache.dat2, but that file has \
         0 bytes",
    ),
    (
        "no dat2 file",
        |image| remove(image, DAT2),
        "idx files, but no main_file_cache.dat2 beside them",
    ),
    (
        "an idx file that ends within an entry",
        |image| image.file(&idx(7)).truncate(33),
        "archive 7: main_file_cache.idx7 has 33 bytes, no multiple of 6: it was cut off \
         within the entry of group 5, and whatever it listed from there on is lost",
    ),
    (
        "no idx file of an archive",
        |image| remove(image, &idx(7)),
        "archive 7: none of the groups that its index lists (2) is stored; was \
         main_file_cache.idx7 or the directory 7 left out of the copy?",
    ),
    (
        "no idx255",
        |image| remove(image, &idx(255)),
        "there is no sound archive index (group 255/N) in the store",
    ),
    (
        "an idx255 of no bytes",
        |image| image.file(&idx(255)).clear(),
        "archive 7: its 2 stored groups cannot be checked: its archive index (255, \
         this archive) is missing",
    ),
    (
        "a chain that leads back to its first sector",
        |image| next(image, GROUP_7_4, GROUP_7_4),
        "archive 7, group 4: sector 6 (byte 3120 of main_file_cache.dat2) has \
         position 0 in its chain, expected 1",
    ),
    (
        "a long chain that leads back",
        loop_late,
        "archive 7, group 4: sector 6 (byte 3120 of main_file_cache.dat2) has \
         position 0 in its chain, expected 2",
    ),
    (
        "a chain that is too short",
        |image| next(image, GROUP_7_4, 0),
        "archive 7, group 4: sector 6 (byte 3120 of main_file_cache.dat2) ends the \
         chain after 512 bytes, expected 702",
    ),
    (
        "a chain into another group",
        |image| next(image, GROUP_7_4, GROUP_7_5),
        "archive 7, group 4: sector 4 (byte 2080 of main_file_cache.dat2) belongs to \
         group 5",
    ),
    (
        "a chain out of the file",
        |image| next(image, GROUP_7_4, 0xFF_FFFF),
        "archive 7, group 4: sector 6 (byte 3120 of main_file_cache.dat2) names \
         sector 16777215 as the next, but that file has 4160 bytes",
    ),
    (
        "another archive in a sector's header",
        |image| image.patch(LAST, 7, &[8]),
        "archive 7, group 4: sector 7 (byte 3640 of main_file_cache.dat2) carries \
         archive byte 8, expected 7",
    ),
    (
        "another group in a sector's header",
        |image| image.patch(LAST, 1, &[5]),
        "archive 7, group 4: sector 7 (byte 3640 of main_file_cache.dat2) belongs to \
         group 5",
    ),
    (
        "another position in a sector's header",
        |image| image.patch(LAST, 2, &[1, 1]),
        "archive 7, group 4: sector 7 (byte 3640 of main_file_cache.dat2) has \
         position 257 in its chain, expected 1",
    ),
    (
        "a size of 0",
        |image| image.list(7, 4, 0, GROUP_7_4),
        "archive 7, group 4: main_file_cache.idx7 (byte 24) says 0 bytes from sector \
         6 on: a group has at least one byte",
    ),
    (
        "a size of 2^24 - 1",
        |image| image.list(7, 4, 0xFF_FFFF, GROUP_7_4),
        "archive 7, group 4: main_file_cache.idx7 (byte 24) says 16777215 bytes from \
         sector 6 on, but all of main_file_cache.dat2 has 4160 bytes",
    ),
    (
        "a first sector of 0",
        |image| image.list(7, 4, 702, 0),
        "archive 7, group 4: main_file_cache.idx7 (byte 24) says 702 bytes from \
         sector 0 on: sector 0 belongs to no group",
    ),
    (
        "a first sector of 2^24 - 1",
        |image| image.list(7, 4, 702, 0xFF_FFFF),
        "archive 7, group 4: main_file_cache.idx7 (byte 24) says 702 bytes from \
         sector 16777215 on, which is byte 8724151800 of main_file_cache.dat2, but \
         that file has 4160 bytes",
    ),
    (
        "a byte changed in a group",
        |image| image.patch(LAST, 8 + 50, &[0x55]),
        "archive 7, group 4: CRC-32 is 9be889ec, its archive index says 8355785a",
    ),
    (
        "another version behind a group",
        |image| image.patch(LAST, 8 + 188, &[9, 9]),
        "archive 7, group 4: version is 2313, its archive index says 515 (low 16 \
         bits)",
    ),
    (
        "a container longer than its group",
        |image| image.patch(GROUP_7_4, 8, &[0, 0, 1]),
        "archive 7, group 4: no sound container: the container needs 66236 bytes, \
         702 are there",
    ),
    (
        "a container of negative length",
        |image| image.patch(GROUP_7_4, 8, &[0, 0x80]),
        "archive 7, group 4: no sound container: the compressed length is negative \
         (-2147482953)",
    ),
    (
        "an unknown compression",
        |image| image.patch(GROUP_7_4, 8, &[9]),
        "archive 7, group 4: no sound container: compression 9 is unknown (0 to 3 \
         exist)",
    ),
    (
        "a byte changed in an encrypted group",
        |image| encrypted(image, 300, 0x55),
        "archive 5, group 1: CRC-32 is ",
    ),
    (
        "a byte changed where an encrypted group has its uncompressed length",
        |image| encrypted(image, 5, 0x55),
        "archive 5, group 1: CRC-32 is ",
    ),
    (
        "an unknown compression of an encrypted group",
        |image| encrypted(image, 0, 4),
        "archive 5, group 1: no sound container: compression 6 is unknown (0 to 3 \
         exist)",
    ),
    (
        "an archive index that ends within a column",
        |image| image.patch(INDEX_7, 19, &[9]),
        "archive 255, group 7 (the index of archive 7): no sound archive index: the \
         index ends at byte 36 within its group ids, which begin at byte 8",
    ),
    (
        "an archive index of an unknown format",
        |image| image.patch(INDEX_8, 8 + 5, &[8]),
        "archive 255, group 8 (the index of archive 8): no sound archive index: \
         index format 8 is unknown (5, 6 and 7 exist)",
    ),
    (
        "a bomb that says so",
        |image| bomb(image, 1 << 30, i32::MAX as u32),
        "archive 255, group 8 (the index of archive 8): no sound container: the \
         container claims to unpack to 2147483647 bytes, at most 67108864 are \
         accepted",
    ),
    (
        "a bomb that says it is small",
        |image| bomb(image, 80 << 20, 1000),
        "archive 255, group 8 (the index of archive 8): no sound container: the \
         container claims to unpack to 1000 bytes, fewer than come out",
    ),
    (
        "a bomb as large as an index may be",
        |image| bomb(image, 64 << 20, 64 << 20),
        "archive 255, group 8 (the index of archive 8): no sound archive index: \
         index format 0 is unknown (5, 6 and 7 exist)",
    ),
];

/// Adds an archive of one encrypted group with a byte changed: the type and the length are gzip's
/// and right, and what stands behind them could be anything.
fn encrypted(image: &mut Image, at: usize, change: u8) {
    let mut bytes = vec![2, 0, 0, 2, 0x58, 0xFF, 0xFF, 0xFF, 0xFE];
    bytes.extend((0..600_u32).map(|i| (i * i / 3) as u8));
    let listed = Listed { group: 1, crc: plain::crc(&bytes), version: 9 };
    image.store(255, 5, &packed_plain(&index(5, &[listed])));
    bytes[at] ^= change;
    image.store(5, 1, &[&bytes[..], &[0, 9]].concat());
}

fn cut(image: &mut Image, len: usize) {
    image.file(DAT2).truncate(len);
}

fn remove(image: &mut Image, name: &str) {
    image.files.remove(name);
}

fn next(image: &mut Image, sector: usize, next: usize) {
    image.patch(sector, 4, &super::image::u24(next));
}

/// The group claims to be long enough for the loop to go round many times.
fn loop_late(image: &mut Image) {
    next(image, LAST, GROUP_7_4);
    image.list(7, 4, 4_000_000, GROUP_7_4);
    image.file(DAT2).resize(4_200_000, 0);
}

/// An archive index of zeros, packed: `len` bytes (at most 80 MB of them really packed) that
/// claim to be `claimed`.
fn bomb(image: &mut Image, len: usize, claimed: u32) {
    let zeros = vec![0; len.min(80 << 20)];
    image.store(255, 8, &packed_gzip(&zeros, claimed));
}

/// The cases are the table's rows in order, whatever their seeds.
pub(super) fn prepare() -> Case {
    let dir = tempfile::tempdir().expect("a directory for a cache");
    let (sound, mut on_disk) = (sound(), Image::default());
    let mut edits = EDITS.iter();
    Box::new(move |_| {
        let Some((name, edit, expected)) = edits.next() else { return Err("no more".into()) };
        let mut image = sound.clone();
        edit(&mut image);
        image.write(dir.path(), &on_disk).map_err(|error| error.to_string())?;
        on_disk.clone_from(&image);
        let view = plain::view(&image);
        let told = |what| format!("{name}: {what}");
        let (before, start) = (resident_bytes_max(true), Instant::now());
        let message = block_on(message(dir.path()));
        let (grown, took) = (resident_bytes_max(false).saturating_sub(before), start.elapsed());
        if !message.contains(expected) {
            return Err(told(format!("expected {expected:?} in:\n{message}")));
        }
        if took > TIME_MAX {
            return Err(told(format!("loading took {took:?}")));
        }
        let unpacks = name.contains("as large as");
        if grown > if unpacks { MEMORY_UNPACKING_MAX } else { MEMORY_MAX } {
            return Err(told(format!("loading took {grown} bytes")));
        }
        block_on(check(dir.path(), &view, readers(0))).map_err(told)?;
        Ok(1)
    })
}

/// What is said of the cache in `dir` when nothing is to be skipped.
async fn message(dir: &Path) -> String {
    let store = match Store::open(dir).await {
        Ok(store) => store,
        Err(error) => return error.to_string(),
    };
    match load(&store, LoadOptions::default(), &mut |_, _| {}).await {
        Ok(loaded) => loaded.report.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The most memory that the process has had since it was last `reset`; 0 where the system does
/// not tell.
fn resident_bytes_max(reset: bool) -> u64 {
    if reset {
        // Without the right to it the highest of all times is taken twice.
        let _ = fs::write("/proc/self/clear_refs", "5");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The cache that the table edits.
fn sound() -> Image {
    let mut image = Image::default();
    let bytes = |len: u32, seed: u8| {
        packed_plain(&(0..len).map(|i| (i * 7) as u8 ^ seed).collect::<Vec<_>>())
    };
    // In this order: one sector, and two each.
    let groups = [(8, 0, bytes(95, 1)), (7, 5, bytes(695, 2)), (7, 4, bytes(695, 3))];
    let listed = |archive| {
        let mut listed: Vec<_> = groups
            .iter()
            .filter(|(of, ..)| *of == archive)
            .map(|(_, group, bytes)| Listed {
                group: u32::from(*group),
                crc: plain::crc(bytes),
                version: 0x0001_0203,
            })
            .collect();
        listed.sort_by_key(|listed| listed.group);
        listed
    };
    for archive in [7, 8] {
        image.store(255, archive, &packed_plain(&index(5, &listed(archive as u8))));
    }
    for (archive, group, bytes) in &groups {
        let stored = [&bytes[..], &[2, 3]].concat();
        image.store(*archive, *group, &stored);
    }
    image
}
