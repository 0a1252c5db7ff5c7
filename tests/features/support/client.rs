//! A client on a blocking socket: the pure session, and the containers that it is sent.

use super::{PATIENCE, Server};
use js5d::protocol::client::{Answered, Head, Matching, ResponseSink};
use js5d::protocol::profile::table;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, ClientSession, GroupId, Status};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The build that is served by default.
pub(crate) const FIRST_BUILD: u32 = 550;

/// A client of each framing, and one that knows no prefetch bit; and their builds.
pub(crate) const CLIENTS: [&str; 5] = ["550", "oldschool", "718", "831", "nxt"];
pub(crate) const CLIENT_BUILDS: &str = "550,223,718,831,926";

/// A response that has come whole, its key and bit taken away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) class: Class,
    pub(crate) id: GroupId,
    pub(crate) key: u8,
    pub(crate) container: Vec<u8>,
}

/// A peer that was admitted, or waits to hear whether it is.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    session: ClientSession<()>,
    inbox: Inbox,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

#[derive(Default)]
struct Inbox {
    status: Option<Status>,
    /// Containers of which a part has come. The last one's bytes come, or came last: where blocks
    /// name their response, those of several may alternate.
    parts: Vec<(Head, Vec<u8>)>,
    answers: VecDeque<Answer>,
}

impl ResponseSink<()> for Inbox {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, head: &Head) -> bool {
        self.parts.push((*head, Vec::with_capacity(head.container_len as usize)));
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        self.parts.last_mut().expect("it has begun").1.extend(bytes);
    }

    fn resume(&mut self, answered: &Answered<()>) {
        let place = self.parts.iter().rposition(|(head, _)| *head == answered.head);
        let part = self.parts.remove(place.expect("it has begun"));
        self.parts.push(part);
    }

    fn broken_off(&mut self, _: Answered<()>) {
        self.parts.pop();
    }

    fn end(&mut self, answered: Answered<()>) {
        let (class, id, key) = (answered.class, answered.head.id, answered.head.key);
        let (_, container) = self.parts.pop().expect("it has begun");
        self.answers.push_back(Answer { class, id, key, container });
    }
}

impl Client {
    /// Connects and greets like the real client. It has been admitted when this returns.
    pub(crate) fn connect(server: &Server, key: u8) -> Self {
        let stream = TcpStream::connect(server.address).expect("js5d listens");
        Self::greeted(stream, Matching::ByPrefetchBit, key)
    }

    /// As [`Client::connect`], with a receive buffer of a few KB.
    pub(crate) fn connect_slow(server: &Server, key: u8) -> Self {
        Self::greeted(slow_stream(server.address), Matching::ByPrefetchBit, key)
    }

