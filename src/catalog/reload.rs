//! Reloading: one reload at a time; if it fails, the old content is still served.
//!
//! A request comes from a signal, or from a caller that waits for the answer. Requests that arrive
//! while a reload runs are answered together by the next one, because the running one may have read
//! files that have changed since. So no request is lost, and a thousand need no more than two
//! reloads.

use super::handle::{SnapshotHandle, Swap};
use super::load::Loaded;
use super::snapshot::SnapshotTotals;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Requests that may wait for the next reload.
const REQUESTS_MAX: usize = 64;

/// How often earlier snapshots are checked, while there are any, to free those not held.
const RELEASE_INTERVAL: Duration = Duration::from_millis(500);

/// How much may be in memory at once.
#[derive(Clone, Copy, Debug)]
pub struct ReloadLimits {
    /// Snapshots, the current one and one that is being loaded included.
    pub generations_max: usize,
    /// What they occupy together.
    pub memory_bytes_max: u64,
}

/// What a reload is made of, for the thread that runs it.
pub trait ReloadSteps {
    /// A reload begins.
    fn begin(&mut self);
    /// Makes a snapshot, in at most this memory.
    ///
    /// # Errors
    /// There is no cache, or it is not sound.
    fn load(&mut self, memory_bytes_max: u64) -> Result<Loaded, ReloadError>;
    /// A reload has ended, and connections to come are served accordingly.
    fn end(&mut self, result: &ReloadResult);
}

/// What a successful reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadDone {
    /// Whether anything changed.
    pub swap: Swap,
    /// What is served from here on.
    pub generation: u64,
    /// What was served before.
    pub generation_before: u64,
    /// How much is served.
    pub totals: SnapshotTotals,
    /// How long it took.
    pub took: Duration,
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct ReloadError {
    /// What is wrong, with the place.
    pub cause: String,
    /// The one thing to do about it.
    pub remedy: String,
}

impl ReloadError {
    /// A cause and its remedy.
    pub fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }
}

/// The result of a reload.
pub type ReloadResult = Result<ReloadDone, ReloadError>;

/// The results of reloads so far.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    /// Reloads after which something else was served.
    pub changed: u64,
    /// Reloads that found what is served already.
    pub unchanged: u64,
    /// Reloads that failed, so that the old content is still served.
    pub failed: u64,
    /// Whether one runs.
    pub is_running: bool,
    /// The last one that ended.
    pub last: Option<LastReload>,
}

/// The last reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it ended.
    pub at: SystemTime,
    /// Its result.
    pub result: ReloadResult,
}

/// How a reload is asked for, from any thread. Clones share it.
#[derive(Clone, Debug)]
pub struct Reloader {
    requests: SyncSender<Option<Sender<ReloadResult>>>,
    status: Arc<Mutex<ReloadStatus>>,
}

/// The other end of [`Reloader`]: what the reloading thread works on.
#[derive(Debug)]
pub struct ReloadQueue {
    requests: Receiver<Option<Sender<ReloadResult>>>,
    status: Arc<Mutex<ReloadStatus>>,
    handle: Arc<SnapshotHandle>,
    limits: ReloadLimits,
}

impl Reloader {
    /// Reloads what `handle` gives out. A thread has to [`run`](ReloadQueue::run) the queue.
    #[must_use]
    pub fn new(handle: Arc<SnapshotHandle>, limits: ReloadLimits) -> (Self, ReloadQueue) {
        let (sender, requests) = sync_channel(REQUESTS_MAX);
        let status = Arc::default();
        let reloader = Self { requests: sender, status: Arc::clone(&status) };
        (reloader, ReloadQueue { requests, status, handle, limits })
    }

    /// Asks for a reload and does not wait.
    pub fn request(&self) {
        // If no more may wait, the reload that those wait for is this one's, too.
        let _ = self.requests.try_send(None);
    }

    /// Asks for a reload and waits for its result, which may take as long as two loads.
    ///
    /// # Errors
    /// The old content stays; the error says why.
    pub fn reload(&self) -> ReloadResult {
        let (sender, answer) = channel();
        self.requests.try_send(Some(sender)).map_err(|_| {
            let cause = format!("{REQUESTS_MAX} requests already wait for the next reload");
            ReloadError::new(cause, "try again when it is done")
        })?;
        answer.recv().unwrap_or_else(|_| {
            Err(ReloadError::new("the server is ending", "ask the server that replaces it"))
        })
    }

    /// The results of reloads so far.
    #[must_use]
    pub fn status(&self) -> ReloadStatus {
        lock(&self.status).clone()
    }
}

impl ReloadQueue {
    /// Reloads whenever it is asked for, and frees earlier snapshots when their last connection
    /// has ended, until there is no [`Reloader`] left.
    pub fn run(self, steps: &mut impl ReloadSteps) {
        loop {
            let request = match self.handle.release() {
                0 => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => self.requests.recv_timeout(RELEASE_INTERVAL),
            };
            let first = match request {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let waiting: Vec<_> = std::iter::once(first).chain(self.requests.try_iter()).collect();
            lock(&self.status).is_running = true;
            steps.begin();
            let result = self.reload(steps);
            self.note(&result);
            steps.end(&result);
            for sender in waiting.into_iter().flatten() {
                // The caller may have gone.
                let _ = sender.send(result.clone());
            }
        }
    }

    fn reload(&self, steps: &mut impl ReloadSteps) -> ReloadResult {
        let start = Instant::now();
        let memory_left = self.room()?;
        let loaded = steps.load(memory_left)?;
        let generation_before = self.handle.load().generation();
        let totals = loaded.snapshot.totals();
        let generation = loaded.snapshot.generation();
        let swap = self.handle.swap(loaded.snapshot);
        Ok(ReloadDone { swap, generation, generation_before, totals, took: start.elapsed() })
    }

    /// The memory that is left for another snapshot, if there may be another at all.
    fn room(&self) -> Result<u64, ReloadError> {
        self.handle.release();
        let alive = self.handle.alive();
        let max = self.limits.generations_max;
        if alive.len() >= max {
            let cause = format!(
                "{} generations are in memory, and --generations-max allows {max} with the one \
                 to load",
                alive.len()
            );
            let remedy = "wait until the oldest one's connections have ended \
                          (--generation-timeout), or raise --generations-max";
            return Err(ReloadError::new(cause, remedy));
        }
        let used: u64 = alive.iter().map(|alive| alive.memory_bytes).sum();
        Ok(self.limits.memory_bytes_max.saturating_sub(used))
    }

    fn note(&self, result: &ReloadResult) {
        let mut status = lock(&self.status);
        match result {
            Ok(ReloadDone { swap: Swap::Unchanged, .. }) => status.unchanged += 1,
            Ok(_) => status.changed += 1,
            Err(_) => status.failed += 1,
        }
        status.is_running = false;
        status.last = Some(LastReload { at: SystemTime::now(), result: result.clone() });
    }
}

fn lock(status: &Mutex<ReloadStatus>) -> MutexGuard<'_, ReloadStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
