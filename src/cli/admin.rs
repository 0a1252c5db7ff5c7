//! Options of the admin address.

use super::units::{at_least, duration};
use crate::admin::Address;
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// What operators ask.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Admin address")]
pub struct AdminArgs {
    /// Address for status page, metrics and health checks, or unix:/path; several may be given
    /// [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Vec<Address>,

    /// Host name under which a browser may ask for a reload, besides IP addresses and the machine's
    /// own name; several may be given [default: none]
    #[arg(long, value_name = "NAME")]
    pub admin_host: Vec<String>,

    /// Maximum number of connections to the admin addresses at once; a further one is answered
    /// with 503
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least::<1>)]
    pub admin_connections_max: usize,

    /// How long a request to the admin address may take to arrive, and how long the next one on
    /// the same connection may take to begin
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub admin_timeout: Duration,

    /// How old a worker's last heartbeat may be before /livez fails; a worker has one every 100ms
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub heartbeat_age_max: Duration,

    /// Generation that must be served for /readyz to succeed, as the ready line of the log
    /// ('serving ...') prints it [default: any]
    #[arg(long, value_name = "GENERATION", value_parser = generation)]
    pub expect_generation: Option<u64>,
}

impl AdminArgs {
    /// The addresses that take a port.
    pub fn ports(&self) -> impl Iterator<Item = &SocketAddr> {
        self.admin.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        })
    }
}

fn generation(text: &str) -> Result<u64, String> {
    let is_one = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_one.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    let wanted = "16 hexadecimal digits are wanted, as the ready line of the log prints them";
    number.ok_or_else(|| wanted.into())
}
