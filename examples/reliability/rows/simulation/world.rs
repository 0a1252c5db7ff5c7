//! Four generations of a small cache: the same names mostly, other bytes.
//!
//! The snapshots are real ones, filled as the catalog fills them; the containers are kept beside
//! them for the model, which frames them itself.

use super::super::wire;
use fastrand::Rng;
use js5d::catalog::{Snapshot, SnapshotBuilder};
use js5d::net::batch::SnapshotRef;
use js5d::protocol::frame::{framed_len, place};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A group by its two numbers.
pub(crate) type Id = (u8, u32);

/// Generations that follow one another, the first after the last.
pub(super) const GENERATIONS: usize = 4;

/// Container lengths: edges of blocks, of what is copied, of the scratch buffer and of a send.
const LENGTHS: [usize; 28] = [
    5, 6, 9, 100, 300, 508, 509, 510, 511, 512, 700, 900, 1019, 1020, 1021, 1022, 1500, 2040, 2041,
    2042, 2043, 2044, 3000, 6000, 17_000, 66_000, 70_000, 300_000,
];

/// The first so many lengths are asked for mostly; the others cost time.
const LENGTHS_SMALL: usize = 23;

/// One generation.
struct Generation {
    snapshot: Arc<Snapshot>,
    /// Containers, and the same framed by the slow model.
    containers: HashMap<Id, (Vec<u8>, Vec<u8>)>,
    /// By index in [`LENGTHS`], those that it holds.
    ids: Vec<Id>,
}

/// All generations.
pub(crate) struct World {
    generations: Vec<Generation>,
}

impl World {
    /// Always the same.
    pub(crate) fn new() -> Self {
        let mut rng = Rng::with_seed(0x4A53_3521);
        Self { generations: (0..GENERATIONS).map(|_| generation(&mut rng)).collect() }
    }

    pub(crate) fn snapshot(&self, generation: usize) -> SnapshotRef {
        Rc::new(Arc::clone(&self.generations[generation].snapshot))
    }

    pub(crate) fn container(&self, generation: usize, id: Id) -> Option<&[u8]> {
        self.generations[generation].containers.get(&id).map(|(container, _)| &container[..])
    }

    /// The urgent, unkeyed response, as the slow model frames it.
    pub(super) fn framed(&self, generation: usize, id: Id) -> Option<&[u8]> {
        self.generations[generation].containers.get(&id).map(|(_, framed)| &framed[..])
    }

    /// A group that a generation holds.
    pub(crate) fn any_present(&self, generation: usize, rng: &mut Rng) -> Id {
        let ids = &self.generations[generation].ids;
        let small = rng.u8(..) > 1;
        ids[rng.usize(..if small { LENGTHS_SMALL } else { ids.len() })]
    }

    /// A group that all or none of the generations hold; a small one, unless large ones, too,
    /// are wanted.
    pub(super) fn any(&self, large: bool, rng: &mut Rng) -> Id {
        match rng.u8(..25) {
            0 => (rng.u8(..4), rng.u32(..65_536)),
            _ if large => self.any_present(0, rng),
            _ => self.generations[0].ids[rng.usize(..LENGTHS_SMALL)],
        }
    }
}

fn generation(rng: &mut Rng) -> Generation {
    let framed = LENGTHS.iter().map(|len| framed_len(*len) as u64).sum();
    let mut builder = SnapshotBuilder::new(LENGTHS.len(), framed).expect("small");
    let mut containers = HashMap::new();
    let mut ids = Vec::new();
    for (index, &len) in LENGTHS.iter().enumerate() {
        let group = u32::try_from(index * 37 % 1000).expect("small");
        let id = if index == 7 { (255, 255) } else { ([0, 1, 40, 255][index % 4], group) };
        let container = wire::container(len, rng);
        let at = builder.allocate(wire::name(id), len).expect("room was reckoned");
        place(builder.framed_mut(at), 0, &container);
        builder.publish(wire::name(id), at);
        let framed = wire::response(id, &container, false, 0);
        containers.insert(id, (container, framed));
        ids.push(id);
    }
    let snapshot = Arc::new(builder.seal().expect("sealed"));
    Generation { snapshot, containers, ids }
}
