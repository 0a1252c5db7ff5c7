//! The thread of the admin address: it accepts, within bounds of its own, and serves HTTP/1.1.
//!
//! A connection that sends nothing, or half a request, is closed after `--admin-timeout`. Any
//! connection is ended after [`CONNECTION_AGE_MAX`], unless it waits for a reload. A connection
//! beyond the limit is answered 503 and closed.

use super::address::{Address, Bound, SocketFile};
use super::routes::{self, Origin};
use super::state::State;
use super::{Options, Sources, history};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::debug;

/// The first line and the headers of a request; hyper takes no less. More is answered with 431.
const REQUEST_HEAD_LEN_MAX: usize = 8 << 10;

/// Headers of a request.
const REQUEST_HEADERS_MAX: usize = 64;

/// A connection is told to end after this time, and cut after as long again. The status page and
/// Prometheus connect anew.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// How long to leave a listener alone after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the limit that are being answered; further ones are closed without an answer.
const REFUSALS_MAX: usize = 32;

/// How long a connection beyond the limit has to read its answer before its socket is closed. If it
/// were closed at once, with unread input, the kernel would reset it.
const REFUSAL_LINGER: Duration = Duration::from_millis(250);

/// The answer to a connection beyond the limit.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
      content-length: 52\r\nconnection: close\r\n\r\n\
      too many connections to the admin address; try again";

/// The admin address while it is served. Socket files go when it is dropped.
#[derive(Debug)]
pub struct Admin {
    files: Vec<SocketFile>,
    stop: Arc<Notify>,
}

impl Admin {
    /// The process that had the sockets has left them to this one.
    pub fn take_over(&mut self) {
        self.files.iter_mut().for_each(SocketFile::claim);
    }

    /// Stops accepting, and leaves the sockets to the other process that holds them.
    pub fn hand_over(self) {
        self.stop.notify_one();
        self.files.into_iter().for_each(SocketFile::leave);
    }
}

/// Room for connections, and for those beyond the limit.
struct Places {
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves what was bound on a thread of its own, from here to the end of the process.
///
/// # Errors
/// The thread or its runtime cannot be had.
pub fn start(bound: Vec<Bound>, sources: Sources, options: Options) -> io::Result<Admin> {
    let mut files = Vec::new();
    let mut sockets = Vec::new();
    for bound in bound {
        match bound {
            Bound::Tcp(listener) => sockets.push((Some(listener), None)),
            Bound::Unix(listener, file) => {
                files.push(file);
                sockets.push((None, Some(listener)));
            }
        }
    }
    let state = Arc::new(State::new(sources, options));
    // One thread for requests, and one for a reload, which ends when it is done.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let listening = {
        let _inside = runtime.enter();
        let mut listening = Vec::new();
        for (tcp, unix) in sockets {
            if let Some(tcp) = tcp {
                listening.push(Listening::Tcp(TcpListener::from_std(tcp)?));
            }
            if let Some(unix) = unix {
                listening.push(Listening::Unix(UnixListener::from_std(unix)?));
            }
        }
        listening
    };
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(serve(listening, state, &stopped));
    })?;
    Ok(Admin { files, stop })
}

async fn serve(listening: Vec<Listening>, state: Arc<State>, stop: &Notify) {
    let places = Arc::new(Places {
        connections: Arc::new(Semaphore::new(state.options.connections_max)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
    });
    let accept = |listener| tokio::spawn(accept(listener, Arc::clone(&state), Arc::clone(&places)));
    let accepting: Vec<_> = listening.into_iter().map(accept).collect();
    let mut ticks = interval(history::MOMENT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => state.tick(),
            () = stop.notified() => accepting.iter().for_each(JoinHandle::abort),
        }
    }
}

async fn accept(listener: Listening, state: Arc<State>, places: Arc<Places>) {
    loop {
        let accepted = match &listener {
            Listening::Tcp(listener) => listener.accept().await.map(|(socket, _)| {
                // An answer is one write; waiting for more to send would only delay it.
                let _ = socket.set_nodelay(true);
                welcome(socket, true, &state, &places);
            }),
            Listening::Unix(listener) => listener.accept().await.map(|(socket, _)| {
                welcome(socket, false, &state, &places);
            }),
        };
        if let Err(error) = accepted {
            debug!(%error, "the admin address cannot accept");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn welcome<S>(mut socket: S, is_tcp: bool, state: &Arc<State>, places: &Places)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(place) = Arc::clone(&places.connections).try_acquire_owned() else {
        if let Ok(place) = Arc::clone(&places.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                // It fits into a fresh socket's buffer, so nothing waits here.
                let _ = socket.write_all(TOO_MANY).await;
                let _ = socket.shutdown().await;
                sleep(REFUSAL_LINGER).await;
                drop(place);
            });
        }
        return;
    };
    let state = Arc::clone(state);
    tokio::spawn(async move {
        converse(socket, is_tcp, &state).await;
        drop(place);
    });
}

/// Answers the requests of one connection.
async fn converse<S>(socket: S, is_tcp: bool, state: &Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let origin = Origin::new(is_tcp);
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(routes::answer(state, &origin, request).await)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(state.options.request_timeout)
        .max_buf_size(REQUEST_HEAD_LEN_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut is_old = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection to the admin address failed");
                }
                return;
            }
            () = sleep(CONNECTION_AGE_MAX) => {}
        }
        if !origin.has_long_answer() {
            if is_old {
                return;
            }
            connection.as_mut().graceful_shutdown();
            is_old = true;
        }
    }
}

impl Address {
    /// Whether it can be reached from this machine only.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
