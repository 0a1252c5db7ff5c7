//! The admin address as part of serving: given what it tells about.

use crate::admin::{self, Admin, Bound, Options, Sources};
use crate::cli::AdminArgs;
use crate::failure::{Exit, Failure};
use tracing::{info, warn};

/// Starts to answer. None if there is no admin address.
pub(super) fn start(
    args: &AdminArgs,
    bound: Vec<Bound>,
    sources: Sources,
) -> Result<Option<Admin>, Failure> {
    if bound.is_empty() {
        return Ok(None);
    }
    for address in bound.iter().filter_map(Bound::address) {
        info!("admin address {address}");
        if !address.is_local() {
            warn!("{address} can be reached from other machines, and anybody there may reload");
        }
    }
    let options = Options {
        connections_max: args.admin_connections_max,
        request_timeout: args.admin_timeout,
        hosts: args.admin_host.clone(),
        heartbeat_age_max: args.heartbeat_age_max,
        expect_generation: args.expect_generation,
    };
    let admin = admin::start(bound, sources, options).map_err(|error| {
        Failure::new(Exit::System, error, "look at the limits of memory, threads and descriptors")
    })?;
    Ok(Some(admin))
}
