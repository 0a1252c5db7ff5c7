//! `js5d serve`: load, listen, serve, drain.
//!
//! `load` makes a snapshot of what was named, `reload` another one when asked to, `workers`
//! starts the threads that serve it, and `events` is what the main thread waits for from then on.

mod events;
mod load;
mod log;
mod reload;
mod workers;

use super::admin;
use super::text::{counted, megabytes, thousands};
use crate::admin::{Bounds, Facts, ReloadRefused, Sources};
use crate::catalog::{Reloader, Snapshot, SnapshotHandle};
use crate::cli::ServeArgs;
use crate::config::{self, Settings};
use crate::failure::{Exit, Failure};
use crate::net::{Control, Listener};
use crate::platform::{memory, probe};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use tracing::info;

/// Serves until a signal ends it.
///
/// # Errors
/// The system, the cache or a setting does not allow it.
pub fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    memory::return_large_blocks();
    log::start(&args.log)?;
    probe::ring()?;
    let signals = events::hold_reloads()?;
    let settings = config::settle(args)?;
    let snapshot = load::cache(args)?;
    let listeners = listen(args, settings.workers)?;
    let bound = admin::bind(&args.admin)?;
    let (events, inbox) = channel();
    let ready = ready_line(&snapshot, &listeners, &settings);
    let snapshots = Arc::new(SnapshotHandle::new(snapshot));
    let reloader = reload::start(args, settings.reload, Arc::clone(&snapshots))?;
    events::watch_signals(signals, reloader.clone(), events.clone())?;
    let control = Arc::new(Control::default());
    let bounds = Bounds {
        connections_max: settings.connections_max as u64,
        refusals_max: args.limits.refusals_max as u64,
        caps: settings.caps,
    };
    let shared = Arc::clone(&snapshots);
    let published = workers::start(args, settings, shared, listeners, &control, &events)?;
    let sources = Sources {
        workers: published.clone(),
        control: Arc::clone(&control),
        facts: facts(reloader.clone(), Arc::clone(&snapshots)),
        snapshots,
        bounds,
        reload: Arc::new(move || match reloader.reload() {
            Ok(done) => Ok(done.to_string()),
            Err(error) => Err(ReloadRefused::Failed(error.to_string())),
        }),
        notes: Vec::new(),
    };
    let _admin = admin::start(&args.admin, bound, sources)?;
    events::wait(&inbox, &control, &published, &ready)
}

/// What the admin address cannot see by itself.
fn facts(
    reloader: Reloader,
    snapshots: Arc<SnapshotHandle>,
) -> Box<dyn Fn() -> Facts + Send + Sync> {
    Box::new(move || {
        let status = reloader.status();
        Facts {
            reloads_changed: status.changed,
            reloads_unchanged: status.unchanged,
            reloads_failed: status.failed,
            generations_alive: snapshots.alive().len() as u64,
        }
    })
}

/// A set of listeners, one an address, for each worker.
fn listen(args: &ServeArgs, workers: usize) -> Result<Vec<Vec<Listener>>, Failure> {
    let mut sets: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in &args.listen {
        let listeners = crate::net::bind(address, workers, args.limits.backlog)?;
        for (set, listener) in sets.iter_mut().zip(listeners) {
            set.push(listener);
        }
    }
    Ok(sets)
}

fn ready_line(snapshot: &Snapshot, listeners: &[Vec<Listener>], settings: &Settings) -> String {
    let totals = snapshot.totals();
    let addresses: Vec<String> =
        listeners.iter().take(1).flatten().map(|listener| listener.address.to_string()).collect();
    if let Some(wanted) = settings.connections_clamped_from {
        info!(
            "{} descriptors allow {} peers, not the {} of --connections-max",
            thousands(settings.descriptors),
            thousands(settings.connections_max as u64),
            thousands(wanted as u64),
        );
    }
    format!(
        "serving {}, {}, {}, generation {:016x}, on {} with {}; at most {}",
        counted(totals.archives as u64, "archive"),
        counted(totals.groups as u64, "group"),
        megabytes(totals.wire_bytes),
        snapshot.generation(),
        addresses.join(" and "),
        counted(settings.workers as u64, "worker"),
        counted(settings.connections_max as u64, "peer"),
    )
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(system)?;
    Ok(())
}

fn system(error: io::Error) -> Failure {
    Failure::new(Exit::System, error, "look at the limits of memory, threads and descriptors")
}
