//! Rows 6 to 8: more than is allowed, and more than is of use.

use super::Findings;
use super::bench::{Bench, Server, greet};
use super::load::{Honest, Load};
use crate::compare::Result;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

/// Threads that connect.
const THREADS: usize = 50;

/// Opens so many connections at once and sorts them by the status that they read. Refused ones
/// must end in order behind it; the others are kept.
fn offer(address: SocketAddr, count: usize) -> (BTreeMap<u8, u64>, u64, Vec<TcpStream>) {
    let share = || {
        let (mut statuses, mut broken, mut kept) = (BTreeMap::<u8, u64>::new(), 0, Vec::new());
        for _ in 0..count / THREADS {
            match TcpStream::connect(address).map_err(Into::into).and_then(greet) {
                Ok((stream, 0)) => kept.push(stream),
                Ok((mut stream, status)) => {
                    *statuses.entry(status).or_default() += 1;
                    broken += u64::from(!matches!(stream.read(&mut [0]), Ok(0)));
                }
                Err(_) => broken += 1,
            }
        }
        (statuses, broken, kept)
    };
    let mut all = (BTreeMap::new(), 0, Vec::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(share)).collect();
        for (statuses, broken, kept) in threads.into_iter().filter_map(|it| it.join().ok()) {
            for (status, count) in statuses {
                *all.0.entry(status).or_default() += count;
            }
            all.1 += broken;
            all.2.extend(kept);
        }
    });
    let kept = all.2.len() as u64;
    *all.0.entry(0).or_default() += kept;
    all
}

/// Ten times as many peers as there are places.
pub(super) fn flood(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let (places, offered) = if bench.quick { (100, 1000) } else { (1000, 10_000) };
    let limit = places.to_string();
    let mut server = bench.serve(&["--connections-max", &limit])?;
    let (statuses, broken, kept) = offer(server.address, offered);
    let got = |status| statuses.get(&status).copied().unwrap_or(0);
    findings.exactly("flood: served", got(0), places as u64);
    findings.exactly("flood: read status 7", got(7), (offered - places) as u64);
    findings.exactly("flood: not ended in order", broken, 0);
    let total = |server: &mut Server, name: &str| server.await_metric(name, |_| true);
    server.await_metric("js5d_connections_open", |open| open as usize == places)?;
    // Counters are published at heartbeats.
    let all = |count: f64| count >= offered as f64;
    let accepted = server.await_metric("js5d_accepted_total", all)?;
    let ok = total(&mut server, "js5d_handshakes_total{status=\"ok\"}")?;
    let full = total(&mut server, "js5d_refused_total{reason=\"server_full\"}")?;
    findings.exactly("flood: counters add up", (ok + full) as u64, accepted as u64);
    drop(kept);
    Ok(())
}

/// A limit an address, for IPv4 and for a /64 of IPv6.
pub(super) fn per_address(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let per_ip = ["--connections-per-ip-max", "5"];
    let server = bench.serve(&per_ip)?;
    let from =
        |local: &str, remote: SocketAddr, count: usize| -> Result<(u64, u64, Vec<TcpStream>)> {
            let (mut ok, mut refused, mut kept) = (0, 0, Vec::new());
            for _ in 0..count {
                let (stream, status) = greet(connect_from(local, remote)?)?;
                ok += u64::from(status == 0);
                refused += u64::from(status == 9);
                kept.push(stream);
            }
            Ok((ok, refused, kept))
        };
    let (ok, refused, first) = from("127.0.0.2", server.address, 20)?;
    findings.exactly("address: served of 20", ok, 5);
    findings.exactly("address: read status 9", refused, 15);
    let (ok, _, second) = from("127.0.0.3", server.address, 5)?;
    findings.exactly("address: another one, of 5", ok, 5);
    drop((first, second));
    networks(bench, findings)
}

