//! `js5d check`: reads a whole cache and says what is wrong with it.

use super::progress::Progress;
use super::text::{counted, megabytes};
use crate::cache::{Store, block_on};
use crate::catalog::{LoadError, LoadOptions, Loaded, load};
use crate::cli::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::platform::probe;
use std::process::ExitCode;

/// Checks a cache; the exit code says whether it is sound.
///
/// # Errors
/// The cache cannot be read at all.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    probe::ring()?;
    let mut progress = Progress::new();
    let result = block_on(async {
        let store = Store::open(&args.cache).await?;
        let options = LoadOptions { skip_corrupt: true };
        load(&store, options, &mut |done, total| progress.show(done, total)).await
    });
    progress.end();
    let Loaded { snapshot, report } = result.map_err(|error| match error {
        LoadError::Store(error) => Failure::from(error),
        LoadError::Arena(error) => Failure::from(error),
        LoadError::Corrupt(report) => {
            Failure::new(Exit::CorruptCache, report, "mend it or fetch it again")
        }
    })?;
    let totals = snapshot.totals();
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
        println!(
            "{}: {}, {}, {} on the wire, generation {:016x}",
            if report.is_sound() { "sound" } else { "CORRUPT" },
            counted(totals.archives as u64, "archive"),
            counted(totals.groups as u64, "group"),
            megabytes(totals.wire_bytes),
            snapshot.generation(),
        );
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { Exit::CorruptCache.into() })
}
