//! One connection to a running server, as a game client holds it: plain blocking TCP around the
//! pure client session.

use crate::cli::AskingArgs;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::protocol::client::{ClientSession, Containers, Fault};
use crate::protocol::handshake::Status;
use crate::protocol::profile::{Handshake, is_token, table};
use crate::protocol::{Class, GroupId, Profile};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How much is received at a time.
const RECEIVE_BYTES: usize = 64 << 10;

/// The build that is announced without --client and --build.
pub(super) const BUILD: u32 = 550;

/// How a server is reached.
#[derive(Clone, Debug)]
pub(in crate::command) struct Server {
    /// `HOST:PORT`.
    pub(in crate::command) name: String,
    /// As whom.
    pub(in crate::command) profile: Profile,
    /// The build that is announced to it.
    build: u32,
    token: String,
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
    #[error("{server} refuses the connection: {status}")]
    Refused { server: String, status: Status },
    /// It sent nothing for as long as is waited.
    #[error("{server} sends nothing: no byte for {seconds} s, with {waiting} requests unanswered")]
    Stalled { server: String, seconds: u64, waiting: usize },
    /// It ended the connection.
    #[error("{server} ended the connection with {waiting} requests unanswered")]
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
        matches!(self, Self::Refused { status: Status::OutOfDate | Status::SessionExpired, .. })
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let remedy = match &error {
            RemoteError::Refused { status: Status::OutOfDate, .. } => {
                "use --client to name a client that it serves, or --build for the build alone"
            }
            RemoteError::Refused { status: Status::SessionExpired, .. } => {
                "use --token to give the token that the server wants"
            }
            RemoteError::Refused { .. } => "try again later",
            RemoteError::Fault { .. } => "is it a JS5 server for clients of this --client?",
            _ => "is it running, and is it a JS5 server? What was fetched is kept for the next try",
        };
        Self::new(Exit::System, error, remedy)
    }
}

impl Server {
    /// A server, and how it is asked.
    pub(in crate::command) fn new(name: &str, args: &AskingArgs) -> Result<Self, Failure> {
        let profiles = config::profiles_of_file(args.profiles.as_deref())?;
        let names = table::names(&profiles);
        let named = match (&args.client, args.build) {
            (Some(client), _) => table::client_of(profiles, client),
            (None, build) => table::client_of(profiles, &build.unwrap_or(BUILD).to_string()),
        };
        let usage = |cause, remedy| Failure::new(Exit::Usage, cause, remedy);
        let Some((profile, build)) = named else {
            let cause = match (&args.client, args.build) {
                (None, Some(build)) => format!("what clients of build {build} speak is not known"),
                (client, _) => {
                    format!("there is no client '{}'", client.as_deref().unwrap_or_default())
                }
            };
            let remedy = format!(
                "name one with --client: a build, or {names}; for one of the server's own, give \
                 the server's settings file with --profiles"
            );
            return Err(usage(cause, remedy));
        };
        let token = args.token.clone().unwrap_or_default();
        let has_token = matches!(profile.handshake, Handshake::Prefixed(_));
        if args.token.is_some() && !(has_token && is_token(&token)) {
            let cause = format!("--token: clients of {} do not send this", profile.name);
            let remedy = "a token has 1 to 64 bytes, and goes with a --client of 718 or later";
            return Err(usage(cause, remedy.to_owned()));
        }
        let (build, timeout) = (args.build.unwrap_or(build), args.timeout);
        Ok(Self { name: name.to_owned(), profile, build, token, timeout })
    }

    /// The build that is announced.
    pub(super) fn build(&self) -> u32 {
        self.build
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
            session: ClientSession::of(&self.profile).matching_by_group(),
            sink: Containers::default(),
            out: Vec::new(),
            buf: vec![0; RECEIVE_BYTES],
            failed: None,
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
    sink: Containers,
    /// Requests that were not sent.
    out: Vec<u8>,
    buf: Vec<u8>,
    /// Why the connection is over, while there are containers that came before.
    failed: Option<RemoteError>,
}

impl Remote {
    fn shake_hands(&mut self) -> Result<(), RemoteError> {
        let Server { build, token, .. } = &self.server;
        self.session.handshake_with(*build, token.as_bytes(), &mut self.out);
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
        self.session.greet(false, 0, &mut self.out);
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

    /// The requests without an answer.
    pub(in crate::command) fn outstanding(&self) -> Vec<GroupId> {
        self.session.outstanding().map(|(_, id, ())| id).collect()
    }

    /// The next container that comes. Those that came before the connection failed come first.
    pub(in crate::command) fn receive(&mut self) -> Result<(GroupId, Vec<u8>), RemoteError> {
        if self.failed.is_none() {
            self.failed = self.send().err();
        }
        loop {
            if let Some(answer) = self.sink.take() {
                return Ok(answer);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.failed = self.receive_once().err();
        }
    }

    /// A container that has come and not been taken.
    pub(in crate::command) fn received(&mut self) -> Option<(GroupId, Vec<u8>)> {
        self.sink.take()
    }

    /// Asks for one group and waits for it.
    pub(in crate::command) fn get(&mut self, id: GroupId) -> Result<Vec<u8>, RemoteError> {
        self.request(Class::Urgent, id);
        self.receive().map(|(_, container)| container)
    }

    /// Ends the connection as a client does.
    pub(in crate::command) fn end(mut self) {
        self.session.say_goodbye(&mut self.out);
        // Everything that was wanted has been received.
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
