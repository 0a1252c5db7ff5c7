//! Rows 5 and 9 to 12: peers that are slow, silent, gone, or read nothing.

use super::Findings;
use super::bench::{Bench, greet, handshake, has_program, is_root};
use super::floods::ip;
use super::load::{Load, honest};
use crate::compare::Result;
use rustix::net::sockopt::set_socket_linger;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Urgent, the master index: 3 + 5 + 8 × 29 bytes and so on, but never less than 200.
const MASTER: [u8; 4] = [1, 255, 255, 255];

/// The deadline of row 5's silent peers.
const DEADLINE: Duration = Duration::from_secs(8);

/// 15,000 connections that send nothing, one byte, a drip, or half a request.
pub(super) fn slowloris(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let count = bench.sized(15_000, 2000);
    let mut server = bench.serve(&[
        "--handshake-timeout",
        "8s",
        "--idle-timeout",
        "8s",
        "--connections-max",
        "17000",
        "--refusals-max",
        "100",
    ])?;
    let calm = honest(bench, &server, 3)?;
    let (memory, descriptors) = (server.memory_bytes(), server.descriptors());
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
    server.await_metric("js5d_connections_open", |open| open >= count as f64)?;
    let grown = server.memory_bytes().saturating_sub(memory);
    findings.at_most("slowloris: memory a peer", grown as f64 / count as f64, 2048.0, " B");
    // A byte of the handshake a second, which must not extend the deadline.
    let dripping = thread::spawn(move || {
        for byte in handshake().into_iter().take(4) {
            for stream in &mut drips {
                // It may be cut already.
                let _ = stream.write_all(&[byte]);
            }
            thread::sleep(Duration::from_secs(1));
        }
        drips
    });
    let during = honest(bench, &server, 3)?;
    findings.exactly("slowloris: faults of honest peers", u64::from(during.code != 0), 0);
    let ratio = during.p99_us() / calm.p99_us();
    findings.at_most("slowloris: honest p99, to calm", ratio, 2.0, "");
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    let over = last.elapsed().saturating_sub(DEADLINE).as_secs_f64();
    findings.at_most("slowloris: all cut, past the deadline", over, 1.0, " s");
    findings.exactly(
        "slowloris: descriptors back",
        server.descriptors() as u64,
        descriptors as u64,
    );
    drop((dripping.join(), silent));
    Ok(())
}

/// Resets at each offset of a response, ends, half-closes.
pub(super) fn resets(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&[])?;
    let descriptors = server.descriptors();
    // A group that is longer than the last offset: archive indexes are.
    let large = [1, 255, 0, largest_index(server.address)?];
    let step = bench.sized(1, 16);
    let mut tried = 0;
    for offset in (0..=1600).step_by(step) {
        let (mut stream, _) = server.greet()?;
        stream.write_all(&large)?;
        stream.read_exact(&mut vec![0; offset])?;
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        tried += 1;
    }
    for _ in 0..200 {
        let (mut stream, _) = server.greet()?;
        stream.write_all(&large)?;
        drop(stream);
    }
    let mut whole = 0;
    for _ in 0..200 {
        let (mut stream, _) = server.greet()?;
        stream.write_all(&[large, MASTER, large].concat())?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        whole += u64::from(bytes.len() > 2 * 1600 && bytes[..4] != [0; 4]);
    }
    findings.exactly("resets: half-closed peers got all", whole, 200);
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    findings.holds("resets: at offsets", tried, ">= 100", tried >= 100);
    findings.exactly("resets: descriptors back", server.descriptors() as u64, descriptors as u64);
    let (mut stream, _) = server.greet()?;
    stream.write_all(&MASTER)?;
    findings.holds("resets: it answers", "yes", "yes", stream.read_exact(&mut [0; 64]).is_ok());
    Ok(())
}

/// The archive whose index has the most bytes on the wire.
fn largest_index(address: SocketAddr) -> Result<u8> {
    let mut longest = (0, 0);
    for archive in 0..20 {
        let (mut stream, _) = greet(TcpStream::connect(address)?)?;
        stream.write_all(&[1, 255, 0, archive])?;
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        longest = longest.max((len, archive));
    }
    match longest.0 {
        1700.. => Ok(longest.1),
        len => Err(format!("no index of this cache has 1,700 bytes, the longest {len}").into()),
    }
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
        // Nobody is told: the next run removes it as well.
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
    let mut server = bench.serve_by(command, &admin, "10.99.10.1:45910", &options)?;
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
    let calm = honest(bench, &server, 3)?;
    let memory = server.memory_bytes();
    let half = (count / 2).to_string();
    let trickle = ["--scenario", "slow", "--read-rate", "1000", "--connections", &half];
    let trickle = Load::start(bench, &server, &[&trickle[..], &["--duration", "12s"]].concat())?;
    let nothing = ["--scenario", "hostile", "--tricks", "over-window", "--connections", &half];
    let nothing = [&nothing[..], &["--hold", "12s", "--duration", "12s", "--retry", "1s"]].concat();
    let nothing = Load::start(bench, &server, &nothing)?;
    let one = ["--scenario", "slow", "--read-rate", "7000", "--connections", "1", "-n", "5"];
    let one = Load::start(bench, &server, &one)?;
    thread::sleep(Duration::from_secs(3));
    let beside = honest(bench, &server, 3)?;
    let grown = server.memory_bytes().saturating_sub(memory);
    // docs/limits.md: a full output of copied bytes, two queues of 200, and the connection.
    let a_peer = grown as f64 / count as f64 / 1024.0;
    findings.at_most("readers: memory a peer", a_peer, 70.0, " KB");
    let ratio = beside.p99_us() / calm.p99_us();
    findings.at_most("readers: neighbours' p99, to calm", ratio, 2.0, "");
    findings.exactly("readers: faults of neighbours", u64::from(beside.code != 0), 0);
    let one = one.finish()?;
    findings.holds("readers: one at 7 kB/s got", one.answers(), ">= 5", one.answers() >= 5);
    drop((trickle, nothing));
    Ok(())
}

/// A hundred thousand requests from a peer that reads nothing.
pub(super) fn pipelined(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&["--send-timeout", "3s"])?;
    let memory = server.memory_bytes();
    let start = Instant::now();
    let requests = [0, 255, 0, largest_index(server.address)?].repeat(100_000);
    let writers = (0..10).map(|_| -> Result<_> {
        let (stream, _) = server.greet()?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let requests = requests.clone();
        Ok(thread::spawn(move || {
            // The kernels take some of it, and the server cuts the rest.
            let _ = (&stream).write_all(&requests);
            stream
        }))
    });
    let writers = writers.collect::<Result<Vec<_>>>()?;
    server.await_metric("js5d_queue_depth{class=\"prefetch\"}", |depth| depth > 0.0)?;
    let depth = server.metrics()?.value("js5d_queue_depth{class=\"prefetch\"}");
    findings.at_most("pipelined: waiting requests a peer", depth / 10.0, 200.0, "");
    let grown = server.memory_bytes().saturating_sub(memory) as f64 / 10.0 / 1024.0;
    findings.at_most("pipelined: memory a peer", grown, 128.0, " KB");
    let closed = "js5d_closed_total{reason=\"send_timeout\"}";
    let cut = server.await_metric(closed, |cut| cut >= 10.0)?;
    findings.exactly("pipelined: cut for no progress", cut as u64, 10);
    findings.at_most("pipelined: until then", start.elapsed().as_secs_f64(), 3.0 + 3.0, " s");
    drop(writers);
    Ok(())
}
