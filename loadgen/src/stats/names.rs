//! The names of everything that is measured or counted. The same words stand in the tables, in
//! the JSON, in assertions and in docs/benchmarks.md.

use js5d::protocol::client::Fault;
use js5d::protocol::{Class, Status};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Metric {
    /// From `connect` to the connection being up.
    #[serde(rename = "connect")]
    Connect,
    /// From the handshake written to the status read.
    #[serde(rename = "handshake")]
    Handshake,
    /// Urgent, from when it should have been asked to its last byte.
    #[serde(rename = "urgent.response")]
    UrgentResponse,
    /// Urgent, from when it was written to its last byte.
    #[serde(rename = "urgent.service")]
    UrgentService,
    /// Urgent, from when it should have been asked to when it was written.
    #[serde(rename = "urgent.wait")]
    UrgentWait,
    /// As urgent.
    #[serde(rename = "prefetch.response")]
    PrefetchResponse,
    /// As urgent.
    #[serde(rename = "prefetch.service")]
    PrefetchService,
    /// As urgent.
    #[serde(rename = "prefetch.wait")]
    PrefetchWait,
    /// A client's whole piece of work, from its first request to its last response.
    #[serde(rename = "download")]
    Download,
    /// How late the generator itself noticed that something was due.
    #[serde(rename = "lag")]
    Lag,
}

impl Metric {
    /// All, in the order of [`Metric::index`].
    pub(crate) const ALL: [Self; 10] = [
        Self::Connect,
        Self::Handshake,
        Self::UrgentResponse,
        Self::UrgentService,
        Self::UrgentWait,
        Self::PrefetchResponse,
        Self::PrefetchService,
        Self::PrefetchWait,
        Self::Download,
        Self::Lag,
    ];

    /// Its place in [`Metric::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// As it is written everywhere.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::UrgentResponse => "urgent.response",
            Self::UrgentService => "urgent.service",
            Self::UrgentWait => "urgent.wait",
            Self::PrefetchResponse => "prefetch.response",
            Self::PrefetchService => "prefetch.service",
            Self::PrefetchWait => "prefetch.wait",
            Self::Download => "download",
            Self::Lag => "lag",
        }
    }

    /// Of a class: response, service and wait.
    pub(crate) const fn clocks(class: Class) -> [Self; 3] {
        match class {
            Class::Urgent => [Self::UrgentResponse, Self::UrgentService, Self::UrgentWait],
            Class::Prefetch => [Self::PrefetchResponse, Self::PrefetchService, Self::PrefetchWait],
        }
    }
}

/// What a server must not do. One of these makes the exit code 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultKind {
    /// A response to nothing that was asked.
    Unasked,
    /// A second response to one request.
    Duplicate,
    /// A request that was never answered, though later ones were.
    Missing,
    /// The prefetch bit of the other class.
    WrongClass,
    /// No marker at a block's edge.
    WrongMarker,
    /// Under a key that was not asked for, or was over.
    WrongKey,
    /// Not the bytes of the local cache.
    WrongBytes,
    /// Not the checksum of the archive index.
    WrongCrc,
    /// Not the length of the local cache's container.
    WrongLength,
    /// A compression byte that does not exist.
    UnknownCompression,
    /// A status byte that does not exist.
    UnknownStatus,
    /// Bytes after a status that refuses.
    AfterRefusal,
}

impl From<&Fault> for FaultKind {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::UnknownStatus(_) => Self::UnknownStatus,
            Fault::AfterRefusal => Self::AfterRefusal,
            Fault::Unasked { .. } => Self::Unasked,
            Fault::WrongClass { .. } => Self::WrongClass,
            Fault::WrongMarker { .. } => Self::WrongMarker,
            Fault::UnknownCompression { .. } => Self::UnknownCompression,
            Fault::WrongKey { .. } | Fault::OldKey { .. } => Self::WrongKey,
        }
    }
}

/// How a connection ended. A status that refuses is no error: a server that says that it is full
/// works as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Status 0.
    StatusOk,
    /// Status 6.
    StatusOutOfDate,
    /// Status 7.
    StatusServerFull,
    /// Status 9.
    StatusTooManyConnections,
    /// No server listens there.
    ConnectRefused,
    /// No answer to the connect.
    ConnectTimeout,
    /// The connect failed in another way.
    ConnectError,
    /// Ended by the server before a status: the client would report a checksum error.
    ClosedWithoutStatus,
    /// Ended by the server with requests outstanding.
    Cut,
    /// Ended by the server with nothing outstanding.
    ClosedByServer,
    /// Reset by the server.
    Reset,
    /// Ended by the client, as its scenario says.
    ClosedByClient,
}

impl Outcome {
    /// Whether it counts as an error.
    pub(crate) const fn is_error(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::ConnectError
                | Self::ClosedWithoutStatus
                | Self::Cut
                | Self::Reset
        )
    }

    /// Whether it is a status that refuses.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::StatusOutOfDate | Self::StatusServerFull | Self::StatusTooManyConnections
        )
    }
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::StatusOk,
            // A token that is not taken is a client of another day.
            Status::OutOfDate | Status::SessionExpired => Self::StatusOutOfDate,
            Status::ServerFull => Self::StatusServerFull,
            Status::TooManyConnections => Self::StatusTooManyConnections,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Shown as in JSON, blanks for hyphens.
macro_rules! display_as_written {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let written = serde_json::to_string(self).unwrap_or_default();
                f.pad(&written.trim_matches('"').replace('-', " "))
            }
        }
    )*};
}
display_as_written!(FaultKind, Outcome);
