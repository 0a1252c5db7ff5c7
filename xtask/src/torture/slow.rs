//! Rows 5 and 9 to 12: peers that are slow, silent, gone, or read nothing.

use super::Findings;
use super::bench::{Bench, CLIENTS, greet, handshake, has_program, is_root};
use super::floods::ip;
use super::load::{Beside, HONEST, Load};
use crate::compare::Result;
use js5d::protocol::profile::table;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, ClientSession, GroupId, Profile};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Urgent, the master index, which has 200 bytes and more.
const MASTER: [u8; 4] = [1, 255, 0, 255];

/// Connections that their peers ended or reset.
const BY_PEER: &str = "js5d_closed_total{reason=\"by_peer\"}";

/// The deadline of row 5's silent peers.
const DEADLINE: Duration = Duration::from_secs(10);

/// 15,000 connections that send nothing, one byte, a drip, or half a request.
pub(super) fn slowloris(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let count = bench.sized(15_000, 2000);
    let mut server = bench.serve(&[
        "--handshake-timeout",
        "10s",
        "--idle-timeout",
        "10s",
        "--connections-max",
        "17000",
        "--refusals-max",
        "100",
    ])?;
    let twin = bench.serve(&[])?;
    let (memory, descriptors) = (server.memory_bytes(), server.descriptors());
    // From before they come until all have been cut, both of which are work, too.
    let during = Beside::begin(bench, &server, &twin, DEADLINE.as_secs() + 6)?;
    server.await_metric("js5d_connections_open", |open| open == HONEST as f64)?;
    // Their warm-up is not counted.
    thread::sleep(Duration::from_secs(1));
    let mut drips = Vec::new();
    let mut silent = Vec::new();
    let start = Instant::now();
    let mut last = start;
    for number in 0..count {
        // As many as one address has ports for, twice over.
        let mut stream = TcpStream::connect(server.address)?;
        match number % 4 {
            0 => {}
            1 => stream.write_all(&[15])?,
            2 => {
                drips.push(stream);
                last = Instant::now();
                continue;
            }
            _ => {
                stream.write_all(&handshake())?;
                stream.write_all(&MASTER[..2])?;
            }
        }
        silent.push(stream);
        last = Instant::now();
    }
    server.await_metric("js5d_connections_open", |open| open >= (HONEST + count) as f64)?;
    let grown = server.memory_bytes().saturating_sub(memory);
    findings.at_most("slowloris: memory a peer", grown as f64 / count as f64, 2048.0, " B");
    // A byte of the handshake a second, which must not extend the deadline. Each peer has a time
    // of its own within the second.
    let dripping = thread::spawn(move || {
        let between = Duration::from_secs(1) / u32::try_from(drips.len()).unwrap_or(u32::MAX);
        let mut due = Instant::now();
        for byte in handshake().into_iter().take(4) {
            for stream in &mut drips {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += between;
                // It may be cut already.
                let _ = stream.write_all(&[byte]);
            }
        }
        drips
    });
    server.await_metric("js5d_connections_open", |open| open <= HONEST as f64)?;
    let over = last.elapsed().saturating_sub(DEADLINE).as_secs_f64();
    findings.at_most("slowloris: all cut, past the deadline", over, 1.0, " s");
    let during = during.finish()?;
    during.found.hold("slowloris", findings);
    findings.at_most("slowloris: honest p99, to an idle server", during.p99, 2.0, "");
    findings.at_most("slowloris: slowest, to an idle server", during.slowest, 3.0, "");
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    server.descriptors_back("slowloris", descriptors, findings);
    drop((dripping.join(), silent));
    Ok(())
}

/// A kind of client by hand: what it sends, and how its responses are cut.
struct Kind {
    profile: Profile,
    build: u32,
}

impl Kind {
    /// The one that `--client` of the load generator names.
    fn of(client: &str) -> Result<Self> {
        let (profile, build) = table::client(client).ok_or("no such client")?;
        Ok(Self { profile, build })
    }

