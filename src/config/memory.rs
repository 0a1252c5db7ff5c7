//! How much memory the settings may need at worst, and whether that is allowed.
//!
//! The sum is what all peers and reloads together can make the process use. The kernel's buffers
//! of sockets are not in it: `net.ipv4.tcp_mem` bounds them for the machine, and at a container's
//! limit the kernel shrinks them before it ends a process.

use super::{DESCRIPTORS_ADMIN, clamp_connections, generations_memory_max};
use crate::catalog::{Snapshot, loading_bytes_beside};
use crate::cli::{Rate, ServeArgs};
use crate::failure::{Exit, Failure};
use crate::net::Driver;
use crate::net::footprint::{self, SOCKET_BYTES};
use crate::platform::{cpu, limits, memory};

/// Code and data of the program, its main thread, what the allocator holds between uses.
const PROGRAM_BYTES: u64 = 8_000_000;

/// The admin address: its thread with runtime and answers under way, and the history.
const ADMIN_BYTES: u64 = 2_500_000;

/// A connection to the admin address, beside its socket: request, headers and answer.
const ADMIN_CONNECTION_BYTES: u64 = 64 << 10;

/// One term of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What takes it.
    pub name: &'static str,
    /// How many of these there can be.
    pub count: u64,
    /// What each takes.
    pub bytes_each: u64,
}

impl Part {
    /// All of them together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.bytes_each)
    }
}

/// Who says how much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `--memory-max`.
    Setting(u64),
    /// The control group's limit: a container's or a unit's.
    Container(u64),
    /// The machine: there is no limit but its memory.
    Machine(u64),
}

impl Bound {
    /// How much.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Setting(bytes) | Self::Container(bytes) | Self::Machine(bytes) => bytes,
        }
    }
}

/// The worst case of memory, and the memory that is allowed.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The terms, peers first.
    pub parts: Vec<Part>,
    /// What they are to stay below.
    pub bound: Bound,
}

/// Peers at once: the term that a remedy can lower.
const PEERS: &str = "peers that read nothing";

impl Budget {
    /// The sum for a server with these settings, on this machine, whose generations are as large
    /// as `snapshot`.
    #[must_use]
    pub fn new(args: &ServeArgs, driver: Driver, snapshot: &Snapshot) -> Self {
        let own = args.limits.memory_max.map(Bound::Setting);
        let bound = own.or_else(|| memory::container_bytes().map(Bound::Container));
        let bound = bound.unwrap_or_else(|| Bound::Machine(memory::total_bytes()));
        Self { parts: parts(args, driver, snapshot), bound }
    }

    /// All terms together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).fold(0, u64::saturating_add)
    }

    /// Whether the worst case is above what is allowed. The machine's memory is no limit: if an
    /// operator set none, js5d does not choose one.
    ///
    /// # Errors
    /// It is; with the number of peers that would fit.
    pub fn check(&self) -> Result<(), Failure> {
        let (limit, whose) = match self.bound {
            Bound::Machine(_) => return Ok(()),
            Bound::Setting(bytes) => (bytes, "--memory-max"),
            Bound::Container(bytes) => (bytes, "the container's limit"),
        };
        let worst = self.bytes();
        if worst <= limit {
            return Ok(());
        }
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let cause = format!(
            "these settings may need {} MB at worst, and {whose} allows {} MB",
            megabytes(worst),
            limit / 1_000_000
        );
        let peers = self.parts.iter().find(|part| part.name == PEERS);
        let others = worst - peers.map_or(0, Part::bytes);
        let fitting = peers.map_or(0, |peers| limit.saturating_sub(others) / peers.bytes_each);
        let remedy = match fitting {
            0 => format!(
                "allow more memory, or lower --generations-max, --workers or \
                 --game-connections-max: everything besides the peers takes {} MB",
                megabytes(others)
            ),
            peers => format!("lower --connections-max to {peers}, or allow more memory"),
        };
        Err(Failure::new(Exit::Config, cause, remedy))
    }
}

