//! Four generations of a small cache: the same names mostly, other bytes.
//!
//! The snapshots are real ones of every framing, filled as the catalog fills them; the containers
//! are kept beside them for the model, which frames them itself.

use super::super::wire;
use fastrand::Rng;
use js5d::catalog::{Snapshot, SnapshotBuilder};
use js5d::net::batch::SnapshotRef;
use js5d::protocol::frame::Framing;
use js5d::protocol::master_index::MasterFormat;
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
    containers: HashMap<Id, Vec<u8>>,
    /// The same framed by the slow model, with the prefetch bit and without.
    framed: HashMap<(Framing, bool, Id), Vec<u8>>,
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
        self.generations[generation].containers.get(&id).map(|container| &container[..])
    }

    /// The unkeyed response as the slow model frames it, with or without the prefetch bit.
    pub(super) fn framed(
        &self,
        generation: usize,
        framing: Framing,
        bit: bool,
        id: Id,
    ) -> Option<&[u8]> {
        self.generations[generation].framed.get(&(framing, bit, id)).map(|framed| &framed[..])
    }

    /// A group that a generation holds, mostly a small one.
    pub(crate) fn any_present(&self, generation: usize, wide: bool, rng: &mut Rng) -> Id {
        let small = rng.u8(..) > 1;
        self.pick(generation, !small, wide, rng)
    }

    /// Of a narrow client's groups, those that it cannot ask for are left out.
    fn pick(&self, generation: usize, large: bool, wide: bool, rng: &mut Rng) -> Id {
        let ids = &self.generations[generation].ids;
        loop {
            let id = ids[rng.usize(..if large { ids.len() } else { LENGTHS_SMALL })];
            if wide || id.1 <= 0xFFFF {
                return id;
            }
        }
    }

    /// A group that all or none of the generations hold; a small one, unless large ones, too,
    /// are wanted.
    pub(super) fn any(&self, large: bool, wide: bool, rng: &mut Rng) -> Id {
        match rng.u8(..25) {
            0 => (rng.u8(..4), rng.u32(..if wide { 1 << 24 } else { 1 << 16 })),
            _ if large => self.any_present(0, wide, rng),
            _ => self.pick(0, false, wide, rng),
        }
    }
}

fn generation(rng: &mut Rng) -> Generation {
    let room = |framing: Framing| {
        (framing, LENGTHS.iter().map(|len| framing.framed_len(*len) as u64).sum())
    };
    let mut builder =
        SnapshotBuilder::with_framings(LENGTHS.len(), &Framing::ALL.map(room)).expect("small");
    let (mut containers, mut framed) = (HashMap::new(), HashMap::new());
    let mut ids = Vec::new();
    for (index, &len) in LENGTHS.iter().enumerate() {
        let group = u32::try_from(index * 37 % 1000).expect("small");
        let id = match index {
            7 => (255, 255),
            // Beyond what a header of three bytes has room for.
            11 | 24 => (2, 65_536 + group),
            _ => ([0, 1, 40, 255][index % 4], group),
        };
        let container = wire::container(len, rng);
        if id == (255, 255) {
            for format in MasterFormat::ALL {
                assert!(builder.add_master(format, &container), "room was reckoned");
            }
        } else {
            let at = builder.allocate(wire::name(id), len).expect("room was reckoned");
            builder.place(at, 0, &container);
            builder.publish(wire::name(id), at);
        }
        for framing in Framing::ALL {
            for bit in [false, true] {
                let response = wire::response_in(framing, id, &container, bit, 0);
                framed.insert((framing, bit, id), response);
            }
        }
        containers.insert(id, container);
        ids.push(id);
    }
    let snapshot = Arc::new(builder.seal().expect("sealed"));
    Generation { snapshot, containers, framed, ids }
}
