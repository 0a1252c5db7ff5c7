//! The servers: ours, started and ended here, and others that run already.

use super::Result;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};
use testkit::Serving;

/// How long another server may take to listen.
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
    process: Option<Serving>,
}

impl Server {
    /// Starts one of ours, and waits until it has loaded the cache and says where it serves: the
    /// system chooses the port, so that nobody else can take it in between. The server inherits
    /// the core of the calling thread.
    pub(crate) fn start(name: &str, binary: &Path, options: &[&str], cache: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("--cache").arg(cache).args(["--listen", "127.0.0.1:0"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Serving::start(&mut command)
            .map_err(|error| format!("{name}, {}: {error}", binary.display()))?;
        let log = process.log();
        for line in log.lines().filter(|line| line.contains(" WARN ")) {
            eprintln!("{line}");
        }
        let (name, address, pid) = (name.to_owned(), process.address(), process.pid());
        let process = Some(process);
        Ok(Self { name, address, pid, urgent_only: false, settle: None, process })
    }

    /// One that runs already.
    pub(crate) fn running(peer: &PeerArg) -> Self {
        let PeerArg { name, address, pid, urgent_only, settle } = peer.clone();
        Self { name, address, pid, urgent_only, settle, process: None }
    }

    /// Whether it is not ours.
    pub(crate) fn is_foreign(&self) -> bool {
        self.process.is_none()
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

/// Binds the calling thread, and what it starts from here on, to a core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let pinned = js5d::platform::cpu::pin_to(core);
    Ok(pinned.map_err(|error| format!("core {core}: {error}; two cores are needed"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