/// The same for a /64 of IPv6, and how much memory many addresses take. They are announced by
/// PROXY headers, as this machine has no such addresses.
fn networks(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let proxy = ["--listen-proxy", "127.0.0.1:0", "--proxy-trusted", "127.0.0.0/8"];
    let mut server = bench.serve(&[&proxy[..], &["--connections-per-ip-max", "5"]].concat())?;
    let ready = server.log().lines().find_map(|line| {
        let (before, _) = line.split_once(" (PROXY)")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    let address: SocketAddr = ready.ok_or("no PROXY address in the ready line")?;
    let announced = |number: usize, source: String| -> Result<_> {
        // From several addresses: each has ports for so many connections a minute.
        let mut stream = connect_from(&format!("127.0.1.{}", number % 200 + 1), address)?;
        let header = format!("PROXY TCP6 {source} fd00::1 50000 43594\r\n");
        stream.write_all(header.as_bytes())?;
        greet(stream)
    };
    for network in ["fd07:0:0:1", "fd07:0:0:2"] {
        let (mut ok, mut kept) = (0, Vec::new());
        for host in 1..=8 {
            let (stream, status) = announced(0, format!("{network}::{host}"))?;
            ok += u64::from(status == 0);
            kept.push(stream);
        }
        findings.exactly(&format!("address: {network}::/64, of 8"), ok, 5);
    }
    let count = bench.sized(20_000, 2000);
    let (mut first, mut refused) = (0, 0);
    for round in 0..2 {
        for number in 0..count {
            let (_, status) = announced(number, format!("fd08:0:{round:x}:{number:x}::1"))?;
            refused += u64::from(status != 0);
        }
        server.await_metric("js5d_connections_open", |open| open == 0.0)?;
        if round == 0 {
            first = server.memory_bytes();
        }
    }
    findings.exactly("address: others refused", refused, 0);
    // An entry that stayed would be 32 bytes at least.
    let grown = server.memory_bytes().saturating_sub(first) as f64 / count as f64;
    findings.at_most("address: memory an address that was here", grown, 16.0, " B");
    Ok(())
}

fn connect_from(local: &str, remote: SocketAddr) -> Result<TcpStream> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddr::new(local.parse()?, 0))?;
    rustix::net::connect(&socket, &remote)?;
    Ok(socket.into())
}

/// Legal traffic that asks for nothing: its peers are closed, and the others keep their share.
pub(super) fn useless(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&[])?;
    let seconds = if bench.quick { 2 } else { 5 };
    let calm = Honest::begin(bench, &server, seconds)?.finish()?.timed;
    let (memory, descriptors) = (server.memory_bytes(), server.descriptors());
    let tricks = ["--scenario", "hostile", "--tricks", "useless,one-byte-segments"];
    let more = ["--connections", "200", "--retry", "100ms", "--duration"];
    let time = format!("{}s", seconds + 2);
    let hostile = Load::start(bench, &server, &[&tricks[..], &more, &[&time]].concat())?;
    let beside = Honest::begin(bench, &server, seconds)?.finish()?;
    let grown = server.memory_bytes().saturating_sub(memory);
    let hostile = hostile.finish()?;
    findings.holds("useless: wrong bytes", hostile.faults(), "none", hostile.faults() == "{}");
    let closed = server.metrics()?.sum("js5d_closed_total{reason=\"chatter\"}");
    findings.holds("useless: peers closed for it", closed, ">= 200", closed >= 200.0);
    beside.hold("useless", findings);
    let share = beside.timed.answers() as f64 / calm.answers() as f64;
    findings.holds(
        "useless: honest answers, to calm",
        format!("{share:.2}"),
        ">= 0.9",
        share >= 0.9,
    );
    let per_peer = grown as f64 / 300.0 / 1024.0;
    findings.at_most("useless: memory a peer", per_peer, 64.0, " KB");
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    server.descriptors_back("useless", descriptors, findings);
    Ok(())
}

/// Runs a command of iproute2.
pub(super) fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
