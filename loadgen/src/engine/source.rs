//! Which addresses connections come from.
//!
//! `connect` searches for a free port from a random place on. While few ports of one (source,
//! destination, port) are taken that is a few probes; past half of them it is thousands, and a
//! connect takes a millisecond. So no source gets more than 40 % of its ports: on loopback the
//! rest of 127.0.0.0/8 is there to be used.

use std::net::{IpAddr, Ipv4Addr};

/// The part of a source's ports that is used at most, in percent.
const FILL_PERCENT: u64 = 40;

/// Sources for connections that come and go: each close leaves its port in TIME_WAIT a minute.
const CHURN_SOURCES: u64 = 32;

/// Where connections to `target` are to come from; empty leaves it to the kernel.
///
/// `part` of `parts` keeps several processes apart, `churns` says that connections come and go.
pub(crate) fn plan(
    target: IpAddr,
    given: &[IpAddr],
    connections: u64,
    churns: bool,
    part: u32,
) -> Vec<IpAddr> {
    if !given.is_empty() {
        return given
            .iter()
            .copied()
            .filter(|source| source.is_ipv4() == target.is_ipv4())
            .collect();
    }
    let IpAddr::V4(v4) = target else { return Vec::new() };
    if !v4.is_loopback() {
        return Vec::new();
    }
    let per_source = (ports() * FILL_PERCENT / 100).max(1);
    let needed = connections.div_ceil(per_source).max(if churns { CHURN_SOURCES } else { 1 });
    if needed == 1 && part == 0 {
        return Vec::new();
    }
    (0..needed).map(|i| loopback(part, i)).collect()
}

/// The `i`-th loopback address of a process: 127.1.0.1 and on, 127.2.0.1 for the next process.
fn loopback(part: u32, i: u64) -> IpAddr {
    let second = 1 + (part % 250) as u8;
    let (third, fourth) = ((i / 250 % 250) as u8, (1 + i % 250) as u8);
    Ipv4Addr::new(127, second, third, fourth).into()
}

/// How many ports the kernel picks from.
pub(crate) fn ports() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = text.ok().and_then(|text| {
        let (first, last) = text.trim().split_once(char::is_whitespace)?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.trim().parse().ok()?);
        Some(last.saturating_sub(first) + 1)
    });
    // Linux's default range, 32768 to 60999.
    range.unwrap_or(28_232)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_is_more_than_two_fifths_full() {
        let target = IpAddr::from([127, 0, 0, 1]);
        for connections in [20_000, 60_000, 200_000] {
            let sources = plan(target, &[], connections, false, 0);
            let fill = connections as f64 / sources.len().max(1) as f64 / ports() as f64;
            assert!(fill <= 0.4, "{connections} connections fill a source to {fill}");
            assert!(sources.iter().all(IpAddr::is_loopback));
        }
    }

    #[test]
    fn given_sources_are_taken_and_processes_kept_apart() {
        let given = [IpAddr::from([10, 0, 0, 7])];
        assert_eq!(plan(IpAddr::from([10, 0, 0, 1]), &given, 1_000_000, true, 3), given);
        let target = IpAddr::from([127, 0, 0, 1]);
        assert_ne!(plan(target, &[], 10, true, 0), plan(target, &[], 10, true, 1));
    }
}
