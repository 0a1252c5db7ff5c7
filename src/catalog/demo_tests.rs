//! The demo cache: sound, of a real cache's shape, and always the same.

use super::*;
use crate::catalog::{LoadOptions, Loaded, load};
use crate::protocol::GroupId;
use crate::protocol::container::{ContainerHeader, decompress};
use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn loaded(demo: &Demo) -> Loaded {
    let options = LoadOptions { skip_corrupt: false, ..LoadOptions::default() };
    let mut progress = |_, _| {};
    let future = pin!(load(demo, options, &mut progress));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(loaded) => loaded.expect("the demo cache is sound"),
        Poll::Pending => panic!("a source in memory never waits"),
    }
}

#[test]
fn every_demo_cache_is_sound_and_its_groups_unpack() {
    for groups in [0, DEMO_GROUPS_MIN, 100, 777, DEMO_GROUPS] {
        let demo = Demo::new(groups, 7);
        assert_eq!(demo.groups.len(), groups.max(DEMO_GROUPS_MIN));
        let is_readable = |stored| decompress(stored, 1 << 24).is_ok_and(|it| !it.is_empty());
        let unreadable: Vec<_> = demo.stored().filter(|(_, stored)| !is_readable(stored)).collect();
        assert!(unreadable.iter().all(|(group, _)| group.archive == MAPS));
        let maps = demo.groups.iter().filter(|group| group.archive == MAPS).count();
        assert_eq!(unreadable.len(), (maps * 1200).div_ceil(3775), "encrypted ones");
        let Loaded { snapshot, report } = loaded(&demo);
        let totals = snapshot.totals();
        assert_eq!((totals.archives, totals.groups), (29, demo.groups.len() + 1));
        assert_eq!(report.to_string(), "archive 27: empty\n");
        let empty = snapshot.response(GroupId { archive: 255, group: 27 });
        assert!(empty.is_some(), "clients want an index of the empty archive, too");
    }
}

#[test]
fn the_same_seed_makes_the_same_cache() {
    let demo = Demo::new(DEMO_GROUPS, DEMO_SEED);
    let generation = loaded(&demo).snapshot.generation();
    // Changes with the packers of the archive indexes, and with fastrand: then say so in the
    // changelog and write the new one here.
    assert_eq!(format!("{generation:016x}"), "daba46e65abe0bfd");
    assert_eq!(loaded(&Demo::new(DEMO_GROUPS, DEMO_SEED)).snapshot.generation(), generation);
    assert_ne!(loaded(&Demo::new(DEMO_GROUPS, 1)).snapshot.generation(), generation);
    assert!((2_500_000..4_500_000).contains(&demo.bytes.len()), "{} bytes", demo.bytes.len());
}

#[test]
fn the_whole_demo_cache_has_the_measure_of_the_real_one() {
    let demo = Demo::new(DEMO_GROUPS_MAX, DEMO_SEED);
    assert_eq!(demo.groups.len(), DEMO_GROUPS_MAX);
    let (mut count, mut bytes, mut kinds) = (HashMap::new(), HashMap::new(), [0; 3]);
    for (group, stored) in demo.stored().filter(|(group, _)| group.archive != ARCHIVE_INDEXES) {
        *count.entry(group.archive).or_insert(0) += 1;
        *bytes.entry(group.archive).or_insert(0) += group.len_bytes;
        let header = ContainerHeader::parse(stored).unwrap();
        kinds[usize::from(header.compression.byte())] += 1;
    }
    for row in &ROWS {
        assert_eq!(count[&row.archive], row.groups, "archive {}", row.archive);
        let ratio = f64::from(bytes[&row.archive]) / f64::from(row.bytes);
        // Of a few groups, a curve through their quantiles cannot say much.
        let off_max = if row.groups > 30 { 0.06 } else { 0.35 };
        assert!((ratio - 1.0).abs() < off_max, "archive {}: {ratio}", row.archive);
    }
    let total = demo.bytes.len();
    assert!((74_000_000..77_000_000).contains(&total), "{total} bytes");
    let largest = demo.groups.iter().map(|group| group.len_bytes).max();
    assert!(largest.is_some_and(|len| (495_000..525_000).contains(&len)), "{largest:?}");
    let expected: [u32; 3] =
        std::array::from_fn(|kind| ROWS.iter().map(|row| row.kinds[kind]).sum());
    // Of the encrypted maps half claim a negative length, and few one that could be.
    let is_encrypted = |group: StoredGroup, stored: &[u8]| {
        group.archive == MAPS && decompress(stored, 1 << 24).is_err()
    };
    let encrypted = demo.stored().filter(|&(group, stored)| is_encrypted(group, stored));
    let lengths: Vec<u8> = encrypted.map(|(_, stored)| stored[5]).collect();
    assert_eq!(lengths.len(), 1200);
    assert!((500..700).contains(&lengths.iter().filter(|&&first| first >= 128).count()));
    for (found, expected) in kinds.into_iter().zip(expected) {
        assert!(expected.abs_diff(found) < 30, "{kinds:?}");
    }
}
