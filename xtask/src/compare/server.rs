//! The servers: ours, started and ended here, and others that run already.

use super::Result;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use testkit::Ending;

/// How long a server may load.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// `NAME=HOST:PORT,pid=N[,urgent-only][,settle=TIME]`, as `js5-loadgen compare` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerArg {
    name: String,
    address: SocketAddr,
    pid: u32,
    urgent_only: bool,
    settle: Option<String>,
}

impl FromStr for PeerArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("it must begin with NAME=HOST:PORT")?;
        let mut parts = rest.split(',');
        let target = parts.next().unwrap_or_default();
        let mut found = target.to_socket_addrs().map_err(|error| format!("{target}: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{target} has no address"))?;
        let (mut pid, mut urgent_only, mut settle) = (None, false, None);
        for part in parts {
            match part.split_once('=') {
                Some(("pid", number)) => pid = number.parse().ok(),
                Some(("settle", time)) => settle = Some(time.to_owned()),
                None if part == "urgent-only" => urgent_only = true,
                _ => return Err(format!("{part} is none of pid=N, urgent-only, settle=TIME")),
            }
        }
        let pid = pid.ok_or("pid=N is needed: its CPU time is what is compared")?;
        Ok(Self { name: name.to_owned(), address, pid, urgent_only, settle })
    }
}

/// A server that is measured.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) urgent_only: bool,
    pub(crate) settle: Option<String>,
    /// Nothing is lost with it: it serves a cache that is only read.
    child: Option<Ending>,
}

impl Server {
    /// Starts one of ours, and waits until it has loaded the cache and says where it serves: the
    /// system chooses the port, so that nobody else can take it in between. The server inherits
    /// the core of the calling thread.
    pub(crate) fn start(name: &str, binary: &Path, options: &[&str], cache: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("--cache").arg(cache).args(["--listen", "127.0.0.1:0"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = Ending(child.map_err(|error| format!("{}: {error}", binary.display()))?);
        let (told, address) = channel();
        let said = child.stderr.take().ok_or("standard error is piped")?;
        std::thread::spawn(move || pass_on(said, &told));
        let address = address
            .recv_timeout(READY_TIMEOUT)
            .map_err(|_| format!("{name} ended, or does not say where it serves"))?;
        let (name, pid) = (name.to_owned(), child.id());
        Ok(Self { name, address, pid, urgent_only: false, settle: None, child: Some(child) })
    }

    /// One that runs already.
    pub(crate) fn running(peer: &PeerArg) -> Self {
        let PeerArg { name, address, pid, urgent_only, settle } = peer.clone();
        Self { name, address, pid, urgent_only, settle, child: None }
    }

    /// Whether it is not ours.
    pub(crate) fn is_foreign(&self) -> bool {
        self.child.is_none()
    }

    /// Waits until it listens; ours do from their start.
    pub(crate) fn await_ready(&self) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if start.elapsed() > READY_TIMEOUT {
                return Err(format!("{} does not listen on {}", self.name, self.address).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// As `js5-loadgen compare` takes it.
    pub(crate) fn side(&self) -> String {
        let Self { name, address, pid, .. } = self;
        let urgent_only = if self.urgent_only { ",urgent-only" } else { "" };
        let settle =
            self.settle.as_ref().map_or_else(String::new, |time| format!(",settle={time}"));
        format!("{name}={address},pid={pid}{urgent_only}{settle}")
    }
}

/// Tells where a server serves, which it says on its standard error, and shows what else it says
/// there but for what is in order.
fn pass_on(said: impl Read, told: &Sender<SocketAddr>) {
    for line in BufReader::new(said).lines().map_while(std::result::Result::ok) {
        if let Some(address) = address_in(&line) {
            // The receiver may have given up.
            let _ = told.send(address);
        } else if !line.contains(" INFO ") {
            eprintln!("{line}");
        }
    }
}

/// The address in `serving … on ADDRESS …`, which each of ours says when it serves.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("serving")?;
    let (_, rest) = rest.split_once(" on ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Binds the calling thread, and what it starts from here on, to a core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let pinned = js5d::platform::cpu::pin_to(core);
    Ok(pinned.map_err(|error| format!("core {core}: {error}; two cores are needed"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_where_they_serve() {
        let ours = "2026-11-26T04:09:21Z  INFO serving 14 archives, 1,959 groups, 1.7 MB, \
                    generation ddb2d88f2f2275d5, on 127.0.0.1:43999 with 2 workers; at most 9";
        assert_eq!(address_in(ours), Some("127.0.0.1:43999".parse().unwrap()));
        assert_eq!(address_in("serving on 127.0.0.1:5"), Some("127.0.0.1:5".parse().unwrap()));
        assert_eq!(address_in("INFO admin address 127.0.0.1:9550"), None);
    }

    #[test]
    fn a_peer_is_named_with_its_address_and_process() {
        let peer: PeerArg = "netty=127.0.0.1:43594,pid=7,urgent-only,settle=500ms".parse().unwrap();
        assert_eq!((peer.name.as_str(), peer.pid, peer.urgent_only), ("netty", 7, true));
        let text = "netty=127.0.0.1:43594,pid=7,urgent-only,settle=500ms";
        assert_eq!(Server::running(&peer).side(), text);
        for wrong in ["127.0.0.1:1", "a=127.0.0.1:1", "a=127.0.0.1:1,pid=x", "a=1,pid=2"] {
            assert!(wrong.parse::<PeerArg>().is_err(), "{wrong}");
        }
    }
}
