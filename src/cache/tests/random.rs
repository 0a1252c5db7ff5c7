//! Stores made from a seed: written and read back, laid out in the worst order, and broken at
//! random.

use std::collections::BTreeMap;

use super::{Image, Outcome, block_on, read, sector};
use crate::cache::{Store, StoreKind, StoreWriter};

type Groups = BTreeMap<(u8, u32), Vec<u8>>;

fn noise(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

fn groups(rng: &mut fastrand::Rng, count: usize, len_max: usize) -> Groups {
    let mut groups = Groups::new();
    while groups.len() < count {
        let group = if rng.u8(..) < 20 { rng.u32(65_500..66_000) } else { rng.u32(0..400) };
        let len = rng.usize(1..=len_max);
        let bytes = noise(rng, len);
        groups.insert((rng.u8(..), group), bytes);
    }
    groups
}

fn expect(outcome: &Outcome, groups: &Groups) {
    assert_eq!(outcome.groups.len(), groups.len());
    for (&(archive, group), bytes) in groups {
        assert!(outcome.of(archive, group) == Ok(bytes), "{archive}/{group}");
    }
}

#[test]
fn what_is_written_is_read() {
    let mut rng = fastrand::Rng::with_seed(3);
    for kind in [StoreKind::Dat2, StoreKind::Flat] {
        let dir = tempfile::tempdir().unwrap();
        let mut groups = groups(&mut rng, 700, 3000);
        // Two that cross the pieces in which files are read.
        groups.insert((2, 3), noise(&mut rng, 2_500_000));
        groups.insert((2, 70_000), vec![7; 1_100_000]);
        let mut writer = StoreWriter::create(&dir.path().join("new"), kind).unwrap();
        let mut order: Vec<_> = groups.iter().collect();
        rng.shuffle(&mut order);
        for (&(archive, group), bytes) in order {
            writer.put(archive, group, bytes).unwrap();
        }
        let summary = writer.finish().unwrap();
        let bytes: usize = groups.values().map(Vec::len).sum();
        assert_eq!((summary.groups, summary.bytes), (groups.len(), bytes as u64));
        expect(&read(&dir.path().join("new")).unwrap(), &groups);
    }
}

/// Lays groups of one archive out, the sectors in whatever order `arrange` puts them.
fn arranged(groups: &Groups, arrange: impl FnOnce(&mut Vec<u32>)) -> Image {
    let count: usize = groups.values().map(|bytes| bytes.len().div_ceil(512)).sum();
    let mut places: Vec<u32> = (1..=count as u32).collect();
    arrange(&mut places);
    let mut image = Image::default();
    let mut dat2 = vec![0; 520 * (count + 1)];
    let mut places = places.into_iter().peekable();
    for (&(archive, group), bytes) in groups {
        image = image.listing(archive, group as usize, bytes.len() as u32, *places.peek().unwrap());
        let last = bytes.len().div_ceil(512) - 1;
        for (i, part) in bytes.chunks(512).enumerate() {
            let place = places.next().unwrap() as usize;
            let next = if i == last { 0 } else { *places.peek().unwrap() };
            let bytes = sector(archive, group as u16, i as u16, next, part);
            dat2[place * 520..][..520].copy_from_slice(&bytes);
        }
    }
    image.with("main_file_cache.dat2", dat2)
}

#[test]
fn chains_in_any_order_are_read() {
    let mut rng = fastrand::Rng::with_seed(4);
    // About six thousand sectors: three pieces of the sweep.
    let mut groups: Groups = groups(&mut rng, 700, 5000);
    groups.retain(|&(_, group), _| group < 65_536);
    groups.insert((1, 1), noise(&mut rng, 1_300_000));
    expect(&arranged(&groups, |places| places.reverse()).read(), &groups);
    expect(&arranged(&groups, |places| rng.shuffle(places)).read(), &groups);
    let halves = |places: &mut Vec<u32>| {
        let (a, b) = places.split_at(places.len() / 2);
        *places = a.iter().zip(b).flat_map(|(a, b)| [*b, *a]).chain(b.last().copied()).collect();
    };
    expect(&arranged(&groups, halves).read(), &groups);
}

#[test]
fn a_store_broken_at_random_is_read_as_a_plain_reader_reads_it() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut sound = Groups::new();
    for group in 0..12 {
        let len = rng.usize(1..2000);
        let bytes = noise(&mut rng, len);
        sound.insert((rng.u8(0..3), group), bytes);
    }
    let whole = arranged(&sound, |places| fastrand::Rng::with_seed(6).shuffle(places));
    let dir = tempfile::tempdir().unwrap();
    let mut refused = 0;
    // The torture table does 100,000 of them.
    let wanted = std::env::var("JS5D_MUTATIONS").ok().and_then(|count| count.parse().ok());
    let count = wanted.unwrap_or(3000);
    block_on(async {
        for _ in 0..count {
            let image = broken(&whole, &mut rng);
            image.write(dir.path());
            let store = Store::open(dir.path()).await.unwrap();
            let groups = store.groups().to_vec();
            let mut outcome = Outcome { groups, ..Outcome::default() };
            store.read_all(&mut outcome).await.unwrap();
            for group in &outcome.groups {
                let (archive, group) = (group.archive, group.group);
                let plain = image.plain(archive, group);
                let ours = outcome.of(archive, group);
                assert_eq!(ours.ok(), plain.as_deref(), "{archive}/{group} {ours:?}");
                refused += usize::from(ours.is_err());
            }
        }
    });
    assert!(refused > count, "the mutations hit: {refused}");
}

/// Changes up to four bytes, mostly in sector headers, or cuts a file.
fn broken(whole: &Image, rng: &mut fastrand::Rng) -> Image {
    let mut image = whole.clone();
    for _ in 0..rng.usize(1..=4) {
        let count = image.files.len();
        let file = image.files.values_mut().nth(rng.usize(..count)).unwrap();
        if file.is_empty() {
            continue;
        }
        let any = rng.usize(..file.len());
        match rng.u8(..8) {
            0 => file.truncate(any),
            1..4 => file[any] = rng.u8(..),
            _ => file[(any / 520 * 520 + rng.usize(..8)).min(any)] = rng.u8(..30),
        }
    }
    image
}
