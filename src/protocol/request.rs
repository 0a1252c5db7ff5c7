//! What a client sends after OK: messages of four bytes.

use super::{Class, GroupId};

/// The length of every message after the handshake.
pub const MESSAGE_LEN: usize = 4;

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
}

/// An opcode that the protocol does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOpcode(pub u8);

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// The opcode is not one of the protocol's.
    #[inline]
    pub const fn parse(bytes: [u8; MESSAGE_LEN]) -> Result<Self, UnknownOpcode> {
        let [opcode, first, second, third] = bytes;
        let id = GroupId { archive: first, group: u16::from_be_bytes([second, third]) };
        match opcode {
            0 => Ok(Self::Request(Class::Prefetch, id)),
            1 => Ok(Self::Request(Class::Urgent, id)),
            2 => Ok(Self::LoggedIn(true)),
            3 => Ok(Self::LoggedIn(false)),
            4 => Ok(Self::Rekey(first)),
            6 => Ok(Self::Connected),
            7 => Ok(Self::Disconnect),
            other => Err(UnknownOpcode(other)),
        }
    }

    /// The message as the real client writes it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; MESSAGE_LEN] {
        match self {
            Self::Request(class, id) => {
                let [high, low] = id.group.to_be_bytes();
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
