//! `ring-limit`: a JS5 server directly on io_uring, with every feature of the kernel that helps and
//! nothing else. Its cost of a response is the ceiling that js5d is compared with.

use js5_compare_peers::ring::{Completion, Ring, Sending};
use js5_compare_peers::session::Session;
use js5_compare_peers::setup::{Options, listen, snapshot};
use js5d::catalog::Snapshot;
use std::error::Error;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// What an operation is, in the low byte of its user data; the slot stands above.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// A connection. It goes when it neither receives nor sends.
struct Connection {
    stream: TcpStream,
    session: Session,
    sending: Option<Box<Sending>>,
    is_receiving: bool,
    is_ending: bool,
}

struct Server {
    ring: Ring,
    snapshot: &'static Snapshot,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Boxed already: the kernel reads a message header at a fixed address.
    #[allow(clippy::vec_box, reason = "they are boxed when they come and when they go")]
    pool: Vec<Box<Sending>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = <Options as clap::Parser>::parse();
    let snapshot = snapshot(&options)?;
    let listener = listen(&options)?;
    let (connections, free, pool) = (Vec::new(), Vec::new(), Vec::new());
    let ring = Ring::new()?;
    let mut server = Server { ring, snapshot, listener, connections, free, pool };
    server.ring.accept(server.listener.as_fd(), ACCEPT);
    Ok(server.run()?)
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut completions = Vec::new();
        loop {
            self.ring.wait(&mut completions)?;
            for completion in completions.drain(..) {
                let slot = (completion.user_data >> 8) as usize;
                match completion.user_data & 0xFF {
                    ACCEPT => self.accepted(completion),
                    RECEIVE => self.received(slot, completion),
                    _ => self.sent(slot, completion),
                }
            }
            self.ring.publish_buffers();
        }
    }

    fn accepted(&mut self, completion: Completion) {
        if let Some(stream) = js5_compare_peers::ring::accepted(completion) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.ring.receive(stream.as_fd(), user_data(slot, RECEIVE));
            let connection = Connection {
                stream,
                session: Session::default(),
                sending: None,
                is_receiving: true,
                is_ending: false,
            };
            if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(connection);
            }
        }
        if !completion.more {
            self.ring.accept(self.listener.as_fd(), ACCEPT);
        }
    }

    fn received(&mut self, slot: usize, completion: Completion) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        if let Some(buffer) = completion.buffer {
            let len = usize::try_from(completion.result).unwrap_or(0);
            let received = connection.session.receive(self.ring.received(buffer, len));
            connection.is_ending |= received.is_err();
            self.ring.give_back(buffer);
        }
        if !completion.more {
            // Without a buffer at hand the kernel ends a receive; the bytes are still there.
            let goes_on = completion.result > 0 || completion.result == -libc::ENOBUFS;
            if goes_on && !connection.is_ending {
                self.ring.publish_buffers();
                self.ring.receive(connection.stream.as_fd(), user_data(slot, RECEIVE));
            } else {
                connection.is_receiving = false;
                connection.is_ending = true;
            }
        }
        self.go_on(slot);
    }

    fn sent(&mut self, slot: usize, completion: Completion) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        let Some(mut sending) = connection.sending.take() else { return };
        match usize::try_from(completion.result) {
            Ok(sent) => sending.batch.advance(sent),
            Err(_) => connection.is_ending = true,
        }
        if sending.batch.is_empty() || connection.is_ending {
            sending.batch.clear();
            self.pool.push(sending);
        } else {
            self.ring.send(connection.stream.as_fd(), &mut sending, user_data(slot, SEND));
            connection.sending = Some(sending);
        }
        self.go_on(slot);
    }

    /// Sends what is owed, or ends what has ended.
    fn go_on(&mut self, slot: usize) {
        let Some(place) = self.connections.get_mut(slot) else { return };
        let Some(connection) = place else { return };
        if connection.sending.is_some() {
            return;
        }
        if !connection.is_ending {
            let mut sending = self.pool.pop().unwrap_or_default();
            connection.session.fill(&mut sending.batch, self.snapshot);
            if !sending.batch.is_empty() {
                self.ring.send(connection.stream.as_fd(), &mut sending, user_data(slot, SEND));
                connection.sending = Some(sending);
                return;
            }
            self.pool.push(sending);
            connection.is_ending = connection.session.is_disconnected();
        }
        if connection.is_ending && connection.is_receiving {
            // The receive then completes with 0, and the connection goes with it.
            drop(connection.stream.shutdown(Shutdown::Both));
        } else if connection.is_ending {
            *place = None;
            self.free.push(slot);
        }
    }
}

fn user_data(slot: usize, operation: u64) -> u64 {
    (slot as u64) << 8 | operation
}
