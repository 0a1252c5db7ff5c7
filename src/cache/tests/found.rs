//! Which store is found where, and what is said when there is none.

use super::{Image, data, open, sector};
use crate::cache::{StoreError, StoreFault, StoreKind, StoreWriter};

/// One group, as a dat2 store.
fn small() -> Image {
    Image::dat2(&[sector(0, 0, 0, 0, &data(3))]).listing(0, 0, 3, 1)
}

fn dir_of(image: &Image) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    image.write(dir.path());
    dir
}

#[test]
fn the_kind_and_the_archives_are_found_by_looking() {
    let dat = Image::default().with("main_file_cache.dat", []);
    let flat = Image::default().with("255/2.dat", b"x").with("9/0.dat", b"y");
    let idx = |image: Image, n| image.with(&format!("main_file_cache.idx{n}"), []);
    for (image, kind, archives) in [
        (idx(idx(small(), 255), 10), StoreKind::Dat2, &[0, 10, 255][..]),
        (idx(idx(dat, 4), 3), StoreKind::Dat, &[3, 4]),
        (flat, StoreKind::Flat, &[9, 255]),
    ] {
        let store = open(dir_of(&image).path()).unwrap();
        assert_eq!((store.kind(), store.archives()), (kind, archives));
        assert_eq!(store.warnings(), []);
    }
}

#[test]
fn a_directory_without_a_store_says_what_to_do() {
    let nothing = Image::default().with("readme.txt", b"hello");
    let two = Image::default().with("a/7/1.dat", b"x").with("b/7/1.dat", b"x");
    for (image, below, ending) in [
        (Image::default(), "absent", "absent: no such file or directory"),
        (nothing, "", "no cache in this directory (neither main_file_cache.dat2, nor"),
        (two, "", "no cache in this directory, and more than one just below it: name "),
        (Image::default().with("disk.zip", b"PK"), "", "one: name the file "),
        (Image::default().with("main_file_cache.idx0", []), "main_file_cache.idx0", "name the dir"),
        (Image::default().with("main_file_cache.dat2", []), "main_file_cache.dat2", "name the dir"),
        (Image::default().with("main_file_cache.idx0", []), "", "no main_file_cache.dat2 beside"),
        (Image::default().with("main_file_cache.dat2", []), "", "dat2, but no idx files beside it"),
    ] {
        let error = open(&dir_of(&image).path().join(below)).unwrap_err();
        assert_eq!(error.fault(), StoreFault::Missing, "{error}");
        assert!(error.to_string().contains(ending), "{error}");
    }
}

#[test]
fn the_one_store_just_below_is_taken() {
    let image = Image::default().with("cache/7/1.dat", b"x").with("keys.json", b"[]");
    let store = open(dir_of(&image).path()).unwrap();
    assert_eq!((store.kind(), store.groups().len()), (StoreKind::Flat, 1));
}

#[test]
fn each_reason_why_a_store_cannot_be_listed_has_its_error() {
    let odd = dir_of(&small().with("main_file_cache.idx5/x", []));
    assert!(matches!(open(odd.path()), Err(StoreError::NotAFile { .. })));
    let long = dir_of(&small());
    let idx = std::fs::File::create(long.path().join("main_file_cache.idx3")).unwrap();
    idx.set_len((1 << 24) * 6 + 6).unwrap();
    let error = open(long.path()).unwrap_err();
    assert_eq!(error.fault(), StoreFault::Unreadable);
    assert!(error.to_string().ends_with("100663302 bytes; an idx file has 100663296 at most"));
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = StoreError::Io { path: "x".into(), source };
    assert_eq!(error.fault(), StoreFault::Permission);
}

