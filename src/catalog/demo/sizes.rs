//! How many groups the archives of a real cache have, and how large they are.
//!
//! Measured from a build 550 cache: 71,273 groups of 75 MB on disk, containers with their
//! version trailers. The quantiles say little of the largest twentieth of an archive, which
//! holds a good part of its bytes, so the curve there is fitted to the archive's total.
//! Only additions, multiplications and divisions: the same on every machine.

/// What was measured of one archive.
pub(super) struct Row {
    pub(super) archive: u8,
    pub(super) groups: u32,
    /// Of all its stored groups.
    pub(super) bytes: u32,
    /// How many groups are uncompressed, bzip2 and gzip.
    pub(super) kinds: [u32; 3],
    /// The stored length at each twentieth of the groups, from the smallest to the largest.
    pub(super) quantiles: [u32; 21],
}

/// The archives of the build 550 cache, but for archive 27, which is empty, and 255.
pub(super) const ROWS: [Row; 28] = [
    Row {
        archive: 0,
        groups: 2850,
        bytes: 6050047,
        kinds: [17, 730, 2103],
        quantiles: [
            10, 80, 104, 125, 150, 184, 224, 291, 366, 469, 582, 702, 877, 1101, 1434, 1899, 2506,
            3718, 5373, 9275, 52167,
        ],
    },
    Row {
        archive: 1,
        groups: 2537,
        bytes: 491664,
        kinds: [455, 11, 2071],
        quantiles: [
            14, 22, 32, 42, 51, 58, 65, 71, 79, 88, 100, 114, 133, 160, 190, 224, 278, 351, 492,
            712, 2180,
        ],
    },
    Row {
        archive: 2,
        groups: 24,
        bytes: 27731,
        kinds: [3, 7, 14],
        quantiles: [
            8, 8, 18, 39, 41, 43, 44, 45, 47, 50, 56, 57, 113, 213, 386, 392, 879, 1556, 4147,
            8919, 9137,
        ],
    },
    Row {
        archive: 3,
        groups: 821,
        bytes: 471239,
        kinds: [2, 76, 743],
        quantiles: [
            40, 75, 107, 139, 166, 202, 224, 257, 308, 353, 423, 468, 558, 605, 685, 760, 840,
            1001, 1206, 1486, 8661,
        ],
    },
    Row {
        archive: 4,
        groups: 6750,
        bytes: 1397139,
        kinds: [63, 0, 6687],
        quantiles: [
            21, 106, 117, 125, 134, 142, 149, 157, 165, 174, 185, 194, 206, 217, 231, 245, 264,
            288, 322, 374, 1021,
        ],
    },
    Row {
        archive: 5,
        groups: 3775,
        bytes: 6326667,
        kinds: [0, 0, 3775],
        quantiles: [
            31, 32, 32, 32, 53, 78, 103, 170, 352, 678, 1008, 1343, 1690, 2144, 2546, 3000, 3449,
            3920, 4408, 5144, 9373,
        ],
    },
    Row {
        archive: 6,
        groups: 668,
        bytes: 3745839,
        kinds: [0, 0, 668],
        quantiles: [
            55, 1066, 1816, 2250, 2619, 3023, 3378, 3738, 4161, 4499, 4932, 5243, 5718, 6491, 7043,
            7591, 8268, 8806, 9786, 11488, 54266,
        ],
    },
    Row {
        archive: 7,
        groups: 47346,
        bytes: 49122642,
        kinds: [0, 0, 47346],
        quantiles: [
            34, 141, 199, 257, 310, 365, 419, 478, 536, 597, 666, 747, 842, 953, 1070, 1212, 1398,
            1668, 2157, 3547, 14195,
        ],
    },
    Row {
        archive: 8,
        groups: 1812,
        bytes: 1579956,
        kinds: [77, 134, 1601],
        quantiles: [
            30, 64, 89, 110, 135, 149, 165, 180, 196, 216, 232, 259, 298, 332, 382, 453, 557, 688,
            933, 2548, 205221,
        ],
    },
    Row {
        archive: 9,
        groups: 690,
        bytes: 80005,
        kinds: [375, 0, 315],
        quantiles: [
            31, 38, 38, 42, 61, 70, 74, 76, 81, 86, 93, 110, 121, 134, 146, 160, 170, 185, 209,
            244, 463,
        ],
    },
    Row {
        archive: 10,
        groups: 1,
        bytes: 121,
        kinds: [0, 0, 1],
        quantiles: [
            121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121, 121,
            121, 121, 121, 121,
        ],
    },
    Row {
        archive: 11,
        groups: 390,
        bytes: 362814,
        kinds: [0, 0, 390],
        quantiles: [
            50, 164, 275, 308, 350, 394, 445, 481, 539, 580, 651, 696, 756, 807, 893, 1042, 1137,
            1439, 1823, 3133, 8430,
        ],
    },
    Row {
        archive: 12,
        groups: 2442,
        bytes: 440303,
        kinds: [0, 0, 2442],
        quantiles: [
            44, 52, 53, 53, 58, 61, 65, 68, 76, 83, 89, 99, 110, 121, 137, 161, 184, 223, 296, 438,
            9695,
        ],
    },
    Row {
        archive: 13,
        groups: 18,
        bytes: 2277,
        kinds: [0, 3, 15],
        quantiles: [
            54, 70, 83, 102, 102, 112, 120, 131, 134, 134, 134, 136, 136, 138, 141, 145, 146, 146,
            164, 164, 167,
        ],
    },
    Row {
        archive: 14,
        groups: 484,
        bytes: 2326522,
        kinds: [222, 0, 262],
        quantiles: [
            278, 1029, 1413, 1779, 2105, 2408, 2674, 3010, 3224, 3436, 3720, 4000, 4388, 5008,
            5665, 6496, 7580, 8673, 10046, 11784, 17306,
        ],
    },
    Row {
        archive: 15,
        groups: 148,
        bytes: 14800,
        kinds: [0, 0, 148],
        quantiles: [
            46, 53, 57, 59, 60, 64, 66, 67, 69, 71, 72, 74, 75, 77, 80, 82, 87, 95, 108, 487, 535,
        ],
    },
    Row {
        archive: 16,
        groups: 171,
        bytes: 467146,
        kinds: [0, 0, 171],
        quantiles: [
            1196, 1847, 2068, 2231, 2365, 2459, 2527, 2596, 2677, 2711, 2765, 2837, 2923, 2943,
            3040, 3085, 3123, 3188, 3277, 3432, 4001,
        ],
    },
    Row {
        archive: 17,
        groups: 10,
        bytes: 77193,
        kinds: [0, 7, 3],
        quantiles: [
            226, 226, 1168, 1168, 2171, 2171, 2705, 2705, 4302, 4302, 4302, 4551, 4551, 5952, 5952,
            9029, 9029, 12867, 12867, 34222, 34222,
        ],
    },
    Row {
        archive: 18,
        groups: 69,
        bytes: 214409,
        kinds: [0, 3, 66],
        quantiles: [
            478, 1411, 2095, 2280, 2512, 2548, 2797, 2940, 3067, 3178, 3241, 3359, 3434, 3524,
            3653, 3741, 3752, 3866, 3883, 4485, 4941,
        ],
    },
    Row {
        archive: 19,
        groups: 59,
        bytes: 231694,
        kinds: [0, 3, 56],
        quantiles: [
            1199, 2532, 2998, 3063, 3166, 3317, 3438, 3548, 3715, 3765, 3923, 4003, 4103, 4209,
            4331, 4590, 4640, 4813, 5047, 5411, 6497,
        ],
    },
    Row {
        archive: 20,
        groups: 93,
        bytes: 445557,
        kinds: [0, 59, 34],
        quantiles: [
            883, 2397, 2705, 2866, 2981, 3120, 3226, 3539, 3711, 3964, 4583, 4963, 5301, 5648,
            5815, 6409, 6632, 6942, 7468, 8300, 9918,
        ],
    },
    Row {
        archive: 21,
        groups: 9,
        bytes: 14004,
        kinds: [1, 0, 8],
        quantiles: [
            45, 45, 1462, 1462, 1487, 1487, 1487, 1682, 1682, 1767, 1767, 1767, 1812, 1812, 1867,
            1867, 1867, 1898, 1898, 1984, 1984,
        ],
    },
    Row {
        archive: 22,
        groups: 7,
        bytes: 13093,
        kinds: [0, 7, 0],
        quantiles: [
            403, 403, 2012, 2012, 2012, 2017, 2017, 2017, 2017, 2070, 2070, 2070, 2160, 2160, 2160,
            2160, 2208, 2208, 2208, 2223, 2223,
        ],
    },
    Row {
        archive: 23,
        groups: 64,
        bytes: 711357,
        kinds: [14, 33, 17],
        quantiles: [
            14, 41, 52, 63, 74, 99, 106, 118, 167, 197, 1986, 2622, 3098, 3389, 4440, 4945, 5534,
            8307, 10166, 14570, 509786,
        ],
    },
    Row {
        archive: 24,
        groups: 2,
        bytes: 13927,
        kinds: [0, 2, 0],
        quantiles: [
            3971, 3971, 3971, 3971, 3971, 3971, 3971, 3971, 3971, 3971, 3971, 9956, 9956, 9956,
            9956, 9956, 9956, 9956, 9956, 9956, 9956,
        ],
    },
    Row {
        archive: 25,
        groups: 2,
        bytes: 1185,
        kinds: [0, 1, 1],
        quantiles: [
            373, 373, 373, 373, 373, 373, 373, 373, 373, 373, 373, 812, 812, 812, 812, 812, 812,
            812, 812, 812, 812,
        ],
    },
    Row {
        archive: 26,
        groups: 1,
        bytes: 1764,
        kinds: [0, 0, 1],
        quantiles: [
            1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764, 1764,
            1764, 1764, 1764, 1764, 1764, 1764, 1764,
        ],
    },
    Row {
        archive: 28,
        groups: 1,
        bytes: 21,
        kinds: [1, 0, 0],
        quantiles: [
            21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21, 21,
        ],
    },
];

