//! Makes the server's configuration of the options, with every check that needs several values.

mod clients;
mod driver;
mod front;
mod memory;

pub use clients::{clients, profiles, profiles_of_file, readers, with_stored_master};
pub use driver::Choice;
pub use front::{Game, game, has_openings, openings_per_ip_max};
pub use memory::{Bound, Budget, Part};

use crate::catalog::ReloadLimits;
use crate::cli::{BreakOff, EgressArgs, MissingGroup, Rate, ServeArgs};
use crate::failure::{Exit, Failure};
use crate::net::ConnectionLimits;
use crate::net::line::Caps;
use crate::platform::{cpu, limits, memory as machine};
use crate::protocol::Clients;
use std::net::SocketAddr;
use std::sync::Arc;

/// Descriptors that are no connections: the ring and event descriptors of the runtimes,
/// standard streams, files, with room to spare.
const DESCRIPTORS_RESERVED: u64 = 100;

/// Descriptors of a worker: its ring, its epoll and event descriptors, its listeners.
const DESCRIPTORS_A_WORKER: u64 = 8;

/// Descriptors of the admin address besides its connections: listeners, its runtime, connections
/// beyond the limit that are being answered.
const DESCRIPTORS_ADMIN: u64 = 40;

/// What `serve` runs with.
#[derive(Debug)]
pub struct Settings {
    /// The way to the kernel.
    pub driver: Choice,
    /// Deadlines and bounds of a connection.
    pub limits: ConnectionLimits,
    /// Caps on what is sent.
    pub caps: Caps,
    /// The clients that are served.
    pub clients: Arc<Clients>,
    /// How many workers.
    pub workers: usize,
    /// The cores that workers are bound to, if they are.
    pub cores: Option<Vec<usize>>,
    /// Peers at once, after clamping.
    pub connections_max: usize,
    /// What was asked for, if the descriptors do not allow as many.
    pub connections_clamped_from: Option<usize>,
    /// How much may be in memory while reloading.
    pub reload: ReloadLimits,
    /// What the process may open.
    pub descriptors: u64,
    /// What it opens at most.
    pub descriptors_used_max: u64,
}

/// Checks the options against each other and the system. Raises the descriptors' limit.
///
/// # Errors
/// A value does not go with another, or the system does not allow it.
pub fn settle(args: &ServeArgs) -> Result<Settings, Failure> {
    let driver = Choice::of(args.driver)?;
    check_addresses(args)?;
    let cores = cpu::allowed().map_err(|error| {
        Failure::new(Exit::System, format!("cores cannot be counted: {error}"), "set --workers")
    })?;
    let workers = args.workers.map_or(cores.len(), usize::from).max(1);
    if args.pin_workers && workers > cores.len() {
        return Err(Failure::new(
            Exit::Config,
            format!("{workers} workers cannot be bound to {} cores", cores.len()),
            "lower --workers, or leave --pin-workers out",
        ));
    }
    let descriptors = limits::raise_descriptors().map_err(|error| {
        Failure::new(
            Exit::System,
            format!("the descriptor limit cannot be raised: {error}"),
            "start js5d with 'ulimit -n' at the hard limit",
        )
    })?;
    let (connections_max, connections_clamped_from) =
        clamp_connections(args, workers, descriptors)?;
    let caps = caps(&args.egress)?;
    Ok(Settings {
        driver,
        caps,
        limits: ConnectionLimits {
            handshake_timeout: args.limits.handshake_timeout,
            idle_timeout: args.limits.idle_timeout,
            send_timeout: args.limits.send_timeout,
            linger_timeout: args.limits.linger_timeout,
            generation_timeout: args.limits.generation_timeout.0,
            drain_timeout: args.limits.drain_timeout,
            chatter_max: args.limits.chatter_max,
            close_on_missing_group: args.missing_group == MissingGroup::Close,
            break_off: args.break_off == BreakOff::Auto,
        },
        clients: Arc::new(clients(args)?),
        workers,
        cores: args.pin_workers.then_some(cores),
        connections_max,
        connections_clamped_from,
        reload: ReloadLimits {
            generations_max: args.limits.generations_max,
            memory_bytes_max: generations_memory_max(args),
        },
        descriptors,
        descriptors_used_max: descriptors_besides(args, workers)
            .saturating_add(connections_max as u64),
    })
}

