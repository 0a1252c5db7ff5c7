//! The log: on stderr, for people or for programs.

use crate::cli::{LogArgs, LogFormat};
use crate::command::text::has_color;
use crate::failure::{Exit, Failure};
use std::io;

/// Starts the log.
pub(super) fn start(args: &LogArgs) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level).map_err(|error| {
        let remedy = "use error, warn, info, debug, trace, or a filter like 'js5d::net=debug'";
        Failure::new(Exit::Config, format!("--log-level {}: {error}", args.log_level), remedy)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_target(false).with_ansi(has_color()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
