//! `js5d serve`: load, listen, serve, drain.
//!
//! `load` makes a snapshot of the cache, and `reload` makes another one when asked to. `sockets`
//! has the listening sockets, which are bound there, inherited (`inherit`) or taken over from
//! another process (`handover`). `sandbox` gives up rights that are not needed. `workers` starts
//! the threads that serve, one of them with a `priority` of its own. From then on the main thread
//! waits for `events`.

mod events;
mod handover;
mod inherit;
mod load;
mod log;
mod priority;
mod reload;
mod sandbox;
mod sockets;
mod supervisor;
mod workers;

use super::admin;
use super::text::{counted, megabytes, thousands};
use crate::admin::{Bounds, Facts, ReloadRefused, Sources};
use crate::catalog::{Reloader, Snapshot, SnapshotHandle};
use crate::cli::ServeArgs;
use crate::config::{self, Choice, Settings};
use crate::failure::{Exit, Failure};
use crate::net::{Control, Driver, Listener};
use crate::platform::{limits, memory};
use handover::{Offer, Predecessor};
use std::io;
use std::mem;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use tracing::{info, warn};

/// Serves until a signal ends it, or another process takes over.
///
/// # Errors
/// The system, the cache or a setting does not allow it.
pub fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    memory::return_large_blocks();
    // Before anything is opened: what is inherited is known by its number only.
    let inherited = inherit::take(&args.restart)?;
    log::start(&args.log)?;
    let signals = events::hold_reloads()?;
    let settings = config::settle(args)?;
    say_driver(&settings.driver);
    let reading = settings.driver.reading();
    let game = config::game(args)?;
    let readers = config::readers(args, &settings.clients)?;
    load::say_clients(&settings.clients);
    let snapshot = load::cache(args, reading, readers.clone())?;
    load::budget(args, settings.driver.driver, &snapshot)?;
    // Asked for when nothing slow is left to do: two processes accept from here on.
    let (predecessor, handed) = Predecessor::ask(&args.restart)?.unzip();
    let handed = handed.unwrap_or_default();
    let mut listening = sockets::listen(args, settings.workers, inherited, handed)?;
    let sandbox = sandbox::begin(args, &listening)?;
    if let Err(error) = limits::reserve_descriptors(settings.descriptors_used_max) {
        warn!(%error, "accepts may be slow while the kernel makes its table of descriptors larger");
    }
    // Threads from here on.
    let (events, inbox) = channel();
    let ready = ready_line(&snapshot, &listening.workers, &settings);
    let snapshots = Arc::new(SnapshotHandle::new(snapshot));
    let readable = sandbox.readable.clone();
    let shared = Arc::clone(&snapshots);
    let reloader = reload::start(args, reading, readers, settings.reload, shared, readable)?;
    events::watch_signals(signals, reloader.clone(), events.clone())?;
    let control = Arc::new(Control::default());
    let bounds = bounds(args, &settings);
    let profiles = settings.clients.profiles().iter().map(|profile| profile.name.to_string());
    let profiles = profiles.collect();
    let (shared, listeners) = (Arc::clone(&snapshots), mem::take(&mut listening.workers));
    let (driver, driver_note) = (settings.driver.driver, settings.driver.to_string());
    let threads = workers::start(args, settings, game, shared, listeners, &control, &events)?;
    let published: Vec<_> = threads.all().cloned().collect();
    supervisor::watch(published.clone(), args.admin.heartbeat_age_max)?;
    let sources = Sources {
        workers: threads.workers,
        game: threads.game,
        control: Arc::clone(&control),
        facts: facts(driver, reloader.clone(), Arc::clone(&snapshots)),
        snapshots,
        bounds,
        profiles,
        reload: Arc::new(move || match reloader.reload() {
            Ok(done) => Ok(reload::what_was_done(&done)),
            Err(error) => Err(ReloadRefused::Failed(error.to_string())),
        }),
        notes: [("sandbox", sandbox.note), ("driver", driver_note)]
            .into_iter()
            .chain(threads.game_priority.map(|note| ("game priority", note)))
            .collect(),
    };
    let admin = admin::start(&args.admin, listening.admin, sources)?;
    let life = events::Life {
        inbox,
        events,
        control,
        published,
        ready,
        admin,
        predecessor,
        offer: Offer::new(listening.handover, listening.to_pass),
        handover_timeout: args.restart.handover_timeout,
        stop_by: None,
        failure: None,
    };
    life.run()
}

/// Says which driver serves; in a warning, if it is not the one that was to be tried first.
fn say_driver(driver: &Choice) {
    match driver.warning() {
        None => info!("driver: {driver}"),
        Some(warning) => warn!("{warning}"),
    }
}

/// What the admin address compares with.
fn bounds(args: &ServeArgs, settings: &Settings) -> Bounds {
    Bounds {
        connections_max: settings.connections_max as u64,
        refusals_max: args.limits.refusals_max as u64,
        openings_max: config::has_openings(args).then_some(args.proxy.openings_max as u64),
        game_connections_max: (args.game.game_server.as_ref())
            .map(|_| args.game.game_connections_max as u64),
        caps: settings.caps,
    }
}

/// What the admin address cannot see by itself.
fn facts(
    driver: Driver,
    reloader: Reloader,
    snapshots: Arc<SnapshotHandle>,
) -> Box<dyn Fn() -> Facts + Send + Sync> {
    Box::new(move || {
        let status = reloader.status();
        Facts {
            driver: driver.name(),
            reloads_changed: status.changed,
            reloads_unchanged: status.unchanged,
            reloads_failed: status.failed,
            generations_alive: snapshots.alive().len() as u64,
        }
    })
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
