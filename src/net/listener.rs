//! Listening sockets: bound before the workers start, one a worker and address.

use super::connection::KernelBounds;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long to try again if an address is in use. The kernel frees a ring some time after its
/// process has ended: after a kill, the port is free some 10 ms after the process is gone, so a new
/// process that is started at once would fail.
const TAKEN_MAX: Duration = Duration::from_millis(500);

/// The pause between two tries.
const TAKEN_PAUSE: Duration = Duration::from_millis(5);

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub struct Listener {
    /// Its address, with the port that the system chose if 0 was asked for.
    pub address: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
    /// Whether its connections must open with a PROXY header.
    pub proxy: bool,
    /// Whether a supervisor (such as systemd) keeps the socket open when this process ends. At a
    /// stop, connections that wait are then left to the next process.
    pub kept: bool,
}

impl Listener {
    /// A second descriptor of the same socket. Each connection goes to whoever accepts first.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let Self { address, proxy, kept, .. } = *self;
        Ok(Self { address, socket: self.socket.try_clone()?, proxy, kept })
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The system's error.
    pub source: io::Error,
}

impl ListenError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there ('ss -ltnp' names it): stop it, or use --listen"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port"
            }
            io::ErrorKind::AddrNotAvailable => "no interface has this address ('ip addr')",
            _ => "check the address given with --listen",
        }
    }
}

/// Binds `count` sockets to `address`, among which the kernel spreads connections.
///
/// # Errors
/// The address is taken, not ours, or not permitted.
pub fn bind(address: SocketAddr, count: usize, backlog: i32) -> Result<Vec<Listener>, ListenError> {
    let fail = |source| ListenError { address, source };
    // With SO_REUSEPORT a port could be shared with another process of this user, without an
    // error. A first socket without it fails if another process has the port.
    drop(open_when_free(address).map_err(fail)?);
    let mut listeners: Vec<Listener> = Vec::with_capacity(count);
    for _ in 0..count {
        let address = listeners.first().map_or(address, |first| first.address);
        let socket = open(address, true, Some(backlog)).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
        listeners.push(Listener { address, socket: socket.into(), proxy: false, kept: false });
    }
    Ok(listeners)
}

/// Takes over a socket that another process has bound, and sets the options that [`bind`] sets.
///
/// # Errors
/// The descriptor is not a listening TCP socket.
pub fn adopt(socket: OwnedFd, backlog: i32, kept: bool) -> io::Result<Listener> {
    let socket = Socket::from(socket);
    let address = match (socket.local_addr().map(|address| address.as_socket()), socket.r#type()) {
        (Ok(Some(address)), Ok(Type::STREAM)) if socket.is_listener().unwrap_or(false) => address,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening TCP socket")),
    };
    prepare(&socket)?;
    socket.listen(backlog)?;
    Ok(Listener { address, socket: socket.into(), proxy: false, kept })
}

/// A bound socket that does not share its port. If the address is in use, tries again for up to
/// `TAKEN_MAX`, because a process that has just ended may still hold it.
fn open_when_free(address: SocketAddr) -> io::Result<Socket> {
    let begin = Instant::now();
    loop {
        match open(address, false, None) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begin.elapsed() < TAKEN_MAX =>
            {
                thread::sleep(TAKEN_PAUSE);
            }
            other => return other,
        }
    }
}

/// A bound socket. With `share`, further sockets with `share` may bind the same port. With a
/// `backlog`, the socket listens.
fn open(address: SocketAddr, share: bool, backlog: Option<i32>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can both be listened on, and addresses are what they seem.
        socket.set_only_v6(true)?;
    }
    prepare(&socket)?;
    socket.bind(&address.into())?;
    if let Some(backlog) = backlog {
        socket.listen(backlog)?;
    }
    Ok(socket)
}

/// Sets the options of a listening socket. Accepted connections inherit them, so that none needs a
/// system call for them.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    KernelBounds::UNKNOWN.replace(KernelBounds::UNBOUNDED, socket);
    socket.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_listens_on_is_refused() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mine = bind(any, 2, 16).expect("a free port");
        assert_eq!(mine[0].address, mine[1].address);
        let error = bind(mine[0].address, 1, 16).expect_err("it is taken");
        assert!(error.remedy().contains("another process"), "{error}");
    }

    #[test]
    fn a_port_that_becomes_free_soon_is_waited_for() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let last = bind(any, 1, 16).expect("a free port");
        let address = last[0].address;
        let leaving = thread::spawn(move || {
            thread::sleep(TAKEN_PAUSE * 4);
            drop(last);
        });
        assert_eq!(bind(address, 1, 16).expect("it is free soon")[0].address, address);
        leaving.join().expect("it left");
    }

    #[test]
    fn only_a_listening_tcp_socket_is_adopted() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("bound");
        let peer = std::net::TcpStream::connect(address).expect("it listens");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let file = tempfile::tempfile().expect("a file");
        for other in [OwnedFd::from(peer), udp.into(), file.into()] {
            adopt(other, 16, true).expect_err("it does not listen");
        }
        let listener = adopt(tcp.into(), 16, true).expect("it listens");
        assert_eq!((listener.address, listener.kept), (address, true));
    }
}
