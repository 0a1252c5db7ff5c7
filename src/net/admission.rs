//! Admission: the limit on connections, and the limit for each address. Shared by the workers, and
//! used only when a connection is admitted or refused and when it ends.

use super::by_address::{AddressKey, ByAddress};
use crate::protocol::Status;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the connections that are open, against the limits.
#[derive(Debug)]
pub struct Admission {
    connections_max: usize,
    connections_per_ip_max: Option<usize>,
    refusals_max: usize,
    connections: AtomicUsize,
    refusals: AtomicUsize,
    /// Empty if there is no limit for each address.
    by_address: ByAddress,
}

/// A place among the connections; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    kind: PermitKind,
}

#[derive(Debug)]
enum PermitKind {
    Admitted { address: Option<AddressKey> },
    Refused,
}

/// Whether a new connection is served.
#[derive(Debug)]
pub enum Verdict {
    /// Serve it.
    Admitted(Permit),
    /// Answer its handshake with this status, then close.
    Refused(Permit, Status),
}

impl Admission {
    /// No connection is open yet.
    #[must_use]
    pub fn new(
        connections_max: usize,
        connections_per_ip_max: Option<usize>,
        refusals_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            connections_per_ip_max,
            refusals_max,
            connections: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            by_address: ByAddress::default(),
        })
    }

    /// Whether another connection may be accepted at all: only while fewer than `refusals_max`
    /// refused ones are open. A refused connection stays open until its peer has read its status,
    /// and any accepted connection may have to be refused.
    #[must_use]
    pub fn may_accept(&self) -> bool {
        self.refusals.load(Ordering::Relaxed) < self.refusals_max
    }

    /// Admits or refuses a new connection from `address`.
    #[must_use]
    pub fn decide(self: &Arc<Self>, address: SocketAddr) -> Verdict {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(Status::ServerFull);
        }
        let key = self.connections_per_ip_max.map(|_| AddressKey::of(address.ip()));
        if let (Some(key), Some(max)) = (key, self.connections_per_ip_max)
            && !self.by_address.take(key, max)
        {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(Status::TooManyConnections);
        }
        Verdict::Admitted(self.permit(PermitKind::Admitted { address: key }))
    }

    /// Refuses a new connection, whether or not a limit is reached.
    #[must_use]
    pub fn refuse(self: &Arc<Self>, status: Status) -> Verdict {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        Verdict::Refused(self.permit(PermitKind::Refused), status)
    }

    fn permit(self: &Arc<Self>, kind: PermitKind) -> Permit {
        Permit { admission: Arc::clone(self), kind }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let admission = &self.admission;
        match self.kind {
            PermitKind::Refused => {
                admission.refusals.fetch_sub(1, Ordering::Relaxed);
            }
            PermitKind::Admitted { address } => {
                admission.connections.fetch_sub(1, Ordering::Relaxed);
                if let Some(address) = address {
                    admission.by_address.give_back(address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn statuses(admission: &Arc<Admission>, addresses: &[&str]) -> (Vec<Verdict>, Vec<u8>) {
        let decide = |address: &&str| {
            let ip: IpAddr = address.parse().expect("an address");
            admission.decide(SocketAddr::new(ip, 1))
        };
        let verdicts: Vec<_> = addresses.iter().map(decide).collect();
        let bytes = verdicts.iter().map(|verdict| match verdict {
            Verdict::Admitted(_) => 0,
            Verdict::Refused(_, status) => status.to_byte(),
        });
        let bytes = bytes.collect();
        (verdicts, bytes)
    }

    #[test]
    fn the_limit_is_exact_and_places_are_given_back() {
        let admission = Admission::new(2, None, 10);
        let (held, bytes) = statuses(&admission, &["10.0.0.1", "10.0.0.1", "10.0.0.1"]);
        assert_eq!(bytes, [0, 0, 7]);
        drop(held);
        assert_eq!(statuses(&admission, &["10.0.0.1", "10.0.0.1"]).1, [0, 0]);
    }

    #[test]
    fn an_address_is_an_ipv4_address_or_an_ipv6_slash_64() {
        let admission = Admission::new(100, Some(1), 10);
        let addresses = [
            ("10.0.0.1", 0),
            ("10.0.0.1", 9),
            ("::ffff:10.0.0.1", 9),
            ("10.0.0.2", 0),
            ("fd00:1:2:3::1", 0),
            ("fd00:1:2:3:ffff::2", 9),
            ("fd00:1:2:4::1", 0),
        ];
        let (held, bytes) = statuses(&admission, &addresses.map(|(address, _)| address));
        assert_eq!(bytes, addresses.map(|(_, status)| status));
        drop(held);
        assert_eq!(admission.by_address.len(), 0, "bounded");
    }

    #[test]
    fn refused_peers_are_bounded_too() {
        let admission = Admission::new(0, None, 1);
        assert!(admission.may_accept());
        let (held, bytes) = statuses(&admission, &["10.0.0.1"]);
        assert_eq!(bytes, [7]);
        assert!(!admission.may_accept());
        drop(held);
        assert!(admission.may_accept());
    }
}
