//! Options of balancers in front of JS5, and of the game server beside it.

use super::units::{at_least, duration};
use super::{Switch, address};
use crate::proxy::network;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// Listeners behind a balancer.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Behind a balancer (PROXY protocol)")]
pub struct ProxyArgs {
    /// Address to listen on for connections that must open with a PROXY header; several may be
    /// given. With it, --listen has no default
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen_proxy: Vec<SocketAddr>,

    /// Network whose PROXY headers are believed; several may be given. A connection from anywhere
    /// else is closed
    #[arg(long, value_name = "NET", default_values = ["127.0.0.0/8", "::1/128"])]
    #[arg(value_parser = network)]
    pub proxy_trusted: Vec<IpNet>,

    /// How long a connection may take from accept to a complete PROXY header
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub proxy_timeout: Duration,

    /// Maximum number of open connections whose PROXY header or, with --game-server, whose first
    /// byte has not arrived, so that their client or their protocol is not known yet. While there
    /// are that many, no connection is accepted
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least::<1>)]
    pub openings_max: usize,
}

/// The game server on the same port.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "One port with the game")]
pub struct GameArgs {
    /// Game server that gets every connection that does not open with JS5's opcode 15
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub game_server: Option<String>,

    /// Whether the game server is told the client's address, by a PROXY header of version 2
    #[arg(long, value_name = "ON|OFF", default_value = "off")]
    pub game_server_proxy: Switch,

    /// Maximum number of connections to the game server at once; further ones are closed
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = at_least::<1>)]
    pub game_connections_max: usize,

    /// Maximum number of connections to the game server at once from one IPv4 address or IPv6 /64;
    /// further ones are closed [default: no limit]
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub game_connections_per_ip_max: Option<usize>,

    /// How long each address of the game server may take to accept a connection
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub game_connect_timeout: Duration,

    /// How long a game connection may be without a byte in either direction
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub game_idle_timeout: Duration,

    /// How long game connections go on after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub game_drain_timeout: Duration,

    /// Whether the thread that forwards game connections has real-time priority, so that a packet
    /// does not wait for milliseconds while JS5 uses every core
    #[arg(long, value_name = "WHETHER", default_value = "best-effort")]
    pub game_realtime: RealtimeArg,
}

/// Whether a thread has real-time priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RealtimeArg {
    /// It has ordinary priority, as the other threads
    Off,
    /// It has real-time priority if the system allows it
    BestEffort,
    /// It has real-time priority, or the server does not start
    Require,
}

/// A host and a port, with which a resolver can do something.
fn host_port(text: &str) -> Result<String, String> {
    let wanted = "HOST:PORT is wanted, such as 127.0.0.1:43595 or [::1]:43595";
    let (host, port) = text.rsplit_once(':').ok_or(wanted)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || !is_port || is_bare_v6 {
        return Err(wanted.to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_game_server_is_a_host_and_a_port() {
        for good in ["localhost:43595", "10.0.0.2:1", "[::1]:65535", "game.example.org:43595"] {
            assert_eq!(host_port(good).as_deref(), Ok(good));
        }
        for bad in ["localhost", ":43595", "10.0.0.2:0", "10.0.0.2:65536", "::1:43595", "a:b"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }
}
