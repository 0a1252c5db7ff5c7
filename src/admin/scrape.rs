//! The state of the server at one moment: the counters of all workers added up, and the rest.

use super::process::{self, Usage};
use super::{Bounds, Facts, Sources};
use crate::catalog::SnapshotTotals;
use crate::net::count::Work;
use crate::net::count::{Published, Totals};
use crate::protocol::GroupId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Everything that metrics are made of.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    pub(super) totals: Totals,
    pub(super) workers: Vec<WorkerView>,
    /// Of the thread of the game connections, if there is a game server.
    pub(super) game_heartbeat_age: Option<Duration>,
    pub(super) catalog: Arc<CatalogView>,
    pub(super) facts: Facts,
    pub(super) bounds: Bounds,
    /// The names of the profiles that are served, by number.
    pub(super) profiles: Arc<[String]>,
    pub(super) draining: bool,
    pub(super) usage: Option<Usage>,
}

/// A worker, as its pulse shows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerView {
    pub(super) heartbeat_age: Duration,
    pub(super) busy_ratio: f64,
    pub(super) has_ended: bool,
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CatalogView {
    pub(super) generation: u64,
    pub(super) totals: SnapshotTotals,
    /// Archive, groups and bytes on the wire; 255 holds the indexes.
    pub(super) archives: Vec<(u8, u64, u64)>,
}

/// Remembers what is costly to find out, or needs two moments.
#[derive(Debug, Default)]
pub(super) struct Watch {
    catalog: Mutex<Option<(usize, Arc<CatalogView>)>>,
    /// Each worker's work at the last tick, and how busy it was before it.
    work: Mutex<Vec<(Work, f64)>>,
}

impl Watch {
    /// To be called about once a second: a worker's busy ratio is that of the time since the last
    /// call.
    pub(super) fn tick(&self, sources: &Sources) {
        let mut before = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        before.resize(sources.workers.len(), (Work::default(), 0.0));
        for (published, (last, ratio)) in sources.workers.iter().zip(before.iter_mut()) {
            let work = published.pulse.work();
            let wall = work.wall.saturating_sub(last.wall);
            // None: no heartbeat has come since, and the age says so.
            if !wall.is_zero() {
                let cpu = work.cpu.saturating_sub(last.cpu);
                *ratio = (cpu.as_secs_f64() / wall.as_secs_f64()).min(1.0);
                *last = work;
            }
        }
    }

    /// What is true at this moment.
    pub(super) fn scrape(&self, sources: &Sources) -> Scrape {
        let mut totals = Totals::default();
        sources.workers.iter().chain(&sources.game).for_each(|published| totals.add(published));
        Scrape {
            totals,
            workers: self.workers(sources),
            game_heartbeat_age: sources.game.as_ref().map(|game| game.pulse.age()),
            catalog: self.catalog(sources),
            facts: (sources.facts)(),
            bounds: sources.bounds,
            profiles: Arc::clone(&sources.profiles),
            draining: sources.is_draining(),
            usage: process::usage(),
        }
    }

    pub(super) fn workers(&self, sources: &Sources) -> Vec<WorkerView> {
        let ratios = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(place, published): (usize, &Arc<Published>)| WorkerView {
            heartbeat_age: published.pulse.age(),
            busy_ratio: ratios.get(place).map_or(0.0, |(_, ratio)| *ratio),
            has_ended: published.pulse.has_ended(),
        };
        sources.workers.iter().enumerate().map(view).collect()
    }

    /// What is served. Computed once for each snapshot; the snapshot itself is not held.
    pub(super) fn catalog(&self, sources: &Sources) -> Arc<CatalogView> {
        let snapshot = sources.snapshots.load();
        // Its address tells it apart while it is the current one, which it is at this moment.
        let place = Arc::as_ptr(&snapshot).addr();
        let mut known = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, view)) = &*known
            && *at == place
            && view.generation == snapshot.generation()
        {
            return Arc::clone(view);
        }
        let mut archives = Vec::new();
        for archive in 0..=u8::MAX {
            let count = |(groups, bytes): (u64, u64), (_, len): (GroupId, usize)| {
                (groups + 1, bytes + len as u64)
            };
            let (groups, bytes) = snapshot.groups(archive).fold((0, 0), count);
            let index = GroupId { archive: u8::MAX, group: archive.into() };
            if groups > 0 || (archive < u8::MAX && snapshot.response(index).is_some()) {
                archives.push((archive, groups, bytes));
            }
        }
        let generation = snapshot.generation();
        let view = Arc::new(CatalogView { generation, totals: snapshot.totals(), archives });
        *known = Some((place, Arc::clone(&view)));
        view
    }
}
