//! What both servers do before they serve: options, the catalog, a listener.

use clap::Parser;
use js5d::cache::{Store, block_on};
use js5d::catalog::{LoadOptions, Snapshot, load};
use socket2::{Domain, Protocol, Socket, Type};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

/// As js5d's.
const BACKLOG: i32 = 4096;

/// The options of both.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// The cache to serve.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// Where to listen. With port 0 the system chooses one; the line on stderr says which.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
}

/// Loads the cache; it lives as long as the process.
///
/// # Errors
/// The cache cannot be read, or is not sound.
pub fn snapshot(options: &Options) -> Result<&'static Snapshot, Box<dyn Error>> {
    let loaded = block_on(async {
        load(&Store::open(&options.cache).await?, LoadOptions::default(), &mut |_, _| {}).await
    })?;
    Ok(Box::leak(Box::new(loaded.snapshot)))
}

/// Listens, without blocking. Accepted sockets inherit that small answers are not held back.
///
/// # Errors
/// The address cannot be had.
pub fn listen(options: &Options) -> Result<TcpListener, Box<dyn Error>> {
    let domain = Domain::for_address(options.listen);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&options.listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    eprintln!("serving on {}", listener.local_addr()?);
    Ok(listener)
}
