//! The handshake: from the client its build, one status byte back.
//!
//! Two kinds are told apart by the byte behind the opcode (docs/clients.md). In a *fixed* one the
//! build follows as `i32`, whose first byte is 0 for any build there is; some clients add four
//! `i32` that mean nothing to the server. In a *prefixed* one the length of the rest follows,
//! which is never 0.

use std::fmt;
use std::ops::RangeInclusive;

/// `0F` and the build as `i32`: a fixed handshake without what some clients add.
pub const HANDSHAKE_LEN: usize = 5;

/// The longest token that a prefixed handshake may hold. The field's have 32 characters.
pub const TOKEN_LEN_MAX: usize = 64;

/// A prefixed handshake's rest without its token: build, sub-build, the token's end.
const PREFIXED_BARE_LEN: usize = 9;

/// The longest rest of a prefixed handshake: with the longest token and a language.
pub const PREFIXED_LEN_MAX: usize = PREFIXED_BARE_LEN + TOKEN_LEN_MAX + 1;

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
    /// 48: the client's token is not the one that is wanted. Known to builds from 742 on.
    SessionExpired,
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
            Self::SessionExpired => 48,
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
            48 => Some(Self::SessionExpired),
            _ => None,
        }
    }
}

/// `status 7, full`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self {
            Self::Ok => "welcome",
            Self::OutOfDate => "out of date",
            Self::ServerFull => "full",
            Self::TooManyConnections => "too many connections from this address",
            Self::SessionExpired => "session expired",
        };
        write!(f, "status {}, {meaning}", self.to_byte())
    }
}

/// The handshake of a client of `build`.
#[must_use]
pub const fn handshake(build: u32) -> [u8; HANDSHAKE_LEN] {
    let [a, b, c, d] = build.to_be_bytes();
    [OPCODE_JS5, a, b, c, d]
}

/// What a prefixed handshake holds behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixed<'a> {
    /// The build.
    pub build: u32,
    /// 1, as far as it was seen.
    pub sub_build: u32,
    /// What the client was started with, its end left out.
    pub token: &'a [u8],
    /// Sent by younger clients only.
    pub language: Option<u8>,
}

impl<'a> Prefixed<'a> {
    /// Whether a handshake may say that its rest has this length.
    #[must_use]
    pub const fn is_possible(len: u8) -> bool {
        len as usize >= PREFIXED_BARE_LEN && len as usize <= PREFIXED_LEN_MAX
    }

    /// Reads what is behind the length; none if it is not a handshake.
    #[must_use]
    pub fn parse(rest: &'a [u8]) -> Option<Self> {
        let (build, rest) = rest.split_first_chunk()?;
        let (sub_build, rest) = rest.split_first_chunk()?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        let (token, rest) = rest.split_at_checked(end)?;
        let language = match rest {
            [0] => None,
            [0, language] => Some(*language),
            _ => return None,
        };
        let (build, sub_build) = (u32::from_be_bytes(*build), u32::from_be_bytes(*sub_build));
        Some(Self { build, sub_build, token, language })
    }

    /// The whole handshake. A token beyond [`TOKEN_LEN_MAX`] is cut.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let token = self.token.get(..TOKEN_LEN_MAX).unwrap_or(self.token);
        let mut rest = [self.build.to_be_bytes(), self.sub_build.to_be_bytes()].concat();
        rest.extend_from_slice(token);
        rest.push(0);
        rest.extend(self.language);
        let len = u8::try_from(rest.len()).unwrap_or(u8::MAX);
        [&[OPCODE_JS5, len], &rest[..]].concat()
    }
}

/// Which builds are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builds {
    /// Every one: the operator knows that the cache fits.
    Any,
    /// Those in these ranges, and no other.
    Only(Vec<RangeInclusive<u32>>),
}

impl Builds {
    /// These alone.
    #[must_use]
    pub fn only(builds: impl IntoIterator<Item = u32>) -> Self {
        Self::Only(builds.into_iter().map(|build| build..=build).collect())
    }

    /// Whether a client of `build` is served.
    #[must_use]
    pub fn admits(&self, build: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(&build)),
        }
    }

    /// Whether a client of a build in `range` is.
    #[must_use]
    pub fn admits_some_of(&self, range: &RangeInclusive<u32>) -> bool {
        let meets = |other: &RangeInclusive<u32>| {
            other.start() <= range.end() && range.start() <= other.end()
        };
        match self {
            Self::Any => true,
            Self::Only(ranges) => ranges.iter().any(meets),
        }
    }
}

/// A build, or `FROM..=TO`; `FROM..` goes on to the last.
#[must_use]
pub fn parse_builds(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.trim().parse().ok();
    let (from, to) = match text.split_once("..") {
        None => {
            let build = number(text)?;
            (build, build)
        }
        Some((from, "")) => (number(from)?, u32::MAX),
        Some((from, to)) => (number(from)?, number(to.strip_prefix('=')?)?),
    };
    (from <= to).then_some(from..=to)
}

/// As [`parse_builds`] takes it.
#[must_use]
pub fn show_builds(builds: &RangeInclusive<u32>) -> String {
    match (*builds.start(), *builds.end()) {
        (from, to) if from == to => from.to_string(),
        (from, u32::MAX) => format!("{from}.."),
        (from, to) => format!("{from}..={to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefixed_handshake_is_read_as_it_is_written() {
        let token = b"ev9+VAp5/tMKeNR/7MOuH6lKWS+rGkHK";
        let mut bytes = vec![15, 41, 0, 0, 2, 0xCE, 0, 0, 0, 1];
        bytes.extend(token);
        bytes.push(0);
        let plain = Prefixed { build: 718, sub_build: 1, token, language: None };
        assert_eq!(plain.to_bytes(), bytes);
        assert_eq!(Prefixed::parse(&bytes[2..]), Some(plain));
        bytes[1] = 42;
        bytes.push(3);
        let spoken = Prefixed { language: Some(3), ..plain };
        assert_eq!(spoken.to_bytes(), bytes);
        assert_eq!(Prefixed::parse(&bytes[2..]), Some(spoken));
    }

    #[test]
    fn what_is_no_prefixed_handshake_is_refused() {
        let possible: Vec<u8> = (0..=255).filter(|&len| Prefixed::is_possible(len)).collect();
        assert_eq!((possible[0], possible[possible.len() - 1], possible.len()), (9, 74, 66));
        for rest in [
            &[0, 0, 2, 0xCE, 0, 0, 0, 1][..],
            &[0, 0, 2, 0xCE, 0, 0, 0, 1, 65, 66], // the token has no end
            &[0, 0, 2, 0xCE, 0, 0, 0, 1, 65, 0, 0, 0], // more than a language
        ] {
            assert_eq!(Prefixed::parse(rest), None, "{rest:?}");
        }
    }

    #[test]
    fn builds_are_admitted_by_range() {
        let builds = Builds::Only(vec![1..=222, 550..=550]);
        for (build, admitted) in [(0, false), (1, true), (222, true), (223, false), (550, true)] {
            assert_eq!(builds.admits(build), admitted, "{build}");
        }
        for (range, some) in [(223..=549, false), (200..=300, true), (551..=600, false)] {
            assert_eq!(builds.admits_some_of(&range), some, "{range:?}");
        }
    }
}
