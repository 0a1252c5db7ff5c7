//! `js5d serve`: load, listen, serve, drain.

use super::progress::Progress;
use super::text::{counted, megabytes, thousands};
use crate::cache::{Store, block_on};
use crate::catalog::{DEMO_GROUPS, DEMO_SEED, Demo, LoadError, LoadOptions, Loaded, Snapshot};
use crate::catalog::{SnapshotHandle, load};
use crate::cli::{LogArgs, LogFormat, ServeArgs};
use crate::config::{self, Settings};
use crate::failure::{Exit, Failure};
use crate::net::admission::Admission;
use crate::net::counters::{Published, Totals};
use crate::net::egress::Shaper;
use crate::net::{Control, Listener, LogGates, ServeConfig};
use crate::platform::{cpu, memory, probe};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tracing::{error, info, warn};

/// What the main thread waits for.
enum Event {
    /// A worker serves.
    Ready,
    /// A worker has ended.
    Ended(io::Result<()>),
    /// A signal came.
    Signal(i32),
}

/// Serves until a signal ends it.
///
/// # Errors
/// The system, the cache or a setting does not allow it.
pub fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    memory::return_large_blocks();
    start_log(&args.log)?;
    probe::ring()?;
    let settings = config::settle(args)?;
    let snapshot = load_cache(args)?;
    let listeners = listen(args, settings.workers)?;
    let (events, inbox) = channel();
    watch_signals(events.clone())?;
    let control = Arc::new(Control::default());
    let ready = ready_line(&snapshot, &listeners, &settings);
    let published = start_workers(args, settings, snapshot, listeners, &control, &events)?;
    wait(&inbox, &control, &published, &ready)
}

fn start_log(args: &LogArgs) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level).map_err(|error| {
        let remedy = "use error, warn, info, debug, trace, or a filter like 'js5d::net=debug'";
        Failure::new(Exit::Config, format!("--log-level {}: {error}", args.log_level), remedy)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Loads the cache that was named, or makes the demo cache.
fn load_cache(args: &ServeArgs) -> Result<Snapshot, Failure> {
    let options = LoadOptions { skip_corrupt: args.skip_corrupt };
    let mut progress = Progress::new(match args.cache {
        Some(_) => |percent| info!("loading: {percent}%"),
        // The demo cache is there before anybody could read a line.
        None => |_| {},
    });
    let mut show = |done, total| progress.show(done, total);
    let result = block_on(async {
        match &args.cache {
            Some(dir) => load(&Store::open(dir).await?, options, &mut show).await,
            None => load(&Demo::new(DEMO_GROUPS, DEMO_SEED), options, &mut show).await,
        }
    });
    progress.end();
    match result {
        Ok(Loaded { snapshot, report }) => {
            if args.cache.is_none() {
                warn!("no --cache given: serving a demo cache made up in memory");
            }
            for line in report.to_string().lines() {
                if report.is_sound() { info!("{line}") } else { warn!("{line}") }
            }
            Ok(snapshot)
        }
        Err(LoadError::Corrupt(report)) => Err(Failure::new(
            Exit::CorruptCache,
            format!("the cache is corrupt\n{report}"),
            "mend it or fetch it again; --skip-corrupt serves the rest",
        )),
        Err(LoadError::Store(error)) => Err(error.into()),
        Err(LoadError::Arena(error)) => Err(error.into()),
    }
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

fn watch_signals(events: Sender<Event>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system)?;
    spawn("signals", move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })
}

fn start_workers(
    args: &ServeArgs,
    settings: Settings,
    snapshot: Snapshot,
    listeners: Vec<Vec<Listener>>,
    control: &Arc<Control>,
    events: &Sender<Event>,
) -> Result<Vec<Arc<Published>>, Failure> {
    let config = Arc::new(ServeConfig {
        limits: settings.limits,
        profile: settings.profile,
        admission: Admission::new(
            settings.connections_max,
            args.limits.connections_per_ip_max,
            args.limits.refusals_max,
        ),
        snapshots: Arc::new(SnapshotHandle::new(snapshot)),
        shaper: Shaper::new(settings.caps, settings.workers),
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

/// Waits for the workers to serve, for a signal, and for the workers to drain.
fn wait(
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
                return Err(system(error));
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

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(system)?;
    Ok(())
}

fn system(error: io::Error) -> Failure {
    Failure::new(Exit::System, error, "look at the limits of memory, threads and descriptors")
}
