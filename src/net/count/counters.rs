//! What is counted: plain cells of one worker, published at its heartbeat.
//!
//! Nothing on the hot path touches memory that another core writes. Each counter is declared
//! once, with its help.

use super::bounds::LATENCY_LEN;
use super::cell::add;
use super::errnos::ERRNOS_LEN;
use super::pulse::Pulse;
use crate::protocol::profile::PROFILES_MAX;
use crate::protocol::session::Violation;
use crate::protocol::{Class, Status};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident: $help:literal,)* ; $($row:ident[$len:ident]: $row_help:literal,)*) => {
        /// A worker's own counters. They only grow, except for gauges of the present state, such as
        /// open connections and queued requests.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: Cell<u64>,)*
            $(#[doc = $row_help] pub $row: [Cell<u64>; $len],)*
        }

        /// What a worker last published.
        #[derive(Debug, Default)]
        pub struct Published {
            $(#[doc = $help] pub $name: AtomicU64,)*
            $(#[doc = $row_help] pub $row: [AtomicU64; $len],)*
            /// The worker's last heartbeat.
            pub pulse: Pulse,
        }

        impl Counters {
            /// Makes the present values visible to other threads.
            pub fn publish(&self, to: &Published) {
                $(to.$name.store(self.$name.get(), Ordering::Relaxed);)*
                $(for (to, from) in to.$row.iter().zip(&self.$row) {
                    to.store(from.get(), Ordering::Relaxed);
                })*
            }
        }

        /// Counters added up over all workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $(#[doc = $help] pub $name: u64,)*
            $(#[doc = $row_help] pub $row: [u64; $len],)*
        }

        impl Totals {
            /// Each counter set to a number of its own, with its name: so that a test finds one
            /// that is shown nowhere.
            #[cfg(test)]
            #[must_use]
            pub fn numbered() -> (Self, Vec<(&'static str, u64)>) {
                let (mut totals, mut names) = (Self::default(), Vec::new());
                let mut number = |name| {
                    let value = 1_000_003 + 1009 * names.len() as u64;
                    names.push((name, value));
                    value
                };
                $(totals.$name = number(stringify!($name));)*
                (totals, names)
            }

            /// Adds what one worker published.
            pub fn add(&mut self, published: &Published) {
                $(self.$name += published.$name.load(Ordering::Relaxed);)*
                $(for (sum, from) in self.$row.iter_mut().zip(&published.$row) {
                    *sum += from.load(Ordering::Relaxed);
                })*
            }
        }
    };
}

counters! {
    connections: "Connections open, refused ones included.",
    connections_opening: "Open connections whose PROXY header or first byte has not arrived.",
    connections_handshake: "Open connections whose handshake has not arrived.",
    connections_refusing: "Open connections that will be refused once their handshake arrives.",
    connections_idle: "Open connections that the ring sends nothing to.",
    connections_sending: "Open connections that the ring sends to.",
    connections_slow: "Open connections that the ring sends to and whose peers read slowly.",
    connections_credit: "Open connections that wait because of a cap on bandwidth.",
    connections_lingering: "Connections that end: the peer may read, and is to end its side.",
    connections_outdated: "Open connections that serve from an earlier generation.",
    logged_in: "Open connections whose player is logged in.",
    accepted: "Connections accepted, refused ones included.",
    accept_errors: "Failed accepts, by lack of descriptors mostly.",
    listeners_lost: "Listening sockets that another process has shut down.",
    handshakes_ok: "Handshakes answered 0.",
    refused_out_of_date: "Handshakes answered 6 or 48: build or token are not served.",
    refused_server_full: "Handshakes answered 7.",
    refused_address: "Handshakes answered 9: too many connections from the address.",
    requests_urgent: "Urgent requests taken in.",
    requests_prefetch: "Prefetch requests taken in.",
    responses_urgent: "Urgent responses given to the kernel, begun ones included.",
    responses_prefetch: "Prefetch responses given to the kernel, begun ones included.",
    response_bytes_urgent: "Bytes of urgent responses, counted whole when one is begun.",
    response_bytes_prefetch: "Bytes of prefetch responses, counted whole when one is begun.",
    unanswered_urgent: "Urgent requests without a response: no such group, or the peer has gone.",
    unanswered_prefetch: "Prefetch requests without a response, for the same reasons.",
    queued_urgent: "Urgent requests that wait.",
    queued_prefetch: "Prefetch requests that wait.",
    sent_bytes: "Bytes that the kernel took.",
    missing_groups: "Requests for groups that the cache does not hold.",
    rekeys: "Opcode 4.",
    state_changes: "Opcodes 2 and 3.",
    egress_urgent_logged_in_bytes: "Under a cap: urgent response bytes of logged-in peers.",
    egress_urgent_logged_out_bytes: "Under a cap: urgent response bytes of the other peers.",
    egress_prefetch_logged_in_bytes: "Under a cap: prefetch response bytes of logged-in peers.",
    egress_prefetch_logged_out_bytes: "Under a cap: prefetch response bytes of the other peers.",
    waiting_urgent_logged_in: "Under a cap: logged-in peers that wait with an urgent response.",
    waiting_urgent_logged_out: "Under a cap: other peers that wait with an urgent response.",
    waiting_prefetch_logged_in: "Under a cap: logged-in peers that wait with a prefetch response.",
    waiting_prefetch_logged_out: "Under a cap: other peers that wait with a prefetch response.",
    credit_waits: "Under a cap: times that a connection had to wait for its turn.",
    slow_peers: "Times that a peer became slow.",
    broken_off: "Prefetch responses broken off for an urgent one; each is sent again, whole.",
    wasted_bytes: "Bytes of responses that were broken off.",
    closed_by_peer: "Connections that the peer ended or reset.",
    closed_disconnect: "Connections closed on opcode 7.",
    closed_refused: "Connections closed after a status that refuses.",
    closed_not_js5: "Connections that opened with another service's opcode.",
    closed_chatter: "Connections closed for too many messages that ask for nothing.",
    closed_violation: "Connections closed for an unknown opcode.",
    closed_missing_group: "Connections closed for a group that the cache does not hold.",
    closed_handshake_timeout: "Connections whose handshake was late.",
    closed_idle_timeout: "Connections that asked for nothing for too long.",
    closed_send_timeout: "Connections whose peer read nothing for too long.",
    closed_generation: "Connections closed so that they come back to the current generation.",
    closed_drain: "Connections closed because the server stops, or was taken over from.",
    proxy_headers: "PROXY headers that announced an address.",
    proxy_headers_local: "PROXY headers that announced none: LOCAL, UNKNOWN, UNSPEC, not TCP.",
    closed_proxy_untrusted: "Connections to PROXY listeners from outside the trusted networks.",
    closed_proxy_malformed: "Connections that opened with something else than a PROXY header.",
    closed_proxy_too_long: "Connections whose PROXY header was longer than is accepted.",
    closed_proxy_timeout: "Connections whose PROXY header was late.",
    game_connections: "Connections open that are forwarded to the game server.",
    game_accepted: "Connections handed on to be forwarded to the game server.",
    game_refused: "Connections closed at the limits of game connections.",
    game_connect_errors: "Connections closed because the game server could not be reached.",
    game_received_bytes: "Bytes forwarded from clients to the game server.",
    game_sent_bytes: "Bytes forwarded from the game server to clients.",
    game_closed: "Game connections that both sides ended in good order.",
    game_closed_reset: "Game connections that a side reset.",
    game_closed_idle: "Game connections without a byte for too long.",
    game_closed_drain: "Game connections cut because the server stops.",
    game_closed_error: "Game connections ended by an error of a socket or the ring.",
    closed_openings: "Connections of an address that has --openings-per-ip-max silent ones.",
    closed_error: "Connections closed by an error of the socket or the ring.",
    late_heartbeats: "Heartbeats more than one interval late.",
    ;
    accept_errnos[ERRNOS_LEN]: "Failed accepts by errno.",
    ring_errnos[ERRNOS_LEN]: "Failed operations on connections by errno, passing ones included.",
    latency_urgent[LATENCY_LEN]: "How long urgent requests waited.",
    latency_prefetch[LATENCY_LEN]: "How long prefetch requests waited.",
    profile_connections[PROFILES_MAX]: "Open connections that are served, by profile.",
    profile_handshakes[PROFILES_MAX]: "Handshakes answered 0, by profile.",
    profile_responses[PROFILES_MAX]: "Responses given to the kernel, by profile.",
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The peer ended its side, or reset the connection.
    ByPeer,
    /// Opcode 7.
    Disconnect,
    /// The handshake was answered with a status that refuses.
    Refused,
    /// The peer broke the protocol.
    Violation(Violation),
    /// A group that the cache does not hold, where the setting is to close.
    MissingGroup,
    /// No handshake in time.
    HandshakeTimeout,
    /// No request in time.
    IdleTimeout,
    /// No progress in time.
    SendTimeout,
    /// It served from an earlier generation for too long.
    Generation,
    /// The peer sent too many messages that ask for nothing.
    Chatter,
    /// The server stops.
    Drain,
    /// A PROXY listener was connected to from outside the trusted networks.
    ProxyUntrusted,
    /// No PROXY header.
    ProxyMalformed,
    /// Too long a PROXY header.
    ProxyTooLong,
    /// No PROXY header in time.
    ProxyTimeout,
    /// Its address has as many silent connections as it may have.
    Openings,
    /// The socket or the ring failed.
    Error,
}

impl Close {
    /// Whether the connection lingers before it closes, because the peer may still have bytes to
    /// read.
    #[must_use]
    pub fn is_orderly(self) -> bool {
        match self {
            Self::Refused
            | Self::Disconnect
            | Self::Generation
            | Self::Drain
            | Self::MissingGroup
            | Self::Violation(Violation::UnknownOpcode { .. }) => true,
            // The peer has ended its side and may still be reading; there is no input to discard.
            Self::ByPeer => false,
            Self::HandshakeTimeout | Self::IdleTimeout | Self::SendTimeout | Self::Error => false,
            // Its peer would go on sending.
            Self::Chatter => false,
            // Nothing was ever sent to it.
            Self::Violation(Violation::NotJs5 { .. } | Violation::MalformedHandshake { .. })
            | Self::ProxyUntrusted
            | Self::ProxyMalformed
            | Self::ProxyTooLong
            | Self::ProxyTimeout => false,
            // The status was sent already.
            Self::Openings => false,
        }
    }

    /// Whether the close is a reset. It is if the peer takes nothing in: otherwise the kernel would
    /// keep unsent bytes in memory for minutes and try to deliver them.
    #[must_use]
    pub fn is_reset(self) -> bool {
        matches!(self, Self::SendTimeout | Self::Drain | Self::Generation)
    }
}

impl Counters {
    /// Counts a connection's end.
    pub fn count_close(&self, reason: Close) {
        let counter = match reason {
            Close::ByPeer => &self.closed_by_peer,
            Close::Disconnect => &self.closed_disconnect,
            Close::Refused => &self.closed_refused,
            Close::Violation(Violation::NotJs5 { .. }) => &self.closed_not_js5,
            Close::Chatter => &self.closed_chatter,
            Close::Violation(
                Violation::UnknownOpcode { .. } | Violation::MalformedHandshake { .. },
            ) => &self.closed_violation,
            Close::MissingGroup => &self.closed_missing_group,
            Close::HandshakeTimeout => &self.closed_handshake_timeout,
            Close::IdleTimeout => &self.closed_idle_timeout,
            Close::SendTimeout => &self.closed_send_timeout,
            Close::Generation => &self.closed_generation,
            Close::Drain => &self.closed_drain,
            Close::ProxyUntrusted => &self.closed_proxy_untrusted,
            Close::ProxyMalformed => &self.closed_proxy_malformed,
            Close::ProxyTooLong => &self.closed_proxy_too_long,
            Close::ProxyTimeout => &self.closed_proxy_timeout,
            Close::Openings => &self.closed_openings,
            Close::Error => &self.closed_error,
        };
        add(counter, 1);
    }

    /// Counts the answer to a handshake.
    pub fn count_status(&self, status: Status) {
        let counter = match status {
            Status::Ok => &self.handshakes_ok,
            Status::OutOfDate | Status::SessionExpired => &self.refused_out_of_date,
            Status::ServerFull => &self.refused_server_full,
            Status::TooManyConnections => &self.refused_address,
        };
        add(counter, 1);
    }

    /// Counts a handshake that was answered OK, by the number of its profile.
    pub fn count_profile(&self, number: usize) {
        if let Some(counter) = self.profile_handshakes.get(number) {
            add(counter, 1);
        }
    }

    /// Responses begun so far, of all profiles.
    #[inline]
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.responses_urgent.get().wrapping_add(self.responses_prefetch.get())
    }

    /// Counts the responses begun since there were `before` for the profile of this number: once
    /// a batch, as its responses are all of one profile.
    #[inline]
    pub fn count_responses_since(&self, before: u64, number: usize) {
        if let Some(counter) = self.profile_responses.get(number) {
            add(counter, self.responses().wrapping_sub(before));
        }
    }

    /// Counts a response of so many bytes.
    #[inline]
    pub fn count_response(&self, class: Class, len: usize) {
        let (count, bytes) = match class {
            Class::Urgent => (&self.responses_urgent, &self.response_bytes_urgent),
            Class::Prefetch => (&self.responses_prefetch, &self.response_bytes_prefetch),
        };
        add(count, 1);
        add(bytes, len as u64);
    }

    /// Counts requests that get no response.
    pub fn count_unanswered(&self, class: Class, count: usize) {
        let counter = match class {
            Class::Urgent => &self.unanswered_urgent,
            Class::Prefetch => &self.unanswered_prefetch,
        };
        add(counter, count as u64);
    }

    /// Computes how many requests are queued: those that are neither answered nor given up.
    pub fn reckon_queued(&self) {
        let waiting = |requests: &Cell<u64>, responses: &Cell<u64>, unanswered: &Cell<u64>| {
            requests.get().saturating_sub(responses.get() + unanswered.get())
        };
        let urgent =
            waiting(&self.requests_urgent, &self.responses_urgent, &self.unanswered_urgent);
        let prefetch =
            waiting(&self.requests_prefetch, &self.responses_prefetch, &self.unanswered_prefetch);
        self.queued_urgent.set(urgent);
        self.queued_prefetch.set(prefetch);
    }
}
