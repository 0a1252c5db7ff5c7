//! What a client sends after OK: messages, all of one client as long as each other.

use super::{Class, GroupId};

/// The length of every message of a build 550 client after its handshake.
pub const MESSAGE_LEN: usize = 4;

/// The length of the longest messages there are.
pub const MESSAGE_LEN_MAX: usize = 10;

/// How long a client's messages are, and how a request stands in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Opcode, archive, group of two bytes.
    Four,
    /// Opcode, archive, group of four bytes: builds 701 to 913.
    Six,
    /// The same, then the build as two bytes, and two zeros: from 914 on.
    Ten,
}

impl Frame {
    /// In bytes.
    #[inline]
    #[must_use]
    pub const fn message_len(self) -> usize {
        match self {
            Self::Four => MESSAGE_LEN,
            Self::Six => 6,
            Self::Ten => MESSAGE_LEN_MAX,
        }
    }

    /// Whether groups of 65,536 and more can be asked for.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        !matches!(self, Self::Four)
    }
}

/// The opcodes that a client may send: a bit each for those below 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcodes(pub u64);

impl Opcodes {
    /// Those of build 550: 0 to 4, 6 and 7.
    pub const BUILD_550: Self = Self::of(&[0, 1, 2, 3, 4, 6, 7]);

    /// These.
    #[must_use]
    pub const fn of(opcodes: &[u8]) -> Self {
        let (mut bits, mut rest) = (0, opcodes);
        while let [opcode, later @ ..] = rest {
            bits |= 1 << (*opcode & 63);
            rest = later;
        }
        Self(bits)
    }

    /// Whether `opcode` is among them.
    #[inline]
    #[must_use]
    pub const fn has(self, opcode: u8) -> bool {
        opcode < 64 && self.0 >> opcode & 1 == 1
    }
}

/// One message of a client. Unknown payloads are accepted where the contract says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Opcodes 0 and 1: wants a group.
    Request(Class, GroupId),
    /// Opcodes 2 (logged in) and 3 (logged out): the player's state.
    LoggedIn(bool),
    /// Opcode 4: the key that responses are XORed with from here on; 0 turns it off.
    Rekey(u8),
    /// Opcode 6: sent once, right after OK.
    Connected,
    /// Opcode 7: the client goes; the server closes.
    Disconnect,
    /// Opcode 17, of some clients: nothing of the server's.
    Ignored,
}

/// An opcode that the protocol does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOpcode(pub u8);

impl Message {
    /// Reads one message of a build 550 client.
    ///
    /// # Errors
    /// The opcode is not one of the protocol's.
    #[inline]
    pub const fn parse(bytes: [u8; MESSAGE_LEN]) -> Result<Self, UnknownOpcode> {
        let [opcode, archive, high, low] = bytes;
        let whole = [opcode, archive, high, low, 0, 0, 0, 0, 0, 0];
        Self::read(Frame::Four, Opcodes::BUILD_550, whole)
    }

    /// Reads one message, which is as long as `frame` says; what is behind it is not looked at.
    ///
    /// # Errors
    /// The opcode is not among `opcodes`.
    #[inline]
    pub const fn read(
        frame: Frame,
        opcodes: Opcodes,
        bytes: [u8; MESSAGE_LEN_MAX],
    ) -> Result<Self, UnknownOpcode> {
        let [opcode, first, a, b, c, d, ..] = bytes;
        if !opcodes.has(opcode) {
            return Err(UnknownOpcode(opcode));
        }
        let group = match frame {
            Frame::Four => u32::from_be_bytes([0, 0, a, b]),
            Frame::Six | Frame::Ten => u32::from_be_bytes([a, b, c, d]),
        };
        // As it will wait, so that one beyond what is held is the same everywhere.
        let id = GroupId::from_word(GroupId { archive: first, group }.to_word());
        match opcode {
            0 | 32 => Ok(Self::Request(Class::Prefetch, id)),
            1 | 33 => Ok(Self::Request(Class::Urgent, id)),
            2 => Ok(Self::LoggedIn(true)),
            3 => Ok(Self::LoggedIn(false)),
            4 => Ok(Self::Rekey(first)),
            6 => Ok(Self::Connected),
            7 => Ok(Self::Disconnect),
            17 => Ok(Self::Ignored),
            other => Err(UnknownOpcode(other)),
        }
    }

