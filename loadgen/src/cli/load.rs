//! The options that describe a load. They are at the same time the keys of a scenario file: there
//! is one list of them, and this is it.

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
    /// Several, with commas between, share the clients evenly: where one server process cannot
    /// hold them all. They must serve the same cache.
    #[arg(value_name = "HOST:PORT,..")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// What the clients do [default: download].
    #[arg(long, short = 's', value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scenario: Option<Scenario>,
    /// Several scenarios by weight, as in play=8,churn=2.
    #[arg(long, value_name = "NAME=WEIGHT,..", conflicts_with = "scenario")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mix: Option<String>,
    /// How many clients, or a ramp of them: 64, 10..1000.
    ///
    /// A ramp opens the first number at the start and the rest evenly over --ramp.
    #[arg(long, short = 'c', value_name = "N|A..B")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<Ramp>,
    /// Requests a second, together; without it the loop is closed.
    ///
    /// An open loop asks at its times, whether or not the server keeps up; latency counts from
    /// the time at which a request should have been sent. In login-storm a request is a login.
    #[arg(long, short = 'r', value_name = "N|A..B")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Ramp>,
    /// How the requests of an open loop are spaced [default: even].
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arrivals: Option<Arrivals>,
    /// How long the ramps of --rate and --connections take [default: the whole run].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ramp: Option<Span>,
    /// How long to measure [default: 10s, if nothing else ends the run].
    #[arg(long, short = 'd', value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<Span>,
    /// End after this many requests, together.
    #[arg(long, short = 'n', value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<Quantity>,
    /// End when each client has downloaded everything this many times.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) downloads: Option<u32>,
    /// Leave the first part of the run out of the measurement [default: 0s].
    #[arg(long, short = 'w', value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup: Option<Span>,
    /// Urgent requests that a client keeps in flight [default: as the real client; 20 of 550].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) urgent: Option<u32>,
    /// Prefetch requests that a client keeps in flight [default: as the real client; 20 of 550].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch: Option<u32>,
    /// Keys: none, a number for all, random (one a connection), changing (in mid-stream).
    #[arg(long, value_name = "none|1..255|random|changing")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Clients say that their player is logged in, which servers may prefer.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logged_in: Option<bool>,
    /// Same seed, same groups in the same order [default: 1].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Who the clients are: a profile, as in oldschool or rs2-718, or a build, as in 718.
    ///
    /// Handshake, messages, framing, master index, prefetch bit and windows are those of that
    /// revision's client (docs/clients.md; js5d config --profiles lists the profiles); a server
    /// that speaks otherwise is wrong. Without it they are of build 550, and a server may have its
    /// master index in any format.
    #[arg(long, value_name = "NAME|BUILD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// The settings file of a js5d whose own profiles --client can then name, too.
    ///
    /// Its tables [profile.NAME] say what forks of the client speak (docs/clients.md).
    #[arg(long, value_name = "FILE", requires = "client")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profiles: Option<PathBuf>,
    /// The build to announce [default: that of --client, or 550].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<u32>,
    /// The token in the handshake of clients that have one, from build 718 on [default: empty].
    #[arg(long, value_name = "TOKEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Call a prefetch response wrong that is broken off for an urgent one.
    ///
    /// Real clients from 508 to 742 take it, and so do these; each is to come again, whole. With
    /// this every response must come in one piece.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_break_off: Option<bool>,
    /// The server sends no prefetch bit (old-school revisions): match by group alone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_prefetch_bit: Option<bool>,
    /// Wait between the status and the first request, for servers that lose what follows at once.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settle: Option<Span>,
    /// No byte for so long with requests in flight is a stall [default: 5s].
    ///
    /// A stalled connection is named in the report and given up; the run ends with exit code 3.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stall_timeout: Option<Span>,
    /// Open a client's connection again so long after a refusal, a cut or a failure.
    ///
    /// Without it such a client is done, and a connection that the server ends while it owes
    /// answers is a fault, exit code 3. With it cuts are expected, and counted as outcomes.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<Span>,
    /// After a cut, ask again for what was owed, and go on where the download was.
    ///
    /// Needs --retry. Without it a download begins anew on each connection; the real client keeps
    /// what it has.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<bool>,
    /// Open each connection with a PROXY header, as a balancer does for its clients.
    ///
    /// For servers that demand one, such as js5d's --listen-proxy. It is of version 2 and
    /// announces the client's own address.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy_header: Option<bool>,
    /// Connections opened a second at most [default: as fast as it goes].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_rate: Option<Quantity>,
    /// Check the CRC of one response in N against the archive index; 0 is never [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crc_every: Option<u32>,
    /// Compare every byte with this cache.
    ///
    /// A directory, zip, tar or tar.gz, read as js5d reads its own --cache; the word demo means the
    /// demo cache that js5d serves without that option.
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<PathBuf>,
    /// Ask for these groups, not for what the server's indexes list: 0/0..4095,2/7.
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<String>,
    /// Worker threads, each with its own ring [default: half of the cores].
    #[arg(long, short = 't', value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<u32>,
    /// Pin the workers to these cores: 1 or 1,3.
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<Vec<u32>>,
    /// Spread the load over this many processes, where descriptors run out [default: 1].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) processes: Option<u32>,
    /// Source addresses [default: for loopback as many of 127.x.y.z as needed].
    #[arg(long, value_name = "ADDR,..", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sources: Option<Vec<std::net::IpAddr>>,
    /// play: mean time between bursts [default: 2s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think: Option<Span>,
    /// play: urgent requests in a burst, at most [default: 8].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<u32>,
    /// play: mean time between prefetch requests [default: 100ms].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch_gap: Option<Span>,
    /// play, churn, priority: Zipf exponent of the groups' popularity [default: 1.0].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipf: Option<f64>,
    /// update-day: which part of the groups has changed [default: 0.05].
    #[arg(long, value_name = "0..1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<f64>,
    /// update-day: ask for exactly what has changed, as js5d diff OLD NEW --json says.
    ///
    /// Each client asks for the master index, the indexes of the archives that differ, and the
    /// groups that were added or changed: what a player who has OLD downloads for NEW.
    #[arg(long, value_name = "FILE", conflicts_with = "changed")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diff: Option<PathBuf>,
    /// slow: bytes that each client reads in a second [default: 7000].
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_rate: Option<Quantity>,
    /// churn: requests before a client goes [default: 10].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) churn_requests: Option<u32>,
    /// idle: ask for the master index this often, as proof of life [default: 25s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keepalive: Option<Span>,
    /// hostile: only these tricks [default: all of them].
    #[arg(long, value_enum, value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tricks: Option<Vec<Trick>>,
    /// hostile: how long a trick is held [default: 5s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Span>,
}
