//! What is measured, and the figures to reach.

/// Groups that a workload asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Groups {
    /// The full-size demo cache: a build 550 cache's lengths.
    Mix,
    /// Responses of this many bytes on the wire.
    Fixed(usize),
}

/// One load, and the most that js5d may cost of what others cost.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) groups: Groups,
    pub(crate) connections: u32,
    pub(crate) urgent: u32,
    pub(crate) prefetch: u32,
    pub(crate) key: &'static str,
    /// Of js5d's CPU time a response on its ring, to ring-limit's and to epoll's.
    bounds: &'static [(&'static str, f64)],
}

/// A bound between two workloads of js5d itself.
pub(crate) struct Within {
    pub(crate) workload: &'static Workload,
    pub(crate) against: &'static Workload,
    pub(crate) bound: f64,
}

/// What the prefetch bit and the key may cost.
pub(crate) const WITHIN: &[Within] = &[
    Within { workload: &MIX_PREFETCH, against: &MIX_URGENT, bound: 1.05 },
    Within { workload: &MIX_KEYED, against: &MIX, bound: 1.3 },
];

/// A load of urgent requests for one size, as many in flight as the real client's two windows
/// hold together.
const fn fixed(
    (name, title): (&'static str, &'static str),
    len: usize,
    connections: u32,
    bounds: &'static [(&'static str, f64)],
) -> Workload {
    let (groups, urgent, prefetch) = (Groups::Fixed(len), 40, 0);
    Workload { name, title, groups, connections, urgent, prefetch, key: "none", bounds }
}

/// The mix, at 1,000 connections.
const fn mix(
    (name, title): (&'static str, &'static str),
    (urgent, prefetch): (u32, u32),
    key: &'static str,
    bounds: &'static [(&'static str, f64)],
) -> Workload {
    let (groups, connections) = (Groups::Mix, 1000);
    Workload { name, title, groups, connections, urgent, prefetch, key, bounds }
}

/// js5d's driver for which the bounds of the workloads are.
pub(crate) const RING_DRIVER: &str = "ring";

/// The bounds with the other driver, in every workload: what is compared there is the same way to
/// the kernel.
const EPOLL_BOUNDS: &[(&str, f64)] = &[(EPOLL, 1.05)];

impl Workload {
    /// The bounds with that driver of js5d's.
    pub(crate) fn bounds_with(&self, driver: &str) -> &'static [(&'static str, f64)] {
        if driver == RING_DRIVER { self.bounds } else { EPOLL_BOUNDS }
    }
}

const RING: &str = "ring-limit";
const EPOLL: &str = "epoll";

const MIX: Workload =
    mix(("mix", "550 mix, 1,000, 20 + 20"), (20, 20), "none", &[(RING, 0.94), (EPOLL, 0.95)]);
const MIX_KEYED: Workload =
    mix(("mix-keyed", "550 mix, 1,000, keyed"), (20, 20), "random", &[(RING, 0.77)]);
const MIX_URGENT: Workload =
    mix(("mix-urgent", "550 mix, 1,000, all urgent"), (40, 0), "none", &[]);
const MIX_PREFETCH: Workload =
    mix(("mix-prefetch", "550 mix, 1,000, all prefetch"), (0, 40), "none", &[]);

/// All of them, in the order of the table.
pub(crate) static WORKLOADS: [Workload; 11] = [
    fixed(("300b-1", "300 B, 1 connection"), 300, 1, &[(RING, 1.15), (EPOLL, 1.10)]),
    fixed(("300b-64", "300 B, 64 connections"), 300, 64, &[(RING, 1.03), (EPOLL, 1.0)]),
    fixed(("300b-1000", "300 B, 1,000"), 300, 1000, &[(RING, 1.05), (EPOLL, 0.95)]),
    fixed(("300b-9500", "300 B, 9,500"), 300, 9500, &[(RING, 1.08), (EPOLL, 1.05)]),
    fixed(("4k-1000", "4 KB, 1,000"), 4096, 1000, &[(RING, 1.03), (EPOLL, 0.85)]),
    fixed(("100k-64", "100 KB, 64"), 102_400, 64, &[(RING, 1.03), (EPOLL, 0.90)]),
    Workload {
        name: "one-1000",
        title: "300 B, one in flight, 1,000",
        groups: Groups::Fixed(300),
        connections: 1000,
        urgent: 1,
        prefetch: 0,
        key: "none",
        bounds: &[(RING, 1.02), (EPOLL, 0.85)],
    },
    MIX,
    MIX_KEYED,
    MIX_URGENT,
    MIX_PREFETCH,
];

/// The names, for the command line.
pub(crate) fn names() -> Vec<&'static str> {
    WORKLOADS.iter().map(|workload| workload.name).collect()
}
