//! The wire by the words of docs/protocol.md and docs/clients.md, one byte at a time: what the
//! rows compare with.
//!
//! Shares no code with `js5d::protocol`, on purpose; slow, on purpose.

use fastrand::Rng;
use js5d::protocol::Dialect;
use js5d::protocol::frame::Framing;
use js5d::protocol::master_index::MasterFormat;
use js5d::protocol::profile::{Profile, table};
use std::ops::RangeInclusive;

/// How a client opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The build, in four bytes.
    Plain,
    /// And 16 bytes behind it.
    Keyed,
    /// A length, the build and a token, and a language or none.
    Prefixed { has_language: Option<bool> },
}

/// Which responses to prefetch requests carry the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bit {
    Never,
    Always,
    /// Those to clients whose first message is opcode 6.
    IfOpcode6First,
}

/// What the clients of a revision say and read.
#[derive(Clone, Debug)]
pub(super) struct Tongue {
    /// The profile's name.
    pub(super) name: &'static str,
    pub(super) builds: RangeInclusive<u32>,
    pub(super) opening: Opening,
    /// Integers behind status 0, each 1.
    pub(super) ints: usize,
    pub(super) message_len: usize,
    pub(super) opcodes: &'static [u8],
    pub(super) framing: Framing,
    pub(super) bit: Bit,
    pub(super) master: MasterFormat,
}

const OPCODES: &[u8] = &[0, 1, 2, 3, 4, 6, 7];

/// Build 550, which the others are told from.
pub(super) const BUILD_550: Tongue = Tongue {
    name: "rs2-530",
    builds: 530..=632,
    opening: Opening::Plain,
    ints: 0,
    message_len: 4,
    opcodes: OPCODES,
    framing: Framing::Marked3,
    bit: Bit::Always,
    master: MasterFormat::Versioned,
};

/// One of each framing, of each length of message, of each opening and of each way with the bit.
pub(super) const TONGUES: [Tongue; 6] = [
    BUILD_550,
    Tongue { name: "rs2-474", builds: 461..=507, bit: Bit::IfOpcode6First, ..BUILD_550 },
    Tongue {
        name: "osrs-223",
        builds: 223..=399,
        opening: Opening::Keyed,
        bit: Bit::Never,
        ..BUILD_550
    },
    Tongue {
        name: "rs2-718",
        builds: 701..=741,
        opening: Opening::Prefixed { has_language: Some(false) },
        ints: 27,
        message_len: 6,
        framing: Framing::Marked5,
        master: MasterFormat::Digests,
        ..BUILD_550
    },
    Tongue {
        name: "rs3-831",
        builds: 831..=875,
        opening: Opening::Prefixed { has_language: None },
        ints: 25,
        message_len: 6,
        framing: Framing::Multi512,
        master: MasterFormat::Lengths,
        ..BUILD_550
    },
    Tongue {
        name: "nxt-926",
        builds: 926..=u32::MAX,
        opening: Opening::Prefixed { has_language: Some(true) },
        message_len: 10,
        opcodes: &[0, 1, 2, 3, 4, 6, 7, 17, 32, 33],
        framing: Framing::Multi102400,
        master: MasterFormat::Lengths,
        ..BUILD_550
    },
];

impl Tongue {
    /// What js5d has of it, and the build that a client announces.
    pub(super) fn profile(&self) -> (Profile, u32) {
        table::client(self.name).expect("a profile of js5d's table")
    }

    pub(super) fn dialect(&self) -> Dialect {
        Dialect { framing: self.framing, master: self.master }
    }

    /// Whether groups of 65,536 and more can be asked for.
    pub(super) fn is_wide(&self) -> bool {
        self.message_len > 4
    }
}

/// A response as it goes out: header, container with the prefetch bit, markers or headers, key.
pub(super) fn response_in(
    framing: Framing,
    id: (u8, u32),
    container: &[u8],
    prefetch_bit: bool,
    key: u8,
) -> Vec<u8> {
    // How many bytes the group has in a header, how long a block is, and whether the header
    // comes again before each.
    let (group_len, block_len, again) = match framing {
        Framing::Marked3 => (2, 512, false),
        Framing::Marked5 => (4, 512, false),
        Framing::Multi512 => (4, 512, true),
        Framing::Multi102400 => (4, 102_400, true),
    };
    let (in_group, in_type) = (prefetch_bit && again, prefetch_bit && !again);
    let group = if in_group { id.1 | 0x8000_0000 } else { id.1 };
    let header = [&[id.0], &group.to_be_bytes()[4 - group_len..]].concat();
    let mut wire = header.clone();
    for (place, &byte) in container.iter().enumerate() {
        if wire.len() % block_len == 0 {
            wire.extend(if again { &header[..] } else { &[0xFF] });
        }
        wire.push(byte | if place == 0 && in_type { 0x80 } else { 0 });
    }
    wire.iter_mut().for_each(|byte| *byte ^= key);
    wire
}

/// A container of exactly `len` bytes, whose type and length are right if there is room for a
/// header. What follows them is at random, as if it were encrypted.
pub(super) fn container(len: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    let compression = if len < 9 { 0 } else { rng.u8(0..4) };
    let header_len = if compression == 0 { 5 } else { 9 };
    if len >= header_len {
        bytes[0] = compression;
        let data_len = u32::try_from(len - header_len).expect("small");
        bytes[1..5].copy_from_slice(&data_len.to_be_bytes());
    }
    bytes
}

/// The name of a group in a message.
pub(super) fn name(id: (u8, u32)) -> js5d::protocol::GroupId {
    js5d::protocol::GroupId { archive: id.0, group: id.1 }
}

/// A length below `max`, small ones as likely as large ones; at least 1.
pub(super) fn any_scale(rng: &mut Rng, max: usize) -> usize {
    let bits = max.next_power_of_two().trailing_zeros();
    let scale = 1 << rng.u32(0..=bits);
    rng.usize(1..=scale).min(max)
}
