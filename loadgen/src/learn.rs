//! Learns which groups there are: fetches the master index and the archive indexes over the wire.
//!
//! It uses one plain connection before the run, with a deadline. It is as strict as the run: an
//! index that differs from what the master index says is an error that names the index.

use crate::catalogue::Catalogue;
use crate::speech::Speech;
use js5d::protocol::client::{Containers, Fault};
use js5d::protocol::listing::{Listed, formats_from, readings};
use js5d::protocol::{Class, ClientSession, GroupId, MASTER_INDEX, Status, master_index};
use js5d::proxy::{Endpoints, announce};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Archive indexes that are asked for at once.
const IN_FLIGHT: usize = 20;

/// How to ask.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) speech: Arc<Speech>,
    pub(crate) proxy_header: bool,
    pub(crate) settle: Duration,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    pub(crate) zipf: f64,
}

/// Why nothing can be learnt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    /// Nothing listens there, or the connection was cut.
    #[error("{target}: {error}")]
    Network { target: SocketAddr, error: io::Error },
    /// It refuses the client.
    #[error("{target} refuses a client of build {build}: {status}")]
    Refused { target: SocketAddr, build: u32, status: Status },
    /// A JS5 server does not send such a first byte.
    #[error("{target} does not speak JS5: {fault}")]
    NotJs5 { target: SocketAddr, fault: String },
    /// It takes the handshake and sends nothing.
    #[error("{target} does not answer a handshake within {waited:?}")]
    NoStatus { target: SocketAddr, waited: Duration },
    /// It sends nothing.
    #[error("no answer to the request for {asked} within {waited:?}")]
    Silent { asked: String, waited: Duration },
    /// What its indexes say is wrong: its fault, and exit code 3.
    #[error("{0}")]
    Wrong(String),
    /// It answers, and not as the client reads it: its fault, and exit code 3.
    #[error("{target} breaks the protocol: {fault}")]
    Breach { target: SocketAddr, fault: Fault },
}

/// Asks the server for its indexes.
pub(crate) fn learn(target: SocketAddr, manner: &Manner) -> Result<Catalogue, LearnError> {
    let mut reader = Reader::connect(target, manner)?;
    let master = reader.fetch(&[MASTER_INDEX])?;
    let likeliest = manner.speech.profile.master;
    let formats = formats_from(likeliest);
    // A client that is named reads one format.
    let formats = if manner.speech.is_named { &formats[..1] } else { &formats[..] };
    let readings = master.first().and_then(|(_, master)| readings(master, formats).ok());
    let mut wrong = None;
    for reading in readings.unwrap_or_default() {
        let mut learnt = Learnt::default();
        match reader.follow(&reading, manner.speech.is_named, &mut learnt) {
            Ok(()) => {
                let Learnt { ids, groups, checksums } = learnt;
                let indexes = std::iter::once(MASTER_INDEX).chain(ids).collect();
                let (seed, zipf) = (manner.seed, manner.zipf);
                return Ok(Catalogue::new(indexes, groups, checksums, seed, zipf));
            }
            // Where a version agreed, the reading is right and the server is wrong. Else another
            // reading may fit what the archive indexes are.
            Err(error @ LearnError::Wrong(_)) => {
                let has_versions = reading.iter().any(|entry| entry.version.is_some());
                if has_versions && !learnt.ids.is_empty() {
                    return Err(error);
                }
                wrong = wrong.or(Some(error));
            }
            // A wrong reading asks for archives that no server has.
            Err(error) => return Err(wrong.unwrap_or(error)),
        }
    }
    Err(wrong.unwrap_or_else(|| no_master(master.first(), manner)))
}

/// Why what was sent as master index cannot be read.
fn no_master(master: Option<&(GroupId, Vec<u8>)>, manner: &Manner) -> LearnError {
    let len = master.map_or(0, |(_, container)| container.len());
    let profile = &manner.speech.profile;
    let wanted = match manner.speech.is_named {
        true => format!("of format {}, which clients of {} read", profile.master, profile.name),
        false => "in any format".to_owned(),
    };
    LearnError::Wrong(format!(
        "255/255 is not a master index {wanted}: in its {len} bytes there is no entry of an archive"
    ))
}

/// What the indexes say.
#[derive(Default)]
struct Learnt {
    ids: Vec<GroupId>,
    groups: Vec<GroupId>,
    checksums: HashMap<GroupId, u32>,
}

struct Reader {
    stream: TcpStream,
    session: ClientSession<()>,
    target: SocketAddr,
    timeout: Duration,
    /// Groups from this number on cannot be asked for.
    groups_max: u32,
}

