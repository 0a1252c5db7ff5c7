//! What the options of balancers and of the game server mean together.

use crate::cli::{ServeArgs, Switch};
use crate::failure::{Exit, Failure};
use crate::net::game::{GameLimits, GameServer};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A socket of the client's and one of the server's.
const DESCRIPTORS_A_GAME_CONNECTION: u64 = 2;

/// Descriptors of the game's thread: ring, epoll and event descriptors.
const DESCRIPTORS_OF_THE_GAME: u64 = 8;

/// The game server and what holds for its connections.
#[derive(Debug)]
pub struct Game {
    /// Where it is.
    pub server: GameServer,
    /// Deadlines of its connections.
    pub limits: GameLimits,
    /// At once.
    pub connections_max: usize,
    /// At once from one address.
    pub connections_per_ip_max: Option<usize>,
}

/// Looks the game server up, if one is named.
///
/// # Errors
/// It cannot be found, or is this very server.
pub fn game(args: &ServeArgs) -> Result<Option<Game>, Failure> {
    let Some(name) = &args.game.game_server else { return Ok(None) };
    let server = GameServer::resolve(name).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("--game-server {name}: {error}"),
            "name a host that the resolver knows ('getent hosts NAME'), or an address",
        )
    })?;
    let own = args.listen.iter().chain(&args.proxy.listen_proxy);
    for address in server.addresses() {
        if let Some(listens) = own.clone().find(|listens| is_same(**listens, address)) {
            return Err(Failure::new(
                Exit::Config,
                format!("--game-server {name} is js5d itself, which listens on {listens}"),
                "let the game server listen on a port of its own, and name that one",
            ));
        }
    }
    let game = &args.game;
    Ok(Some(Game {
        server,
        limits: GameLimits {
            announce: game.game_server_proxy == Switch::On,
            connect_timeout: game.game_connect_timeout,
            idle_timeout: game.game_idle_timeout,
            drain_timeout: game.game_drain_timeout,
        },
        connections_max: game.game_connections_max,
        connections_per_ip_max: game.game_connections_per_ip_max,
    }))
}

/// Whether a connection to `address` would come to the listener.
fn is_same(listens: SocketAddr, address: SocketAddr) -> bool {
    let is_on_it = match listens.ip() {
        any if any.is_unspecified() => any.is_ipv4() == address.is_ipv4() && is_ours(address.ip()),
        one => one == address.ip(),
    };
    listens.port() == address.port() && is_on_it
}

/// Whether an interface of this machine has the address: only then can it be bound to.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Descriptors that connections take which are no peers of JS5's, or not yet.
pub(super) fn descriptors(args: &ServeArgs) -> u64 {
    let game = args.game.game_server.as_ref().map_or(0, |_| {
        DESCRIPTORS_A_GAME_CONNECTION
            .saturating_mul(args.game.game_connections_max as u64)
            .saturating_add(DESCRIPTORS_OF_THE_GAME)
    });
    game.saturating_add(if has_openings(args) { args.proxy.openings_max as u64 } else { 0 })
}

/// Silent connections an address may have, where a silent one holds a place of the openings and
/// not one of the peers.
const OPENINGS_PER_IP_MAX: usize = 256;

/// How many connections that have said nothing one address may have; none is no limit. Without
/// openings a silent connection is a peer, and bounded as peers are.
#[must_use]
pub fn openings_per_ip_max(args: &ServeArgs) -> Option<usize> {
    let default = has_openings(args).then_some(OPENINGS_PER_IP_MAX);
    args.limits.openings_per_ip_max.or(default)
}

/// Whether connections have to show whose or what they are before they are decided on.
pub fn has_openings(args: &ServeArgs) -> bool {
    args.game.game_server.is_some() || !args.proxy.listen_proxy.is_empty()
}