    /// The message as the real client of build 550 writes it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; MESSAGE_LEN] {
        match self {
            Self::Request(class, id) => {
                let [_, _, high, low] = id.group.to_be_bytes();
                let opcode = match class {
                    Class::Prefetch => 0,
                    Class::Urgent => 1,
                };
                [opcode, id.archive, high, low]
            }
            Self::LoggedIn(true) => [2, 0, 0, 0],
            Self::LoggedIn(false) => [3, 0, 0, 0],
            Self::Rekey(key) => [4, key, 0, 0],
            Self::Connected => [6, 0, 0, 3],
            Self::Disconnect => [7, 0, 0, 0],
            Self::Ignored => [17, 0, 0, 0],
        }
    }

    /// Appends the message as the client writes it that sends these opcodes in such frames;
    /// `connected` is what its opcode 6 says, and `build` stands in frames of ten bytes.
    pub fn write(
        self,
        frame: Frame,
        opcodes: Opcodes,
        connected: u32,
        build: u16,
        out: &mut Vec<u8>,
    ) {
        let [opcode, first, high, low] = self.to_bytes();
        let (opcode, argument) = match self {
            Self::Request(_, id) if frame.is_wide() => {
                // A client that has opcodes of its own for this uses them.
                let young = opcode.saturating_add(32);
                let opcode = if opcodes.has(young) { young } else { opcode };
                let [a, b, c, d] = id.group.to_be_bytes();
                (opcode, [first, a, b, c, d])
            }
            Self::Connected => {
                let [_, a, b, c] = connected.to_be_bytes();
                (opcode, [a, b, c, 0, 0])
            }
            _ => (opcode, [first, high, low, 0, 0]),
        };
        let [b0, b1] = build.to_be_bytes();
        let [a, b, c, d, e] = argument;
        let message = [opcode, a, b, c, d, e, b0, b1, 0, 0];
        out.extend_from_slice(message.get(..frame.message_len()).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::GROUP_BEYOND;

    #[test]
    fn each_opcode_means_what_the_contract_says() {
        let id = GroupId { archive: 0xAB, group: 0x1234 };
        let cases = [
            ([0, 0xAB, 0x12, 0x34], Ok(Message::Request(Class::Prefetch, id))),
            ([1, 0xAB, 0x12, 0x34], Ok(Message::Request(Class::Urgent, id))),
            ([2, 0, 0, 0], Ok(Message::LoggedIn(true))),
            ([3, 0, 0, 0], Ok(Message::LoggedIn(false))),
            ([4, 0x7F, 0, 0], Ok(Message::Rekey(0x7F))),
            ([6, 0, 0, 3], Ok(Message::Connected)),
            ([7, 0, 0, 0], Ok(Message::Disconnect)),
            ([5, 0, 0, 0], Err(UnknownOpcode(5))),
            ([8, 0, 0, 0], Err(UnknownOpcode(8))),
            ([255, 0, 0, 0], Err(UnknownOpcode(255))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Message::parse(bytes), expected);
            if let Ok(message) = expected {
                assert_eq!(message.to_bytes(), bytes, "{message:?} is written as the client does");
            }
        }
    }

    #[test]
    fn longer_frames_have_room_for_more_groups() {
        let request =
            |class, archive, group| Ok(Message::Request(class, GroupId { archive, group }));
        let nxt = Opcodes::of(&[0, 1, 2, 3, 4, 6, 7, 17, 32, 33]);
        let (six, ten) = (Frame::Six, Frame::Ten);
        let cases = [
            (six, [1, 7, 0, 1, 2, 3, 9, 9, 9, 9], request(Class::Urgent, 7, 0x0001_0203)),
            (six, [0, 7, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0], request(Class::Prefetch, 7, 65_535)),
            (ten, [33, 40, 0, 1, 0, 0, 3, 0x96, 0, 0], request(Class::Urgent, 40, 65_536)),
            (ten, [32, 255, 0, 0, 0, 255, 3, 0x96, 0, 0], request(Class::Prefetch, 255, 255)),
            // Beyond what is ever held: still a request, for a group that is not there.
            (six, [1, 7, 0x80, 0, 0, 0, 0, 0, 0, 0], request(Class::Urgent, 7, GROUP_BEYOND)),
            (six, [4, 0x5A, 0, 0, 0, 0, 0, 0, 0, 0], Ok(Message::Rekey(0x5A))),
            (ten, [6, 0, 0, 5, 0, 0, 3, 0x96, 0, 0], Ok(Message::Connected)),
            (ten, [17, 0, 0, 0, 0, 0, 0, 0, 0, 0], Ok(Message::Ignored)),
            (ten, [34, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err(UnknownOpcode(34))),
        ];
        for (frame, bytes, expected) in cases {
            assert_eq!(Message::read(frame, nxt, bytes), expected, "{bytes:?}");
        }
        let urgent = [33, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let refused = Message::read(six, Opcodes::BUILD_550, urgent);
        assert_eq!(refused, Err(UnknownOpcode(33)), "of a client that does not send it");
    }
}
