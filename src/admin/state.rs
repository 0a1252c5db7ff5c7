//! What the routes share, and the two questions that a supervisor asks: alive, and ready?

use super::guard::Guard;
use super::history::History;
use super::metrics::gather;
use super::scrape::{Scrape, Watch};
use super::{Options, Sources};
use crate::net::count::Published;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the routes share.
pub(super) struct State {
    pub(super) sources: Sources,
    pub(super) options: Options,
    pub(super) guard: Guard,
    pub(super) started: Instant,
    /// Set while a reload that was asked for here runs.
    pub(super) reloading: AtomicBool,
    watch: Watch,
    history: Mutex<History>,
}

impl Sources {
    /// Whether the server stops. Workers see it at their next heartbeat, the admin address at
    /// once: readiness ends before anything else does.
    pub(super) fn is_draining(&self) -> bool {
        self.control.is_draining()
    }
}

impl State {
    pub(super) fn new(sources: Sources, options: Options) -> Self {
        let guard = Guard::new(&options.hosts);
        Self {
            sources,
            options,
            guard,
            started: Instant::now(),
            reloading: AtomicBool::new(false),
            watch: Watch::default(),
            history: Mutex::default(),
        }
    }

    /// To be called about once a second.
    pub(super) fn tick(&self) {
        self.watch.tick(&self.sources);
        let families = gather(&self.scrape());
        self.history().push(Instant::now(), &families);
    }

    pub(super) fn scrape(&self) -> Scrape {
        self.watch.scrape(&self.sources)
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every worker has had a heartbeat lately; else which one has not.
    pub(super) fn liveness(&self) -> Result<String, String> {
        let workers = self.watch.workers(&self.sources);
        let ages = workers.iter().map(|worker| worker.heartbeat_age).enumerate();
        let oldest = ages.max_by_key(|(_, age)| *age).unwrap_or((0, Duration::ZERO));
        let (number, age) = (oldest.0, oldest.1.as_secs_f64());
        if oldest.1 > self.options.heartbeat_age_max {
            return Err(format!("worker {number} has had no heartbeat for {age:.1} s"));
        }
        let game = self.sources.game.as_ref().map_or(Duration::ZERO, |game| game.pulse.age());
        if game > self.options.heartbeat_age_max {
            let age = game.as_secs_f64();
            return Err(format!("the game thread has had no heartbeat for {age:.1} s"));
        }
        Ok(format!("alive: the oldest heartbeat of {} workers is {age:.2} s old", workers.len()))
    }

    /// Whether connections are welcome; else why not.
    pub(super) fn readiness(&self) -> Result<String, String> {
        let generation = self.watch.catalog(&self.sources).generation;
        if self.sources.is_draining() {
            return Err(format!("draining; generation {generation:016x}"));
        }
        let mut works = self.sources.workers.iter().map(|worker| worker.pulse.work());
        if works.any(|work| work.wall.is_zero()) {
            return Err(format!("starting; generation {generation:016x}"));
        }
        let is_lost = |worker: &Arc<Published>| worker.listeners_lost.load(Ordering::Relaxed) > 0;
        if let Some(number) = self.sources.workers.iter().position(is_lost) {
            return Err(format!(
                "worker {number} has lost a listening socket (see the log): start js5d again"
            ));
        }
        match self.options.expect_generation {
            Some(expected) if expected != generation => Err(format!(
                "generation {generation:016x} is served, and {expected:016x} is expected"
            )),
            _ => Ok(format!("ready: generation {generation:016x}")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::{Bounds, Facts, ReloadRefused};
    use crate::catalog::{SnapshotBuilder, SnapshotHandle};
    use crate::net::Control;
    use crate::net::count::Published;
    use crate::net::count::Pulse;
    use std::sync::Arc;

    /// Sources of which nothing happens, and options with which nothing is late.
    pub(in crate::admin) fn quiet() -> (Sources, Options) {
        sources(&[0])
    }

    fn state(silences_s: &[u64]) -> State {
        let (sources, options) = sources(silences_s);
        State::new(sources, options)
    }

    fn sources(silences_s: &[u64]) -> (Sources, Options) {
        let published = silences_s.iter().map(|&silence| {
            let pulse = Pulse::silent_for(Duration::from_secs(silence));
            Arc::new(Published { pulse, ..Published::default() })
        });
        let snapshot = SnapshotBuilder::new(1, 100).and_then(SnapshotBuilder::seal);
        let sources = Sources {
            workers: published.collect(),
            game: None,
            control: Arc::new(Control::default()),
            snapshots: Arc::new(SnapshotHandle::new(snapshot.expect("small"))),
            bounds: Bounds::default(),
            profiles: Arc::default(),
            facts: Box::new(Facts::default),
            reload: Arc::new(|| Err(ReloadRefused::Failed("not here".into()))),
            notes: Vec::new(),
        };
        let options = Options {
            connections_max: 1,
            request_timeout: Duration::from_secs(1),
            hosts: Vec::new(),
            heartbeat_age_max: Duration::from_secs(5),
            expect_generation: None,
        };
        (sources, options)
    }

    #[test]
    fn the_worker_without_a_heartbeat_is_named() {
        let reason = state(&[1, 30, 2]).liveness().expect_err("worker 1 hangs");
        assert!(reason.starts_with("worker 1 has had no heartbeat for 30."), "{reason}");
        assert!(state(&[1, 4]).liveness().is_ok());
    }

    #[test]
    fn a_game_thread_without_a_heartbeat_is_named() {
        let (mut sources, options) = sources(&[1]);
        let pulse = Pulse::silent_for(Duration::from_secs(30));
        sources.game = Some(Arc::new(Published { pulse, ..Published::default() }));
        let reason = State::new(sources, options).liveness().expect_err("it hangs");
        assert!(reason.starts_with("the game thread has had no heartbeat for 30."), "{reason}");
    }

    #[test]
    fn workers_that_have_not_begun_are_not_ready() {
        let reason = state(&[1]).readiness().expect_err("no heartbeat yet");
        assert!(reason.starts_with("starting"), "{reason}");
    }
}
