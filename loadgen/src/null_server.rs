//! The null server: fixed groups, framed once, sent as fast as a core can.
//!
//! It exists to measure the generator: the throughput that the generator reaches with it is the
//! ceiling on this machine. It can stall at a known moment, which the percentiles must show, and
//! answer at a set rate, which is then its known limit. It follows the protocol (keys, prefetch
//! bit, indexes) and does nothing else: it has no deadlines and no admission.

mod catalogue;
mod connection;

use crate::machine::pin_to;
use catalogue::Groups;
use connection::Connection;
use js5_ring::{Completion, Ring, Size};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A client's requests are four bytes each, so that a buffer holds a thousand.
const RING: Size = Size {
    submissions: 1024,
    completions: 4096,
    buffers: 2048,
    buffers_at_first: 2048,
    buffer_bytes: 4096,
};
/// How often the server looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// The listener's slot; connections count from 0.
const LISTENER: u32 = u32::MAX;
const RECEIVE: u64 = 0;
const WRITABLE: u64 = 1;

/// A pause at a known moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) at: Instant,
    pub(crate) length: Duration,
}

/// A server that runs until this is dropped.
pub(crate) struct NullServer {
    pub(crate) address: SocketAddr,
    pause: Arc<Mutex<Option<Pause>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl NullServer {
    /// Serves responses of `size` bytes on the wire at `listen`, `rate` of them a second at most,
    /// on one thread.
    ///
    /// # Errors
    /// The address is taken, there is no ring, or no such core.
    pub(crate) fn start(
        listen: &str,
        size: u32,
        rate: Option<f64>,
        pin: Option<u32>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        // The standard library's backlog of 128 would be what an opening rate measures.
        rustix::net::listen(&listener, 4096)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let groups = Groups::new(size as usize)?;
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Arc::new(Mutex::new(None));
        let (stop_too, pause_too) = (Arc::clone(&stop), Arc::clone(&pause));
        let (tell, begun) = channel();
        let work = move || {
            if let Some(core) = pin {
                pin_to(core)?;
            }
            let ring = Ring::new(RING)?;
            // Whoever started it waits for this.
            let _ = tell.send(());
            let (connections, free) = (Vec::new(), Vec::new());
            let turnstile = rate.map(Turnstile::new);
            Server { ring, listener, groups, connections, free, turnstile }
                .run(&stop_too, &pause_too)
        };
        let thread = std::thread::Builder::new().name("null-server".to_owned()).spawn(work)?;
        let mut server = Self { address, pause, stop, thread: Some(thread) };
        match begun.recv() {
            Ok(()) => Ok(server),
            // The thread has ended without a word, and says why.
            Err(_) => Err(server.join().err().unwrap_or(io::ErrorKind::Other.into())),
        }
    }

    /// Makes the server sleep.
    pub(crate) fn pause(&self, pause: Pause) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
    }

