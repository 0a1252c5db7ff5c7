//! What a run needs of the machine, what the machine has, and how to get what is missing.

use super::source;
use crate::units::count;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write;

/// Descriptors beside the connections: rings, files, standard streams.
const OTHER_DESCRIPTORS: u64 = 64;

/// Kernel memory of a connection with full windows, both ends on one machine; an idle one has a
/// tenth of it.
const CONNECTION_PAGES: u64 = 4;

/// What the table is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Connections of one process.
    pub(crate) connections: u64,
    pub(crate) processes: u32,
    pub(crate) threads: u32,
    /// Source addresses of one process; 0 is the kernel's choice, which is one.
    pub(crate) sources: u64,
    /// Connects under way at once at most.
    pub(crate) opening: u64,
    pub(crate) is_local: bool,
}

/// One need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) needed: u64,
    pub(crate) there: u64,
    /// How to get more.
    pub(crate) mend: String,
    /// Whether the run cannot work without; otherwise it is worse.
    pub(crate) is_hard: bool,
}

impl Limit {
    pub(crate) fn holds(&self) -> bool {
        self.needed <= self.there
    }
}

/// Lets the process have as many descriptors as the system allows without asking.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, the lower limit stays, and the table shows it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Has the table of descriptors made large enough before there are workers, which would otherwise
/// wait for it between two answers and take that for the server's time.
pub(super) fn reserve_descriptors(connections: u32) {
    let wanted = (u64::from(connections) + OTHER_DESCRIPTORS).min(raise_descriptors());
    // Without it the run is as right, but not as even.
    let _ = js5d::platform::limits::reserve_descriptors(wanted);
}

/// The needs of a run, compared with what the machine has.
pub(crate) fn table(needs: &Needs) -> Vec<Limit> {
    let descriptors = raise_descriptors();
    let wanted = needs.connections + OTHER_DESCRIPTORS;
    let all = needs.connections * u64::from(needs.processes);
    let processes = all.div_ceil(descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1));
    let ports = source::ports() * needs.sources.max(1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut limits = vec![
        Limit {
            name: "descriptors",
            needed: wanted,
            there: descriptors,
            mend: format!("--processes {processes}, or ulimit -Hn {wanted}"),
            is_hard: true,
        },
        Limit {
            name: "ports",
            needed: needs.connections,
            there: ports,
            mend: "more addresses with --sources, or sysctl -w \
                   net.ipv4.ip_local_port_range='1024 65535'"
                .to_owned(),
            is_hard: true,
        },
        Limit {
            name: "cores",
            needed: u64::from(needs.threads) * u64::from(needs.processes),
            there: cores,
            mend: "fewer --threads or --processes: a worker without a core measures its own wait"
                .to_owned(),
            is_hard: false,
        },
    ];
    if needs.is_local {
        let opening = needs.opening.min(all);
        for (name, path) in [
            ("listen backlog", "net.core.somaxconn"),
            ("syn backlog", "net.ipv4.tcp_max_syn_backlog"),
        ] {
            limits.push(Limit {
                name,
                needed: opening,
                there: sysctl(path, 0).unwrap_or(u64::MAX),
                mend: format!("sysctl -w {path}={opening}, or a lower --open-rate"),
                is_hard: false,
            });
        }
        limits.push(Limit {
            name: "tcp memory pages",
            needed: all * CONNECTION_PAGES,
            // The second number: from there on the kernel saves memory.
            there: sysctl("net.ipv4.tcp_mem", 1).unwrap_or(u64::MAX),
            mend: "sysctl -w net.ipv4.tcp_mem='N N N' with larger N, or fewer connections"
                .to_owned(),
            is_hard: false,
        });
    }
    limits
}

/// The table for people; one line if all holds.
pub(crate) fn text(limits: &[Limit]) -> String {
    let mut out = String::new();
    if limits.iter().all(Limit::holds) {
        let words = limits.iter().map(|limit| {
            format!("{} {} of {}", limit.name, count(limit.needed), count(limit.there))
        });
        let _ = writeln!(out, "limits       {}", words.collect::<Vec<_>>().join("; "));
        return out;
    }
    let _ = writeln!(out, "{:<20}{:>12}{:>14}", "limits", "needed", "available");
    for limit in limits {
        let mend = if limit.holds() { "" } else { &limit.mend };
        let mark = if limit.holds() { " " } else { "!" };
        let (needed, there) = (count(limit.needed), count(limit.there));
        let line = format!("{mark} {:<18}{needed:>12}{there:>14}   {mend}", limit.name);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn sysctl(name: &str, place: usize) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_names_what_mends_it() {
        let needs = Needs {
            connections: 1 << 40,
            processes: 1,
            threads: 1,
            sources: 1,
            opening: 10,
            is_local: true,
        };
        let limits = table(&needs);
        let descriptors = limits.iter().find(|limit| limit.name == "descriptors").unwrap();
        assert!(!descriptors.holds() && descriptors.mend.contains("--processes"));
        assert!(text(&limits).contains("--processes"));
        let small = table(&Needs { connections: 1, ..needs });
        assert!(small.iter().filter(|limit| limit.is_hard).all(Limit::holds), "{small:?}");
    }
}
