//! One connection to a running server, as a game client holds it: plain blocking TCP around the
//! pure client session.

use crate::failure::{Exit, Failure};
use crate::protocol::client::{Answered, ClientSession, Fault, Head, Matching, ResponseSink};
use crate::protocol::handshake::Status;
use crate::protocol::request::Message;
use crate::protocol::{Class, GroupId};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How much is received at a time.
const RECEIVE_BYTES: usize = 64 << 10;

/// Builds that speak what is spoken here: a handshake of 5 bytes, or 21 with a key (Old School
/// from 223 on), no numbers behind the status, requests of four bytes, markers of one.
const BUILD_MAX: u32 = 632;
/// Old School builds whose handshake has four numbers behind the build, which may be zeros.
const KEYED: std::ops::RangeInclusive<u32> = 223..=399;
/// The first build whose client begins with opcode 6.
const CONNECTED_MIN: u32 = 530;

/// How a server is reached.
#[derive(Clone, Debug)]
pub(in crate::command) struct Server {
    /// `HOST:PORT`.
    pub(in crate::command) name: String,
    /// What it is told.
    pub(in crate::command) build: u32,
    /// Without a byte, before the connection is given up.
    pub(in crate::command) timeout: Duration,
}

/// Why a connection brought no more.
#[derive(Debug, thiserror::Error)]
pub(in crate::command) enum RemoteError {
    /// It cannot be reached.
    #[error("{server} cannot be reached: {source}")]
    Unreachable { server: String, source: io::Error },
    /// It answers the handshake with a status that is not OK.
    #[error("{server} refuses the connection: {}", status_text(*.status))]
    Refused { server: String, status: Status },
    /// Nothing came for as long as is waited.
    #[error("{server} stands still: no byte for {seconds} s, with {waiting} unanswered")]
    Stalled { server: String, seconds: u64, waiting: usize },
    /// It ended the connection.
    #[error("{server} ended the connection with {waiting} unanswered")]
    Closed { server: String, waiting: usize },
    /// It breaks the protocol.
    #[error("{server} breaks the protocol: {fault}")]
    Fault { server: String, fault: Fault },
    /// The connection broke.
    #[error("the connection to {server} broke: {source}")]
    Broken { server: String, source: io::Error },
}

impl RemoteError {
    /// Whether another try could end otherwise.
    pub(in crate::command) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: Status::OutOfDate, .. })
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let remedy = match &error {
            RemoteError::Refused { status: Status::OutOfDate, .. } => {
                "name the build that it serves with --build"
            }
            RemoteError::Refused { .. } => "try again later",
            RemoteError::Fault { .. } => {
                "is it a JS5 server, and of this --build? Other builds speak otherwise"
            }
            _ => "is it running, and a JS5 server? What was fetched is kept for the next time",
        };
        Self::new(Exit::System, error, remedy)
    }
}

fn status_text(status: Status) -> String {
    let what = match status {
        Status::OutOfDate => "out of date",
        Status::ServerFull => "full",
        Status::TooManyConnections => "too many connections from this address",
        _ => "go on",
    };
    format!("status {}, {what}", status.to_byte())
}

impl Server {
    /// A server that can be asked as these builds ask.
    pub(in crate::command) fn new(
        name: &str,
        build: u32,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        if build > BUILD_MAX {
            let cause = format!("clients of build {build} speak otherwise than js5d fetches");
            let remedy = format!("name a --build of up to {BUILD_MAX} that the server takes");
            return Err(Failure::new(Exit::Usage, cause, remedy));
        }
        Ok(Self { name: name.to_owned(), build, timeout })
    }

    /// Connects, and shakes hands.
    pub(in crate::command) fn connect(&self) -> Result<Remote, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable { server: self.name.clone(), source };
        let mut last = io::Error::other("the name has no address");
        let mut stream = None;
        for address in self.name.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = stream.ok_or(last).map_err(unreachable)?;
        // Requests are as small as a client's, and many answers wait for each.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(self.timeout)).map_err(unreachable)?;
        stream.set_write_timeout(Some(self.timeout)).map_err(unreachable)?;
        let mut remote = Remote {
            server: self.clone(),
            stream,
            session: ClientSession::new(Matching::ByGroup),
            sink: Sink::default(),
            out: Vec::new(),
            buf: vec![0; RECEIVE_BYTES],
        };
        remote.shake_hands()?;
        Ok(remote)
    }
}

