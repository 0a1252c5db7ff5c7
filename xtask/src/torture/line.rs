//! Row 25: a slow line, made by a traffic shaper between two network namespaces.

use super::Findings;
use super::bench::{Bench, has_program, is_root};
use super::floods::ip;
use super::slow::Space;
use crate::compare::{Result, put_archive};
use js5d::cache::{StoreKind, StoreWriter};
use js5d::protocol::client::{Answered, Head, ResponseSink};
use js5d::protocol::container::{Compression, compress};
use js5d::protocol::{Class, ClientSession, GroupId, Profile, Status};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The namespaces, the interface that both have, and the server's address.
const NEAR: &str = "js5d-t25a";
const FAR: &str = "js5d-t25b";
const LINK: &str = "js5d-t25";
const ADDRESS: &str = "10.99.25.1";

/// Rates, and how long an urgent response of 900 bytes may take at each.
const LINES: [(&str, f64); 3] = [("56kbit", 2.5), ("512kbit", 0.4), ("4mbit", 0.15)];

/// A line on which the rest of a download is over soon.
const FAST: &str = "400mbit";

/// What is prefetched, of archive 1: groups and bytes of each.
const PREFETCHED: (u32, usize) = (20, 500_000);

/// What is urgent, of archive 0.
const URGENT: (u32, usize) = (40, 900);

/// When the first urgent request is sent, after those to prefetch.
const URGENT_AFTER: Duration = Duration::from_secs(2);

/// Twenty prefetches of 500 KB have been asked for; two seconds later an urgent group.
pub(super) fn slow_line(bench: &Bench, findings: &mut Findings) -> Result<()> {
    if !is_root() || !has_program("ip") || !has_program("tc") {
        findings.skip("slow line", "a shaped line needs root, and iproute2 with tc");
        return Ok(());
    }
    let cache = bench.dir.join("slow-line");
    let containers = write_cache(&cache)?;
    let (near, far) = (Space::new(NEAR, &[])?, Space::new(FAR, &[])?);
    ip(&format!("link add {LINK} netns {NEAR} type veth peer name {LINK} netns {FAR}"))?;
    for (space, address) in [(NEAR, ADDRESS), (FAR, "10.99.25.2")] {
        ip(&format!("-n {space} addr add {address}/24 dev {LINK}"))?;
        ip(&format!("-n {space} link set {LINK} up"))?;
    }
    let serve = |rate: &str| {
        shape(rate)?;
        let admin = bench.dir.join("row25.sock");
        let command = &mut near.run(&bench.js5d);
        bench.serve_by(command, &cache, &admin, &format!("{ADDRESS}:45925"), &[])
    };
    for (rate, bound) in LINES {
        let server = serve(rate)?;
        // Once it is known how long the urgent one took, the rest may come fast.
        let found = far_away(|| Download::of(&containers, server.address, None))?;
        let wait = found.waits.first().map_or(f64::INFINITY, Duration::as_secs_f64);
        findings.at_most(&format!("slow line, {rate}: urgent after"), wait, bound, " s");
        found.hold(rate, findings);
    }
    let rates: &[&str] = if bench.quick { &["4mbit"] } else { &["512kbit", "4mbit"] };
    for rate in rates {
        let server = serve(rate)?;
        let every = Some(Duration::from_secs(5));
        let found = far_away(|| Download::of(&containers, server.address, every))?;
        let share = found.wasted as f64 / found.received as f64 * 100.0;
        let name = format!("slow line, {rate}, urgent each 5 s: in vain");
        findings.at_most(&name, share, 10.0, " %");
        found.hold(&format!("{rate}, urgent each 5 s"), findings);
    }
    drop(far);
    Ok(())
}

/// Gives what the server sends this rate.
fn shape(rate: &str) -> Result<()> {
    let burst = if rate == FAST { "200kb" } else { "3000" };
    let shaper = format!("tbf rate {rate} burst {burst} latency 200ms");
    ip(&format!("netns exec {NEAR} tc qdisc replace dev {LINK} root {shaper}"))
}

