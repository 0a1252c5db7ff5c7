//! The sweep: after each heartbeat it checks every connection, counts its state, and ends it if its
//! deadline has passed.
//!
//! It works in slices, with pauses. Ending a connection takes the kernel 20 microseconds; when
//! 15,000 are late at once, as after an outage, the others would wait for all of them.

use super::connection::{Check, Connection, Deadlines, Doing, Machine};
use super::connections::Connections;
use super::count::{Counters, Published};
use super::driver::{pause_us, wake};
use super::generations::Generations;
use super::shared::Shared;
use crate::protocol::profile::PROFILES_MAX;
use tokio::sync::Notify;

/// What a slice may cost. The unit is one check of a connection, some 20 ns.
const SLICE_COST: usize = 2048;

/// The cost of checking a connection.
const CHECK_COST: usize = 1;

/// The cost of asking the kernel about a connection, and of ending one.
const ASK_COST: usize = 32;
const END_COST: usize = 256;

/// The pause between two slices, in microseconds. It leaves more than half of the time to the other
/// connections, and still ends 15,000 late ones within a second.
const SLICE_PAUSE_US: u64 = 300;

/// Sweeps once after each heartbeat, of which `beaten` is notified, for as long as the worker runs.
/// A busy worker's sweep may take longer than the time between two heartbeats.
pub(super) async fn sweep(
    connections: &Connections,
    shared: &Shared,
    beaten: &Notify,
    published: &Published,
) {
    let deadlines = Deadlines::new(shared);
    let mut generations = Generations::default();
    loop {
        beaten.notified().await;
        let mut states = States::default();
        let is_counting = generations.begin(shared);
        let mut next = Some(0);
        while let Some(index) = next {
            let generations = is_counting.then_some(&mut generations);
            next = slice(connections, shared, index, &deadlines, &mut states, generations);
            if next.is_some() {
                pause_us(SLICE_PAUSE_US).await;
            }
        }
        if is_counting {
            generations.end(shared);
        }
        states.publish(&shared.counters);
        // Published at once, so that they belong to the same moment as this heartbeat's counters.
        shared.counters.publish(published);
    }
}

/// Checks the connections from `index` on. Returns the index at which the next slice begins; none
/// after the last.
fn slice(
    connections: &Connections,
    shared: &Shared,
    index: usize,
    deadlines: &Deadlines,
    states: &mut States,
    mut generations: Option<&mut Generations>,
) -> Option<usize> {
    let mut cost = 0;
    for index in index..connections.end() {
        if cost >= SLICE_COST {
            return Some(index);
        }
        cost += check_connection(
            connections,
            shared,
            index,
            deadlines,
            states,
            generations.as_deref_mut(),
        );
    }
    None
}

/// Checks the connection at an index, if there is one, and wakes it if it must act. Returns the
/// cost.
fn check_connection(
    connections: &Connections,
    shared: &Shared,
    index: usize,
    deadlines: &Deadlines,
    states: &mut States,
    generations: Option<&mut Generations>,
) -> usize {
    let cost = connections.with(index, |key, connection| {
        states.add(connection);
        let mut cost = CHECK_COST;
        let mut acts = false;
        if let (Some(generations), Some(machine)) = (generations, connection.machine_mut()) {
            acts = generations.check(shared, machine);
        }
        match connection.check(deadlines, shared) {
            Check::Fine => {}
            Check::Asked => cost += ASK_COST,
            Check::Acts => acts = true,
        }
        if acts {
            wake(key);
            cost += END_COST;
        }
        cost
    });
    cost.unwrap_or(CHECK_COST)
}

/// The numbers of connections by state that one sweep has counted.
#[derive(Default)]
struct States {
    opening: u64,
    handshake: u64,
    refusing: u64,
    idle: u64,
    sending: u64,
    slow: u64,
    credit: u64,
    lingering: u64,
    by_profile: [u64; PROFILES_MAX],
}

impl States {
    #[inline]
    fn add(&mut self, connection: &Connection) {
        let state = match connection.machine() {
            None => &mut self.opening,
            Some(machine) => match machine.doing() {
                Doing::AwaitsHandshake => &mut self.handshake,
                Doing::Refuses => &mut self.refusing,
                Doing::Idles => &mut self.idle,
                Doing::Sends if machine.is_slow() => &mut self.slow,
                Doing::Sends | Doing::AwaitsTurn => &mut self.sending,
                Doing::AwaitsCredit | Doing::AwaitsLastCredit => &mut self.credit,
                Doing::Lingers | Doing::Closes => &mut self.lingering,
            },
        };
        *state += 1;
        let profile = connection.machine().and_then(Machine::profile_number);
        if let Some(count) = profile.and_then(|number| self.by_profile.get_mut(number)) {
            *count += 1;
        }
    }

    fn publish(&self, counters: &Counters) {
        counters.connections_opening.set(self.opening);
        counters.connections_handshake.set(self.handshake);
        counters.connections_refusing.set(self.refusing);
        counters.connections_idle.set(self.idle);
        counters.connections_sending.set(self.sending);
        counters.connections_slow.set(self.slow);
        counters.connections_credit.set(self.credit);
        counters.connections_lingering.set(self.lingering);
        for (counter, count) in counters.profile_connections.iter().zip(self.by_profile) {
            counter.set(count);
        }
    }
}
