//! `ring-limit`: a JS5 server directly on io_uring, with every feature of the kernel that helps and
//! nothing else. Its cost of a response is the ceiling that js5d is compared with.

use js5_compare_peers::sending::Sending;
use js5_compare_peers::session::Session;
use js5_compare_peers::setup::{Options, listen, snapshot};
use js5_ring::{Completion, Ring, Size};
use js5d::catalog::Snapshot;
use std::error::Error;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// What an operation is, in the low byte of its user data; the slot stands above.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// A buffer holds 64 requests, as js5d's.
const RING: Size = Size {
    submissions: 4096,
    completions: 32768,
    buffers: 8192,
    buffers_at_first: 8192,
    buffer_bytes: 256,
};

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
    let ring = Ring::new(RING)?;
    let mut server = Server { ring, snapshot, listener, connections, free, pool };
    server.ring.poll_in(server.listener.as_fd(), ACCEPT);
    Ok(server.run()?)
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut completions = Vec::new();
        loop {
            self.ring.wait(None)?;
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                let slot = (completion.user_data >> 8) as usize;
                match completion.user_data & 0xFF {
                    ACCEPT => self.accept(),
                    RECEIVE => self.received(slot, completion),
                    _ => self.sent(slot, &completion),
                }
            }
        }
    }

    /// Takes in whoever waits at the listening socket.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.ring.recv_multi(stream.as_fd(), user_data(slot, RECEIVE));
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
        self.ring.poll_in(self.listener.as_fd(), ACCEPT);
    }

    fn received(&mut self, slot: usize, mut completion: Completion) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        if let Some(buffer) = &completion.buffer {
            let received = connection.session.receive(self.ring.bytes(buffer));
            connection.is_ending |= received.is_err();
        }
        self.ring.give_back(&mut completion.buffer);
        if !completion.more {
            // Without a buffer at hand the kernel ends a receive; the bytes are still there.
            let goes_on = completion.result > 0 || completion.result == -libc::ENOBUFS;
            if goes_on && !connection.is_ending {
                self.ring.recv_multi(connection.stream.as_fd(), user_data(slot, RECEIVE));
            } else {
                connection.is_receiving = false;
                connection.is_ending = true;
            }
        }
        self.go_on(slot);
    }

    fn sent(&mut self, slot: usize, completion: &Completion) {
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
            sending.send(&mut self.ring, connection.stream.as_fd(), user_data(slot, SEND));
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
                sending.send(&mut self.ring, connection.stream.as_fd(), user_data(slot, SEND));
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