/// Refuses what no system can bind: a port for two things.
fn check_addresses(args: &ServeArgs) -> Result<(), Failure> {
    let plain = args.listen.iter().map(|address| ("--listen", address));
    let proxy = args.proxy.listen_proxy.iter().map(|address| ("--listen-proxy", address));
    let admin = args.admin.ports().map(|address| ("--admin", address));
    let addresses: Vec<_> = plain.chain(proxy).chain(admin).collect();
    let overlap = |a: &SocketAddr, b: &SocketAddr| {
        let is_any = a.ip().is_unspecified() || b.ip().is_unspecified();
        // Port 0 is another port each time.
        (a.port(), a.is_ipv4()) == (b.port(), b.is_ipv4())
            && a.port() != 0
            && (is_any || a.ip() == b.ip())
    };
    for (place, (option, address)) in addresses.iter().enumerate() {
        let (cause, remedy) = match addresses[..place].iter().find(|(_, a)| overlap(a, address)) {
            None => continue,
            Some((_, earlier)) if earlier == address => {
                (format!("{option} {address} is given twice"), "give each address once")
            }
            Some((other, earlier)) => (
                format!("{other} {earlier} and {option} {address} want the same port"),
                "give each a port of its own",
            ),
        };
        return Err(Failure::new(Exit::Config, cause, remedy));
    }
    Ok(())
}

/// As many peers as asked for, or as descriptors allow beside the refused ones.
fn clamp_connections(
    args: &ServeArgs,
    workers: usize,
    descriptors: u64,
) -> Result<(usize, Option<usize>), Failure> {
    let others = descriptors_besides(args, workers);
    let allowed = usize::try_from(descriptors.saturating_sub(others)).unwrap_or(usize::MAX);
    if allowed == 0 {
        return Err(Failure::new(
            Exit::System,
            format!(
                "{descriptors} descriptors leave none for peers; {others} are needed for other \
                 things"
            ),
            "raise the limit ('ulimit -n 20000'), or lower --refusals-max, --openings-max and \
             --game-connections-max",
        ));
    }
    let wanted = args.limits.connections_max;
    Ok((wanted.min(allowed), (wanted > allowed).then_some(wanted)))
}

/// Descriptors that are no JS5 peers' which are served.
fn descriptors_besides(args: &ServeArgs, workers: usize) -> u64 {
    (DESCRIPTORS_RESERVED
        + DESCRIPTORS_A_WORKER * (workers as u64)
        + (workers * (args.listen.len() + args.proxy.listen_proxy.len())) as u64
            * if args.restart.handover.is_some() { 2 } else { 1 }
        + args.limits.refusals_max as u64
        + match args.admin.admin.len() {
            0 => 0,
            addresses => DESCRIPTORS_ADMIN + (addresses + args.admin.admin_connections_max) as u64,
        })
    .saturating_add(front::descriptors(args))
}

/// What was asked for, or what leaves room for connections on this machine.
fn generations_memory_max(args: &ServeArgs) -> u64 {
    args.limits.generations_memory_max.unwrap_or_else(|| machine::total_bytes() / 4 * 3)
}

/// The caps on what is sent; one that is above that of the whole server would do nothing.
fn caps(args: &EgressArgs) -> Result<Caps, Failure> {
    let others = [
        ("--egress-max-per-connection", args.egress_max_per_connection),
        ("--prefetch-egress-max", args.prefetch_egress_max),
    ];
    for (name, rate) in others {
        if let (Some(rate), Some(total)) = (rate, args.egress_max)
            && rate > total
        {
            let cause = format!("{name} {rate} is more than --egress-max {total} lets through");
            return Err(Failure::new(
                Exit::Config,
                cause,
                format!("lower {name}, or leave it out"),
            ));
        }
    }
    let bytes = |rate: Option<Rate>| rate.map(|Rate(bytes)| bytes);
    Ok(Caps {
        total: bytes(args.egress_max),
        connection: bytes(args.egress_max_per_connection),
        prefetch: bytes(args.prefetch_egress_max),
    })
}
