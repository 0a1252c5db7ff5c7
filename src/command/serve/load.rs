//! From the cache that was named, or the demo cache, to a snapshot.

use crate::cache::{Reading, Store, block_on_by};
use crate::catalog::{
    DEMO_GROUPS, DEMO_SEED, Demo, LoadError, LoadOptions, Loaded, Readers, Snapshot, load,
};
use crate::cli::ServeArgs;
use crate::command::progress::Progress;
use crate::config::{Bound, Budget};
use crate::failure::Failure;
use crate::net::Driver;
use crate::protocol::Clients;
use std::fs;
use std::path::Path;
use tracing::{info, warn};

/// Loads the cache that was named, or makes the demo cache.
pub(super) fn cache(
    args: &ServeArgs,
    reading: Reading,
    readers: Readers,
) -> Result<Snapshot, Failure> {
    let options = LoadOptions {
        skip_corrupt: args.skip_corrupt,
        memory_bytes_max: args.limits.generations_memory_max,
        readers,
    };
    let mut progress = Progress::new(match args.cache {
        Some(_) => |percent| info!("loading: {percent}%"),
        // The demo cache is there before anybody could read a line.
        None => |_| {},
    });
    let mut show = |done, total| progress.show(done, total);
    let result = match &args.cache {
        Some(dir) => store(dir, reading, options, &mut show),
        None => block_on_by(reading, load(&Demo::new(DEMO_GROUPS, DEMO_SEED), options, &mut show)),
    };
    progress.end();
    match result {
        Ok(loaded) => {
            if args.cache.is_none() {
                warn!("no --cache given: serving a demo cache made up in memory");
            }
            say_report(&loaded);
            Ok(loaded.snapshot)
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses settings that may need more memory than `--memory-max`. If they may need more than a
/// container's limit, there is only a warning, because the worst case may never happen.
pub(super) fn budget(args: &ServeArgs, driver: Driver, snapshot: &Snapshot) -> Result<(), Failure> {
    let budget = Budget::new(args, driver, snapshot);
    match (budget.check(), budget.bound) {
        (Err(failure), Bound::Setting(_)) => Err(failure),
        (Err(failure), _) => {
            warn!("{}; {}", failure.cause, failure.remedy);
            Ok(())
        }
        (Ok(()), _) => Ok(()),
    }
}

/// Loads the store that is in `dir` at this moment.
///
/// Links are followed once, before anything is opened: if `dir` is pointed elsewhere meanwhile,
/// all files are those of one place still.
pub(super) fn store(
    dir: &Path,
    reading: Reading,
    options: LoadOptions,
    show: &mut dyn FnMut(u64, u64),
) -> Result<Loaded, LoadError> {
    // A directory that is not there is named by the store's own error.
    let place = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    block_on_by(reading, async { load(&Store::open(&place).await?, options, show).await })
}

/// Logs which clients are served.
pub(super) fn say_clients(clients: &Clients) {
    info!("clients: {}", clients.describe());
}

/// Says what was remarkable on the way.
pub(super) fn say_report(loaded: &Loaded) {
    let report = &loaded.report;
    for line in report.to_string().lines() {
        if report.is_sound() { info!("{line}") } else { warn!("{line}") }
    }
}
