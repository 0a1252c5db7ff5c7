//! The PROXY protocol: the header with which a balancer announces a connection's client.
//!
//! Pure: bytes in, addresses out, without socket or clock. A header may arrive in pieces and is
//! bounded in length; the bytes behind it belong to the protocol that follows. The crate `ppp`
//! reads the fields of a complete header; this module finds where a header ends, and whether the
//! bytes so far can still become one.
//!
//! Source: <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>.

mod trusted;

pub use trusted::{NetworkError, Trusted, network};

use ppp::{v1, v2};
use std::net::SocketAddr;

/// Bytes of a header of version 1 at most, its line end included ("Human-readable header
/// format").
const V1_LEN_MAX: usize = 107;

/// Bytes of a header of version 2 at most, TLVs included. The format has room for 65,551;
/// balancers keep a header in one segment, and certificates in TLVs take a few KB.
pub const V2_LEN_MAX: usize = 4096;

/// What a header of version 2 has before its addresses: signature, command, family, length.
const V2_FIXED_LEN: usize = 16;

/// Version 2, command LOCAL: the balancer's own connection, a health check mostly.
const V2_LOCAL: u8 = 0x20;

/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Who connected.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// They can become none, whatever follows.
    #[error("not a PROXY header")]
    Malformed,
    /// The header is longer than is taken.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is needed; all bytes were taken.
    Partial,
    /// It is whole.
    Whole {
        /// What it announces. Nothing, if it is LOCAL, UNKNOWN, UNSPEC or of a family that is
        /// not TCP's: the connection's own addresses count then.
        announced: Option<Endpoints>,
        /// How many of the bytes that were given last belong to it.
        taken: usize,
    },
}

/// Reads one header, in pieces.
#[derive(Debug, Default)]
pub struct HeaderReader {
    /// At most [`V2_LEN_MAX`] and what one call adds.
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Takes in bytes of the peer, until the header is whole.
    ///
    /// # Errors
    /// This is no header, or too long a one: the connection is to be closed.
    pub fn receive(&mut self, input: &[u8]) -> Result<Progress, HeaderFault> {
        let held = self.bytes.len();
        self.bytes.extend(input);
        let Some((len, announced)) = parse(&self.bytes)? else { return Ok(Progress::Partial) };
        // The bytes that were held did not make it whole, so it ends among the later ones.
        Ok(Progress::Whole { announced, taken: len.saturating_sub(held) })
    }
}

/// A whole header at the beginning of `bytes`: its length, and what it announces.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<Endpoints>)>, HeaderFault> {
    if agrees(bytes, V1_SIGNATURE) {
        parse_v1(bytes)
    } else if agrees(bytes, v2::PROTOCOL_PREFIX) {
        parse_v2(bytes)
    } else {
        Err(HeaderFault::Malformed)
    }
}

/// Whether `bytes` begin with `signature`, as far as they go.
fn agrees(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(usize, Option<Endpoints>)>, HeaderFault> {
    let head = bytes.get(..V1_LEN_MAX).unwrap_or(bytes);
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        return if head.len() < V1_LEN_MAX { Ok(None) } else { Err(HeaderFault::TooLong) };
    };
    let len = end + 1;
    let line = head.get(..len).unwrap_or_default();
    // The crate takes UNKNOWN with a bare line feed; nothing is a line but what ends in CRLF.
    if !line.ends_with(b"\r\n") {
        return Err(HeaderFault::Malformed);
    }
    if is_unknown(line) {
        return Ok(Some((len, None)));
    }
    let header = v1::Header::try_from(line).map_err(|_| HeaderFault::Malformed)?;
    let announced = match header.addresses {
        v1::Addresses::Tcp4(ends) => Endpoints {
            source: (ends.source_address, ends.source_port).into(),
            destination: (ends.destination_address, ends.destination_port).into(),
        },
        v1::Addresses::Tcp6(ends) => Endpoints {
            source: (ends.source_address, ends.source_port).into(),
            destination: (ends.destination_address, ends.destination_port).into(),
        },
        v1::Addresses::Unknown => return Ok(Some((len, None))),
    };
    Ok(Some((len, Some(announced))))
}

/// UNKNOWN: "the receiver must ignore anything presented before the CRLF is found".
fn is_unknown(line: &[u8]) -> bool {
    let rest = line.strip_prefix(V1_UNKNOWN).and_then(|rest| rest.strip_suffix(b"\r\n"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" "))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(usize, Option<Endpoints>)>, HeaderFault> {
    let command = bytes.get(v2::PROTOCOL_PREFIX.len()).copied();
    if !matches!(command, None | Some(V2_LOCAL | V2_PROXY)) {
        return Err(HeaderFault::Malformed);
    }
    let Some(&[.., high, low]) = bytes.first_chunk::<V2_FIXED_LEN>() else { return Ok(None) };
    let len = V2_FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > V2_LEN_MAX {
        return Err(HeaderFault::TooLong);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    if command == Some(V2_LOCAL) {
        // "The receiver must accept this connection as valid", its family whatever it is.
        return Ok(Some((len, None)));
    }
    let header = v2::Header::try_from(header).map_err(|_| HeaderFault::Malformed)?;
    Ok(Some((len, announced_by_v2(&header)?)))
}

fn announced_by_v2(header: &v2::Header<'_>) -> Result<Option<Endpoints>, HeaderFault> {
    use v2::Protocol::{Datagram, Stream, Unspecified};
    let announced = match (header.addresses, header.protocol) {
        (v2::Addresses::Unspecified, Unspecified) => return Ok(None),
        (v2::Addresses::IPv4(ends), Stream) => Some(Endpoints {
            source: (ends.source_address, ends.source_port).into(),
            destination: (ends.destination_address, ends.destination_port).into(),
        }),
        (v2::Addresses::IPv6(ends), Stream) => Some(Endpoints {
            source: (ends.source_address, ends.source_port).into(),
            destination: (ends.destination_address, ends.destination_port).into(),
        }),
        // Valid, but no TCP: "falls back to the UNSPEC mode".
        (v2::Addresses::IPv4(_) | v2::Addresses::IPv6(_), Datagram)
        | (v2::Addresses::Unix(_), Stream | Datagram) => None,
        // "Receivers must drop connections presenting unexpected values here."
        _ => return Err(HeaderFault::Malformed),
    };
    // They say nothing that is used, but they must be what they say they are.
    if header.tlvs().any(|tlv| tlv.is_err()) {
        return Err(HeaderFault::Malformed);
    }
    Ok(announced)
}

/// A header of version 2 that announces `ends`.
#[must_use]
pub fn announce(ends: Endpoints) -> Vec<u8> {
    let addresses = v2::Addresses::from((ends.source, ends.destination));
    let protocol = match addresses {
        v2::Addresses::Unspecified => v2::Protocol::Unspecified,
        _ => v2::Protocol::Stream,
    };
    let command = v2::Version::Two | v2::Command::Proxy;
    // Writing to memory cannot fail, and addresses fit in every header.
    v2::Builder::with_addresses(command, protocol, addresses).build().unwrap_or_default()
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
