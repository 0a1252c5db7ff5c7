//! What a client sees by looking at the clock: stalls, and the end of the run.

use super::{After, Client, Phase};
use crate::engine::check::class_index;
use crate::engine::core::Core;
use crate::engine::socket;
use crate::engine::tally::{Event, Stall, Wrong};
use js5d::protocol::Class;

/// How many requests of a stalled connection the report names.
const STALL_EXAMPLES: usize = 5;

impl Client {
    /// Looks for a stall; called a few times a second.
    pub(crate) fn watch(&mut self, core: &mut Core) {
        let quiet_ns = core.now_ns.saturating_sub(self.progress_ns);
        let waits = match self.phase {
            Phase::Connecting => {
                if core.now_ns - self.connect_started_ns > core.plan.stall_timeout_ns {
                    core.opening -= 1;
                    core.tally.event(Event::ConnectTimeout);
                    self.retry_or_finish(core);
                }
                return;
            }
            Phase::Handshaking => true,
            Phase::Open => !self.owes_nothing() && self.next_read_ns <= core.now_ns,
            _ => false,
        };
        if self.hostile.is_some() || !waits || quiet_ns <= core.plan.stall_timeout_ns {
            return;
        }
        let outstanding: Vec<_> = self.session.outstanding().collect();
        for (class, _, token) in &outstanding {
            core.tally.in_flight(*class, token);
        }
        core.tally.stalled(&Stall {
            client: self.number,
            since_ns: self.progress_ns,
            bytes: self.bytes,
            outstanding: outstanding.len(),
            examples: outstanding.iter().take(STALL_EXAMPLES).map(|o| (o.0, o.1)).collect(),
            has_status: self.session.status().is_some(),
            ever_answered: self.check.answered_written_ns != [0; 2],
        });
        // A server that has stopped answering one of its peers is not asked again.
        self.close(core, After::Nothing);
    }

    /// Time is up: what is in flight is at least this slow.
    pub(crate) fn end(&mut self, core: &mut Core) {
        let now = core.now_ns;
        if self.hostile.is_none() && self.phase == Phase::Open {
            for (class, id, token) in self.session.outstanding() {
                core.tally.in_flight(class, &token);
                // One that was written long before another of its class that has been answered
                // is not slow: it is lost.
                let answered_ns = self.check.answered_written_ns[class_index(class)];
                if token.written_ns + core.plan.stall_timeout_ns < answered_ns {
                    core.tally.wrong(self.number, &Wrong::Missing { class, id });
                }
            }
        }
        let plan = core.plan.clone();
        let paced_visits = self.kind(&plan).paced_visits && plan.pace.is_some();
        let visits = matches!(self.phase, Phase::Connecting | Phase::Queued | Phase::Handshaking);
        if paced_visits && visits {
            core.tally.unwritten(Class::Urgent, self.visit_started_ns);
        }
        if paced_visits || self.phase == Phase::Open {
            let tally = &mut core.tally;
            self.asker.unwritten(&plan, now, |class, due_ns| tally.unwritten(class, due_ns));
        }
        if let Some(socket) = &self.socket {
            socket::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}
