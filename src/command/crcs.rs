//! `js5d crcs`: what a game server compares at login.

use super::progress::Progress;
use super::text::print;
use crate::cache::{Store, block_on};
use crate::catalog::{Crcs, LoadError, LoadOptions, Loaded, load};
use crate::cli::{CrcsArgs, CrcsFormat};
use crate::failure::Failure;
use std::path::Path;
use std::process::ExitCode;

/// Prints the checksums of a cache's archive indexes.
///
/// # Errors
/// The cache cannot be read, or is corrupt: a server would not serve it either.
pub fn run(args: &CrcsArgs) -> Result<ExitCode, Failure> {
    let loaded = load_cache(&args.cache, LoadOptions::default())?;
    let crcs = Crcs::of(&loaded.snapshot);
    let format = if args.json { CrcsFormat::Json } else { args.format };
    match format {
        CrcsFormat::Text => print(crcs.to_text().as_bytes())?,
        CrcsFormat::Json => print(format!("{:#}\n", crcs.to_json()).as_bytes())?,
        CrcsFormat::Ints => print(&crcs.to_ints())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the cache that is at `path`.
pub(super) fn load_cache(path: &Path, options: LoadOptions) -> Result<Loaded, Failure> {
    let mut progress = Progress::new(|percent| eprintln!("loading: {percent}%"));
    let mut show = |done, total| progress.show(done, total);
    let result = block_on(async {
        let store = Store::open(path).await?;
        load(&store, options, &mut show).await
    });
    progress.end();
    result.map_err(|error: LoadError| error.into())
}
