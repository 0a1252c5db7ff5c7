//! The reloading thread: it loads the cache again when asked to, and reports the result.

use super::load;
use super::{spawn, supervisor};
use crate::cache::Reading;
use crate::catalog::{
    LoadError, LoadOptions, Loaded, Readers, ReloadDone, ReloadError, ReloadLimits, ReloadResult,
    ReloadSteps, Reloader, SnapshotHandle, SnapshotTotals, Swap,
};
use crate::cli::ServeArgs;
use crate::command::text::{counted, megabytes};
use crate::config;
use crate::failure::{Exit, Failure};
use crate::platform::cpu;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{error, info, warn};

/// Starts the thread that reloads what `snapshots` gives out.
pub(super) fn start(
    args: &ServeArgs,
    reading: Reading,
    readers: Readers,
    limits: ReloadLimits,
    snapshots: Arc<SnapshotHandle>,
    readable: Option<String>,
) -> Result<Reloader, Failure> {
    let mut steps = Steps {
        cache: args.cache.clone(),
        master_index: args.clients.master_index.clone(),
        reading,
        readers,
        skip_corrupt: args.skip_corrupt,
        readable,
        snapshots: Arc::clone(&snapshots),
    };
    let (reloader, queue) = Reloader::new(snapshots, limits);
    spawn("reload", move || {
        if let Err(error) = cpu::lower_priority() {
            warn!(%error, "reloads run at ordinary priority");
        }
        queue.run(&mut steps);
    })?;
    Ok(reloader)
}

/// How this server reloads.
struct Steps {
    cache: Option<PathBuf>,
    /// Read anew each time: it belongs to the cache.
    master_index: Option<PathBuf>,
    reading: Reading,
    readers: Readers,
    skip_corrupt: bool,
    /// Where the sandbox lets caches be read, if there is one.
    readable: Option<String>,
    snapshots: Arc<SnapshotHandle>,
}

impl ReloadSteps for Steps {
    fn begin(&mut self) {
        if let Some(cache) = &self.cache {
            info!("reloading {}", cache.display());
        }
        supervisor::reloading();
    }

    fn load(&mut self, memory_bytes_max: u64) -> Result<Loaded, ReloadError> {
        let Some(cache) = &self.cache else {
            let cause = "the demo cache is served: there is nothing to reload";
            return Err(ReloadError::new(cause, "start js5d with --cache DIR"));
        };
        let memory_bytes_max = Some(memory_bytes_max);
        let path = self.master_index.as_deref();
        let readers = config::with_stored_master(self.readers.clone(), path)
            .map_err(|Failure { cause, remedy, .. }| ReloadError::new(cause, remedy))?;
        let options = LoadOptions { skip_corrupt: self.skip_corrupt, memory_bytes_max, readers };
        let loaded = load::store(cache, self.reading, options, &mut |_, _| {}).map_err(
            |error| match error {
                LoadError::Corrupt(report) => {
                    let cause = format!("the cache is corrupt: {}", report.summary());
                    let remedy =
                        format!("'js5d check --cache {}' lists all that is wrong", cache.display());
                    ReloadError::new(cause, remedy)
                }
                error => {
                    let Failure { cause, remedy, exit } = error.into();
                    match &self.readable {
                        Some(places) if exit == Exit::Permission => ReloadError::new(
                            cause,
                            format!("{remedy}; the sandbox (--sandbox) allows {places} only"),
                        ),
                        _ => ReloadError::new(cause, remedy),
                    }
                }
            },
        )?;
        load::say_report(&loaded);
        Ok(loaded)
    }

    fn end(&mut self, result: &ReloadResult) {
        let generation = self.snapshots.load().generation();
        let status = match result {
            Ok(done) => {
                info!("reloaded: {}", what_was_done(done));
                format!("serving generation {generation:016x}")
            }
            Err(error) => {
                let status = format!("reload failed, generation {generation:016x} stays: {error}");
                error!("{status}");
                status
            }
        };
        supervisor::ready(&status, false);
    }
}

/// What a reload did, as the log and the one who asked for it are told.
pub(super) fn what_was_done(done: &ReloadDone) -> String {
    let ReloadDone { swap, generation, generation_before, totals, took } = done;
    let change = match swap {
        Swap::Unchanged => {
            return format!("the cache is unchanged: generation {generation:016x} stays");
        }
        Swap::Replaced => {
            format!("generation {generation:016x} replaces {generation_before:016x}")
        }
        Swap::Restored => {
            format!("generation {generation:016x} is back in the place of {generation_before:016x}")
        }
    };
    let SnapshotTotals { archives, groups, wire_bytes } = *totals;
    let (archives, groups) = (counted(archives as u64, "archive"), counted(groups as u64, "group"));
    let (size, seconds) = (megabytes(wire_bytes), took.as_secs_f64());
    format!("{change}; {archives}, {groups}, {size}, in {seconds:.2} s")
}