    /// Says hello, and reads what comes before responses.
    fn greet(&self, mut stream: TcpStream) -> Result<TcpStream> {
        let mut opening = Vec::new();
        ClientSession::<()>::of(&self.profile).handshake(self.build, &mut opening);
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(&opening)?;
        let mut answer = vec![0xFF; 1 + 4 * self.profile.ints.len()];
        stream.read_exact(&mut answer)?;
        match answer[0] {
            0 => Ok(stream),
            status => Err(format!("{} reads status {status}", self.profile.name).into()),
        }
    }

    /// An urgent request for a group of archive 255.
    fn request(&self, group: u8) -> Vec<u8> {
        let id = GroupId { archive: 255, group: group.into() };
        let mut bytes = Vec::new();
        let request = Message::Request(Class::Urgent, id);
        ClientSession::<()>::of(&self.profile).send(request, &mut bytes);
        bytes
    }

    /// The bytes of a response, from its own header.
    fn wire_len(&self, address: SocketAddr, group: u8) -> Result<usize> {
        let mut stream = self.greet(TcpStream::connect(address)?)?;
        stream.write_all(&self.request(group))?;
        let mut head = vec![0; self.profile.framing.header_len() + 5];
        stream.read_exact(&mut head)?;
        let container = &head[self.profile.framing.header_len()..];
        let header_len = if container[0] == 0 { 5 } else { 9 };
        let length = u32::from_be_bytes(container[1..].try_into()?);
        Ok(self.profile.framing.framed_len(header_len + usize::try_from(length)?))
    }

    /// The archive whose index has the most bytes on the wire, and how many.
    fn largest_index(&self, address: SocketAddr) -> Result<(u8, usize)> {
        let mut longest = (0, 0);
        for archive in 0..20 {
            longest = longest.max((self.wire_len(address, archive)?, archive));
        }
        match longest.0 {
            1700.. => Ok((longest.1, longest.0)),
            len => Err(format!("no index of this cache has 1,700 bytes, the longest {len}").into()),
        }
    }
}

/// Resets at each offset of a response, ends, half-closes, by each kind of client.
pub(super) fn resets(bench: &Bench, findings: &mut Findings) -> Result<()> {
    for client in CLIENTS {
        resets_by(&Kind::of(client)?, &format!("resets, {client}"), bench, findings)?;
    }
    Ok(())
}

fn resets_by(kind: &Kind, row: &str, bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&[])?;
    let descriptors = server.descriptors();
    // A group that is longer than the last offset: archive indexes are.
    let (archive, len) = kind.largest_index(server.address)?;
    let (large, master) = (kind.request(archive), kind.request(255));
    let offsets = (0..=1600).step_by(bench.sized(1, 16));
    let (mut first, mut whole) = (0, 0);
    let mut cut = 0.0;
    let wanted = 2.0 * bench.sized(1601, 101) as f64;
    // Once those that asked for lengths have ended, and a heartbeat has said so.
    let asked = server.await_metric("js5d_accepted_total", |accepted| accepted >= 20.0)?;
    let before = server.await_metric(BY_PEER, |ended| ended >= asked)?;
    for round in 0..2 {
        for offset in offsets.clone() {
            cut_at(kind.greet(TcpStream::connect(server.address)?)?, &large, offset)?;
            // In the middle of a send, too: 200 responses do not fit such a socket.
            cut_at(kind.greet(narrow(server.address)?)?, &large.repeat(200), offset)?;
        }
        if round == 0 {
            // The server has seen each of them, and its end.
            cut = server.await_metric(BY_PEER, |ended| ended >= before + wanted)? - before;
        }
        for _ in 0..200 {
            let mut stream = kind.greet(TcpStream::connect(server.address)?)?;
            stream.write_all(&large)?;
            drop(stream);
        }
        let three = [&large[..], &master, &large].concat();
        let three_len = 2 * len + kind.wire_len(server.address, 255)?;
        whole = half_closed(kind, server.address, &three, three_len)?;
        server.await_metric("js5d_connections_open", |open| open == 0.0)?;
        if round == 0 {
            first = server.memory_bytes();
        }
    }
    let grown = server.memory_bytes().saturating_sub(first) as f64 / 1024.0;
    findings.at_most(&format!("{row}: memory, second round to first"), grown, 256.0, " KB");
    findings.exactly(&format!("{row}: half-closed peers got all"), whole, 200);
    let name = format!("{row}: cut by peers, the server counts");
    findings.exactly(&name, cut as u64, wanted as u64);
    server.descriptors_back(row, descriptors, findings);
    let mut stream = kind.greet(TcpStream::connect(server.address)?)?;
    stream.write_all(&master)?;
    let answers = stream.read_exact(&mut [0; 64]).is_ok();
    findings.holds(&format!("{row}: it answers"), answers, "true", answers);
    Ok(())
}

