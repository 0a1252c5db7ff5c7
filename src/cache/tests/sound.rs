//! Stores that are as they should be, some of them in unusual ways.

use super::{Image, data, sector};

/// Reads the image, and expects these groups, all of them, to hold what `data` makes.
fn check(image: &Image, groups: &[(u8, u32, usize)]) {
    let outcome = image.read();
    assert_eq!(outcome.groups.len(), groups.len());
    for &(archive, group, len) in groups {
        assert_eq!(outcome.of(archive, group), Ok(&data(len)[..]), "{archive}/{group}");
        if !image.files.is_empty() {
            assert_eq!(image.plain(archive, group), Some(data(len)), "the test's own reader");
        }
    }
}

#[test]
fn the_smallest_store_is_read_from_its_bytes() {
    let mut dat2 = vec![0; 520];
    dat2.extend(b"\x00\x01\x00\x00\x00\x00\x00\xffhello");
    let outcome = Image::default()
        .with("main_file_cache.dat2", dat2)
        .with("main_file_cache.idx255", b"\0\0\0\0\0\0\x00\x00\x05\x00\x00\x01")
        .read();
    assert_eq!(outcome.groups.len(), 1);
    assert_eq!(outcome.of(255, 1), Ok(&b"hello"[..]));
}

#[test]
fn lengths_around_a_sectors_edge_are_exact() {
    for len in [1, 511, 512, 513, 1023, 1024, 1025] {
        let bytes = data(len);
        let count = bytes.chunks(512).count() as u32;
        let sectors = (0..).zip(bytes.chunks(512)).map(|(i, part)| {
            sector(3, 9, i, if u32::from(i) + 1 == count { 0 } else { u32::from(i) + 2 }, part)
        });
        let image = Image::dat2(&sectors.collect::<Vec<_>>()).listing(3, 9, len as u32, 1);
        check(&image, &[(3, 9, len)]);
    }
}

#[test]
fn a_group_of_65536_has_longer_headers() {
    let bytes = data(600);
    let mut dat2 = vec![0; 520];
    dat2.extend(b"\x00\x01\x00\x00\x00\x00\x00\x00\x02\x07");
    dat2.extend(&bytes[..510]);
    dat2.extend(b"\x00\x01\x00\x00\x00\x01\x00\x00\x00\x07");
    dat2.extend(&bytes[510..]);
    let image = Image::default().with("main_file_cache.dat2", dat2).listing(7, 65536, 600, 1);
    check(&image, &[(7, 65536, 600)]);
}

#[test]
fn the_last_sector_may_be_as_short_as_its_data() {
    let mut image = Image::dat2(&[sector(0, 0, 0, 2, &data(512)), sector(0, 0, 1, 0, &[])]);
    let dat2 = image.files.get_mut("main_file_cache.dat2").unwrap();
    dat2.truncate(2 * 520 + 8);
    dat2.extend(&data(700)[512..]);
    check(&image.listing(0, 0, 700, 1), &[(0, 0, 700)]);
}

#[test]
fn interleaved_and_backward_chains_are_read() {
    let (a, b) = (data(1100), data(1400));
    let image = Image::dat2(&[
        sector(1, 5, 2, 0, &a[1024..]),
        sector(1, 6, 0, 6, &b[..512]),
        sector(1, 5, 1, 1, &a[512..1024]),
        sector(1, 6, 2, 0, &b[1024..]),
        sector(1, 5, 0, 3, &a[..512]),
        sector(1, 6, 1, 4, &b[512..1024]),
    ]);
    check(&image.listing(1, 5, 1100, 5).listing(1, 6, 1400, 2), &[(1, 5, 1100), (1, 6, 1400)]);
}

#[test]
fn a_legacy_store_counts_archives_from_one() {
    let file = [vec![0; 520], sector(1, 1, 0, 0, &data(7))].concat();
    let mut image = Image::default().with("main_file_cache.dat", file).listing(0, 1, 7, 1);
    image.legacy = true;
    check(&image, &[(0, 1, 7)]);
}

#[test]
fn archive_40_is_in_the_second_data_file_if_there_is_one() {
    let music = [vec![0; 520], sector(40, 0, 0, 0, &data(9))].concat();
    let image = Image::dat2(&[sector(0, 0, 0, 0, &data(8))])
        .with("main_file_cache.dat2m", music)
        .listing(0, 0, 8, 1)
        .listing(40, 0, 9, 1);
    check(&image, &[(0, 0, 8), (40, 0, 9)]);

    let image = Image::dat2(&[sector(40, 0, 0, 0, &data(9))]).listing(40, 0, 9, 1);
    check(&image, &[(40, 0, 9)]);
}

#[test]
fn an_empty_store_holds_nothing_and_is_read() {
    let only = Image::default().with("main_file_cache.dat2", []);
    check(&only.with("main_file_cache.idx255", []), &[]);
    let archives = ["main_file_cache.idx0", "main_file_cache.idx255"];
    check(&Image::dat2(&[]).with(archives[0], []).with(archives[1], [0; 12]), &[]);
}

#[test]
fn flat_files_are_groups() {
    let lens = [1, 131_071, 131_072, 131_073, 400_000];
    let mut image = Image::default();
    for len in lens {
        image = image.with(&format!("12/{len}.dat"), data(len));
    }
    let outcome = image.with("255/12.dat", data(33)).read();
    assert_eq!(outcome.groups.len(), 6);
    assert_eq!(outcome.of(255, 12), Ok(&data(33)[..]));
    for len in lens {
        assert_eq!(outcome.of(12, len as u32), Ok(&data(len)[..]));
    }
}
