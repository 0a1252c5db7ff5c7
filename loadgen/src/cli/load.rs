//! The options that describe a load. The keys of a scenario file are made of the same list.

use crate::human::{Quantity, Ramp, Span};
use crate::scenario::{Arrivals, Scenario, Trick};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What describes a load: options, and keys of a scenario file.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadOptions {
    /// The server [default: 127.0.0.1:43594].
    ///
    /// If one server process cannot hold all clients, name several, separated by commas. They
    /// share the clients evenly, and must serve the same cache.
    #[arg(value_name = "HOST:PORT,..")]
    pub(crate) target: Option<String>,
    /// What the clients do [default: download].
    #[arg(long, short = 's', value_enum)]
    pub(crate) scenario: Option<Scenario>,
    /// Several scenarios by weight, as in play=8,churn=2.
    #[arg(long, value_name = "NAME=WEIGHT,..", conflicts_with = "scenario")]
    pub(crate) mix: Option<String>,
    /// How many clients, or a ramp of them: 64, 10..1000.
    ///
    /// A ramp opens the first number at the start and the rest evenly over --ramp.
    #[arg(long, short = 'c', value_name = "N|A..B")]
    pub(crate) connections: Option<Ramp>,
    /// Requests a second of all clients together (an open loop); without it the loop is closed.
    ///
    /// In an open loop each request is due at a time that does not depend on the server, and its
    /// latency counts from that time. In a closed loop a client sends the next request when it has
    /// an answer. In login-storm the rate is that of logins.
    #[arg(long, short = 'r', value_name = "N|A..B")]
    pub(crate) rate: Option<Ramp>,
    /// How the requests of an open loop are spread over time [default: even].
    #[arg(long, value_enum)]
    pub(crate) arrivals: Option<Arrivals>,
    /// How long the ramps of --rate and --connections take [default: the whole run].
    #[arg(long, value_name = "TIME")]
    pub(crate) ramp: Option<Span>,
    /// How long to measure [default: 10s, if nothing else ends the run].
    #[arg(long, short = 'd', value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// End after this many requests of all clients together.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) requests: Option<Quantity>,
    /// End when each client has downloaded everything this many times.
    #[arg(long, value_name = "N")]
    pub(crate) downloads: Option<u32>,
    /// Leave the first part of the run out of the measurement [default: 0s].
    #[arg(long, short = 'w', value_name = "TIME")]
    pub(crate) warmup: Option<Span>,
    /// Urgent requests that a client keeps in flight [default: as the real client, 20 for build
    /// 550].
    #[arg(long, value_name = "N")]
    pub(crate) urgent: Option<u32>,
    /// Prefetch requests that a client keeps in flight [default: as the real client, 20 for build
    /// 550].
    #[arg(long, value_name = "N")]
    pub(crate) prefetch: Option<u32>,
    /// XOR key of clients: none; a number, the same for all; random, one for each connection;
    /// changing, a new one after each 50 requests, at most 50 a second, also while responses
    /// arrive.
    #[arg(long, value_name = "none|1..255|random|changing")]
    pub(crate) key: Option<String>,
    /// Clients tell the server that their player is logged in; some servers answer such clients
    /// first.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) logged_in: Option<bool>,
    /// Seed; runs with the same one ask for the same groups in the same order [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Revision of the clients: a profile, such as oldschool or rs2-718, or a build, such as 718.
    ///
    /// Handshake, messages, framing, master index, prefetch bit and windows are those of that
    /// revision's client (docs/clients.md; js5d config --profiles lists the profiles). A server
    /// that answers in another way counts as wrong. Without the option the clients are of build
    /// 550, and accept every format of the master index.
    #[arg(long, value_name = "NAME|BUILD")]
    pub(crate) client: Option<String>,
    /// The settings file of a js5d whose own profiles --client can then name, too.
    ///
    /// Its tables [profile.NAME] say what forks of the client speak (docs/clients.md).
    #[arg(long, value_name = "FILE", requires = "client")]
    pub(crate) profiles: Option<PathBuf>,
    /// Build that clients announce [default: that of --client, or 550].
    #[arg(long, value_name = "N")]
    pub(crate) build: Option<u32>,
    /// Token in the handshake; clients from build 718 on send one [default: empty].
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Count a prefetch response that is broken off for an urgent one as wrong.
    ///
    /// Real clients of the profiles rs2-508 to rs3-742 accept such a break, after which the server
    /// must send the whole response again. Clients of these profiles do so here, too, unless this
    /// option is given.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) no_break_off: Option<bool>,
    /// Match responses by group alone, for servers that send no prefetch bit.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) no_prefetch_bit: Option<bool>,
    /// Wait between the status and the first request, for servers that lose earlier requests.
    #[arg(long, value_name = "TIME")]
    pub(crate) settle: Option<Span>,
    /// How long a server may send no byte on a connection that waits for answers [default: 5s].
    ///
    /// After that the connection is stalled: the report names it, it is closed, and the run ends
    /// with exit code 3.
    #[arg(long, value_name = "TIME")]
    pub(crate) stall_timeout: Option<Span>,
    /// How long after a refusal, a cut or a failure a client connects again [default: never].
    ///
    /// Without it such a client does nothing more, and a connection that the server ends while it
    /// owes answers is a fault, exit code 3. With it such an end is expected, and only counted.
    #[arg(long, value_name = "TIME")]
    pub(crate) retry: Option<Span>,
    /// After a cut, ask again for what was not answered, and go on with the download.
    ///
    /// Needs --retry. Without it a download begins again from the start on each connection; the
    /// real client keeps what it has.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) resume: Option<bool>,
    /// Open each connection with a PROXY header, as a balancer does for its clients.
    ///
    /// For servers that demand one, such as js5d with --listen-proxy. The header has version 2,
    /// and announces the client's own address.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) proxy_header: Option<bool>,
    /// Maximum number of connections to open in a second [default: no limit].
    #[arg(long, value_name = "N")]
    pub(crate) open_rate: Option<Quantity>,
    /// Check the CRC of one response in N against the archive index; 0 checks none [default: 100].
    #[arg(long, value_name = "N")]
    pub(crate) crc_every: Option<u32>,
    /// Compare every byte with this cache.
    ///
    /// A directory, zip, tar or tar.gz, read as js5d reads its own --cache; the word demo means the
    /// demo cache that js5d serves without that option.
    #[arg(long, value_name = "PATH")]
    pub(crate) cache: Option<PathBuf>,
    /// Groups to ask for, instead of those that the server's indexes list: 0/0..4095,2/7.
    #[arg(long, value_name = "LIST")]
    pub(crate) groups: Option<String>,
    /// Worker threads, each with its own ring [default: half of the cores].
    #[arg(long, short = 't', value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Cores to pin the workers to: 1 or 1,3.
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    pub(crate) pin: Option<Vec<u32>>,
    /// Processes that share the load, for more connections than one process has descriptors
    /// [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<u32>,
    /// Source addresses of connections [default: on loopback, as many of 127.x.y.z as needed].
    #[arg(long, value_name = "ADDR,..", value_delimiter = ',')]
    pub(crate) sources: Option<Vec<std::net::IpAddr>>,
    /// play: mean time between bursts [default: 2s].
    #[arg(long, value_name = "TIME")]
    pub(crate) think: Option<Span>,
    /// play: maximum number of urgent requests in a burst [default: 8].
    #[arg(long, value_name = "N")]
    pub(crate) burst: Option<u32>,
    /// play: mean time between prefetch requests [default: 100ms].
    #[arg(long, value_name = "TIME")]
    pub(crate) prefetch_gap: Option<Span>,
    /// play, churn, priority: Zipf exponent of the groups' popularity [default: 1.0].
    #[arg(long, value_name = "S")]
    pub(crate) zipf: Option<f64>,
    /// update-day: the part of the groups that has changed [default: 0.05].
    #[arg(long, value_name = "0..1")]
    pub(crate) changed: Option<f64>,
    /// update-day: ask for exactly what a file of js5d diff OLD NEW --json lists.
    ///
    /// Each client asks for the master index, the indexes of the archives that differ, and the
    /// groups that were added or changed: what a player who has OLD downloads for NEW.
    #[arg(long, value_name = "FILE", conflicts_with = "changed")]
    pub(crate) diff: Option<PathBuf>,
    /// slow: bytes that each client reads in a second [default: 7000].
    #[arg(long, value_name = "BYTES")]
    pub(crate) read_rate: Option<Quantity>,
    /// churn: requests of a client before it disconnects [default: 10].
    #[arg(long, value_name = "N")]
    pub(crate) churn_requests: Option<u32>,
    /// idle: time between requests for the master index, which keep a connection open
    /// [default: 25s].
    #[arg(long, value_name = "TIME")]
    pub(crate) keepalive: Option<Span>,
    /// hostile: tricks to use [default: all of them].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) tricks: Option<Vec<Trick>>,
    /// hostile: how long a connection keeps up its trick [default: 5s].
    #[arg(long, value_name = "TIME")]
    pub(crate) hold: Option<Span>,
}
