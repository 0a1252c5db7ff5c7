//! The real binary, a client, and caches whose bytes are known: what feature tests are made of.

mod cache;
mod client;
mod deployment;
pub(crate) mod game;
mod http;
mod plain_client;
mod server;

pub(crate) use cache::{Cache, container_of, framed_by_hand, id};
pub(crate) use client::{
    Answer, CLIENT_BUILDS, CLIENTS, Client, FIRST_BUILD, read_to_end, slow_stream, stream_from,
};
pub(crate) use deployment::Deployment;
pub(crate) use http::{Http, Reply};
pub(crate) use plain_client::{Asked, PlainClient, ROWS, Row};
pub(crate) use server::{Ended, Server, js5d, js5d_with, to_its_end};

use js5d::net::Driver;
use js5d::platform::probe;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen, on a machine that does other work too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `is_so`, and says how long that took.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// The driver of servers that are not told which: epoll where the ring is denied, as it is to all
/// tests when they run under `without-ring` (docs/testing.md).
pub(crate) fn driver() -> Driver {
    match probe::ring() {
        Ok(()) => Driver::Ring,
        Err(_) => Driver::Epoll,
    }
}

/// Lets this process open as many sockets as the system allows it to.
pub(crate) fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the limit");
}
