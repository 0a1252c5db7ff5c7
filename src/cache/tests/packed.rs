//! Caches packed into one file: read as the directory is, and hostile ones named.
//!
//! The packers here are written by hand and share nothing with the readers; the fixtures are
//! Python's `zipfile` (to a pipe, so that sizes stand behind the data) and `tarfile`.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::{Image, Outcome, data, open, read, sector};
use crate::cache::{Packing, StoreError, StoreFault, StoreKind};

/// A zip that is put together entry by entry.
#[derive(Clone, Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

/// What a zip says of an entry.
struct Said {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    len: u32,
    at: u32,
}

impl Zip {
    fn deflated(self, name: &str, content: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        self.put(name, content, &encoder.finish().unwrap(), 8, |_| {})
    }

    fn stored(self, name: &str, content: &[u8]) -> Self {
        self.put(name, content, content, 0, |_| {})
    }

    fn put(
        mut self,
        name: &str,
        content: &[u8],
        packed: &[u8],
        method: u16,
        lie: impl Fn(&mut Said),
    ) -> Self {
        let mut said = Said {
            flags: 0,
            method,
            crc: crc32fast::hash(content),
            packed: packed.len() as u32,
            len: content.len() as u32,
            at: self.bytes.len() as u32,
        };
        lie(&mut said);
        let Said { flags, method, crc, packed: packed_len, len, at } = said;
        let common = [
            &flags.to_le_bytes()[..],
            &method.to_le_bytes(),
            &[0; 4],
            &crc.to_le_bytes(),
            &packed_len.to_le_bytes(),
            &len.to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        self.bytes.extend([b"PK\x03\x04\x14\0", &common[..], name.as_bytes(), packed].concat());
        self.directory.extend([b"PK\x01\x02\x14\0\x14\0", &common[..], &[0; 10]].concat());
        self.directory.extend([&at.to_le_bytes()[..], name.as_bytes()].concat());
        self.count += 1;
        self
    }

    fn finish(self) -> Vec<u8> {
        let (start, len) = (self.bytes.len() as u32, self.directory.len() as u32);
        let mut bytes = [self.bytes, self.directory, b"PK\x05\x06\0\0\0\0".to_vec()].concat();
        bytes.extend([self.count.to_le_bytes(), self.count.to_le_bytes()].concat());
        bytes.extend([&len.to_le_bytes()[..], &start.to_le_bytes(), &[0; 2]].concat());
        bytes
    }
}

fn tar_entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = kind;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&block[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The image's files in each packing, the data file first as the OpenRS2 archive has it.
fn packed(image: &Image, prefix: &str) -> [(Packing, Vec<u8>); 4] {
    let mut files: Vec<_> = image.files.iter().collect();
    files.sort_by_key(|(name, _)| !name.ends_with("dat2"));
    let (mut stored, mut deflated, mut tar) = (Zip::default(), Zip::default(), Vec::new());
    for (name, content) in files {
        let name = format!("{prefix}{name}");
        stored = stored.stored(&name, content);
        deflated = deflated.deflated(&name, content);
        tar.extend(tar_entry(&name, b'0', content));
    }
    tar.extend([0; 1024]);
    [
        (Packing::Zip, stored.finish()),
        (Packing::Zip, deflated.finish()),
        (Packing::TarGz, gzip(&tar)),
        (Packing::Tar, tar),
    ]
}

/// Puts bytes into a file whose name says nothing of them, and lets `then` have its path.
fn with_file<T>(bytes: &[u8], then: impl Fn(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a cache");
    std::fs::write(&path, bytes).unwrap();
    then(&path)
}

fn refusal(bytes: &[u8]) -> StoreError {
    with_file(bytes, |path| match read(path) {
        Err(error) => error,
        Ok(outcome) => panic!("it was read: {:?}", outcome.groups),
    })
}

fn assert_same(packed: &Outcome, plain: &Outcome) {
    assert_eq!(packed.groups, plain.groups);
    assert_eq!(packed.shown, plain.shown);
    assert_eq!(packed.ended, plain.ended);
}

/// Two groups, one of two sectors, as sectors and as files.
fn images() -> [(StoreKind, Image); 2] {
    let big = data(600);
    let dat2 = Image::dat2(&[
        sector(7, 1, 0, 3, &big[..512]),
        sector(255, 7, 0, 0, b"abc"),
        sector(7, 1, 1, 0, &big[512..]),
    ]);
    let dat2 = dat2.listing(255, 7, 3, 2).listing(7, 1, 600, 1).with("main_file_cache.idx9", []);
    let flat = Image::default().with("7/1.dat", big).with("255/7.dat", *b"abc");
    [(StoreKind::Dat2, dat2), (StoreKind::Flat, flat)]
}

#[test]
fn a_packed_store_reads_as_its_directory_does_whatever_the_file_is_called() {
    for (kind, image) in images() {
        let plain = image.read();
        assert_eq!(plain.of(7, 1), Ok(&data(600)[..]));
        for prefix in ["", "cache/", "./a/b/"] {
            for (packing, bytes) in packed(&image, prefix) {
                with_file(&bytes, |path| {
                    let store = open(path).unwrap();
                    assert_eq!((store.kind(), store.packing()), (kind, Some(packing)));
                    assert_eq!(store.warnings(), []);
                    assert_same(&read(path).unwrap(), &plain);
                });
            }
        }
    }
}

#[test]
fn what_other_programs_pack_is_read() {
    for bytes in [
        &include_bytes!("fixtures/python-streamed-disk.zip")[..],
        include_bytes!("fixtures/python-stored-flat.zip"),
        include_bytes!("fixtures/python-pax-flat.tar.gz"),
        include_bytes!("fixtures/python-gnu-flat.tar.gz"),
        include_bytes!("fixtures/python-ustar-flat.tar.gz"),
    ] {
        let outcome = with_file(bytes, |path| read(path).unwrap());
        assert_eq!(outcome.groups.len(), 2);
        assert_eq!(outcome.of(7, 1), Ok(&data(600)[..]));
        assert_eq!(outcome.of(255, 7), Ok(&b"abc"[..]));
    }
}

#[test]
fn music_in_a_file_of_its_own_is_found_in_a_packed_store() {
    let image = Image::dat2(&[sector(1, 0, 0, 0, b"one")])
        .with("main_file_cache.dat2m", [vec![0; 520], sector(40, 0, 0, 0, b"song")].concat())
        .listing(1, 0, 3, 1)
        .listing(40, 0, 4, 1);
    let plain = image.read();
    for (_, bytes) in packed(&image, "cache/") {
        assert_same(&with_file(&bytes, |path| read(path).unwrap()), &plain);
    }
}

/// Chains that jump back by a window each time: `jumps` times.
fn backwards(jumps: usize) -> Image {
    const WINDOW: usize = 2016;
    let bytes = data(512 * (jumps + 1));
    let mut sectors = vec![vec![0; 520]; WINDOW * (jumps + 1)];
    for (position, part) in bytes.chunks(512).enumerate() {
        let place = WINDOW * (jumps - position);
        let next = if position == jumps { 0 } else { (place - WINDOW) as u32 + 1 };
        sectors[place] = sector(3, 0, position as u16, next, part);
    }
    let len = bytes.len() as u32;
    Image::dat2(&sectors).listing(3, 0, len, (WINDOW * jumps) as u32 + 1)
}

#[test]
fn chains_that_lead_backwards_are_read_in_a_bounded_number_of_passes() {
    let image = backwards(7);
    let [_, (_, zip), (_, tar_gz), _] = packed(&image, "");
    for bytes in [zip, tar_gz] {
        assert_same(&with_file(&bytes, |path| read(path).unwrap()), &image.read());
    }
    let image = backwards(8);
    assert_eq!(image.read().of(3, 0), Ok(&data(512 * 9)[..]), "a directory has any order");
    let [_, (_, zip), ..] = packed(&image, "");
    let outcome = with_file(&zip, |path| read(path).unwrap());
    assert!(outcome.message(3, 0).ends_with("read 8 times for such groups; unpack it"));
}

#[test]
fn a_file_cut_anywhere_is_refused_and_never_taken_for_less() {
    for (_, image) in images() {
        for (packing, bytes) in packed(&image, "cache/") {
            for len in (0..bytes.len()).rev().step_by(17) {
                // Behind its end mark, a tar has padding only.
                if packing == Packing::Tar && len > bytes.len() - 1024 {
                    continue;
                }
                let error = refusal(&bytes[..len]);
                assert_eq!(error.fault(), StoreFault::Unreadable, "{packing} of {len}: {error}");
            }
        }
    }
    let (_, tar) = &packed(&images()[1].1, "")[3];
    // At the edge of the second entry, and in its middle.
    assert!(
        refusal(&tar[..1024])
            .to_string()
            .ends_with("the entry (byte 1024): cut short: the file ends too early")
    );
    let text = refusal(&tar[..1600]).to_string();
    assert!(text.contains("7/1.dat (byte 1024)") || text.contains("the entry (byte"), "{text}");
}

#[test]
fn hostile_zips_are_named_with_the_place() {
    let one = || Zip::default().stored("cache/7/1.dat", b"x");
    let lie = |method, lie: fn(&mut Said)| {
        one().put("cache/255/7.dat", b"abc", b"abc", method, lie).finish()
    };
    let at = 30 + "cache/7/1.dat".len() + 1;
    let second = |text: &str| format!("cache/255/7.dat (byte {at}): {text}");
    let bomb = {
        let zip = one().put("cache/255/7.dat", b"abc", b"abc", 8, |said| said.len = 1 << 30);
        zip.finish()
    };
    let mut no_local = one().finish();
    no_local[0..4].copy_from_slice(b"PK\x05\x06");
    for (bytes, expected) in [
        (lie(0, |said| said.flags = 1), second("encrypted; pack the cache without a password")),
        (lie(12, |_| {}), second("packed by zip method 12; stored (0) and deflate (8) are read")),
        (lie(0, |said| said.packed = 9999), second("damaged: stored, but its two lengths differ")),
        (lie(8, |said| said.packed = 9999), second("cut short: the file ends too early")),
        (lie(0, |said| said.at = 0), second("").replace(&at.to_string(), "0")),
        (bomb, second("unpacks to more than ")),
        (one().stored("/7/2.dat", b"x").finish(), "its name is absolute".into()),
        (
            one().stored("../7/2.dat", b"x").finish(),
            format!("../7/2.dat (byte {at}): its name leads"),
        ),
        (
            one().stored("cache/7/1.dat", b"y").finish(),
            format!("cache/7/1.dat (byte {at}): listed twice; the first is at byte 0"),
        ),
        (
            one().stored("other/7/2.dat", b"y").finish(),
            format!("other/7/2.dat (byte {at}): a second cache in the same file; the first is in"),
        ),
        (
            Zip::default().stored("cache/main_file_cache.dat", b"x").finish(),
            "cache/main_file_cache.dat (byte 0): a legacy cache (main_file_cache.dat)".into(),
        ),
        (Zip::default().stored("x/main_file_cache.dat2", b"x").finish(), "no idx files".into()),
        (Zip::default().stored("main_file_cache.idx1", b"").finish(), "no main_file_cache".into()),
        (Zip::default().stored("readme", b"x").finish(), "no cache in this file".into()),
        (Zip::default().finish(), "no cache in this file".into()),
        (no_local[..40].to_vec(), "the zip's central directory".into()),
        (b"Rar!\x1a\x07\x01\0".to_vec(), "a RAR file; js5d reads directories, zip".into()),
        (b"7z\xBC\xAF\x27\x1C".to_vec(), "a 7z file".into()),
        (gzip(b"hello"), "a gzip file with something else than a tar".into()),
        (b"hello".to_vec(), "neither a directory nor a packed cache".into()),
        (Vec::new(), "an empty file".into()),
    ] {
        let error = refusal(&bytes);
        assert!(error.to_string().contains(&expected), "{error}\nis not: {expected}");
        assert_eq!(error.fault(), StoreFault::Unreadable, "{error}");
    }
}

#[test]
fn a_damaged_entry_of_a_flat_zip_costs_its_group_only() {
    let wrong = |said: &mut Said| said.crc ^= 1;
    let longer = |said: &mut Said| said.len -= 1;
    let content = data(300);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&content).unwrap();
    let deflated = encoder.finish().unwrap();
    let zip = Zip::default()
        .put("7/1.dat", b"abc", b"abc", 0, wrong)
        .put("7/2.dat", &content, &deflated, 8, longer)
        .put("7/3.dat", b"abc", b"\xFF\xFF\xFF", 8, |_| {})
        .stored("7/4.dat", b"")
        .deflated("7/5.dat", &content);
    let outcome = with_file(&zip.finish(), |path| read(path).unwrap());
    assert!(outcome.message(7, 1).contains("7/1.dat (byte 0 of the zip): damaged: CRC-32 is"));
    assert!(outcome.message(7, 2).ends_with("damaged: more bytes come out than the zip says"));
    assert!(outcome.message(7, 3).contains("damaged: the deflate stream"));
    assert!(outcome.message(7, 4).ends_with("7/4.dat is empty"));
    assert_eq!(outcome.of(7, 5), Ok(&content[..]));
}

#[test]
fn hostile_tars_are_named_with_the_place() {
    let file = |name: &str| tar_entry(name, b'0', b"x");
    let end = vec![0; 1024];
    let tar = |entries: &[Vec<u8>]| [entries.concat(), end.clone()].concat();
    let huge = {
        let mut bytes = tar_entry("long", b'L', b"");
        bytes[124..136].copy_from_slice(b"77777777777\0");
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    let bomb = gzip(&tar(&[tar_entry("7/1.dat", b'0', &vec![0; 80 << 20])]));
    let mut flipped = tar(&[file("7/1.dat"), file("7/2.dat")]);
    flipped[1024] ^= 1;
    for (bytes, expected) in [
        (tar(&[file("7/1.dat"), file("/7/2.dat")]), "/7/2.dat (byte 1024): its name is absolute"),
        (tar(&[file("7/../../x")]), "7/../../x (byte 0): its name leads out"),
        (
            tar(&[file("7/1.dat"), file("7/1.dat")]),
            "7/1.dat (byte 1024): listed twice; the first is at byte 0",
        ),
        (
            tar(&[tar_entry("7/1.dat", b'2', b"")]),
            "7/1.dat (byte 0): not a regular file (tar type '2')",
        ),
        (tar(&[huge]), "(byte 0): its name has 8589934591 bytes; 4096 are accepted"),
        (bomb, "unpacks to more than "),
        (flipped, "(byte 1024): damaged: no tar header where one is due"),
        (
            tar(&[file("7/1.dat"), file("c/7/2.dat")]),
            "a second cache in the same file; the first is in ''",
        ),
        (tar(&[file("c/main_file_cache.dat")]), "a legacy cache"),
        (end.clone(), "no cache in this file"),
    ] {
        let error = refusal(&bytes);
        assert!(error.to_string().contains(expected), "{error}\nis not: {expected}");
        assert_eq!(error.fault(), StoreFault::Unreadable, "{error}");
    }
}

#[test]
fn sqlite_caches_are_refused_with_the_reason() {
    let opennxt = [b"SQLite format 3\0", &[0; 500][..]].concat();
    let jagex = [&opennxt[..], b"ZLB\x01", &[0; 50]].concat();
    for (bytes, reason) in [(opennxt, "an OpenNXT cache"), (jagex, "of Jagex's NXT client")] {
        let error = refusal(&bytes);
        assert!(error.to_string().contains(reason) && error.is_another_kind(), "{error}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("js5-2.jcache"), &bytes).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let (_, image) = &images()[1];
    let [_, _, _, (_, tar)] = packed(image, "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.tar");
    std::fs::write(&path, &tar).unwrap();
    let outcome = crate::cache::block_on(async {
        let store = crate::cache::Store::open(&path).await.unwrap();
        let other = image.clone().with("7/1.dat", data(1200));
        std::fs::write(&path, &packed(&other, "")[3].1).unwrap();
        let groups = store.groups().to_vec();
        store.read_all(&mut Outcome { groups, ..Outcome::default() }).await
    });
    assert!(outcome.unwrap_err().to_string().ends_with("changed while it was read"));
}