/// A connection after its handshake.
pub(in crate::command) struct Remote {
    server: Server,
    stream: TcpStream,
    session: ClientSession<()>,
    sink: Sink,
    /// Requests that were not sent.
    out: Vec<u8>,
    buf: Vec<u8>,
}

impl Remote {
    fn shake_hands(&mut self) -> Result<(), RemoteError> {
        let build = self.server.build;
        self.session.handshake(build, &mut self.out);
        if KEYED.contains(&build) {
            self.out.extend([0; 16]);
        }
        self.send()?;
        while self.session.status().is_none() {
            self.receive_once()?;
        }
        match self.session.status() {
            Some(Status::Ok) | None => {}
            Some(status) => {
                return Err(RemoteError::Refused { server: self.server.name.clone(), status });
            }
        }
        if build >= CONNECTED_MIN {
            self.session.greet(false, 0, &mut self.out);
        } else {
            self.out.extend(Message::LoggedIn(false).to_bytes());
        }
        Ok(())
    }

    /// Asks for a group; sent with the next [`Remote::receive`]. One that is asked for is not to
    /// be asked for again.
    pub(in crate::command) fn request(&mut self, class: Class, id: GroupId) {
        self.session.request(class, id, (), &mut self.out);
    }

    /// How many requests have no answer, one that is coming in included.
    pub(in crate::command) fn waiting(&self) -> usize {
        self.session.outstanding().count()
    }

    /// What was asked for and has not come.
    pub(in crate::command) fn outstanding(&self) -> Vec<GroupId> {
        self.session.outstanding().map(|(_, id, ())| id).collect()
    }

    /// The next container that comes.
    pub(in crate::command) fn receive(&mut self) -> Result<(GroupId, Vec<u8>), RemoteError> {
        self.send()?;
        loop {
            if let Some(answer) = self.sink.whole.pop_front() {
                return Ok(answer);
            }
            self.receive_once()?;
        }
    }

    /// A container that has come and not been taken.
    pub(in crate::command) fn received(&mut self) -> Option<(GroupId, Vec<u8>)> {
        self.sink.whole.pop_front()
    }

    /// Asks for one group and waits for it.
    pub(in crate::command) fn get(&mut self, id: GroupId) -> Result<Vec<u8>, RemoteError> {
        self.request(Class::Urgent, id);
        self.receive().map(|(_, container)| container)
    }

    /// Ends the connection as a client does.
    pub(in crate::command) fn end(mut self) {
        self.out.extend(Message::Disconnect.to_bytes());
        // All has come that was wanted.
        drop(self.send());
        drop(self.stream.shutdown(Shutdown::Both));
    }

    fn send(&mut self) -> Result<(), RemoteError> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent.map_err(|source| self.broken(source))
    }

    fn receive_once(&mut self) -> Result<(), RemoteError> {
        let len = match self.stream.read(&mut self.buf) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(self.broken(error)),
        };
        if len == 0 {
            let (server, waiting) = (self.server.name.clone(), self.waiting());
            return Err(RemoteError::Closed { server, waiting });
        }
        let received = self.session.receive(&self.buf[..len], &mut self.sink);
        received.map_err(|fault| RemoteError::Fault { server: self.server.name.clone(), fault })
    }

    fn broken(&self, source: io::Error) -> RemoteError {
        let (server, waiting) = (self.server.name.clone(), self.waiting());
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = self.server.timeout.as_secs();
                RemoteError::Stalled { server, seconds, waiting }
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                RemoteError::Closed { server, waiting }
            }
            _ => RemoteError::Broken { server, source },
        }
    }
}

/// Puts containers together.
#[derive(Default)]
struct Sink {
    /// The one that is coming in. It grows as it comes, whatever length it claims.
    coming: Vec<u8>,
    whole: VecDeque<(GroupId, Vec<u8>)>,
}

impl ResponseSink<()> for Sink {
    fn status(&mut self, _: Status) {}

    fn begin(&mut self, _: &Head) -> bool {
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        self.coming.extend_from_slice(bytes);
    }

    fn end(&mut self, answered: Answered<()>) {
        self.whole.push_back((answered.head.id, std::mem::take(&mut self.coming)));
    }
}
