//! The events that the main thread waits for while the workers serve: their start and end, signals.

use super::handover::{HandOver, Offer, Predecessor};
use super::{spawn, supervisor, system};
use crate::admin::Admin;
use crate::catalog::Reloader;
use crate::command::text::{counted, megabytes, thousands};
use crate::failure::{Exit, Failure};
use crate::net::count::{Published, Totals};
use crate::net::{Control, Course};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// What the main thread waits for.
pub(super) enum Event {
    /// A worker serves.
    Ready,
    /// A worker has ended.
    Ended(io::Result<()>),
    /// A signal asks the process to end.
    Signal(i32),
    /// A hand-over to another process has ended.
    HandOver(HandOver),
}

/// Keeps SIGHUP, which would end the process, until [`watch_signals`] looks: what it asks to be
/// loaded again may have changed while it is loaded for the first time.
pub(super) fn hold_reloads() -> Result<Signals, Failure> {
    Signals::new([SIGHUP]).map_err(system)
}

/// From here on SIGHUP reloads, and a signal that asks for an end is an event.
pub(super) fn watch_signals(
    mut signals: Signals,
    reloader: Reloader,
    events: Sender<Event>,
) -> Result<(), Failure> {
    for signal in [SIGINT, SIGTERM] {
        signals.add_signal(signal).map_err(system)?;
    }
    spawn("signals", move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reloader.request();
            } else if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })
}

/// How long a stop waits for a hand-over that is under way. The other process has read its cache
/// before it asks for the sockets, so what it has left to do takes milliseconds.
const OFFER_PATIENCE: Duration = Duration::from_secs(1);

/// What the main thread sees to, from the workers' start to their end.
pub(super) struct Life {
    pub(super) inbox: Receiver<Event>,
    /// For the thread that hands over.
    pub(super) events: Sender<Event>,
    pub(super) control: Arc<Control>,
    pub(super) published: Vec<Arc<Published>>,
    /// What is said when all workers serve.
    pub(super) ready: String,
    pub(super) admin: Option<Admin>,
    /// The process that serves until this one does.
    pub(super) predecessor: Option<Predecessor>,
    /// The sockets, for the process that serves after this one.
    pub(super) offer: Option<Offer>,
    pub(super) handover_timeout: Duration,
    /// Until when a stop waits for the hand-over that is under way.
    pub(super) stop_by: Option<Instant>,
    /// Why this process ends once it has drained, if no signal asked for it.
    pub(super) failure: Option<Failure>,
}

impl Life {
    /// Waits for the workers to serve, for a signal or a process that takes over, and for the
    /// workers to drain.
    pub(super) fn run(mut self) -> Result<ExitCode, Failure> {
        let mut starting = self.published.len();
        let mut serving = self.published.len();
        let mut signals = 0;
        loop {
            match self.next_event() {
                Event::Ready => {
                    starting -= 1;
                    if starting == 0 && !self.control.is_draining() {
                        self.begin()?;
                    }
                }
                Event::Ended(result) => {
                    result.or_else(|error| self.worker_failed(error))?;
                    serving -= 1;
                    if serving == 0 {
                        say_goodbye(&self.published);
                        return self.failure.map_or(Ok(ExitCode::SUCCESS), Err);
                    }
                }
                Event::Signal(signal) if signals > 0 => {
                    warn!("a second signal: ending at once");
                    return Ok(ExitCode::from(
                        128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
                    ));
                }
                Event::Signal(_) => {
                    signals += 1;
                    self.stop();
                    supervisor::stopping("draining");
                }
                Event::HandOver(HandOver::Done) => {
                    self.hand_over();
                    info!(
                        "handed over: the other process accepts connections; requests that have \
                         arrived here are still answered"
                    );
                }
                Event::HandOver(HandOver::GivenUp) if self.stop_by.is_some() => self.stop(),
                Event::HandOver(HandOver::GivenUp) => {}
            }
        }
    }

    /// The next event. If a stop has waited long enough, the sockets are left as they are.
    fn next_event(&mut self) -> Event {
        loop {
            let patience = self.stop_by.map_or(Duration::MAX, |by| by - Instant::now());
            match self.inbox.recv_timeout(patience) {
                Ok(event) => return event,
                // `events` is a sender, so there is one.
                Err(_) if self.stop_by.is_none() => {}
                Err(_) => {
                    warn!("stopping: the process that takes over has not said that it serves");
                    self.hand_over();
                }
            }
        }
    }

