//! The groups that clients can ask for, as the server's indexes list them, and their checksums.

use js5d::protocol::{ARCHIVE_INDEXES, GroupId, MASTER_INDEX};
use std::collections::HashMap;

/// The groups of a server, as its indexes list them.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The master index and the archive indexes: what a client asks for first.
    pub(crate) indexes: Vec<GroupId>,
    /// All other groups, in one order that the seed decides on.
    pub(crate) groups: Vec<GroupId>,
    /// CRC-32 of each container, where an index gives it.
    checksums: HashMap<GroupId, u32>,
    /// Draws a group by popularity.
    popularity: Popularity,
}

impl Catalogue {
    /// A catalogue of `groups` in an order that `seed` decides on.
    pub(crate) fn new(
        indexes: Vec<GroupId>,
        mut groups: Vec<GroupId>,
        checksums: HashMap<GroupId, u32>,
        seed: u64,
        zipf: f64,
    ) -> Self {
        fastrand::Rng::with_seed(seed).shuffle(&mut groups);
        let popularity = Popularity::new(groups.len(), zipf);
        Self { indexes, groups, checksums, popularity }
    }

    /// Groups named by hand, on a server whose indexes are not to be asked for: `0/0..4095,2/7`.
    pub(crate) fn parse_groups(list: &str) -> Result<Vec<GroupId>, String> {
        let mut groups = Vec::new();
        for part in list.split(',') {
            let wrong = || format!("{part:?} is not ARCHIVE/GROUP or ARCHIVE/FIRST..LAST");
            let (archive, range) = part.trim().split_once('/').ok_or_else(wrong)?;
            let archive: u8 = archive.parse().map_err(|_| wrong())?;
            let (first, last) = range.split_once("..").unwrap_or((range, range));
            let first: u32 = first.parse().map_err(|_| wrong())?;
            let last: u32 = last.parse().map_err(|_| wrong())?;
            groups.extend((first..=last).map(|group| GroupId { archive, group }));
        }
        if groups.is_empty() { Err("no groups are named".to_owned()) } else { Ok(groups) }
    }

    /// The checksum of a group's container, if an index gives it.
    pub(crate) fn checksum(&self, id: GroupId) -> Option<u32> {
        self.checksums.get(&id).copied()
    }

    /// How many requests a whole download takes.
    pub(crate) fn len(&self) -> usize {
        self.indexes.len() + self.groups.len()
    }

    /// A group by popularity; the master index where there is none.
    pub(crate) fn popular(&self, rng: &mut fastrand::Rng) -> GroupId {
        let rank = self.popularity.draw(rng);
        self.groups.get(rank).copied().unwrap_or(MASTER_INDEX)
    }

    /// A group that no index lists, for clients that ask for such.
    pub(crate) fn unlisted(&self, rng: &mut fastrand::Rng) -> GroupId {
        loop {
            let id = GroupId { archive: rng.u8(..ARCHIVE_INDEXES), group: rng.u32(60_000..65_536) };
            if !self.checksums.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Zipf's law over ranks, by Walker's alias method: one draw, one comparison.
#[derive(Debug, Default)]
struct Popularity {
    /// For each rank: the part of its column that is its own, and whose the rest is.
    columns: Vec<(f32, u32)>,
}

impl Popularity {
    fn new(count: usize, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let sum: f64 = weights.iter().sum();
        let mut part: Vec<f64> = weights.iter().map(|w| w / sum * count as f64).collect();
        let mut columns: Vec<(f32, u32)> = (0..count).map(|rank| (1.0, rank as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&rank| part[rank] < 1.0);
        while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
            small.pop();
            columns[s] = (part[s] as f32, l as u32);
            part[l] -= 1.0 - part[s];
            if part[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { columns }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        if self.columns.is_empty() {
            return 0;
        }
        let column = rng.usize(..self.columns.len());
        let (own, other) = self.columns[column];
        if rng.f32() < own { column } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_hand_are_singles_and_ranges() {
        let groups = Catalogue::parse_groups("0/3..5, 2/7").unwrap();
        let expected = [(0, 3), (0, 4), (0, 5), (2, 7)];
        assert_eq!(groups, expected.map(|(archive, group)| GroupId { archive, group }));
        for wrong in ["", "1", "300/1", "0/5..3", "0/x"] {
            assert!(Catalogue::parse_groups(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn popularity_follows_zipf() {
        let popularity = Popularity::new(1000, 1.0);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut drawn = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            drawn[popularity.draw(&mut rng)] += 1;
        }
        // The harmonic number of 1000 is 7.485: the first rank has 133,600 of a million.
        for (rank, expected) in [(0, 133_600.0), (1, 66_800.0), (9, 13_360.0)] {
            let ratio = f64::from(drawn[rank]) / expected;
            assert!((0.95..1.05).contains(&ratio), "rank {rank}: {ratio} of what Zipf says");
        }
    }
}
