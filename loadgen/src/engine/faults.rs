//! The record of a request, and the faults of an answer or a server, as the checker hands them to
//! the tally.

use crate::stats::FaultKind;
use js5d::protocol::client::Fault;
use js5d::protocol::{Class, GroupId};

/// When a request should have been sent and when it was, on the run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) intended_ns: u64,
    pub(crate) written_ns: u64,
}

/// Something that a server must not send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    Fault(Fault),
    Duplicate {
        id: GroupId,
    },
    Missing {
        class: Class,
        id: GroupId,
    },
    Checksum {
        id: GroupId,
    },
    Byte {
        id: GroupId,
        offset: usize,
    },
    Length {
        id: GroupId,
        expected: usize,
        found: usize,
    },
    NotInCache {
        id: GroupId,
    },
    /// The connection ended with so many requests outstanding.
    CutOff {
        owed: usize,
    },
    /// A body for a group that no index lists.
    MadeUp,
}

/// A connection on which the server owed answers and sent nothing.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    pub(crate) client: u32,
    pub(crate) since_ns: u64,
    pub(crate) until_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) outstanding: usize,
    pub(crate) examples: Vec<(Class, GroupId)>,
    pub(crate) has_status: bool,
    pub(crate) ever_answered: bool,
    /// The server sent something later.
    pub(crate) went_on: bool,
}

impl Wrong {
    pub(crate) fn kind(&self) -> FaultKind {
        match self {
            Self::Fault(fault) => fault.into(),
            Self::Duplicate { .. } => FaultKind::Duplicate,
            Self::Missing { .. } | Self::CutOff { .. } => FaultKind::Missing,
            Self::Checksum { .. } => FaultKind::WrongCrc,
            Self::Byte { .. } | Self::NotInCache { .. } | Self::MadeUp => FaultKind::WrongBytes,
            Self::Length { .. } => FaultKind::WrongLength,
        }
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::Fault(fault @ Fault::WrongClass { .. }) => {
                format!("{fault} (if the server never sends the prefetch bit: --no-prefetch-bit)")
            }
            Self::Fault(fault) => fault.to_string(),
            Self::Duplicate { id } => format!("{id} was answered a second time"),
            Self::Missing { class, id } => {
                format!("{class:?} request for {id} was not answered, but later ones were")
            }
            Self::Checksum { id } => {
                format!("{id} has another checksum than its archive index says")
            }
            Self::Byte { id, offset } => {
                format!("{id} differs from the cache from byte {offset} of its container on")
            }
            Self::Length { id, expected, found } => {
                format!("{id} has {found} bytes on the wire, the cache's has {expected}")
            }
            Self::NotInCache { id } => format!("{id} was served, and is not in the cache"),
            Self::CutOff { owed } => {
                format!("the server ended the connection while it owed {owed} answers")
            }
            Self::MadeUp => "a body for a group that no index lists".to_owned(),
        }
    }
}

impl Stall {
    pub(crate) fn words(&self) -> String {
        if self.went_on {
            return "nothing any more: the server went on".to_owned();
        }
        if !self.has_status {
            return "the status byte".to_owned();
        }
        let named: Vec<String> = self
            .examples
            .iter()
            .map(|(class, id)| {
                let class = if *class == Class::Urgent { "urgent" } else { "prefetch" };
                format!("{class} {id}")
            })
            .collect();
        let mut words = named.join(", ");
        match self.outstanding - self.examples.len() {
            0 => {}
            more => words += &format!(", {more} more"),
        }
        if !self.ever_answered {
            words += " (no request was ever answered: try --settle 500ms)";
        }
        words
    }
}
