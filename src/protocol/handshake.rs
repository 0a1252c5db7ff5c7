//! The handshake: five bytes from the client, one status byte back.

/// `0F` and the build as `i32`.
pub const HANDSHAKE_LEN: usize = 5;

/// Opens a JS5 connection. Other services share the port and open with other opcodes.
pub const OPCODE_JS5: u8 = 15;

/// Whether a connection that opens with this byte is one of JS5's.
#[must_use]
pub const fn is_js5(first: u8) -> bool {
    first == OPCODE_JS5
}

/// The status byte that answers a handshake. It is never keyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0: go on.
    Ok,
    /// 6: the client's build is not served here.
    OutOfDate,
    /// 7: the server holds as many peers as it may.
    ServerFull,
    /// 9: too many connections from this address.
    TooManyConnections,
}

impl Status {
    /// The byte on the wire.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::OutOfDate => 6,
            Self::ServerFull => 7,
            Self::TooManyConnections => 9,
        }
    }

    /// What a status byte means, if the protocol knows it.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ok),
            6 => Some(Self::OutOfDate),
            7 => Some(Self::ServerFull),
            9 => Some(Self::TooManyConnections),
            _ => None,
        }
    }
}

/// The handshake of a client of `build`.
#[must_use]
pub const fn handshake(build: u32) -> [u8; HANDSHAKE_LEN] {
    let [a, b, c, d] = build.to_be_bytes();
    [OPCODE_JS5, a, b, c, d]
}

/// Which builds are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builds {
    /// Every one: the operator knows that the cache fits.
    Any,
    /// These, and no other.
    Only(Vec<u32>),
}

impl Builds {
    /// Whether a client of `build` is served.
    #[must_use]
    pub fn admits(&self, build: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Only(builds) => builds.contains(&build),
        }
    }
}