impl Reader {
    fn connect(target: SocketAddr, manner: &Manner) -> Result<Self, LearnError> {
        let network = |error| LearnError::Network { target, error };
        let stream = TcpStream::connect_timeout(&target, manner.timeout).map_err(network)?;
        stream.set_read_timeout(Some(manner.timeout)).map_err(network)?;
        stream.set_nodelay(true).map_err(network)?;
        let speech = &manner.speech;
        let groups_max = speech.profile.groups_max();
        let (session, timeout) = (speech.session(), manner.timeout);
        let mut reader = Self { stream, session, target, timeout, groups_max };
        let mut out = Vec::new();
        if manner.proxy_header {
            let source = reader.stream.local_addr().map_err(network)?;
            out = announce(Endpoints { source, destination: target });
        }
        speech.handshake(&mut reader.session, &mut out);
        reader.stream.write_all(&out).map_err(network)?;
        let mut containers = Containers::default();
        while reader.session.status().is_none() {
            reader.read("the status byte", &mut containers)?;
        }
        match reader.session.status() {
            Some(Status::Ok) => {}
            Some(status) => {
                return Err(LearnError::Refused { target, build: speech.build, status });
            }
            None => {}
        }
        std::thread::sleep(manner.settle);
        out.clear();
        reader.session.greet(false, 0, &mut out);
        reader.stream.write_all(&out).map_err(network)?;
        Ok(reader)
    }

    /// Fetches and decodes the archive indexes of one reading of the master index.
    fn follow(
        &mut self,
        reading: &[Listed],
        has_digests: bool,
        learnt: &mut Learnt,
    ) -> Result<(), LearnError> {
        // The first alone shows whether the reading fits: another one may name archives that
        // do not exist, and a server need not answer for those.
        let (first, rest) = reading.split_at(1.min(reading.len()));
        for asked in std::iter::once(first).chain(rest.chunks(IN_FLIGHT)) {
            let ids: Vec<GroupId> = asked.iter().map(Listed::id).collect();
            for (id, container) in self.fetch(&ids)? {
                let Some(entry) = asked.iter().find(|entry| entry.id() == id) else { continue };
                let wrong = |what: String| LearnError::Wrong(format!("index {id}: {what}"));
                let index = entry.index(&container).map_err(wrong)?;
                let digest = entry.digest.filter(|_| has_digests);
                if digest.is_some_and(|digest| digest != master_index::digest(&container)) {
                    return Err(wrong("its digest is not that of the master index".to_owned()));
                }
                learnt.ids.push(id);
                learnt.checksums.insert(id, entry.crc);
                for group in index.groups.iter().filter(|group| group.id < self.groups_max) {
                    let id = GroupId { archive: entry.archive, group: group.id };
                    learnt.checksums.insert(id, group.crc);
                    learnt.groups.push(id);
                }
            }
        }
        learnt.ids.sort_unstable();
        learnt.groups.sort_unstable();
        Ok(())
    }

    fn fetch(&mut self, ids: &[GroupId]) -> Result<Vec<(GroupId, Vec<u8>)>, LearnError> {
        let mut out = Vec::new();
        for &id in ids {
            self.session.request(Class::Urgent, id, (), &mut out);
        }
        let target = self.target;
        let written = self.stream.write_all(&out);
        written.map_err(|error| LearnError::Network { target, error })?;
        let (mut containers, mut done) = (Containers::default(), Vec::new());
        while done.len() < ids.len() {
            let open = self.session.outstanding().map(|(_, id, ())| id.to_string());
            let open: Vec<String> = open.take(5).collect();
            self.read(&open.join(", "), &mut containers)?;
            done.extend(std::iter::from_fn(|| containers.take()));
        }
        Ok(done)
    }

    fn read(&mut self, asked: &str, containers: &mut Containers) -> Result<(), LearnError> {
        let mut buffer = vec![0; 64 << 10];
        let len = match self.stream.read(&mut buffer) {
            Ok(0) => {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(LearnError::Network { target: self.target, error });
            }
            Ok(len) => len,
            // No signal: the ring that read the cache is still being taken down.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.session.status().is_none() => {
                return Err(LearnError::NoStatus { target: self.target, waited: self.timeout });
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(LearnError::Silent { asked: asked.to_owned(), waited: self.timeout });
            }
            Err(error) => return Err(LearnError::Network { target: self.target, error }),
        };
        let received = self.session.receive(&buffer[..len], containers);
        received.map_err(|fault| match self.session.status() {
            None => LearnError::NotJs5 { target: self.target, fault: fault.to_string() },
            Some(_) => LearnError::Breach { target: self.target, fault },
        })
    }
}
