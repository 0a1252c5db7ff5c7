//! A connection under a cap: it asks for credit before each batch, and waits if there is none.
//!
//! While it waits it reads on, so that an urgent request still goes before what waits, and no
//! deadline runs: the peer is not to blame. A response that has begun goes on in the rank of the
//! urgent one that waits behind it, or a peer's own prefetch could hold that up for ever.

use super::connection::Connection;
use super::counters::add;
use super::egress::{Credit, Egress, Rank};
use super::output::Output;
use super::peer::Phase;
use crate::protocol::Class;
use crate::protocol::session::{Allowance, ServerSession};

impl Connection {
    /// Whether responses are ready and there is no credit for them.
    #[inline]
    pub(super) fn waits_for_credit(&self) -> bool {
        let egress = self.worker().egress.as_ref();
        egress.is_some_and(|egress| egress.is_waiting(&self.peer))
    }

    /// Whether there is credit that has not been used.
    #[inline]
    pub(super) fn is_called(&self) -> bool {
        let egress = self.worker().egress.as_ref();
        egress.is_some_and(|egress| egress.is_called(&self.peer))
    }

    /// Fills an output with as much as there is credit for. What needs none, a status byte, goes
    /// in any case. An empty output means that there is nothing to send, or no credit.
    #[cold]
    pub(super) fn fill_on_credit(&mut self, egress: &Egress, output: &mut Output, len_max: usize) {
        while let Some(class) = self.wanted_class() {
            let was_waiting = egress.is_waiting(&self.peer);
            let rank = Rank::of(class, self.session.logged_in());
            let Some(credit) = egress.credit(&self.peer, rank) else {
                if !was_waiting {
                    add(&self.worker().counters.credit_waits, 1);
                }
                return self.wait_for_credit(output, len_max);
            };
            self.spend(egress, credit, output, len_max);
            if !output.is_empty() {
                return;
            }
            // All of it were groups that the cache does not hold.
        }
        egress.wants_nothing(&self.peer);
        self.fill(output, len_max, ServerSession::next_step);
    }

    fn wait_for_credit(&mut self, output: &mut Output, len_max: usize) {
        let phase = if self.input_ended { Phase::LastCredit } else { Phase::Credit };
        self.peer.enter(phase, self.worker().now_ms());
        if self.current.is_none() {
            let nothing =
                |session: &mut ServerSession| session.next_step_within(Allowance::Nothing);
            self.fill(output, len_max, nothing);
        }
    }

    /// The class of what is to be sent next; none if nothing is.
    fn wanted_class(&self) -> Option<Class> {
        let (urgent, prefetch) = match self.closing {
            // They will not be begun.
            Some(_) => (0, 0),
            None => self.session.queued(),
        };
        match self.current {
            _ if urgent > 0 => Some(Class::Urgent),
            Some(begun) => Some(begun.response.class()),
            None => (prefetch > 0).then_some(Class::Prefetch),
        }
    }

    fn spend(&mut self, egress: &Egress, credit: Credit, output: &mut Output, len_max: usize) {
        let allowance = match credit.rank.is_prefetch() || !egress.keeps_classes_apart() {
            true => Allowance::All,
            false => Allowance::Urgent,
        };
        let begun_before = self.begun_prefetch_left();
        let next = |session: &mut ServerSession| session.next_step_within(allowance);
        self.fill(output, len_max.min(credit.len), next);
        let sent = output.len();
        let prefetch_sent = match credit.rank.is_prefetch() {
            true => sent,
            false => begun_before.saturating_sub(self.begun_prefetch_left()),
        };
        egress.settle(&self.peer, credit, sent, prefetch_sent);
        let counters = &self.worker().counters;
        let counter = match credit.rank {
            Rank::UrgentLoggedIn => &counters.egress_urgent_logged_in_bytes,
            Rank::UrgentLoggedOut => &counters.egress_urgent_logged_out_bytes,
            Rank::PrefetchLoggedIn => &counters.egress_prefetch_logged_in_bytes,
            Rank::PrefetchLoggedOut => &counters.egress_prefetch_logged_out_bytes,
        };
        add(counter, sent as u64);
    }

    /// What is left of a prefetch response that has begun.
    fn begun_prefetch_left(&self) -> usize {
        let begun = self.current.filter(|begun| begun.response.class() == Class::Prefetch);
        let dialect = self.session.dialect();
        let len_of = |id| self.snapshot.response_in(dialect, id).map_or(0, <[u8]>::len);
        begun.map_or(0, |begun| len_of(begun.response.id()).saturating_sub(begun.taken))
    }
}

#[cfg(test)]
mod tests {
    use crate::net::egress::SHARE_LEN;

    #[test]
    fn what_a_cap_costs_a_connection_is_known() {
        assert_eq!(SHARE_LEN, 120, "as docs/limits.md says");
    }
}
