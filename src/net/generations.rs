//! Connections that serve from an earlier snapshot than the current one: counted, and closed after
//! some time, so that their clients come back.
//!
//! A connection keeps the snapshot that it began with. When that has been an earlier one for
//! `--generation-timeout`, a quiet connection is ended in good order, and after twice the time a
//! busy one, too, once what is queued has been answered: the client reconnects, and is served
//! from the current one. After three times it is cut, because a peer that reads a full queue as
//! slowly as it may could hold a snapshot for hours. Nothing here runs while all connections
//! serve from the same snapshot.

use super::connection::{Doing, Machine};
use super::control::millis;
use super::count::Close;
use super::shared::Shared;
use std::time::Duration;

/// How long a connection must have been quiet to count as idle. A request that arrives after the
/// end was sent is lost, and its client must repeat it; after a second of silence that is rare.
const QUIET_MS: u64 = 1000;

/// Multiples of `--generation-timeout` after which busy connections leave, and are cut.
const BUSY_TIMES: u64 = 2;
const CUT_TIMES: u64 = 3;

/// Connections that a worker ends in one sweep because their snapshot is old: 500 a second at most,
/// so that 15,000 clients do not reconnect at once.
const LEAVES_MAX: usize = 50;

/// What a worker knows of earlier snapshots that its connections hold.
#[derive(Default)]
pub(super) struct Generations {
    earlier: Vec<Earlier>,
    /// The ordinal of the current snapshot when the sweep began.
    current: u32,
    /// Connections that were ended in this sweep.
    leaves: usize,
}

/// An earlier snapshot. [`--generations-max`](crate::catalog::ReloadLimits) bounds their number.
struct Earlier {
    ordinal: u32,
    /// When a sweep first saw that it is not the current one, by the worker's clock.
    since_ms: u64,
    /// The connections that serve from it, as far as the sweep has counted.
    connections: u64,
}

impl Generations {
    /// To be called when a sweep begins. True if the sweep must call [`Self::check`] for each
    /// connection.
    pub(super) fn begin(&mut self, shared: &Shared) -> bool {
        // This takes up the current snapshot, so that the worker releases an earlier one even
        // without new connections.
        let current = shared.snapshot().ordinal();
        // A reload during the sweep sets it again.
        if !shared.has_earlier.take() {
            return false;
        }
        self.current = current;
        self.earlier.retain(|earlier| earlier.ordinal != current);
        self.earlier.iter_mut().for_each(|earlier| earlier.connections = 0);
        self.leaves = 0;
        true
    }

    /// Counts a connection if it serves from an earlier snapshot, and ends it if that is due. True
    /// if the caller must wake it.
    pub(super) fn check(&mut self, shared: &Shared, machine: &mut Machine) -> bool {
        if machine.ordinal() == self.current {
            return false;
        }
        let now_ms = shared.now_ms();
        let earlier = self.entry(machine.ordinal(), now_ms);
        earlier.connections += 1;
        let age_ms = now_ms - earlier.since_ms;
        if self.leaves == LEAVES_MAX {
            return false;
        }
        let state = State {
            doing: machine.doing(),
            waited_ms: machine.waited_ms(now_ms),
            leaves: machine.is_asked_to_leave(),
            ends: machine.ending().is_some(),
        };
        match due(state, age_ms, shared.config.limits.generation_timeout) {
            Due::Stay => return false,
            Due::Leave => machine.ask_to_leave(),
            Due::Cut => machine.cut(Close::Generation),
        }
        self.leaves += 1;
        true
    }

    /// To be called when the sweep has checked all connections.
    pub(super) fn end(&mut self, shared: &Shared) {
        self.earlier.retain(|earlier| earlier.connections > 0);
        let outdated = self.earlier.iter().map(|earlier| earlier.connections).sum();
        shared.counters.connections_outdated.set(outdated);
        if outdated > 0 {
            shared.has_earlier.set(true);
        }
    }

    fn entry(&mut self, ordinal: u32, now_ms: u64) -> &mut Earlier {
        let place = self.earlier.iter().position(|earlier| earlier.ordinal == ordinal);
        let place = place.unwrap_or_else(|| {
            self.earlier.push(Earlier { ordinal, since_ms: now_ms, connections: 0 });
            self.earlier.len() - 1
        });
        &mut self.earlier[place]
    }
}

/// What is due for a connection of an earlier snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing is due, or everything due was done.
    Stay,
    /// The connection answers what is queued, and ends in good order.
    Leave,
    /// The connection ends at once.
    Cut,
}

/// What a connection of an earlier snapshot does.
#[derive(Clone, Copy)]
struct State {
    doing: Doing,
    waited_ms: u64,
    leaves: bool,
    ends: bool,
}

/// What is due for a connection whose snapshot has been an earlier one for `age_ms`.
fn due(state: State, age_ms: u64, timeout: Option<Duration>) -> Due {
    let Some(timeout_ms) = timeout.map(millis) else { return Due::Stay };
    if age_ms >= timeout_ms.saturating_mul(CUT_TIMES) {
        let is_cut = state.ends && state.doing != Doing::Lingers;
        return if is_cut { Due::Stay } else { Due::Cut };
    }
    if age_ms < timeout_ms || state.leaves {
        return Due::Stay;
    }
    let is_late = age_ms >= timeout_ms.saturating_mul(BUSY_TIMES);
    match state.doing {
        Doing::Idles if is_late || state.waited_ms >= QUIET_MS => Due::Leave,
        Doing::Sends | Doing::AwaitsTurn if is_late => Due::Leave,
        Doing::AwaitsCredit | Doing::AwaitsLastCredit if is_late => Due::Leave,
        // The other states have short deadlines of their own.
        _ => Due::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_ones_end_after_the_timeout_busy_ones_after_twice_and_all_after_three_times_of_it() {
        let timeout = Some(Duration::from_secs(10));
        // what it does, milliseconds quiet, milliseconds of the snapshot's age, what is due
        let cases = [
            (Doing::Idles, 5_000, 9_999, Due::Stay),
            (Doing::Idles, 5_000, 10_000, Due::Leave),
            (Doing::Idles, 999, 10_000, Due::Stay),
            (Doing::Idles, 999, 20_000, Due::Leave),
            (Doing::Sends, 5_000, 19_999, Due::Stay),
            (Doing::Sends, 5_000, 20_000, Due::Leave),
            (Doing::AwaitsCredit, 5_000, 20_000, Due::Leave),
            (Doing::Sends, 5_000, 30_000, Due::Cut),
            (Doing::AwaitsHandshake, 5_000, 29_999, Due::Stay),
            (Doing::Refuses, 5_000, 29_999, Due::Stay),
            (Doing::Lingers, 5_000, 29_999, Due::Stay),
            (Doing::Lingers, 5_000, 30_000, Due::Cut),
        ];
        for (doing, waited_ms, age_ms, expected) in cases {
            let state = State { doing, waited_ms, leaves: false, ends: doing == Doing::Lingers };
            assert_eq!(due(state, age_ms, timeout), expected, "{doing:?} {age_ms}");
            assert_eq!(due(state, u64::MAX, None), Due::Stay, "never means never");
            let leaving = State { leaves: true, ..state };
            assert_ne!(due(leaving, age_ms, timeout), Due::Leave, "once is enough");
            let cut = State { ends: true, doing: Doing::Closes, ..state };
            assert_eq!(due(cut, age_ms, timeout), Due::Stay);
        }
    }
}