#[test]
fn an_odd_file_that_does_no_harm_is_a_warning() {
    let flat = Image::default().with("7/1.dat", b"x").with("7/01.dat", b"x").with("300/1", b"x");
    let legacy = Image::default().with("main_file_cache.dat", []);
    for (image, expected) in [
        (
            small().with("main_file_cache.idx256", []),
            &["/main_file_cache.idx256: the number is no archive's; ignored"][..],
        ),
        (
            legacy.with("main_file_cache.idx255", []),
            &["/main_file_cache.idx255: the number is no archive's; ignored"],
        ),
        (
            small().with("main_file_cache.dat", []).with("9/1.dat", b"x"),
            &[
                "/main_file_cache.dat: a second cache in the same directory; ignored",
                "/9: a second cache in the same directory; ignored",
            ],
        ),
        (
            flat,
            &[
                "/300: the number is no archive's; ignored",
                "/7/01.dat: not a group (GROUP.dat is expected); ignored",
            ],
        ),
    ] {
        let dir = dir_of(&image);
        let store = open(dir.path()).unwrap();
        let prefix = dir.path().display().to_string();
        let warnings: Vec<_> =
            store.warnings().iter().map(|w| w.to_string().replace(&prefix, "")).collect();
        assert_eq!(warnings, expected);
        assert_eq!(store.groups().len(), usize::from(store.kind() != StoreKind::Dat));
    }
}

#[test]
fn an_idx_file_that_ends_within_an_entry_is_damage_and_its_whole_entries_are_read() {
    let mut image = small().with("main_file_cache.idx9", [0; 5]);
    image.files.get_mut("main_file_cache.idx0").unwrap().extend(b"abc");
    let store = open(dir_of(&image).path()).unwrap();
    assert_eq!((store.groups().len(), store.warnings().len()), (1, 0));
    let told: Vec<_> = store.indexes_cut().iter().map(ToString::to_string).collect();
    let lost = "and whatever it listed from there on is lost";
    assert_eq!(
        told,
        [
            format!(
                "main_file_cache.idx0 has 9 bytes, no multiple of 6: it was cut off within the \
                 entry of group 1, {lost}"
            ),
            format!(
                "main_file_cache.idx9 has 5 bytes, no multiple of 6: it was cut off within the \
                 entry of group 0, {lost}"
            ),
        ]
    );
}

#[test]
fn warnings_are_bounded() {
    let image = (0..150).fold(Image::default().with("7/1.dat", b"x"), |image, i| {
        image.with(&format!("7/note{i}.txt"), [])
    });
    let store = open(dir_of(&image).path()).unwrap();
    assert_eq!(store.warnings().len(), 101);
    assert_eq!(store.warnings()[100].to_string(), "and 50 more of this kind");
}

#[test]
fn nothing_is_written_over_a_store_or_past_the_format() {
    for image in [small(), Image::default().with("7/1.dat", b"x")] {
        let error = StoreWriter::create(dir_of(&image).path(), StoreKind::Dat2).unwrap_err();
        assert!(matches!(error, StoreError::AlreadyAStore { .. }), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(StoreWriter::create(dir.path(), StoreKind::Dat).is_err());
    let mut writer = StoreWriter::create(dir.path(), StoreKind::Dat2).unwrap();
    writer.put(1, 1, b"x").unwrap();
    for (group, len) in [(1, 1), (2, 0), (3, 1 << 24), (1 << 24, 1)] {
        let error = writer.put(1, group, &vec![0; len]).unwrap_err();
        assert!(matches!(error, StoreError::CannotPut { .. }), "{error}");
    }
    assert_eq!(writer.finish().unwrap().groups, 1);
}

#[test]
fn an_archive_whose_index_is_written_has_an_idx_file_even_if_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), StoreKind::Dat2).unwrap();
    for group in [3, 255, 300] {
        writer.put(255, group, b"index").unwrap();
    }
    writer.finish().unwrap();
    let idx = |archive: u32| dir.path().join(format!("main_file_cache.idx{archive}"));
    assert_eq!(std::fs::read(idx(3)).unwrap(), b"");
    assert_eq!(std::fs::read(idx(255)).unwrap().len(), 301 * 6);
    assert!(!idx(2).exists() && !idx(300).exists());
}