    /// All workers serve.
    fn begin(&mut self) -> Result<(), Failure> {
        info!("{}", self.ready);
        let took_over = self.predecessor.is_some();
        if let Some(predecessor) = self.predecessor.take() {
            if let Err(failure) = predecessor.tell_ready() {
                // Connections that were accepted meanwhile are served before the end.
                error!("{}", failure.cause);
                self.failure = Some(failure);
                self.hand_over();
                return Ok(());
            }
            self.admin.iter_mut().for_each(Admin::take_over);
        }
        supervisor::ready(&self.ready, took_over);
        let (control, events) = (Arc::clone(&self.control), self.events.clone());
        match &mut self.offer {
            Some(offer) => offer.begin(self.handover_timeout, control, move |end| {
                // The main thread is gone if the process ends at this moment.
                let _ = events.send(Event::HandOver(end));
            }),
            None => Ok(()),
        }
    }

    /// A worker cannot serve, and so this process ends: at once, unless another one serves from
    /// the same sockets. Then connections that other workers accepted are served first.
    fn worker_failed(&mut self, error: io::Error) -> Result<(), Failure> {
        error!("a worker cannot serve");
        let failure = cannot_serve(error);
        if self.predecessor.take().is_none() && self.failure.is_none() {
            return Err(failure);
        }
        self.failure.get_or_insert(failure);
        self.hand_over();
        Ok(())
    }

    /// A signal asks for the end. What that means depends on whose the sockets are.
    fn stop(&mut self) {
        self.stop_by = None;
        if self.predecessor.take().is_some() {
            info!("stopping: the sockets stay with the process that serves");
            self.hand_over();
        } else if self.control.stop() {
            info!("stopping: no connection is accepted; requests that have arrived are answered");
            self.offer.iter().for_each(Offer::withdraw);
        } else if self.control.course() == Course::Offering {
            info!("stopping: as soon as the hand-over that is under way has ended");
            self.stop_by = Some(Instant::now() + OFFER_PATIENCE);
        } else {
            info!("already stopping: requests that have arrived are still answered");
        }
    }

    /// The sockets are another process' from here on.
    fn hand_over(&mut self) {
        self.stop_by = None;
        self.control.hand_over();
        self.admin.take().into_iter().for_each(Admin::hand_over);
        self.offer.take().into_iter().for_each(Offer::leave);
    }
}

/// The first that a worker asks for is its ring, and the memory that is short is locked memory.
fn cannot_serve(error: io::Error) -> Failure {
    if error.kind() != io::ErrorKind::OutOfMemory {
        return system(error);
    }
    let remedy = "raise the limit of locked memory, 0.8 MB a worker ('ulimit -l', LimitMEMLOCK=, \
                  docker run --ulimit memlock=-1), or lower --workers";
    Failure::new(Exit::System, format!("a worker has no memory for its ring: {error}"), remedy)
}

/// What was done, in two lines.
fn say_goodbye(published: &[Arc<Published>]) {
    let mut totals = Totals::default();
    published.iter().for_each(|counters| totals.add(counters));
    let refused = totals.refused_out_of_date + totals.refused_server_full + totals.refused_address;
    info!(
        "served {} urgent and {} prefetch responses, {}, to {}",
        thousands(totals.responses_urgent),
        thousands(totals.responses_prefetch),
        megabytes(totals.sent_bytes),
        counted(totals.handshakes_ok, "peer"),
    );
    info!(
        refused,
        missing_groups = totals.missing_groups,
        violations = totals.closed_violation + totals.closed_not_js5,
        chatter = totals.closed_chatter,
        timeouts = totals.closed_handshake_timeout
            + totals.closed_idle_timeout
            + totals.closed_send_timeout,
        errors = totals.closed_error,
        "stopped",
    );
    say_front(&totals);
}

/// PROXY headers and game connections, if there were any.
fn say_front(totals: &Totals) {
    let (untrusted, malformed) = (totals.closed_proxy_untrusted, totals.closed_proxy_malformed);
    let (too_long, late) = (totals.closed_proxy_too_long, totals.closed_proxy_timeout);
    let headers = totals.proxy_headers + totals.proxy_headers_local;
    if headers + untrusted + malformed + too_long + late > 0 {
        info!(headers, untrusted, malformed, too_long, late, "PROXY headers");
    }
    if totals.game_accepted + totals.game_refused > 0 {
        info!(
            accepted = totals.game_accepted,
            refused = totals.game_refused,
            unreachable = totals.game_connect_errors,
            reset = totals.game_closed_reset,
            idle = totals.game_closed_idle,
            cut = totals.game_closed_drain,
            errors = totals.game_closed_error,
            "game connections",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_without_memory_leads_to_the_limit_of_locked_memory() {
        let failure = cannot_serve(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(failure.exit, Exit::System);
        assert!(failure.remedy.contains("ulimit -l"), "{}", failure.remedy);
        let other = cannot_serve(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(!other.remedy.contains("ulimit -l"), "{}", other.remedy);
    }
}
