//! A client of every revision, written from docs/clients.md alone: it shares no code with the
//! server, neither its table nor its framing.
//!
//! It is as strict as the real ones: it counts the integers behind the status, finds each response
//! by what that client looks at, and takes no byte that is not due.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What one build does on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) build: u32,
    /// A handshake with a length before it, and with this language behind it.
    prefixed: bool,
    language: Option<u8>,
    /// 16 bytes more behind a build without a length before it.
    key16: bool,
    ints: usize,
    frame: usize,
    /// What opcode 6 says, of those that send it.
    op6: Option<u32>,
    opcodes: [u8; 2],
    /// 3, 5, or 5 before each block.
    header: usize,
    each_block: bool,
    block: usize,
    /// The entries of its master index: 4, 8, 72 or 80 bytes.
    pub(crate) entry: usize,
}

const OLD: Row = Row {
    build: 0,
    prefixed: false,
    language: None,
    key16: false,
    ints: 0,
    frame: 4,
    op6: None,
    opcodes: [1, 0],
    header: 3,
    each_block: false,
    block: 512,
    entry: 8,
};
const NEW: Row = Row { op6: Some(3), ..OLD };
const LONG: Row = Row { prefixed: true, frame: 6, header: 5, entry: 72, ..NEW };
const YOUNG: Row =
    Row { each_block: true, block: 102_400, entry: 80, op6: Some(4), language: Some(0), ..LONG };
const NXT: Row = Row { frame: 10, op6: Some(5), opcodes: [33, 32], ..YOUNG };

/// A build of each row of the table, and both ends of those that are told apart by a number.
pub(crate) const ROWS: [Row; 20] = [
    Row { build: 1, ..OLD },
    Row { build: 222, ..OLD },
    Row { build: 223, key16: true, ..OLD },
    Row { build: 240, key16: true, ..OLD },
    Row { build: 435, entry: 4, ..OLD },
    Row { build: 474, ..OLD },
    Row { build: 508, ..OLD },
    Row { build: 530, ..NEW },
    Row { build: 550, ..NEW },
    Row { build: 602, ..NEW },
    Row { build: 634, ints: 27, entry: 72, ..NEW },
    Row { build: 667, ints: 27, entry: 72, ..NEW },
    Row { build: 718, ints: 27, ..LONG },
    Row { build: 727, ints: 27, ..LONG },
    Row { build: 742, ints: 26, ..LONG },
    Row { build: 831, ints: 25, block: 512, ..YOUNG },
    Row { build: 876, ints: 26, ..YOUNG },
    Row { build: 910, ints: 27, ..YOUNG },
    Row { build: 918, ints: 31, ..NXT },
    Row { build: 946, ints: 0, ..NXT },
];

impl Row {
    /// Whether its requests have room for groups of 65,536 and more.
    pub(crate) fn is_wide(&self) -> bool {
        self.frame > 4
    }

    /// A fork that reads another number of integers behind the status.
    pub(crate) fn with_ints(self, ints: usize) -> Self {
        Self { ints, ..self }
    }

    pub(crate) fn handshake(&self, token: &str) -> Vec<u8> {
        let mut bytes = vec![15];
        if self.prefixed {
            let language = usize::from(self.language.is_some());
            bytes.push((4 + 4 + token.len() + 1 + language) as u8);
            bytes.extend(self.build.to_be_bytes());
            bytes.extend([0, 0, 0, 1]);
            bytes.extend(token.bytes());
            bytes.push(0);
            bytes.extend(self.language);
        } else {
            bytes.extend(self.build.to_be_bytes());
            if self.key16 {
                bytes.extend([0xA5; 16]);
            }
        }
        bytes
    }

