//! Starting the workers: a thread each, with what all of them share.

use super::events::Event;
use super::{priority, spawn, system};
use crate::catalog::SnapshotHandle;
use crate::cli::ServeArgs;
use crate::config::{self, Game, Settings};
use crate::failure::Failure;
use crate::net::admission::Admission;
use crate::net::count::{LogGates, Published};
use crate::net::game::{Inbox, door};
use crate::net::line::Shaper;
use crate::net::{Control, Front, Listener, Openings, ServeConfig};
use crate::platform::{cpu, limits};
use crate::proxy::Trusted;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};

/// What each thread publishes.
pub(super) struct Threads {
    pub(super) workers: Vec<Arc<Published>>,
    /// The thread of the game connections, if there is a game server.
    pub(super) game: Option<Arc<Published>>,
    /// That thread's priority, for the status page.
    pub(super) game_priority: Option<String>,
}

impl Threads {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Published>> {
        self.workers.iter().chain(&self.game)
    }
}

/// Starts a worker for each set of listeners. Each says in `events` when it serves and when it
/// has ended.
pub(super) fn start(
    args: &ServeArgs,
    settings: Settings,
    game: Option<Game>,
    snapshots: Arc<SnapshotHandle>,
    listeners: Vec<Vec<Listener>>,
    control: &Arc<Control>,
    events: &Sender<Event>,
) -> Result<Threads, Failure> {
    limits::raise_locked_memory().map_err(system)?;
    let (game, front) = front(args, game);
    let config = Arc::new(ServeConfig {
        driver: settings.driver.driver,
        limits: settings.limits,
        clients: settings.clients,
        admission: Admission::new(
            settings.connections_max,
            args.limits.connections_per_ip_max,
            args.limits.refusals_max,
        ),
        front,
        snapshots,
        shaper: Shaper::new(settings.caps, settings.workers),
        log_gates: LogGates::default(),
    });
    let mut threads = Threads { workers: Vec::new(), game: None, game_priority: None };
    if let Some((Game { server, limits, .. }, inbox)) = game {
        let counters = Arc::new(Published::default());
        threads.game = Some(Arc::clone(&counters));
        let (control, events) = (Arc::clone(control), events.clone());
        let driver = config.driver;
        let (wanted, (tell, told)) = (args.game.game_realtime, channel());
        spawn("game", move || {
            // A thread can ask for itself only. Without the priority that is required, the
            // process ends.
            drop(tell.send(priority::begin(wanted)));
            let ready = || drop(events.send(Event::Ready));
            let result =
                crate::net::game::run(driver, server, limits, inbox, control, counters, ready);
            drop(events.send(Event::Ended(result)));
        })?;
        threads.game_priority = told.recv().ok().transpose()?;
    }
    for (number, listeners) in listeners.into_iter().enumerate() {
        let core = settings.cores.as_ref().and_then(|cores| cores.get(number).copied());
        let counters = Arc::new(Published::default());
        threads.workers.push(Arc::clone(&counters));
        let (config, control, events) = (Arc::clone(&config), Arc::clone(control), events.clone());
        spawn(&format!("worker-{number}"), move || {
            let result = core.map_or(Ok(()), cpu::pin_to).and_then(|()| {
                let ready = || drop(events.send(Event::Ready));
                crate::net::run(config, listeners, control, counters, ready)
            });
            drop(events.send(Event::Ended(result)));
        })?;
    }
    Ok(threads)
}

/// What must be known of a connection first, and what the game's thread needs.
fn front(args: &ServeArgs, game: Option<Game>) -> (Option<(Game, Inbox)>, Front) {
    let (door, game) = game
        .map(|game| {
            let (door, inbox) = door(game.connections_max, game.connections_per_ip_max);
            (door, (game, inbox))
        })
        .unzip();
    let front = Front {
        trusted: Trusted::new(args.proxy.proxy_trusted.clone()),
        proxy_timeout: args.proxy.proxy_timeout,
        openings_max: args.proxy.openings_max,
        openings: AtomicUsize::new(0),
        openings_by_address: Openings::new(config::openings_per_ip_max(args)),
        game: door,
    };
    (game, front)
}