    /// Waits until the server ends, which it does by itself only when it fails.
    ///
    /// # Errors
    /// Why it failed.
    pub(crate) fn wait(mut self, interrupted: &AtomicBool) -> io::Result<()> {
        while let Some(thread) = &self.thread {
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            if thread.is_finished() {
                return self.join();
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn join(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // A caller that wants the reason calls `wait`.
        let _ = self.join();
    }
}

struct Server {
    ring: Ring,
    listener: TcpListener,
    groups: Groups,
    connections: Vec<Option<Connection>>,
    /// Places of `connections` that are empty.
    free: Vec<u32>,
    turnstile: Option<Turnstile>,
}

/// Lets connections through at a rate, one response at a time, in the order of their requests.
struct Turnstile {
    rate: f64,
    /// The connections that wait, a place for each request.
    waiting: VecDeque<u32>,
    /// Until when responses have been let through; it does not lag behind while none waits.
    until: Instant,
}

impl Turnstile {
    fn new(rate: f64) -> Self {
        Self { rate, waiting: VecDeque::new(), until: Instant::now() }
    }

    /// As many requests of a connection wait from now on.
    fn enter(&mut self, slot: u32, requests: usize, now: Instant) {
        if self.waiting.is_empty() {
            self.until = self.until.max(now);
        }
        self.waiting.extend(std::iter::repeat_n(slot, requests));
    }

    /// The next whose time has come.
    fn pass(&mut self, now: Instant) -> Option<u32> {
        if self.until > now {
            return None;
        }
        let slot = self.waiting.pop_front()?;
        self.until += Duration::from_secs_f64(1.0 / self.rate);
        Some(slot)
    }

    /// How long until the next may pass.
    fn wait(&self, now: Instant) -> Duration {
        let left = self.until.saturating_duration_since(now);
        if self.waiting.is_empty() { LOOK } else { left.min(LOOK) }
    }
}

impl Server {
    fn run(mut self, stop: &AtomicBool, pause: &Mutex<Option<Pause>>) -> io::Result<()> {
        let mut completions = Vec::new();
        self.ring.poll_in(self.listener.as_fd(), user_data(LISTENER, RECEIVE));
        while !stop.load(Ordering::Relaxed) {
            let wait = sleep_or_wait(pause);
            let turn = self.turnstile.as_ref().map_or(wait, |turn| turn.wait(Instant::now()));
            self.ring.wait(Some(wait.min(turn)))?;
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.serve(completion);
            }
            self.let_through();
        }
        Ok(())
    }

    /// Answers those whose turn has come, if there is a rate.
    fn let_through(&mut self) {
        let Some(turnstile) = &mut self.turnstile else { return };
        let now = Instant::now();
        let mut served = Vec::new();
        while let Some(slot) = turnstile.pass(now) {
            if let Some(Some(connection)) = self.connections.get_mut(slot as usize) {
                connection.answer_one(&self.groups);
                served.push(slot);
            }
        }
        served.sort_unstable();
        served.dedup();
        for slot in served {
            self.go_on(slot, true);
        }
    }

    fn serve(&mut self, completion: Completion) {
        let Completion { user_data, result, mut buffer, more } = completion;
        let slot = (user_data >> 8) as u32;
        if slot == LISTENER {
            return self.accept();
        }
        let place = self.connections.get_mut(slot as usize);
        let Some(Some(connection)) = place else { return self.ring.give_back(&mut buffer) };
        let mut goes_on = true;
        if user_data & 0xFF == RECEIVE {
            connection.receiving = more;
            match &buffer {
                Some(held) => {
                    goes_on = connection.receive(self.ring.bytes(held));
                    match &mut self.turnstile {
                        None => connection.answer_all(&self.groups),
                        Some(turn) => turn.enter(slot, connection.take_new(), Instant::now()),
                    }
                }
                // Out of buffers is no end: it is armed again below.
                None => goes_on = result == -libc::ENOBUFS,
            }
            self.ring.give_back(&mut buffer);
        } else {
            connection.polling = false;
        }
        self.go_on(slot, goes_on);
    }

    /// Sends what is to be sent, and arms what is to be armed; or ends what is to end.
    fn go_on(&mut self, slot: u32, mut goes_on: bool) {
        let Some(place) = self.connections.get_mut(slot as usize) else { return };
        let Some(connection) = place else { return };
        if !connection.over {
            goes_on = goes_on && connection.send(&self.groups).is_ok();
        }
        connection.over |= !goes_on;
        if connection.over {
            // Closed once nothing of it is in the ring.
            connection.shut_down();
            if !connection.receiving && !connection.polling {
                *place = None;
                self.free.push(slot);
            }
            return;
        }
        if !connection.receiving {
            connection.receiving = true;
            let socket = connection.socket.as_fd();
            self.ring.recv_multi(socket, user_data(slot, RECEIVE));
        }
        if connection.is_blocked() && !connection.polling {
            connection.polling = true;
            let socket = connection.socket.as_fd();
            self.ring.poll_out(socket, user_data(slot, WRITABLE));
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            // Without it the generator would measure the delayed acknowledgements of the kernel.
            let _ = socket.set_nodelay(true);
            let mut connection = Connection::new(socket.into());
            connection.receiving = true;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() as u32 - 1
            });
            self.ring.recv_multi(connection.socket.as_fd(), user_data(slot, RECEIVE));
            self.connections[slot as usize] = Some(connection);
        }
        self.ring.poll_in(self.listener.as_fd(), user_data(LISTENER, RECEIVE));
    }
}

/// Sleeps if it is time to, and says how long to wait at most.
fn sleep_or_wait(pause: &Mutex<Option<Pause>>) -> Duration {
    let mut pause = pause.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(due) = *pause else { return LOOK };
    let left = due.at.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        return left.min(LOOK);
    }
    *pause = None;
    drop(pause);
    let late = due.at.elapsed();
    std::thread::sleep(due.length.saturating_sub(late));
    Duration::ZERO
}

fn user_data(slot: u32, op: u64) -> u64 {
    u64::from(slot) << 8 | op
}