    /// As [`Client::connect`], for a server that does not send the prefetch bit.
    pub(crate) fn connect_old_school(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).expect("js5d listens");
        Self::greeted(stream, Matching::ByGroup, 0)
    }

    /// As [`Client::connect`], as another client: by its build, or by its name in the table.
    pub(crate) fn connect_as(name: &str, stream: TcpStream) -> Self {
        let (profile, build) = table::client(name).expect("a client of the table");
        let mut client = Self::new(stream, Matching::ByPrefetchBit);
        client.session = ClientSession::of(&profile);
        client.greet(build, 0);
        client
    }

    fn greeted(stream: TcpStream, matching: Matching, key: u8) -> Self {
        let mut client = Self::new(stream, matching);
        client.greet(FIRST_BUILD, key);
        client
    }

    fn greet(&mut self, build: u32, key: u8) {
        self.session.handshake(build, &mut self.out);
        self.flush();
        assert_eq!(self.read_status(), Status::Ok);
        self.session.greet(false, key, &mut self.out);
        self.flush();
    }

    /// A client that has sent nothing.
    pub(crate) fn new(stream: TcpStream, matching: Matching) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let session = ClientSession::new(matching);
        let inbox = Inbox::default();
        Self { stream, session, inbox, buffer: vec![0; 1 << 14], out: Vec::new() }
    }

    /// Prepares the handshake; sent with the next requests.
    pub(crate) fn prepare_handshake(&mut self, build: u32) {
        self.session.handshake(build, &mut self.out);
    }

    /// Prepares a rekey; sent with the next requests.
    pub(crate) fn prepare_rekey(&mut self, key: u8) {
        self.session.rekey(key, &mut self.out);
    }

    /// Prepares a request; sent with the next ones.
    pub(crate) fn prepare(&mut self, class: Class, id: GroupId) {
        self.session.request(class, id, (), &mut self.out);
    }

    /// What was prepared, for a caller that writes it itself.
    pub(crate) fn take_prepared(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn flush(&mut self) {
        self.stream.write_all(&self.out).expect("js5d reads");
        self.out.clear();
    }

    /// Sends requests in one write.
    pub(crate) fn request(&mut self, requests: impl IntoIterator<Item = (Class, GroupId)>) {
        for (class, id) in requests {
            self.prepare(class, id);
        }
        self.flush();
    }

    /// Waits for the status byte.
    pub(crate) fn read_status(&mut self) -> Status {
        while self.inbox.status.is_none() {
            assert!(self.read() > 0, "the end of the stream instead of a status");
        }
        self.inbox.status.expect("just seen")
    }

    /// Waits for the next response.
    pub(crate) fn receive(&mut self) -> Answer {
        self.receive_or_end().unwrap_or_else(|| {
            let waiting = self.session.outstanding().count();
            panic!("the end of the stream, {waiting} requests unanswered")
        })
    }

    /// Waits for the next response, or for the end of the stream.
    pub(crate) fn receive_or_end(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.inbox.answers.pop_front() {
                return Some(answer);
            }
            if self.read() == 0 {
                return None;
            }
        }
    }

    /// Waits for as many responses.
    pub(crate) fn receive_many(&mut self, count: usize) -> Vec<Answer> {
        (0..count).map(|_| self.receive()).collect()
    }

    /// Reads at most `len_max` bytes once. 0 is the end of the stream.
    pub(crate) fn read_some(&mut self, len_max: usize) -> usize {
        let room = len_max.min(self.buffer.len());
        let len = match self.stream.read(&mut self.buffer[..room]) {
            Ok(len) => len,
            Err(error) => {
                let open: Vec<_> = self.session.outstanding().take(3).collect();
                panic!("{error}, while {open:?} … are unanswered");
            }
        };
        self.session.receive(&self.buffer[..len], &mut self.inbox).expect("the protocol");
        len
    }

    /// Reads once: how many bytes, and which answers are complete with them.
    pub(crate) fn read_answers(&mut self) -> (usize, Vec<Answer>) {
        let len = self.read();
        (len, self.inbox.answers.drain(..).collect())
    }

    /// Says whether the player is logged in.
    pub(crate) fn log_in(&mut self, logged_in: bool) {
        self.out.extend(Message::LoggedIn(logged_in).to_bytes());
        self.flush();
    }

    /// Waits for the end of the stream, and returns the responses before it.
    pub(crate) fn receive_to_end(&mut self) -> Vec<Answer> {
        while self.read() > 0 {}
        assert!(!self.session.is_mid_response(), "the end of the stream in mid-response");
        self.inbox.answers.drain(..).collect()
    }

    /// Whether something comes within this time. Responses that have come stay in the inbox.
    pub(crate) fn hears_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let heard = match self.stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        heard
    }

    /// How many bytes have arrived and were not read; more than a megabyte is not counted.
    pub(crate) fn arrived(&mut self) -> usize {
        self.stream.set_nonblocking(true).expect("a socket");
        let arrived = self.stream.peek(&mut vec![0; 1 << 20]).unwrap_or(0);
        self.stream.set_nonblocking(false).expect("a socket");
        arrived
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    fn read(&mut self) -> usize {
        self.read_some(usize::MAX)
    }
}

/// A connection that takes in a few KB before the server must wait.
pub(crate) fn slow_stream(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    socket.connect(&address.into()).expect("js5d listens");
    socket.into()
}

/// A connection from an address of one's choice, as `127.0.0.9`.
pub(crate) fn stream_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source: SocketAddr = source.parse().expect("an address");
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&to.into()).expect("js5d listens");
    socket.into()
}

/// All bytes up to an orderly end.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end of the stream");
    bytes
}
