//! What is served in the simulation, and what its responses must be, byte by byte.
//!
//! The expected bytes are written here by the protocol's words, a byte at a time, with nothing of
//! the server's framing, so that an error there shows as a difference.

use crate::catalog::{Snapshot, SnapshotBuilder, SnapshotHandle};
use crate::protocol::frame::{Framing, PREFETCH_BIT};
use crate::protocol::master_index::MasterFormat;
use crate::protocol::session::Dialect;
use crate::protocol::{ARCHIVE_INDEXES, GroupId, MASTER_INDEX};
use std::sync::{Arc, OnceLock};

/// Lengths of the containers of archive 1, by group: around a block's end and the length that is
/// copied, of several batches of a slow peer's, and of several of anybody's.
const LENS: [usize; 20] = [
    5, 9, 300, 507, 509, 510, 1020, 1021, 2040, 2045, 2050, 3000, 6500, 9000, 15_000, 30_000,
    60_000, 102_395, 140_000, 300_000,
];

/// Lengths of the containers of archive 255.
const INDEX_LENS: [usize; 3] = [700, 2600, 25_000];

/// Catalogs that take turns. Each has other bytes, other lengths, and lacks other groups.
pub(super) const GENERATIONS: usize = 3;

/// A group that no catalog has.
const NOWHERE: GroupId = GroupId { archive: 7, group: 40_000 };

const SLOTS: usize = LENS.len() + INDEX_LENS.len();

/// All generations, and what comes out of them.
pub(super) struct Catalog {
    pub(super) snapshots: Vec<Arc<Snapshot>>,
    /// By generation, framing and prefetch bit: responses by slot, the master indexes behind.
    wire: Vec<[[Vec<Vec<u8>>; 2]; Framing::ALL.len()]>,
}

/// The one that all runs share: making it takes longer than a hundred of them.
pub(super) fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(Catalog::new)
}

impl Catalog {
    fn new() -> Self {
        let handle = SnapshotHandle::new(snapshot(0));
        let mut snapshots = vec![handle.load()];
        for generation in 1..GENERATIONS {
            handle.swap(snapshot(generation));
            snapshots.push(handle.load());
        }
        let responses = |generation, framing, bit| {
            let groups = (0..SLOTS).map(|slot| (id_of(slot), container(generation, slot)));
            let masters = (0..MasterFormat::ALL.len())
                .map(|number| (MASTER_INDEX, Some(master(generation, number))));
            groups
                .chain(masters)
                .map(|(id, container)| match container {
                    Some(container) => response(framing, id, &container, bit),
                    None => Vec::new(),
                })
                .collect()
        };
        let by_framing = |generation| {
            Framing::ALL.map(|framing| [false, true].map(|bit| responses(generation, framing, bit)))
        };
        Self { snapshots, wire: (0..GENERATIONS).map(by_framing).collect() }
    }

    /// The unkeyed response to a request for `id`; none if that generation has no such group.
    pub(super) fn response(
        &self,
        generation: usize,
        dialect: Dialect,
        id: GroupId,
        bit: bool,
    ) -> Option<&[u8]> {
        let slot = match id {
            MASTER_INDEX => SLOTS + dialect.master.number(),
            GroupId { archive: 1, group } => group as usize,
            GroupId { archive: ARCHIVE_INDEXES, group } => LENS.len() + group as usize,
            _ => return None,
        };
        let by_slot = &self.wire[generation][dialect.framing.number()][usize::from(bit)];
        by_slot.get(slot).map(Vec::as_slice).filter(|wire| !wire.is_empty())
    }
}

/// A random group: mostly small ones, as in any cache; sometimes one that the catalog lacks.
pub(super) fn any_group(rng: &mut fastrand::Rng, large_percent: u8) -> GroupId {
    if rng.u8(..100) < large_percent {
        // The largest are the rarest.
        let end = LENS.len() - rng.usize(..4);
        return id_of(rng.usize(12..end));
    }
    match rng.u8(..40) {
        0 => NOWHERE,
        1 => MASTER_INDEX,
        2..5 => id_of(rng.usize(LENS.len()..SLOTS)),
        _ => id_of(rng.usize(..12)),
    }
}

fn id_of(slot: usize) -> GroupId {
    match slot.checked_sub(LENS.len()) {
        None => GroupId { archive: 1, group: slot as u32 },
        Some(group) => GroupId { archive: ARCHIVE_INDEXES, group: group as u32 },
    }
}

fn container(generation: usize, slot: usize) -> Option<Vec<u8>> {
    let lens = LENS.iter().chain(&INDEX_LENS);
    let len = lens.copied().nth(slot).expect("a slot");
    let is_there = slot != 3 + generation;
    is_there.then(|| bytes(len + generation * 3, generation * 100 + slot))
}

fn master(generation: usize, format: usize) -> Vec<u8> {
    bytes(150 + format * 211, generation * 100 + 90 + format)
}

/// A container whose every block differs from those of all others. Its first byte is a compression
/// type.
fn bytes(len: usize, number: usize) -> Vec<u8> {
    let byte = |at: usize| (at * 31 + at / 509 * 7 + number * 13) as u8;
    (0..len).map(|at| if at == 0 { number as u8 % 4 } else { byte(at) }).collect()
}

/// The protocol's words: a header, and what each later block begins with.
fn response(framing: Framing, id: GroupId, container: &[u8], bit: bool) -> Vec<u8> {
    let [a, b, c, d] = id.group.to_be_bytes();
    let wide = [id.archive, if bit { a | 0x80 } else { a }, b, c, d];
    let narrow = [id.archive, c, d];
    let (header, lead, block_len): (&[u8], &[u8], usize) = match framing {
        Framing::Marked3 => (&narrow, &[0xFF], 512),
        Framing::Marked5 => (&[id.archive, a, b, c, d], &[0xFF], 512),
        Framing::Multi512 => (&wide, &wide, 512),
        Framing::Multi102400 => (&wide, &wide, 102_400),
    };
    let mut wire = header.to_vec();
    for (at, &byte) in container.iter().enumerate() {
        if wire.len() % block_len == 0 {
            wire.extend(lead);
        }
        let marked = at == 0 && bit && !framing.is_multi();
        wire.push(if marked { byte | PREFETCH_BIT } else { byte });
    }
    wire
}

fn snapshot(generation: usize) -> Snapshot {
    let framings = Framing::ALL.map(|framing| (framing, 1 << 20));
    let mut builder = SnapshotBuilder::with_framings(SLOTS + 4, &framings).expect("small");
    for slot in 0..SLOTS {
        let Some(container) = container(generation, slot) else { continue };
        let room = builder.allocate(id_of(slot), container.len()).expect("room");
        builder.place(room, 0, &container);
        builder.publish(id_of(slot), room);
    }
    for format in MasterFormat::ALL {
        assert!(builder.add_master(format, &master(generation, format.number())), "room");
    }
    builder.seal().expect("sealed")
}
