//! Starting the workers: a thread each, with what all of them share.

use super::events::Event;
use super::{spawn, system};
use crate::catalog::SnapshotHandle;
use crate::cli::ServeArgs;
use crate::config::Settings;
use crate::failure::Failure;
use crate::net::admission::Admission;
use crate::net::counters::Published;
use crate::net::{Control, Listener, LogGates, ServeConfig};
use crate::platform::{cpu, limits};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Starts a worker for each set of listeners. Each says in `events` when it serves and when it
/// has ended.
pub(super) fn start(
    args: &ServeArgs,
    settings: Settings,
    snapshots: Arc<SnapshotHandle>,
    listeners: Vec<Vec<Listener>>,
    control: &Arc<Control>,
    events: &Sender<Event>,
) -> Result<Vec<Arc<Published>>, Failure> {
    limits::raise_locked_memory().map_err(system)?;
    let config = Arc::new(ServeConfig {
        limits: settings.limits,
        profile: settings.profile,
        admission: Admission::new(
            settings.connections_max,
            args.limits.connections_per_ip_max,
            args.limits.refusals_max,
        ),
        snapshots,
        log_gates: LogGates::default(),
    });
    let mut published = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let core = settings.cores.as_ref().and_then(|cores| cores.get(number).copied());
        let counters = Arc::new(Published::default());
        published.push(Arc::clone(&counters));
        let (config, control, events) = (Arc::clone(&config), Arc::clone(control), events.clone());
        spawn(&format!("worker-{number}"), move || {
            let result = core.map_or(Ok(()), cpu::pin_to).and_then(|()| {
                let ready = || drop(events.send(Event::Ready));
                crate::net::run(config, listeners, control, counters, ready)
            });
            drop(events.send(Event::Ended(result)));
        })?;
    }
    Ok(published)
}