/// An empty archive: it has an index, and no group.
pub(super) const ARCHIVE_EMPTY: u8 = 27;

/// The curve through a [`Row`]'s quantiles.
pub(super) struct Curve<'a> {
    row: &'a Row,
    /// The last twentieth rises as (1 - mix) * t^power + mix * t^(power + 1), t from 0 to 1.
    power: u32,
    mix: f64,
}

impl<'a> Curve<'a> {
    /// The curve on which the lengths of all the row's groups add up to its bytes, or as near
    /// to that as its quantiles allow.
    pub(super) fn new(row: &'a Row) -> Self {
        // The mean height of the last twentieth over its width, from flat to steep.
        let (mut low, mut high) = (0.005, 1.0);
        let (tail, below): (Vec<f64>, Vec<f64>) = ranks(row.groups).partition(|&at| at >= 0.95);
        let start = Self::with_height(row, high);
        let below: u32 = below.into_iter().map(|rank| start.length(rank)).sum();
        for _ in 0..24 {
            let curve = Self::with_height(row, (low + high) / 2.0);
            // The largest group is certain.
            let others = tail.split_last().map_or(&[][..], |(_, others)| others);
            let tail: u32 = others.iter().map(|&rank| curve.length(rank)).sum();
            if below + tail + row.quantiles[20] < row.bytes {
                low = (low + high) / 2.0;
            } else {
                high = (low + high) / 2.0;
            }
        }
        Self::with_height(row, (low + high) / 2.0)
    }