    fn message(&self, opcode: u8, rest: [u8; 5]) -> Vec<u8> {
        let mut bytes = vec![opcode];
        bytes.extend(&rest[..self.frame.min(6) - 1]);
        if self.frame == 10 {
            bytes.extend((self.build as u16).to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes
    }

    fn request(&self, urgent: bool, archive: u8, group: u32) -> Vec<u8> {
        let opcode = self.opcodes[usize::from(!urgent)];
        let [a, b, c, d] = group.to_be_bytes();
        if self.frame == 4 {
            return self.message(opcode, [archive, c, d, 0, 0]);
        }
        self.message(opcode, [archive, a, b, c, d])
    }
}

/// Urgent, archive, group.
pub(crate) type Asked = (bool, u8, u32);

/// A connection of such a client.
pub(crate) struct PlainClient {
    row: Row,
    stream: TcpStream,
    key: u8,
}

impl PlainClient {
    /// Shakes hands; the status, and the client if it is 0.
    pub(crate) fn connect(row: Row, address: SocketAddr, token: &str) -> (u8, Self) {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
        stream.write_all(&row.handshake(token)).expect("room");
        let mut status = [0];
        stream.read_exact(&mut status).expect("a status");
        let mut client = Self { row, stream, key: 0 };
        if status == [0] {
            let ints = client.read(row.ints * 4);
            assert_eq!(ints.len(), row.ints * 4);
        }
        (status[0], client)
    }

    /// What follows the status on each connect: 6, then 2 or 3, then 4 with a key.
    pub(crate) fn greet(&mut self, key: u8) {
        let mut out = Vec::new();
        if let Some(generation) = self.row.op6 {
            let [_, a, b, c] = generation.to_be_bytes();
            out.extend(self.row.message(6, [a, b, c, 0, 0]));
        }
        out.extend(self.row.message(3, [0; 5]));
        if key != 0 {
            out.extend(self.row.message(4, [key, 0, 0, 0, 0]));
        }
        self.key = key;
        self.stream.write_all(&out).expect("room");
    }

    /// Bytes that its socket takes in at most while nothing is read.
    pub(crate) fn take_in_little(&self) {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(64 << 10).expect("a socket");
    }

    /// Asks for all at once.
    pub(crate) fn ask(&mut self, asked: &[Asked]) {
        let requests: Vec<u8> =
            asked.iter().flat_map(|&(urgent, a, g)| self.row.request(urgent, a, g)).collect();
        self.stream.write_all(&requests).expect("room");
    }

    /// Asks for all at once, and reads as many responses: their containers.
    pub(crate) fn fetch(&mut self, asked: &[Asked]) -> Vec<(Asked, Vec<u8>)> {
        self.ask(asked);
        self.collect(asked)
    }

    /// Reads the responses to all that was asked for: their containers, as they end.
    pub(crate) fn collect(&mut self, asked: &[Asked]) -> Vec<(Asked, Vec<u8>)> {
        let mut open = asked.to_vec();
        let mut answers = Vec::new();
        // Blocks of several may alternate: what has come of each.
        let mut parts: BTreeMap<Asked, Vec<u8>> = BTreeMap::new();
        while answers.len() < asked.len() {
            let (bit, archive, group) = self.header();
            let (found, mut container, mut room) = if self.row.each_block {
                let found = (!bit, archive, group);
                let container = parts.remove(&found).unwrap_or_default();
                (found, container, self.row.block - 5)
            } else {
                let mut head = self.read(5);
                let mut found = (true, archive, group);
                if self.row.op6.is_some() {
                    found.0 = head[0] & 0x80 == 0;
                    head[0] &= 0x7F;
                }
                (found, head, self.row.block - self.row.header - 5)
            };
            if container.is_empty() {
                container = self.read(5);
                room -= 5;
            }
            assert!(container[0] <= 3, "{:?}: no compression is {:#x}", self.row, container[0]);
            let len = u32::from_be_bytes([container[1], container[2], container[3], container[4]]);
            let len = len as usize + if container[0] == 0 { 5 } else { 9 };
            loop {
                let piece = self.read(room.min(len - container.len()));
                container.extend(piece);
                if container.len() == len || self.row.each_block {
                    break;
                }
                assert_eq!(self.read(1), [0xFF], "{:?}: a marker before each block", self.row);
                room = self.row.block - 1;
            }
            if container.len() < len {
                parts.insert(found, container);
                continue;
            }
            let place = self.place(&open, found);
            answers.push((open.remove(place), container));
        }
        answers
    }

    /// By what this client tells its requests apart.
    fn place(&self, open: &[Asked], found: Asked) -> usize {
        let is_it = |asked: &Asked| match self.row.op6 {
            Some(_) => *asked == found,
            None => (asked.1, asked.2) == (found.1, found.2),
        };
        let place = open.iter().position(is_it);
        place.unwrap_or_else(|| panic!("{:?}: {found:?} was not asked for", self.row))
    }

    /// Whether a bit marks it, archive and group.
    fn header(&mut self) -> (bool, u8, u32) {
        let bytes = self.read(self.row.header);
        let group = bytes[1..].iter().fold(0, |group, &byte| group << 8 | u32::from(byte));
        if self.row.each_block {
            return (group & 0x8000_0000 != 0, bytes[0], group & 0x7FFF_FFFF);
        }
        (false, bytes[0], group)
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream
            .read_exact(&mut bytes)
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.row));
        bytes.iter_mut().for_each(|byte| *byte ^= self.key);
        bytes
    }
}
