//! The hand-over: a process that starts takes the listening sockets from the one that serves, and
//! when it serves itself, the other drains.
//!
//! Both processes hold the sockets for a moment, so no connection is refused: the kernel's queue of
//! connections belongs to the socket and not to a process. If the new process fails before it has
//! reported that it serves, the old one just goes on.
//!
//! ```text
//! new (Predecessor)                          old (Offer)
//!   connects, "js5d handover 1"  ──►
//!                                ◄──  a record and a descriptor for each socket, "end"
//!   starts to serve, "ready"     ──►
//!                                ◄──  "draining"
//! ```

use super::sockets::Socket;
use super::spawn;
use crate::admin::{Bound, SocketFile};
use crate::cli::{RestartArgs, Role};
use crate::failure::{Exit, Failure};
use crate::net::{Control, Course};
use crate::platform::descriptors::{RECORD_LEN, pass, receive};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// A record: a word, filled up with spaces.
type Record = [u8; RECORD_LEN];

const GREETING: &str = "js5d handover 1";
const END: &str = "end";
const READY: &str = "ready";
const DRAINING: &str = "draining";
const GIVEN_UP: &str = "given up";

/// Follows the role of a socket that another process keeps open, too.
const KEPT: &str = " kept";

/// More sockets than any server has: 1,024 workers with a few addresses each.
const SOCKETS_MAX: usize = 8192;

/// How long to leave the listener alone after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The process that served until now, which waits to hear that this one does.
#[derive(Debug)]
pub(super) struct Predecessor {
    socket: UnixStream,
}

impl Predecessor {
    /// Asks for the sockets, if a process serves there.
    pub(super) fn ask(args: &RestartArgs) -> Result<Option<(Self, Vec<Socket>)>, Failure> {
        let Some(path) = &args.handover else { return Ok(None) };
        let socket = match UnixStream::connect(path) {
            Ok(socket) => socket,
            // No process has listened there, or it has ended.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(refused(args, &error)),
        };
        let sockets = talk_to(&socket, args.handover_timeout).and_then(|()| fetch(&socket));
        let sockets = sockets.map_err(|error| refused(args, &error))?;
        info!("{} listening sockets are taken over from the process that serves", sockets.len());
        Ok(Some((Self { socket }, sockets)))
    }

    /// Says that this process serves, and waits for the other to stop accepting.
    ///
    /// # Errors
    /// The other process has given up before, and goes on serving, so this one must end.
    pub(super) fn tell_ready(self) -> Result<(), Failure> {
        let answer = say(&self.socket, READY).and_then(|()| hear(&self.socket));
        match answer {
            Ok((word, _)) if word == DRAINING => info!("the process that served until now drains"),
            Ok((word, _)) if word == GIVEN_UP => {
                let cause = "the process that serves gave up waiting for this one, and goes on";
                let remedy = "raise its --handover-timeout, and start this one again";
                return Err(Failure::new(Exit::System, cause, remedy));
            }
            Ok(_) => warn!("the process that served until now does not drain: stop it by hand"),
            Err(error) => warn!(%error, "the process that served until now does not answer"),
        }
        Ok(())
    }
}

fn refused(args: &RestartArgs, error: &io::Error) -> Failure {
    let path = args.handover.as_deref().unwrap_or("".as_ref()).display();
    let exit = match error.kind() {
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::System,
    };
    let cause = format!("--handover {path}: no sockets were handed over: {error}");
    Failure::new(exit, cause, "stop the process there ('ss -lxp' names it), or use another path")
}

/// The sockets, as the other process sends them.
fn fetch(socket: &UnixStream) -> io::Result<Vec<Socket>> {
    say(socket, GREETING)?;
    let mut sockets = Vec::new();
    while sockets.len() < SOCKETS_MAX {
        let (word, descriptor) = hear(socket)?;
        let (name, kept) = word.strip_suffix(KEPT).map_or((&word[..], false), |name| (name, true));
        let role = Role::ALL.into_iter().find(|role| role.name() == name);
        match (word.as_str(), role, descriptor) {
            (END, _, _) => return Ok(sockets),
            (DRAINING, _, _) => {
                let why = "the process there is stopping; start again when it has ended";
                return Err(io::Error::other(why));
            }
            (_, Some(role), Some(descriptor)) => sockets.push(Socket { role, kept, descriptor }),
            // A later version may have more kinds of sockets.
            (_, None, Some(_)) => warn!("a socket for '{word}' is not taken over"),
            _ => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the process at the other end is not a js5d",
                ));
            }
        }
    }
    Err(io::Error::new(ErrorKind::InvalidData, "the list of sockets is too long"))
}

/// What became of a hand-over.
pub(super) enum HandOver {
    /// Another process serves from the same sockets.
    Done,
    /// A process that had them as well does not serve.
    GivenUp,
}

/// The sockets, for a process that takes them over.
pub(super) struct Offer {
    /// Where one asks for them; none once they are offered.
    listener: Option<UnixListener>,
    file: Option<SocketFile>,
    sockets: Arc<Mutex<Vec<Socket>>>,
}

