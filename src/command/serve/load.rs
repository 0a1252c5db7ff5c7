//! From the cache that was named, or the demo cache, to a snapshot.

use crate::cache::{Store, block_on};
use crate::catalog::{
    DEMO_GROUPS, DEMO_SEED, Demo, LoadError, LoadOptions, Loaded, Snapshot, load,
};
use crate::cli::ServeArgs;
use crate::command::progress::Progress;
use crate::failure::{Exit, Failure};
use tracing::{info, warn};

/// Loads the cache that was named, or makes the demo cache.
pub(super) fn cache(args: &ServeArgs) -> Result<Snapshot, Failure> {
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