/// Does something on a thread in the other namespace.
fn far_away<T: Send>(what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let far = scope.spawn(|| {
            let space = File::open(format!("/run/netns/{FAR}")).map_err(|e| e.to_string())?;
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| e.to_string())?;
            what().map_err(|e| e.to_string())
        });
        far.join().map_err(|_| "the client panicked")?.map_err(Into::into)
    })
}

/// Writes the cache: the container of each group.
fn write_cache(dir: &Path) -> Result<HashMap<GroupId, Vec<u8>>> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let mut writer = StoreWriter::create(dir, StoreKind::Dat2)?;
    let mut containers = HashMap::new();
    for (archive, (count, len)) in [(0, URGENT), (1, PREFETCHED)] {
        let mut rng = fastrand::Rng::with_seed(u64::from(archive));
        let mut payload = vec![0; len];
        let mut payloads = Vec::new();
        for group in 0..count {
            rng.fill(&mut payload);
            let container = compress(Compression::None, &payload)?;
            containers.insert(GroupId { archive, group }, container);
            payloads.push(payload.clone());
        }
        put_archive(&mut writer, archive, payloads.into_iter())?;
    }
    writer.finish()?;
    Ok(containers)
}

/// A client's download, and what came of it.
struct Download<'a> {
    containers: &'a HashMap<GroupId, Vec<u8>>,
    /// The container that comes in.
    incoming: Vec<u8>,
    /// How long each urgent response took.
    waits: Vec<Duration>,
    prefetched: u32,
    wrong: Vec<GroupId>,
    /// Bytes in all, and those of responses that were broken off.
    received: u64,
    wasted: u64,
}

impl<'a> Download<'a> {
    /// Prefetches all, and asks for something urgent once, or in this time again and again.
    fn of(
        containers: &'a HashMap<GroupId, Vec<u8>>,
        address: SocketAddr,
        every: Option<Duration>,
    ) -> Result<Self> {
        let mut found = Self {
            containers,
            incoming: Vec::new(),
            waits: Vec::new(),
            prefetched: 0,
            wrong: Vec::new(),
            received: 0,
            wasted: 0,
        };
        let mut session = ClientSession::of(&Profile::build_550());
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut out = Vec::new();
        session.handshake(550, &mut out);
        session.greet(false, 0, &mut out);
        let start = Instant::now();
        for group in 0..PREFETCHED.0 {
            session.request(Class::Prefetch, GroupId { archive: 1, group }, start, &mut out);
        }
        stream.write_all(&out)?;
        let mut urgent_due = Some(start + URGENT_AFTER);
        let mut asked = 0;
        let mut buffer = vec![0; 64 << 10];
        while found.prefetched < PREFETCHED.0 || session.outstanding_len(Class::Urgent) > 0 {
            let now = Instant::now();
            if urgent_due.is_some_and(|due| due <= now) {
                out.clear();
                let group = asked % URGENT.0;
                session.request(Class::Urgent, GroupId { archive: 0, group }, now, &mut out);
                stream.write_all(&out)?;
                asked += 1;
                urgent_due = every.map(|every| now + every);
            }
            let len = match stream.read(&mut buffer) {
                Ok(0) => return Err("the server has ended the connection".into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            found.received += len as u64;
            let waits = found.waits.len();
            session.receive(&buffer[..len], &mut found).map_err(|fault| format!("{fault:?}"))?;
            if every.is_none() && waits < found.waits.len() {
                shape(FAST)?;
            }
        }
        Ok(found)
    }

    fn hold(&self, line: &str, findings: &mut Findings) {
        let exact = self.wrong.is_empty() && self.prefetched == PREFETCHED.0;
        findings.holds(&format!("slow line, {line}: all exact"), exact, "true", exact);
    }
}

impl ResponseSink<Instant> for Download<'_> {
    fn status(&mut self, _: Status) {}

    fn begin(&mut self, _: &Head) -> bool {
        self.incoming.clear();
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    fn end(&mut self, answered: Answered<Instant>) {
        if self.containers.get(&answered.head.id) != Some(&self.incoming) {
            self.wrong.push(answered.head.id);
        }
        match answered.class {
            Class::Urgent => self.waits.push(answered.token.elapsed()),
            Class::Prefetch => self.prefetched += 1,
        }
    }

    fn broken_off(&mut self, _: Answered<Instant>) {
        self.wasted += self.incoming.len() as u64;
    }
}
