//! `js5d serve`: load, listen, serve, drain.
//!
//! `load` makes a snapshot of what was named, `reload` another one when asked to, `workers`
//! starts the threads that serve it, and `events` is what the main thread waits for from then on.

mod events;
mod load;
mod log;
mod reload;
mod workers;

use super::text::{counted, megabytes, thousands};
use crate::catalog::{Snapshot, SnapshotHandle};
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
    let game = config::game(args)?;
    let snapshot = load::cache(args)?;
    let listeners = listen(args, settings.workers)?;
    let (events, inbox) = channel();
    let ready = ready_line(&snapshot, &listeners, &settings);
    let snapshots = Arc::new(SnapshotHandle::new(snapshot));
    let reloader = reload::start(args, settings.reload, Arc::clone(&snapshots))?;
    events::watch_signals(signals, reloader, events.clone())?;
    let control = Arc::new(Control::default());
    let published = workers::start(args, settings, game, snapshots, listeners, &control, &events)?;
    events::wait(&inbox, &control, &published, &ready)
}

/// A set of listeners, one an address, for each worker.
fn listen(args: &ServeArgs, workers: usize) -> Result<Vec<Vec<Listener>>, Failure> {
    let mut sets: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let plain = args.listen.iter().map(|address| (*address, false));
    let proxy = args.proxy.listen_proxy.iter().map(|address| (*address, true));
    for (address, proxy) in plain.chain(proxy) {
        let listeners = crate::net::bind(address, workers, args.limits.backlog)?;
        for (set, listener) in sets.iter_mut().zip(listeners) {
            set.push(Listener { proxy, ..listener });
        }
    }
    Ok(sets)
}

fn ready_line(snapshot: &Snapshot, listeners: &[Vec<Listener>], settings: &Settings) -> String {
    let totals = snapshot.totals();
    let named = |listener: &Listener| match listener.proxy {
        true => format!("{} (PROXY)", listener.address),
        false => listener.address.to_string(),
    };
    let addresses: Vec<String> = listeners.iter().take(1).flatten().map(named).collect();
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
