//! The admin address: HTTP for operators and their tools.
//!
//! | route | answer |
//! |---|---|
//! | `GET /` | the status page, which asks for `/status.json` each second |
//! | `GET /crcs` | the checksums of the archive indexes, as `?format=text`, `json` or `ints` |
//! | `GET /status.json` | all that is shown, with the history after moment N of `?since=N` |
//! | `GET /metrics` | Prometheus' text format, 0.0.4 |
//! | `GET /livez` | 200 while every worker's heartbeat is young, 503 and the worker otherwise |
//! | `GET /readyz` | 200 while connections are welcome and the expected generation is served |
//! | `POST /reload` | loads the cache again, and answers with the result |
//!
//! It runs on a thread of its own, with an ordinary runtime of one thread. Workers do not use it:
//! it reads the counters that they publish at their heartbeats, and the snapshot handle. It gets
//! everything else, such as the results of reloads, as [`Sources`]. It has bounds of its own
//! (`server.rs`), and browsers' requests from other sites change nothing (`guard.rs`).

pub mod address;
pub mod client;
mod guard;
mod history;
pub mod metrics;
mod process;
mod routes;
mod scrape;
mod server;
mod state;
mod status;

pub use address::{Address, BindError, Bound, SocketFile, bind};
pub use server::{Admin, start};

use crate::catalog::SnapshotHandle;
use crate::net::Control;
use crate::net::count::Published;
use crate::net::line::Caps;
use std::sync::Arc;
use std::time::Duration;

/// What the admin address tells about.
pub struct Sources {
    /// What each worker publishes.
    pub workers: Vec<Arc<Published>>,
    /// What the thread of the game connections publishes, if there is a game server.
    pub game: Option<Arc<Published>>,
    /// Whether the server stops.
    pub control: Arc<Control>,
    /// What is served.
    pub snapshots: Arc<SnapshotHandle>,
    /// Bounds that the page compares with what is used.
    pub bounds: Bounds,
    /// The names of the profiles that are served, by number.
    pub profiles: Arc<[String]>,
    /// What only the process knows; asked at each scrape.
    pub facts: Box<dyn Fn() -> Facts + Send + Sync>,
    /// What `POST /reload` does. It may take long; the other routes are answered meanwhile.
    pub reload: Arc<dyn Fn() -> Result<String, ReloadRefused> + Send + Sync>,
    /// Lines for the status page, as heading and text.
    pub notes: Vec<(&'static str, String)>,
}

/// What only the process knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The name of the workers' way to the kernel.
    pub driver: &'static str,
    /// Reloads after which something else was served.
    pub reloads_changed: u64,
    /// Reloads that found what is served already.
    pub reloads_unchanged: u64,
    /// Reloads that failed, so that the old content is still served.
    pub reloads_failed: u64,
    /// Snapshots in memory, the current one included.
    pub generations_alive: u64,
}

/// Why `POST /reload` changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// This server does not reload: 503.
    Unavailable(String),
    /// The old content stays, for this reason: 422.
    Failed(String),
}

/// Bounds of the server, for comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Peers that are served at once.
    pub connections_max: u64,
    /// Refused peers at once that have not ended yet.
    pub refusals_max: u64,
    /// Openings at once, if there can be any.
    pub openings_max: Option<u64>,
    /// Connections to the game server at once, if there is one.
    pub game_connections_max: Option<u64>,
    /// Bytes a second.
    pub caps: Caps,
}

/// Settings of the admin address itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at once; the next is answered 503.
    pub connections_max: usize,
    /// For a request to arrive whole, and for the next one on the same connection to begin.
    pub request_timeout: Duration,
    /// Names by which `POST /reload` may be asked for, beside addresses and the host's own.
    pub hosts: Vec<String>,
    /// A worker whose heartbeat is older makes `/livez` fail.
    pub heartbeat_age_max: Duration,
    /// The generation without which `/readyz` fails.
    pub expect_generation: Option<u64>,
}
