//! A worker's books: measurements into the recorder, and by name whatever goes wrong.

use super::check::Token;
use crate::stats::{FaultKind, Outcome, Recorder};
use js5d::protocol::client::Fault;
use js5d::protocol::{Class, GroupId, Status};
use std::io;

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

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Status(Status),
    ConnectRefused,
    ConnectTimeout,
    ConnectError,
    /// The server ended it; `errno` is 0 for an orderly end.
    Cut {
        errno: i32,
        owed: usize,
        has_status: bool,
    },
    HostileCut,
    Left,
}

/// A connection on which nothing comes although something is owed.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    pub(crate) client: u32,
    pub(crate) since_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) outstanding: usize,
    pub(crate) examples: Vec<(Class, GroupId)>,
    pub(crate) has_status: bool,
    pub(crate) ever_answered: bool,
}

/// The books of a worker.
pub(crate) struct Tally {
    pub(crate) recorder: Recorder,
    pub(crate) now_ns: u64,
    by_crc: u64,
    by_bytes: u64,
    /// The first error of a connect, in the system's words.
    pub(crate) connect_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, now_ns: 0, by_crc: 0, by_bytes: 0, connect_error: None }
    }

    #[inline]
    pub(crate) fn response(&mut self, class: Class, token: &Token, done_ns: u64, bytes: u64) {
        let Token { intended_ns, written_ns } = *token;
        self.recorder.response(class, intended_ns, written_ns, done_ns, bytes);
    }

    pub(crate) fn checked_by_crc(&mut self) {
        self.by_crc += 1;
    }

    pub(crate) fn compared(&mut self) {
        self.by_bytes += 1;
    }

    pub(crate) fn wrong(&mut self, client: u32, wrong: &Wrong) {
        self.recorder.fault(wrong.kind(), client, self.now_ns, || wrong.words());
    }

    pub(crate) fn connect_failed(&mut self, error: &io::Error) {
        let event = match error.kind() {
            io::ErrorKind::ConnectionRefused => Event::ConnectRefused,
            io::ErrorKind::TimedOut => Event::ConnectTimeout,
            _ => Event::ConnectError,
        };
        self.connect_error.get_or_insert_with(|| error.to_string());
        self.event(event);
    }

    pub(crate) fn event(&mut self, event: Event) {
        let outcome = match event {
            Event::Status(status) => status.into(),
            Event::ConnectRefused => Outcome::ConnectRefused,
            Event::ConnectTimeout => Outcome::ConnectTimeout,
            Event::ConnectError => Outcome::ConnectError,
            Event::Cut { has_status: false, .. } => Outcome::ClosedWithoutStatus,
            Event::Cut { errno, .. } if errno != 0 => Outcome::Reset,
            Event::Cut { owed, .. } if owed > 0 => Outcome::Cut,
            Event::Cut { .. } | Event::HostileCut => Outcome::ClosedByServer,
            Event::Left => Outcome::ClosedByClient,
        };
        self.recorder.outcome(outcome, self.now_ns);
    }

    pub(crate) fn stalled(&mut self, stall: &Stall) {
        let words = || stall.words();
        self.recorder.stall(stall.client, stall.since_ns, self.now_ns, stall.bytes, words);
    }

    pub(crate) fn in_flight(&mut self, class: Class, token: &Token) {
        let Token { intended_ns, written_ns } = *token;
        self.recorder.in_flight_at_end(class, intended_ns, Some(written_ns), self.now_ns);
    }

    pub(crate) fn unwritten(&mut self, class: Class, intended_ns: u64) {
        self.recorder.in_flight_at_end(class, intended_ns, None, self.now_ns);
    }

    /// Everything into the recorder.
    pub(crate) fn settle(&mut self) {
        self.recorder.checked(std::mem::take(&mut self.by_crc), std::mem::take(&mut self.by_bytes));
    }
}

impl Wrong {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Fault(fault) => fault.into(),
            Self::Duplicate { .. } => FaultKind::Duplicate,
            Self::Missing { .. } | Self::CutOff { .. } => FaultKind::Missing,
            Self::Checksum { .. } => FaultKind::WrongCrc,
            Self::Byte { .. } | Self::NotInCache { .. } | Self::MadeUp => FaultKind::WrongBytes,
            Self::Length { .. } => FaultKind::WrongLength,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Fault(fault) => fault.to_string(),
            Self::Duplicate { id } => format!("{id} was answered a second time"),
            Self::Missing { class, id } => {
                format!("{class:?} request for {id} was never answered, later ones were")
            }
            Self::Checksum { id } => format!("{id} has not the checksum of its archive index"),
            Self::Byte { id, offset } => {
                format!("{id} differs from the cache from byte {offset} of its container on")
            }
            Self::Length { id, expected, found } => {
                format!("{id} has {found} bytes on the wire, the cache's has {expected}")
            }
            Self::NotInCache { id } => format!("{id} was served, and is not in the cache"),
            Self::CutOff { owed } => {
                format!("the server ended the connection and owed {owed} answers")
            }
            Self::MadeUp => "a body for a group that no index lists".to_owned(),
        }
    }
}

impl Stall {
    fn words(&self) -> String {
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
