//! `null-server`: the server of `self-test`, for measurements by hand.

use super::measure::Interrupt;
use super::output;
use crate::cli::NullServerArgs;
use crate::failure::{Exit, Failure, RING_REMEDY};
use crate::null_server::NullServer;

/// Serves until interrupted.
pub(crate) fn run(args: &NullServerArgs) -> Result<Exit, Failure> {
    let remedy = format!("Does another program use the address? {RING_REMEDY}");
    let failed = |e| Failure::setup(format!("the null server at {}: {e}", args.listen), &remedy);
    let rate = args.rate.map(|rate| rate.0);
    if rate.is_some_and(|rate| rate < 1.0) {
        return Err(Failure::usage("--rate must be 1 or more", "Leave it out for no limit."));
    }
    let interrupt = Interrupt::watch()?;
    let server = NullServer::start(&args.listen, args.size, rate, args.pin).map_err(failed)?;
    let address = server.address;
    output::say(format_args!("serving responses of {} bytes at {address}\n", args.size));
    server.wait(interrupt.flag()).map_err(failed)?;
    Ok(Exit::Good)
}