impl Offer {
    /// The sockets to offer, if --handover is given.
    pub(super) fn new(bound: Option<Bound>, sockets: Vec<Socket>) -> Option<Self> {
        let Some(Bound::Unix(listener, file)) = bound else { return None };
        let (listener, file) = (Some(listener), Some(file));
        Some(Self { listener, file, sockets: Arc::new(Mutex::new(sockets)) })
    }

    /// Offers them to other processes, on a thread of its own, until one has taken them.
    pub(super) fn begin(
        &mut self,
        timeout: Duration,
        control: Arc<Control>,
        told: impl Fn(HandOver) + Send + 'static,
    ) -> Result<(), Failure> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let sockets = Arc::clone(&self.sockets);
        spawn("handover", move || give(&listener, &sockets, timeout, &control, &told))?;
        self.file.iter_mut().for_each(SocketFile::claim);
        Ok(())
    }

    /// Closes them: this process stops. A process that asks later gets an error.
    pub(super) fn withdraw(&self) {
        // The lock is free: a process that offers does not stop.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// They are another process', and so is the name in the file system.
    pub(super) fn leave(mut self) {
        self.file.take().into_iter().for_each(SocketFile::leave);
    }
}

/// Returns when another process has taken the sockets over.
fn give(
    listener: &UnixListener,
    sockets: &Mutex<Vec<Socket>>,
    timeout: Duration,
    control: &Control,
    told: &dyn Fn(HandOver),
) {
    loop {
        let given = match accept(listener) {
            Ok(socket) => give_to(&socket, sockets, timeout, control),
            Err(error) => {
                thread::sleep(ACCEPT_PAUSE);
                Err(error)
            }
        };
        match given {
            Ok(()) => return told(HandOver::Done),
            Err(error) if control.course() == Course::HandedOver => {
                return warn!(%error, "the sockets were left to a process that does not serve");
            }
            Err(error) => {
                warn!(%error, "a hand-over was given up; this process goes on");
                told(HandOver::GivenUp);
            }
        }
    }
}

/// Waits for a connection. Whether the listener blocks is not relied on: each process that holds it
/// can change that for all.
fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        retry_on_intr(|| poll(&mut [PollFd::new(listener, PollFlags::IN)], None))?;
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            accepted => return Ok(accepted?.0),
        }
    }
}

fn give_to(
    socket: &UnixStream,
    sockets: &Mutex<Vec<Socket>>,
    timeout: Duration,
    control: &Control,
) -> io::Result<()> {
    talk_to(socket, timeout)?;
    if hear(socket)?.0 != GREETING {
        let why = "the other process does not speak this version of the hand-over";
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    if !control.offer() {
        say(socket, DRAINING)?;
        return Err(io::Error::other("this process is stopping, and has closed its sockets"));
    }
    info!("another process takes the listening sockets over");
    if let Err(error) = pass_all(socket, sockets).and_then(|()| await_ready(socket)) {
        control.take_back();
        return Err(error);
    }
    // It serves, whether or not it gets the answer, and only one process may accept.
    control.hand_over();
    if let Err(error) = say(socket, DRAINING) {
        warn!(%error, "the other process did not wait for an answer");
    }
    Ok(())
}

fn pass_all(socket: &UnixStream, sockets: &Mutex<Vec<Socket>>) -> io::Result<()> {
    for Socket { role, kept, descriptor } in
        &*sockets.lock().unwrap_or_else(PoisonError::into_inner)
    {
        let word = format!("{role}{}", if *kept { KEPT } else { "" });
        pass(socket, &record(&word), Some(descriptor.as_fd()))?;
    }
    say(socket, END)
}

/// Waits for the other process to serve.
fn await_ready(socket: &UnixStream) -> io::Result<()> {
    match hear(socket) {
        Ok((word, _)) if word == READY => Ok(()),
        Ok((word, _)) => {
            let why = format!("the other process said '{word}' instead of '{READY}'");
            Err(io::Error::new(ErrorKind::InvalidData, why))
        }
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(io::Error::new(error.kind(), "the other process did not start"))
        }
        Err(error) => {
            // It may be gone, too.
            let _ = say(socket, GIVEN_UP);
            Err(error)
        }
    }
}

/// Only a process of the same user, or root, is talked to, and each word comes in time.
fn talk_to(socket: &UnixStream, timeout: Duration) -> io::Result<()> {
    let user = rustix::net::sockopt::socket_peercred(socket)?.uid;
    if user != rustix::process::geteuid() && !user.is_root() {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "the other process belongs to another user",
        ));
    }
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))
}

fn say(socket: &UnixStream, word: &str) -> io::Result<()> {
    pass(socket, &record(word), None)
}

fn hear(socket: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    let (record, descriptor) = receive(socket).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(
            ErrorKind::TimedOut,
            "the other process said nothing within --handover-timeout",
        ),
        _ => error,
    })?;
    Ok((String::from_utf8_lossy(&record).trim_end().to_owned(), descriptor))
}

fn record(word: &str) -> Record {
    let mut record = [b' '; RECORD_LEN];
    for (byte, from) in record.iter_mut().zip(word.bytes()) {
        *byte = from;
    }
    record
}
