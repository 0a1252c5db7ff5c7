//! What a game server compares at login: the checksum of each archive index.
//!
//! Computed from what is served, so that it holds for any format of the master index.

use super::snapshot::Snapshot;
use crate::protocol::{ARCHIVE_INDEXES, GroupId, frame};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The order, in words, for those who read the numbers.
const ORDER: &str = "CRC-32 of the container of each archive index (group 255/ARCHIVE), \
                     from archive 0 on; 0: no such archive";

/// The checksums of a snapshot's archive indexes, from archive 0 to the highest present; 0 for
/// an archive that is absent, as in the master index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crcs {
    generation: u64,
    crcs: Vec<u32>,
}

impl Crcs {
    /// Those of `snapshot`.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut crcs = Vec::new();
        for archive in 0..ARCHIVE_INDEXES {
            let id = GroupId { archive: ARCHIVE_INDEXES, group: archive.into() };
            if let Some(response) = snapshot.response(id) {
                let mut hasher = crc32fast::Hasher::new();
                frame::container_pieces(response).for_each(|piece| hasher.update(piece));
                crcs.resize(archive.into(), 0);
                crcs.push(hasher.finalize());
            }
        }
        Self { generation: snapshot.generation(), crcs }
    }

    /// From archive 0 on.
    #[must_use]
    pub fn values(&self) -> &[u32] {
        &self.crcs
    }

    /// A line an archive: its number, and the checksum as a signed, an unsigned and a hexadecimal
    /// number.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "# {ORDER}\n# generation {:016x}\n# archive      signed    unsigned       hex\n",
            self.generation
        );
        for (archive, &crc) in self.crcs.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{archive:9} {:11} {crc:11}  {crc:08x}", crc.cast_signed());
        }
        text
    }

    /// The same for programs: `signed` as Java's `int`, and `unsigned`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "order": ORDER,
            "generation": format!("{:016x}", self.generation),
            "signed": self.crcs.iter().map(|crc| crc.cast_signed()).collect::<Vec<_>>(),
            "unsigned": self.crcs,
        })
    }

    /// Four bytes a checksum, the high one first, as Java's `DataInputStream` reads an `int`.
    #[must_use]
    pub fn to_ints(&self) -> Vec<u8> {
        self.crcs.iter().flat_map(|crc| crc.to_be_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SnapshotBuilder;
    use crate::protocol::MASTER_INDEX;

    #[test]
    fn the_checksums_of_the_indexes_are_told_in_order_and_in_three_forms() {
        let mut builder = SnapshotBuilder::new(4, 100).expect("small");
        let id = |group| GroupId { archive: 255, group };
        for (id, byte) in [(id(0), 7), (id(2), 9), (MASTER_INDEX, 1)] {
            let at = builder.allocate(id, 6).expect("room");
            frame::place(builder.framed_mut(at), 0, &[0, 0, 0, 0, 1, byte]);
            builder.publish(id, at);
        }
        let crcs = Crcs::of(&builder.seal().expect("sealed"));
        // Python: zlib.crc32(bytes([0, 0, 0, 0, 1, 7])), and of 9.
        assert_eq!(crcs.values(), [CRC_7, 0, CRC_9]);
        let text = crcs.to_text();
        let line =
            |archive, crc: u32| format!("{archive:9} {:11} {crc:11}  {crc:08x}\n", crc as i32);
        assert!(text.ends_with(&[line(0, CRC_7), line(1, 0), line(2, CRC_9)].concat()), "{text}");
        let json = crcs.to_json();
        assert_eq!(json["unsigned"], json!([CRC_7, 0, CRC_9]));
        assert_eq!(json["signed"], json!([CRC_7 as i32, 0, CRC_9 as i32]));
        assert_eq!(crcs.to_ints(), [CRC_7, 0, CRC_9].map(u32::to_be_bytes).concat());
    }

    const CRC_7: u32 = 0x36bd0541;
    const CRC_9: u32 = 0xd1052846;
}