/// Asks, reads so many bytes, and resets the connection.
fn cut_at(mut stream: TcpStream, requests: &[u8], offset: usize) -> Result<()> {
    stream.write_all(requests)?;
    stream.read_exact(&mut vec![0; offset])?;
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// Peers that ask for some groups and end their side: how many of 200 got as many bytes.
fn half_closed(kind: &Kind, address: SocketAddr, requests: &[u8], len: usize) -> Result<u64> {
    let mut whole = 0;
    for _ in 0..200 {
        let mut stream = kind.greet(TcpStream::connect(address)?)?;
        stream.write_all(requests)?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        whole += u64::from(bytes.len() == len);
    }
    Ok(whole)
}

/// A connection that takes in a few KB before the server must wait.
fn narrow(address: SocketAddr) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_recv_buffer_size(&socket, 4096)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

/// A network namespace, gone when it is dropped.
pub(super) struct Space(String);

impl Space {
    /// Makes it, with these addresses on its loopback.
    pub(super) fn new(name: &str, addresses: &[&str]) -> Result<Self> {
        // One that a killed run has left.
        let _ = ip(&format!("netns del {name}"));
        ip(&format!("netns add {name}"))?;
        let space = Self(name.to_owned());
        ip(&format!("-n {name} link set lo up"))?;
        for address in addresses {
            ip(&format!("-n {name} addr add {address} dev lo nodad"))?;
        }
        Ok(space)
    }

    /// A command in it.
    pub(super) fn run(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        let arguments: [&OsStr; 3] = ["netns".as_ref(), "exec".as_ref(), self.0.as_ref()];
        command.args(arguments).arg(program);
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // A failure is ignored: the next run removes it as well.
        let _ = ip(&format!("netns del {}", self.0));
    }
}

/// Peers that vanish: the link between two namespaces is cut.
pub(super) fn vanished(bench: &Bench, findings: &mut Findings) -> Result<()> {
    if !is_root() || !has_program("ip") {
        findings.skip("vanished", "network namespaces need root, and iproute2");
        return Ok(());
    }
    let (near, far) = (Space::new("js5d-t10a", &[])?, Space::new("js5d-t10b", &[])?);
    ip("link add js5d-t10 netns js5d-t10a type veth peer name js5d-t10 netns js5d-t10b")?;
    for (space, address) in [("js5d-t10a", "10.99.10.1/24"), ("js5d-t10b", "10.99.10.2/24")] {
        ip(&format!("-n {space} addr add {address} dev js5d-t10"))?;
        ip(&format!("-n {space} link set js5d-t10 up"))?;
    }
    let admin = bench.dir.join("row10.sock");
    let options = ["--idle-timeout", "5s", "--send-timeout", "5s", "--handshake-timeout", "5s"];
    let command = &mut near.run(&bench.js5d);
    let mut server = bench.serve_by(command, &bench.cache, &admin, "10.99.10.1:45910", &options)?;
    let load = ["--mix", "slow=1,idle=1", "--connections", "200", "--duration", "60s"];
    let load = Load::start_by(far.run(&bench.loadgen), bench, &server, &load)?;
    server.await_metric("js5d_connections_open", |open| open == 200.0)?;
    thread::sleep(Duration::from_secs(1));
    ip("-n js5d-t10b link set js5d-t10 down")?;
    let cut = Instant::now();
    drop(load);
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    let over = cut.elapsed().as_secs_f64() - 5.0;
    findings.at_most("vanished: gone, past the deadline", over, 5.0, " s");
    drop(far);
    Ok(())
}

/// Peers that ask for the largest groups and read a trickle, or nothing.
pub(super) fn readers(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let count = bench.sized(1000, 200);
    let server = bench.serve(&["--send-timeout", "20s"])?;
    let twin = bench.serve(&[])?;
    let memory = server.memory_bytes();
    let half = (count / 2).to_string();
    let trickle = ["--scenario", "slow", "--read-rate", "1000", "--connections", &half];
    let trickle = Load::start(bench, &server, &[&trickle[..], &["--duration", "20s"]].concat())?;
    let nothing = ["--scenario", "hostile", "--tricks", "over-window", "--connections", &half];
    let nothing = [&nothing[..], &["--hold", "20s", "--duration", "20s", "--retry", "1s"]].concat();
    let nothing = Load::start(bench, &server, &nothing)?;
    let one = ["--scenario", "slow", "--read-rate", "7000", "--connections", "1", "-n", "5"];
    let one = Load::start(bench, &server, &one)?;
    thread::sleep(Duration::from_secs(3));
    let neighbours = Beside::begin(bench, &server, &twin, 7)?.finish()?;
    let grown = server.memory_bytes().saturating_sub(memory);
    // docs/limits.md: a full output of copied bytes, two queues of 200, and the connection.
    let a_peer = grown as f64 / count as f64 / 1024.0;
    findings.at_most("readers: memory a peer", a_peer, 70.0, " KB");
    findings.at_most("readers: neighbours' p99, to an idle server", neighbours.p99, 2.0, "");
    neighbours.found.hold("readers", findings);
    let one = one.finish()?;
    findings.holds("readers: one at 7 kB/s got", one.answers(), ">= 5", one.answers() >= 5);
    drop((trickle, nothing));
    Ok(())
}

/// A hundred thousand requests from a peer that reads nothing.
pub(super) fn pipelined(bench: &Bench, findings: &mut Findings) -> Result<()> {
    const PEERS: f64 = 10.0;
    let server = bench.serve(&["--send-timeout", "3s"])?;
    let memory = server.memory_bytes();
    let start = Instant::now();
    let (archive, len) = Kind::of("550")?.largest_index(server.address)?;
    let before = server.metrics()?.sum("js5d_requests_total{class=\"prefetch\"}");
    let requests = [0, 255, 0, archive].repeat(100_000);
    let writers = (0..PEERS as usize).map(|_| -> Result<_> {
        let (stream, _) = greet(narrow(server.address)?)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let requests = requests.clone();
        Ok(thread::spawn(move || {
            // The kernels take some of it, and the server cuts the rest.
            let _ = (&stream).write_all(&requests);
            stream
        }))
    });
    let writers = writers.collect::<Result<Vec<_>>>()?;
    let (mut depth, mut grown, mut cut): (f64, f64, f64) = (0.0, 0.0, 0.0);
    while cut < PEERS && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(100));
        let metrics = server.metrics()?;
        depth = depth.max(metrics.sum("js5d_queue_depth{class=\"prefetch\"}") / PEERS);
        grown = grown.max(server.memory_bytes().saturating_sub(memory) as f64 / PEERS / 1024.0);
        cut = metrics.sum("js5d_closed_total{reason=\"send_timeout\"}");
    }
    let taken = server.metrics()?.sum("js5d_requests_total{class=\"prefetch\"}") - before;
    findings.holds("pipelined: the queue", format!("{depth:.0}"), "= 200", depth == 200.0);
    // The queue, what a read holds, and what a first send and the kernel's buffers hold.
    let buffers = (256 << 10) as f64 / len as f64;
    let taken_max = (200.0 + 64.0 + buffers).ceil();
    findings.at_most("pipelined: requests read a peer", taken / PEERS, taken_max, "");
    findings.at_most("pipelined: memory a peer", grown, 128.0, " KB");
    findings.exactly("pipelined: cut for no progress", cut as u64, PEERS as u64);
    findings.at_most("pipelined: until then", start.elapsed().as_secs_f64(), 3.0 + 3.0, " s");
    drop(writers);
    Ok(())
}