    /// The mean of t^power is 1 / (power + 1); the mix makes any mean of that.
    fn with_height(row: &'a Row, height: f64) -> Self {
        let power = (1.0 / height - 1.0) as u32;
        let (this, next) = (1.0 / f64::from(power + 1), 1.0 / f64::from(power + 2));
        Self { row, power, mix: (this - height) / (this - next) }
    }

    /// The lengths of `count` groups of the archive, from small to large.
    pub(super) fn lengths(&self, count: u32) -> Vec<u32> {
        let mut lengths: Vec<u32> = ranks(count).map(|rank| self.length(rank)).collect();
        if let Some(largest) = lengths.last_mut().filter(|_| count == self.row.groups) {
            *largest = self.row.quantiles[20];
        }
        lengths
    }

    /// The length below which the part `rank` (0 to 1) of all groups is.
    fn length(&self, rank: f64) -> u32 {
        let at = ((rank * 20.0) as usize).min(19);
        let mut t = rank * 20.0 - at as f64;
        if at == 19 {
            let low = (0..self.power).fold(1.0, |product, _| product * t);
            t = (1.0 - self.mix) * low + self.mix * low * t;
        }
        let [from, to] = [at, at + 1].map(|at| f64::from(self.row.quantiles[at]));
        (from + (to - from) * t + 0.5) as u32
    }
}

/// The middles of `count` equal parts of 0 to 1.
fn ranks(count: u32) -> impl Iterator<Item = f64> {
    (0..count).map(move |at| (f64::from(at) + 0.5) / f64::from(count))
}

/// How many groups each row gets when there are `count` in all: one at least, the rest in
/// proportion. `count` is at least the number of rows.
pub(super) fn shares(count: u32) -> [u32; ROWS.len()] {
    let rows = ROWS.len() as u64;
    let all: u64 = ROWS.iter().map(|row| u64::from(row.groups) - 1).sum();
    let spread = u64::from(count).saturating_sub(rows).min(all);
    let (mut before, mut given) = (0, 0);
    ROWS.each_ref().map(|row| {
        before += u64::from(row.groups) - 1;
        let until = before * spread / all;
        let share = 1 + until - given;
        given = until;
        share as u32
    })
}
