//! Stores broken by hand: each is refused, and the message names the place.

use super::{Image, data, open, read, sector};
use crate::cache::{GroupError, GroupVisitor, Reading, block_on_by};

/// Two sound groups, 4 and 5, of archive 7: sectors 1 and 2, and sectors 3 and 4.
fn sound() -> Image {
    let bytes = data(700);
    Image::dat2(&[
        sector(7, 4, 0, 2, &bytes[..512]),
        sector(7, 4, 1, 0, &bytes[512..]),
        sector(7, 5, 0, 4, &bytes[..512]),
        sector(7, 5, 1, 0, &bytes[512..]),
    ])
    .listing(7, 4, 700, 1)
    .listing(7, 5, 700, 3)
}

/// Expects group 4 to be refused with this message, and group 5 to be read.
fn check(image: &Image, message: &str) {
    let outcome = image.read();
    assert_eq!(outcome.message(7, 4), message);
    assert_eq!(image.plain(7, 4), None, "the test's own reader takes it");
    assert_eq!(outcome.of(7, 5), Ok(&data(700)[..]), "its neighbour is sound");
}

/// Changes some bytes of a sector's header.
fn patched(number: usize, at: usize, bytes: &[u8]) -> Image {
    let mut image = sound();
    let dat2 = image.files.get_mut("main_file_cache.dat2").unwrap();
    dat2[number * 520 + at..][..bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn a_wrong_header_is_refused() {
    let first = "archive 7, group 4: sector 1 (byte 520 of main_file_cache.dat2)";
    let second = "archive 7, group 4: sector 2 (byte 1040 of main_file_cache.dat2)";
    for (number, at, bytes, place, what) in [
        (1, 0, &[0, 5][..], first, "belongs to group 5"),
        (2, 0, &[1, 4], second, "belongs to group 260"),
        (1, 2, &[0, 1], first, "has position 1 in its chain, expected 0"),
        (2, 2, &[0, 0], second, "has position 0 in its chain, expected 1"),
        (1, 7, &[8], first, "carries archive byte 8, expected 7"),
        (2, 7, &[255], second, "carries archive byte 255, expected 7"),
    ] {
        check(&patched(number, at, bytes), &format!("{place} {what}"));
    }
}

#[test]
fn a_chain_of_the_wrong_length_is_refused() {
    let first = "archive 7, group 4: sector 1 (byte 520 of main_file_cache.dat2)";
    let second = "archive 7, group 4: sector 2 (byte 1040 of main_file_cache.dat2)";
    for (image, place, what) in [
        (patched(1, 4, &[0, 0, 0]), first, "ends the chain after 512 bytes, expected 700"),
        (sound().listing(7, 4, 1025, 1), second, "ends the chain after 1024 bytes, expected 1025"),
    ] {
        check(&image, &format!("{place} {what}"));
    }
}

/// As with the clients: packers leave any number there.
#[test]
fn the_next_sector_that_a_last_sector_names_is_ignored() {
    for next in [[0, 0, 2], [0, 0, 3], [0xFF, 0xFF, 0xFF]] {
        assert_eq!(patched(2, 4, &next).read().of(7, 4), Ok(&data(700)[..]), "{next:?}");
    }
    assert_eq!(sound().listing(7, 4, 512, 1).read().of(7, 4), Ok(&data(700)[..512]));
}

#[test]
fn a_chain_that_loops_is_refused() {
    let message = "archive 7, group 4: sector 1 (byte 520 of main_file_cache.dat2) has position \
                   0 in its chain, expected 1";
    check(&patched(1, 4, &[0, 0, 1]), message);
    let message = message.replace("expected 1", "expected 2");
    let mut image = patched(2, 4, &[0, 0, 1]);
    image.files.get_mut("main_file_cache.dat2").unwrap().resize(520 * 40, 0);
    check(&image.listing(7, 4, 10_000, 1), &message);
}

#[test]
fn chains_that_meet_are_refused_once() {
    let message = "archive 7, group 4: sector 4 (byte 2080 of main_file_cache.dat2) belongs to \
                   group 5";
    check(&patched(1, 4, &[0, 0, 4]), message);
    let message = message.replace("sector 4 (byte 2080", "sector 3 (byte 1560");
    check(&sound().listing(7, 4, 700, 3), &message);
}

#[test]
fn what_lies_outside_the_file_is_refused() {
    check(
        &patched(1, 4, &[0, 0, 5]),
        "archive 7, group 4: sector 1 (byte 520 of main_file_cache.dat2) names sector 5 as the \
         next, but that file has 2600 bytes",
    );
    check(
        &sound().listing(7, 4, 700, 0xFF_FFFF),
        "archive 7, group 4: main_file_cache.idx7 (byte 24) says 700 bytes from sector 16777215 \
         on, which is byte 8724151800 of main_file_cache.dat2, but that file has 2600 bytes",
    );
}

#[test]
fn an_impossible_entry_is_refused() {
    let entry = "archive 7, group 4: main_file_cache.idx7 (byte 24) says";
    for (len_bytes, sector, what) in [
        (0, 1, "0 bytes from sector 1 on: a group has at least one byte"),
        (700, 0, "700 bytes from sector 0 on: sector 0 belongs to no group"),
        (2049, 1, "2049 bytes from sector 1 on, but all of main_file_cache.dat2 has 2600 bytes"),
        (
            0xFF_FFFF,
            1,
            "16777215 bytes from sector 1 on, but all of main_file_cache.dat2 has 2600 bytes",
        ),
    ] {
        check(&sound().listing(7, 4, len_bytes, sector), &format!("{entry} {what}"));
    }
}

#[test]
fn a_cut_file_loses_the_groups_that_it_cuts() {
    for (len, message) in [
        (
            4 * 520 + 8 + 187,
            "sector 4 (byte 2080 of main_file_cache.dat2) is cut off: 195 bytes are there, \
             expected 196",
        ),
        (
            4 * 520 + 1,
            "sector 4 (byte 2080 of main_file_cache.dat2) is cut off: 1 bytes are there, \
             expected 196",
        ),
        (
            4 * 520,
            "sector 3 (byte 1560 of main_file_cache.dat2) names sector 4 as the next, but that \
             file has 2080 bytes",
        ),
        (
            3 * 520,
            "main_file_cache.idx7 (byte 30) says 700 bytes from sector 3 on, which is byte 1560 \
             of main_file_cache.dat2, but that file has 1560 bytes",
        ),
    ] {
        let mut image = sound();
        image.files.get_mut("main_file_cache.dat2").unwrap().truncate(len);
        let outcome = image.read();
        assert_eq!(outcome.message(7, 5), format!("archive 7, group 5: {message}"));
        let whole = if len == 3 * 520 { outcome.of(7, 4).is_ok() } else { true };
        assert!(whole, "group 4 lies before the cut");
    }
}

/// A file that changes between listing and reading; the reader must not believe the listing.
#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    struct Count(Vec<Option<GroupError>>);
    impl GroupVisitor for Count {
        fn piece(&mut self, _: usize, _: u32, _: &[u8]) {}
        fn complete(&mut self, _: usize) {
            self.0.push(None);
        }
        fn failed(&mut self, _: usize, error: GroupError) {
            self.0.push(Some(error));
        }
        fn progress(&mut self, _: u64, _: u64) {}
    }
    let flat = |len| Image::default().with("3/1.dat", data(len));
    for (before, after, message) in [
        (
            sound(),
            Image::dat2(&[]),
            "archive 7, group 4: sector 1 (byte 520 of main_file_cache.dat2) is cut off: 0 bytes \
             are there, expected 520",
        ),
        (
            flat(300_000),
            flat(200_000),
            "archive 3, group 1: 3/1.dat changed while it was read: expected 300000 bytes, found \
             200000",
        ),
        (
            flat(3),
            Image::default(),
            "archive 3, group 1: 3/1.dat cannot be read from byte 0 on: No such file or directory \
             (os error 2)",
        ),
        (
            flat(200_000),
            flat(200_001),
            "archive 3, group 1: 3/1.dat changed while it was read: expected 200000 bytes, found \
             more",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        before.write(dir.path());
        let store = open(dir.path()).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        after.write(dir.path());
        for reading in [Reading::Ring, Reading::Plain] {
            let mut count = Count(Vec::new());
            block_on_by(reading, store.read_all(&mut count)).unwrap();
            assert_eq!(count.0.len(), store.groups().len());
            let messages: Vec<_> = count.0.into_iter().map(|e| e.unwrap().to_string()).collect();
            assert!(messages.iter().any(|m| m == message), "{messages:?}");
        }
    }
}

#[test]
fn a_flat_file_that_is_no_group_is_refused() {
    let image = Image::default().with("3/1.dat", []).with("3/2.dat", data(2));
    let dir = tempfile::tempdir().unwrap();
    image.write(dir.path());
    let large = std::fs::File::create(dir.path().join("3/4.dat")).unwrap();
    large.set_len(1 << 24).unwrap();
    let outcome = read(dir.path()).unwrap();
    assert_eq!(outcome.message(3, 1), "archive 3, group 1: 3/1.dat is empty");
    assert_eq!(
        outcome.message(3, 4),
        "archive 3, group 4: 3/4.dat has more than 16777215 bytes, the most that a group can have"
    );
    assert_eq!(outcome.of(3, 2), Ok(&data(2)[..]));
}
