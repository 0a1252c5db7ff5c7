//! Counts of what happened in many runs. They show whether something never happens in a simulation.

use super::tally::Tally;
use crate::net::count::Close;

macro_rules! stats {
    ($($name:ident: $says:literal,)*) => {
        /// Counts of what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Stats {
            $(pub(super) $name: u64,)*
        }

        impl Stats {
            /// Adds another's.
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Its counts, by name.
            pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($says, self.$name),)*].into_iter()
            }
        }
    };
}

stats! {
    runs: "runs",
    connections: "connections",
    responses: "responses",
    bytes: "bytes",
    rekeys: "rekeys",
    broken_off: "responses broken off",
    turn_waits: "waits for a turn",
    credit_waits: "waits for credit",
    room_waits: "waits for room",
    partial_sends: "sends in part",
    failed_sends: "sends that failed in passing",
    swaps: "swaps of the generation",
    refused: "refused",
    by_peer: "ended by the peer",
    drained: "ended by a drain",
    came_back: "ended to come back",
    late: "ended as late",
    by_rule: "ended for what was asked",
}

impl Stats {
    /// Adds the counters of a worker whose connections have ended.
    pub(super) fn count(&mut self, tally: &Tally) {
        self.connections += tally.closes().len() as u64;
        self.responses += tally.ended;
        self.rekeys += tally.rekeys;
        self.broken_off += tally.broken_off;
        for reason in tally.closes() {
            let count = match reason {
                Close::Refused => &mut self.refused,
                Close::ByPeer | Close::Disconnect => &mut self.by_peer,
                Close::Drain => &mut self.drained,
                Close::Generation => &mut self.came_back,
                Close::HandshakeTimeout | Close::IdleTimeout | Close::SendTimeout => &mut self.late,
                Close::Violation(_) | Close::Chatter | Close::MissingGroup => &mut self.by_rule,
                _ => continue,
            };
            *count += 1;
        }
    }
}
