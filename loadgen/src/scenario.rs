//! What clients do: the scenarios by name, and each kind of client as data.

use crate::trace::TracedClient;
use clap::ValueEnum;
use js5d::protocol::GroupId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Fetch a whole cache as fast as the windows allow, again and again.
    Download,
    /// Ask for small bursts of urgent groups with pauses between them, and prefetch meanwhile.
    Play,
    /// Connect, handshake, fetch the master index, disconnect, connect again.
    LoginStorm,
    /// All connect at once and fetch what changed.
    UpdateDay,
    /// Hold connections open, and ask for the master index now and then.
    Idle,
    /// Connect, ask for a few groups, disconnect, connect again.
    Churn,
    /// Download, but read only a few bytes a second.
    Slow,
    /// Measure urgent latency with an empty and with a full prefetch window, and give the ratio.
    Priority,
    /// Break the protocol or waste the server's time in many ways (see --tricks).
    Hostile,
}

/// How the requests of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// At equal distances.
    Even,
    /// At random distances, independent of each other, as those of players are.
    Poisson,
}

/// What a hostile client tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trick {
    /// Connects and sends nothing.
    Silent,
    /// Sends the first byte of the handshake only.
    OneByte,
    /// Sends the handshake a byte a second.
    Drip,
    /// Sends half of a request and waits.
    HalfRequest,
    /// Pipelines 100,000 requests and reads nothing.
    OverWindow,
    /// Sends an opcode that does not exist.
    UnknownOpcode,
    /// Opens with another service's opcode.
    NotJs5,
    /// Asks for groups that no index lists.
    UnknownGroup,
    /// Resets the connection after a random number of bytes of a response.
    Reset,
    /// Sends requests, ends its side, and reads the answers.
    HalfClose,
    /// Sends ten thousand rekeys and state changes in a row.
    Useless,
    /// Sends its requests in segments of one byte.
    OneByteSegments,
}

/// One kind of clients.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) scenario: Scenario,
    pub(crate) weight: u32,
    pub(crate) urgent: u32,
    pub(crate) prefetch: u32,
    pub(crate) work: Work,
    /// Requests before the work counts as done, for work that has no end of its own.
    pub(crate) visit_requests: Option<u32>,
    pub(crate) rhythm: Rhythm,
    pub(crate) then: Then,
    /// Bytes that are read in a second at most.
    pub(crate) read_rate: Option<u64>,
    /// What the pace of an open loop counts, if such clients have a share in it.
    pub(crate) paced: Paced,
    /// Whether the end of the work is a download that is timed.
    pub(crate) is_download: bool,
}

/// What an open loop's pace counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paced {
    /// Nothing: such clients do what they do at times of their own.
    Nothing,
    Requests,
    /// Connections, with all that is asked on each.
    Visits,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The indexes, then every group.
    Everything,
    /// The indexes, then this part of the groups.
    Changed(f64),
    /// Exactly these, in this order.
    Listed(Arc<Vec<GroupId>>),
    /// Groups by popularity, without end.
    Popular,
    /// The master index.
    MasterIndex,
    /// The master index now and then, as proof of life.
    KeepAlive(u64),
    /// What a trace says.
    Trace(Arc<Vec<TracedClient>>),
    /// Whatever a server should not be sent.
    Hostile(Tricks),
}

/// When a client of a closed loop asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rhythm {
    /// Whenever its windows have room.
    Eager,
    /// In bursts between which it thinks, with prefetch in the background.
    Thinking { think_ns: u64, burst: u32, prefetch_gap_ns: u64 },
}

/// What follows when the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The work again, on the same connection.
    Repeat,
    /// The work again, on a new connection.
    Reconnect,
    /// Nothing; the connection stays.
    Stay,
}

/// What hostile clients try, and how long they hold it.
#[derive(Clone, Debug)]
pub(crate) struct Tricks {
    pub(crate) tricks: Vec<Trick>,
    pub(crate) hold_ns: u64,
}

impl Kind {
    /// Whether the work has an end that is reached over several connections.
    pub(crate) fn can_go_on(&self) -> bool {
        self.is_download && self.paced != Paced::Visits
    }
}
