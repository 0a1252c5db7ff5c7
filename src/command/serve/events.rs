//! What the main thread waits for while the workers serve: their beginning and end, and signals.

use super::{spawn, system};
use crate::catalog::Reloader;
use crate::command::text::{counted, megabytes, thousands};
use crate::failure::{Exit, Failure};
use crate::net::Control;
use crate::net::counters::{Published, Totals};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use tracing::{error, info, warn};

/// What the main thread waits for.
pub(super) enum Event {
    /// A worker serves.
    Ready,
    /// A worker has ended.
    Ended(io::Result<()>),
    /// A signal came that asks for an end.
    Signal(i32),
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

/// Waits for the workers to serve, for a signal, and for the workers to drain.
pub(super) fn wait(
    inbox: &Receiver<Event>,
    control: &Control,
    published: &[Arc<Published>],
    ready: &str,
) -> Result<ExitCode, Failure> {
    let mut starting = published.len();
    let mut serving = published.len();
    while let Ok(event) = inbox.recv() {
        match event {
            Event::Ready => {
                starting -= 1;
                if starting == 0 {
                    info!("{ready}");
                }
            }
            Event::Ended(Err(error)) => {
                error!("a worker cannot serve");
                return Err(cannot_serve(error));
            }
            Event::Ended(Ok(())) => {
                serving -= 1;
                if serving == 0 {
                    say_goodbye(published);
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Event::Signal(signal) if control.draining.swap(true, Ordering::Relaxed) => {
                warn!("a second signal: leaving at once");
                return Ok(ExitCode::from(
                    128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
                ));
            }
            Event::Signal(_) => {
                info!("stopping: no connection is accepted, what was asked for is finished");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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
        timeouts = totals.closed_handshake_timeout
            + totals.closed_idle_timeout
            + totals.closed_send_timeout,
        errors = totals.closed_error,
        "stopped",
    );
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
