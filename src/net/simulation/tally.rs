//! What the model counts, and the comparison with what a worker has counted.

use crate::net::count::{Close, Counters};
use crate::protocol::handshake::Status;
use crate::protocol::session::Violation;
use std::cell::Cell;
use std::ptr;

/// What went wrong, in a sentence.
pub(super) type Fault = String;

/// Counts of one connection, or of all of a worker. Where there are two, prefetch comes first.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: [u64; 2],
    pub(super) responses: [u64; 2],
    pub(super) response_bytes: [u64; 2],
    pub(super) unanswered: [u64; 2],
    /// Responses that were sent whole.
    pub(super) ended: u64,
    pub(super) rekeys: u64,
    pub(super) state_changes: u64,
    pub(super) missing: u64,
    pub(super) broken_off: u64,
    pub(super) wasted: u64,
    /// Bytes of the batches that a cap holds for.
    pub(super) charged: u64,
    /// As many more of batches without a response.
    pub(super) charged_perhaps: u64,
    /// Bytes that the socket took.
    pub(super) sent: u64,
    /// Handshakes answered 0, 6, 7 and 9.
    statuses: [u64; 4],
    closes: Vec<Close>,
}

impl Tally {
    pub(super) fn count_status(&mut self, status: Status) {
        let place = match status {
            Status::Ok => 0,
            Status::OutOfDate | Status::SessionExpired => 1,
            Status::ServerFull => 2,
            Status::TooManyConnections => 3,
        };
        self.statuses[place] += 1;
    }

    pub(super) fn count_close(&mut self, reason: Close) {
        self.closes.push(reason);
    }

    pub(super) fn closes(&self) -> &[Close] {
        &self.closes
    }

    pub(super) fn add(&mut self, other: &Self) {
        for class in 0..2 {
            self.requests[class] += other.requests[class];
            self.responses[class] += other.responses[class];
            self.response_bytes[class] += other.response_bytes[class];
            self.unanswered[class] += other.unanswered[class];
        }
        for (sum, more) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += more;
        }
        self.ended += other.ended;
        self.rekeys += other.rekeys;
        self.state_changes += other.state_changes;
        self.missing += other.missing;
        self.broken_off += other.broken_off;
        self.wasted += other.wasted;
        self.charged += other.charged;
        self.charged_perhaps += other.charged_perhaps;
        self.sent += other.sent;
        self.closes.extend(&other.closes);
    }

    /// Whether the worker has counted the same, all its connections having ended.
    pub(super) fn check(&self, counters: &Counters) -> Result<(), Fault> {
        let pairs = [
            ("requests_prefetch", counters.requests_prefetch.get(), self.requests[0]),
            ("requests_urgent", counters.requests_urgent.get(), self.requests[1]),
            ("responses_prefetch", counters.responses_prefetch.get(), self.responses[0]),
            ("responses_urgent", counters.responses_urgent.get(), self.responses[1]),
            ("bytes_prefetch", counters.response_bytes_prefetch.get(), self.response_bytes[0]),
            ("bytes_urgent", counters.response_bytes_urgent.get(), self.response_bytes[1]),
            ("unanswered_prefetch", counters.unanswered_prefetch.get(), self.unanswered[0]),
            ("unanswered_urgent", counters.unanswered_urgent.get(), self.unanswered[1]),
            ("missing_groups", counters.missing_groups.get(), self.missing),
            ("rekeys", counters.rekeys.get(), self.rekeys),
            ("state_changes", counters.state_changes.get(), self.state_changes),
            ("broken_off", counters.broken_off.get(), self.broken_off),
            ("wasted_bytes", counters.wasted_bytes.get(), self.wasted),
            ("sent_bytes", counters.sent_bytes.get(), self.sent),
            ("handshakes_ok", counters.handshakes_ok.get(), self.statuses[0]),
            ("refused_out_of_date", counters.refused_out_of_date.get(), self.statuses[1]),
            ("refused_server_full", counters.refused_server_full.get(), self.statuses[2]),
            ("refused_address", counters.refused_address.get(), self.statuses[3]),
            ("logged_in", counters.logged_in.get(), 0),
        ];
        for (name, found, expected) in pairs {
            if found != expected {
                return Err(format!("{name} is {found}, by the model {expected}"));
            }
        }
        for class in 0..2 {
            if self.requests[class] != self.responses[class] + self.unanswered[class] {
                return Err(format!("a request is neither answered nor given up: {self:?}"));
            }
        }
        let charged = counters.egress_urgent_logged_in_bytes.get()
            + counters.egress_urgent_logged_out_bytes.get()
            + counters.egress_prefetch_logged_in_bytes.get()
            + counters.egress_prefetch_logged_out_bytes.get();
        if !(self.charged..=self.charged + self.charged_perhaps).contains(&charged) {
            return Err(format!("{charged} bytes under a cap, by the model {}", self.charged));
        }
        self.check_closes(counters)
    }

    fn check_closes(&self, counters: &Counters) -> Result<(), Fault> {
        for &reason in &self.closes {
            let counter = counter(counters, reason);
            let same = self
                .closes
                .iter()
                .filter(|&&other| ptr::eq(self::counter(counters, other), counter));
            let expected = same.count() as u64;
            if counter.get() != expected {
                return Err(format!("{} ended as {reason:?}, not {expected}", counter.get()));
            }
        }
        Ok(())
    }
}

/// The index at which ends for this reason are counted.
fn counter(counters: &Counters, reason: Close) -> &Cell<u64> {
    match reason {
        Close::ByPeer => &counters.closed_by_peer,
        Close::Disconnect => &counters.closed_disconnect,
        Close::Refused => &counters.closed_refused,
        Close::Violation(Violation::NotJs5 { .. }) => &counters.closed_not_js5,
        Close::Violation(_) => &counters.closed_violation,
        Close::MissingGroup => &counters.closed_missing_group,
        Close::HandshakeTimeout => &counters.closed_handshake_timeout,
        Close::IdleTimeout => &counters.closed_idle_timeout,
        Close::SendTimeout => &counters.closed_send_timeout,
        Close::Generation => &counters.closed_generation,
        Close::Chatter => &counters.closed_chatter,
        Close::Drain => &counters.closed_drain,
        _ => &counters.closed_error,
    }
}
