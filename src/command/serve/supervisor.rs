//! Messages to a supervisor (systemd's `Type=notify-reload`), if there is one: that the server is
//! ready, reloads, stops, and that its workers have heartbeats.

use super::spawn;
use crate::failure::Failure;
use crate::net::count::Published;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// The server is ready; `status` is what `systemctl status` shows. If another process was the
/// main one until now, this one is.
pub(super) fn ready(status: &str, took_over: bool) {
    let main = took_over.then(|| NotifyState::MainPid(std::process::id()));
    let states = [NotifyState::Ready, NotifyState::Status(status)];
    tell(&states.into_iter().chain(main).collect::<Vec<_>>());
}

/// The server loads the cache again. [`ready`] ends this state, whatever the result is.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the supervisor cannot be told of a reload"),
    }
}

/// The server stops.
pub(super) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Tells the supervisor, as often as it wants, that every worker is alive, for as long as that is
/// so. A server that hangs is then restarted.
pub(super) fn watch(workers: Vec<Arc<Published>>, age_max: Duration) -> Result<(), Failure> {
    let Some(interval) = sd_notify::watchdog_enabled() else { return Ok(()) };
    info!(
        "the supervisor is told of the workers' heartbeats, and restarts js5d after {interval:?} \
         without one"
    );
    spawn("watchdog", move || {
        loop {
            if workers.iter().all(|worker| worker.pulse.age() <= age_max) {
                tell(&[NotifyState::Watchdog]);
            }
            // Half of it, as sd_watchdog_enabled(3) asks.
            thread::sleep(interval / 2);
        }
    })
}

/// Nothing happens if there is no supervisor.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the supervisor ($NOTIFY_SOCKET) cannot be told the state of the server");
    }
}