fn parts(args: &ServeArgs, driver: Driver, snapshot: &Snapshot) -> Vec<Part> {
    let limits = &args.limits;
    let cores = cpu::allowed().map_or(1, |cores| cores.len());
    let workers = args.workers.map_or(cores, usize::from).max(1);
    // Where a cache is checked descriptors may be short: then what was asked for counts.
    let peers = limits::descriptors_max()
        .and_then(|descriptors| clamp_connections(args, workers, descriptors).ok())
        .map_or(limits.connections_max, |(peers, _)| peers);
    let egress = &args.egress;
    let rates: [Option<Rate>; 3] =
        [egress.egress_max, egress.egress_max_per_connection, egress.prefetch_egress_max];
    let is_capped = rates.iter().any(Option::is_some);
    let capped = if is_capped { footprint::CAPPED_BYTES } else { 0 };
    let counted = limits.connections_per_ip_max.map_or(0, |_| footprint::ADDRESS_BYTES);
    let part = |name, count: usize, bytes_each| Part { name, count: count as u64, bytes_each };
    let silent = super::openings_per_ip_max(args).map_or(0, |_| footprint::SILENT_BYTES);
    let counted = counted + silent;
    let a_peer = footprint::peer_bytes_max(driver, limits.queue_len_max) + capped + counted;
    let refused = footprint::connection_bytes_max(driver) + silent + SOCKET_BYTES;
    let mut parts = vec![
        part(PEERS, peers, a_peer),
        part("peers that are refused", limits.refusals_max, refused),
        part("workers", workers, footprint::worker_bytes(driver)),
    ];
    parts.extend(generations(args, snapshot));
    let game = &args.game;
    if game.game_server.is_some() || !args.proxy.listen_proxy.is_empty() {
        let opening = footprint::OPENING_BYTES + silent + SOCKET_BYTES;
        parts.push(part("openings", args.proxy.openings_max, opening));
    }
    if game.game_server.is_some() {
        let connection = footprint::game_connection_bytes(driver) + 2 * SOCKET_BYTES;
        parts.push(part("game connections", game.game_connections_max, connection));
        parts.push(part("the game's thread", 1, footprint::game_thread_bytes(driver)));
    }
    if !args.admin.admin.is_empty() {
        let connections = args.admin.admin_connections_max + DESCRIPTORS_ADMIN as usize;
        let connection = ADMIN_CONNECTION_BYTES + SOCKET_BYTES;
        parts.push(part("admin connections", connections, connection));
        parts.push(part("the admin's thread", 1, ADMIN_BYTES));
    }
    parts.push(part("the program", 1, PROGRAM_BYTES));
    parts
}

/// As many generations as may be in memory, or as their own bound allows, and what loading takes
/// beside the generation that it makes.
fn generations(args: &ServeArgs, snapshot: &Snapshot) -> [Part; 2] {
    let count = args.limits.generations_max as u64;
    let each = snapshot.memory_bytes();
    let bound = generations_memory_max(args).max(each);
    let loading = loading_bytes_beside(snapshot.totals().groups);
    [
        Part { name: "generations", count, bytes_each: each.min(bound / count.max(1)).max(1) },
        Part { name: "loading another", count: 1, bytes_each: loading },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bound: Bound) -> Budget {
        let part = |name, count, bytes_each| Part { name, count, bytes_each };
        Budget { parts: vec![part(PEERS, 1000, 88_420), part("generations", 3, 90_000_000)], bound }
    }

    #[test]
    fn a_containers_limit_counts_and_the_machines_does_not() {
        let worst = 88_420_000 + 270_000_000;
        assert_eq!(budget(Bound::Machine(1)).bytes(), worst);
        assert!(budget(Bound::Machine(1)).check().is_ok());
        assert!(budget(Bound::Container(worst)).check().is_ok());
        let failure = budget(Bound::Container(300_000_000)).check().expect_err("it is more");
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.cause.contains("359 MB at worst"), "{failure}");
        assert!(failure.cause.contains("the container's limit allows 300 MB"), "{failure}");
        // 30,000,000 / 88,420
        assert!(failure.remedy.contains("--connections-max to 339"), "{failure}");
        let failure = budget(Bound::Container(270_000_000)).check().expect_err("it is more");
        assert!(failure.remedy.contains("--generations-max"), "{failure}");
    }
}
