//! A reference server: the pure session behind a plain blocking socket, and every way in which
//! it can be made to misbehave. A thread a connection, no ring, no speed.

use js5d::protocol::archive_index::{ArchiveIndex, IndexEntry};
use js5d::protocol::container::{self, Compression};
use js5d::protocol::frame::{append_keyed, frame};
use js5d::protocol::master_index::{self, MasterEntry, MasterFormat};
use js5d::protocol::profile::table;
use js5d::protocol::session::{Response, Step};
use js5d::protocol::{
    ARCHIVE_INDEXES, Builds, Class, Clients, GroupId, MASTER_INDEX, ServerSession, Status,
};
use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use testkit::Serving;

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// Nothing.
    None,
    /// A byte of a body.
    WrongByte,
    /// The marker of a second block.
    WrongMarker,
    /// The prefetch bit of the other class.
    WrongClass,
    /// The same answer a second time.
    Twice,
    /// The keys that a client sets have no effect.
    IgnoresKeys,
    /// The end of a connection whose key has changed more than 100 times within a second: no fault,
    /// servers limit messages that ask for nothing.
    LimitsKeys,
    /// A compression that does not exist, from the first response on.
    OddCompression,
    /// The master index gives another version of an archive than its index.
    WrongVersion,
    /// The master index is longer than its entries, and ends within a row.
    LongMaster,
    /// Half of an answer, and the end of the connection.
    CutsOff,
    /// No more answers on a connection, which stays open.
    StopsAnswering,
    /// Requests that come right after the status are lost.
    LosesEarlyRequests,
    /// The status that refuses.
    Refuses,
    /// Some time before each answer.
    Slow(Duration),
    /// Each answer comes this much later, however many are under way: a long line.
    FarAway(Duration),
    /// A prefetch response is broken off at its first block's edge for an urgent one, and comes
    /// again, whole: what clients from 508 to 742 take.
    BreaksOff,
    /// Blocks of all responses that are due alternate, each with its response's name, as clients
    /// from 831 on take them.
    Interleaves,
    /// The same, and a byte of a later block is wrong.
    InterleavesWrongly,
}

impl Misbehaviour {
    fn interleaves(self) -> bool {
        matches!(self, Self::Interleaves | Self::InterleavesWrongly)
    }
}

/// Answers on one connection before the server misbehaves. The generator's own questions for
/// the indexes are fewer.
const GOOD_ANSWERS: u32 = 25;

/// A server that serves until the test ends.
pub(crate) struct ReferenceServer {
    pub(crate) address: SocketAddr,
    /// Containers by group, indexes included.
    pub(crate) containers: Arc<BTreeMap<GroupId, Vec<u8>>>,
}

impl ReferenceServer {
    pub(crate) fn start(misbehaviour: Misbehaviour) -> Self {
        let mut containers = containers();
        let master = containers.get_mut(&MASTER_INDEX).expect("it is there");
        match misbehaviour {
            // The version of archive 1, in the second row of eight bytes.
            Misbehaviour::WrongVersion => master[5 + 8 + 7] = 8,
            Misbehaviour::LongMaster => {
                master.extend([0; 14]);
                master[4] += 14;
            }
            _ => {}
        }
        let containers = Arc::new(containers);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::clone(&containers);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let containers = Arc::clone(&shared);
                // A peer that goes away ends its thread; that is no failure of the test.
                std::thread::spawn(move || drop(serve(socket, &containers, misbehaviour)));
            }
        });
        Self { address, containers }
    }

    /// Writes what is served as a flat-file cache.
    pub(crate) fn write_cache(&self, directory: &Path) {
        for (id, container) in self.containers.iter().filter(|(id, _)| **id != MASTER_INDEX) {
            let archive = directory.join(id.archive.to_string());
            std::fs::create_dir_all(&archive).unwrap();
            std::fs::write(archive.join(format!("{}.dat", id.group)), container).unwrap();
        }
    }
}

/// Three archives: lengths around each edge of a block, compressed ones, and a long one.
fn containers() -> BTreeMap<GroupId, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut entries = Vec::new();
    let payload = |len: usize, salt: usize| -> Vec<u8> {
        (0..len).map(|i| (i * 7 + salt + i / 251) as u8).collect()
    };
    for archive in 0..3_u8 {
        let mut groups = Vec::new();
        for group in 0..60_u32 {
            let len = match group {
                0..=20 => 495 + group as usize,
                21..=40 => 1005 + group as usize,
                59 => 100_000,
                _ => group as usize * 3,
            };
            let compression = if group % 7 == 3 { Compression::Gzip } else { Compression::None };
            let packed = container::compress(compression, &payload(len, group as usize));
            let packed = packed.expect("a short payload");
            let crc = crc32fast::hash(&packed);
            groups.push(IndexEntry { id: group, crc, file_count: 1, ..IndexEntry::default() });
            all.insert(GroupId { archive, group }, packed);
        }
        let index = ArchiveIndex { format: 6, version: 9, groups, ..ArchiveIndex::default() };
        let packed = container::compress(Compression::Gzip, &index.encode()).expect("an index");
        entries.push(MasterEntry {
            crc: crc32fast::hash(&packed),
            version: 9,
            ..MasterEntry::default()
        });
        all.insert(GroupId { archive: ARCHIVE_INDEXES, group: archive.into() }, packed);
    }
    let master = master_index::encode(MasterFormat::Versioned, &entries).expect("three entries");
    all.insert(MASTER_INDEX, master);
    all
}

fn serve(
    mut socket: TcpStream,
    containers: &BTreeMap<GroupId, Vec<u8>>,
    misbehaviour: Misbehaviour,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let clients = match misbehaviour.interleaves() {
        true => Clients::new(table::all(), Builds::Any, 500).expect("the table"),
        false => Clients::like_550(Builds::Any, true, 200),
    };
    let far_away = match misbehaviour {
        Misbehaviour::FarAway(delay) => Some((delay, late_writer(socket.try_clone()?))),
        _ => None,
    };
    let refusal = (misbehaviour == Misbehaviour::Refuses).then_some(Status::ServerFull);
    let mut session = ServerSession::new(Arc::new(clients), refusal);
    let (mut answers, mut keys) = (0, Keys::new(misbehaviour));
    let mut buffer = [0; 4096];
    let mut pending = Vec::new();
    loop {
        let mut out = Vec::new();
        let mut due = Vec::new();
        loop {
            match session.next_step() {
                Step::Status(status) => {
                    socket.write_all(&[status.to_byte()])?;
                    socket.write_all(session.greeting())?;
                    if misbehaviour == Misbehaviour::LosesEarlyRequests {
                        lose(&mut socket, &mut buffer)?;
                    }
                }
                Step::Response(response)
                    if misbehaviour.interleaves() || misbehaviour == Misbehaviour::BreaksOff =>
                {
                    due.extend(containers.get(&response.id()).map(|c| (response, &c[..])));
                }
                Step::Response(response) => {
                    if let Misbehaviour::Slow(pause) = misbehaviour {
                        std::thread::sleep(pause);
                    }
                    if misbehaviour == Misbehaviour::CutsOff && answers == GOOD_ANSWERS {
                        break;
                    }
                    answers += 1;
                    if keys.are_too_many_with(response.key()) {
                        return Ok(());
                    }
                    if let Some(container) = containers.get(&response.id()) {
                        out.extend(answer(&response, container, answers, misbehaviour));
                    }
                }
                Step::Close(_) => return socket.write_all(&out),
                Step::Idle => break,
            }
        }
        match misbehaviour {
            Misbehaviour::BreaksOff => out.extend(broken_off(&due)),
            _ => out.extend(interleaved(&due, misbehaviour)),
        }
        match &far_away {
            Some((delay, writer)) => drop(writer.send((Instant::now() + *delay, out))),
            None => socket.write_all(&out)?,
        }
        if misbehaviour == Misbehaviour::CutsOff && answers >= GOOD_ANSWERS {
            return Ok(());
        }
        if pending.is_empty() {
            match socket.read(&mut buffer)? {
                0 => return Ok(()),
                len => pending.extend_from_slice(&buffer[..len]),
            }
        }
        // Less than all is taken if a queue is full; the loop has made room by then.
        let Ok(taken) = session.receive(&pending) else { return Ok(()) };
        pending.drain(..taken);
    }
}

/// The keys under which a connection's answers went out.
struct Keys {
    are_limited: bool,
    last: u8,
    /// The last 100 changes of it.
    changes: VecDeque<Instant>,
}

impl Keys {
    fn new(misbehaviour: Misbehaviour) -> Self {
        let are_limited = misbehaviour == Misbehaviour::LimitsKeys;
        Self { are_limited, last: 0, changes: VecDeque::new() }
    }

    /// Takes the next answer's. True if they are limited and there were more than 100 changes
    /// within a second.
    fn are_too_many_with(&mut self, key: u8) -> bool {
        if !self.are_limited || key == self.last {
            return false;
        }
        self.last = key;
        self.changes.push_back(Instant::now());
        let first = (self.changes.len() > 100).then(|| self.changes.pop_front()).flatten();
        first.is_some_and(|first| first.elapsed() < Duration::from_secs(1))
    }
}

/// Writes each piece when its time has come.
fn late_writer(mut socket: TcpStream) -> Sender<(Instant, Vec<u8>)> {
    let (sender, pieces) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if socket.write_all(&piece).is_err() {
                return;
            }
        }
    });
    sender
}

/// Throws away what comes within a moment.
fn lose(socket: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    std::thread::sleep(Duration::from_millis(100));
    socket.set_nonblocking(true)?;
    while matches!(socket.read(buffer), Ok(1..)) {}
    socket.set_nonblocking(false)
}

fn answer(
    response: &Response,
    container: &[u8],
    count: u32,
    misbehaviour: Misbehaviour,
) -> Vec<u8> {
    let is_time = count >= GOOD_ANSWERS;
    let mut framed = frame(response.id(), container);
    let mut prefetch_bit = response.prefetch_bit();
    let mut times = 1;
    match misbehaviour {
        Misbehaviour::WrongByte if is_time && framed.len() > 400 => framed[300] ^= 1,
        Misbehaviour::WrongMarker if is_time && framed.len() > 512 => framed[512] = 0xFE,
        Misbehaviour::WrongClass if is_time => prefetch_bit = response.class() == Class::Urgent,
        Misbehaviour::Twice if is_time => times = 2,
        Misbehaviour::StopsAnswering if is_time => times = 0,
        Misbehaviour::OddCompression => framed[3] = 4,
        _ => {}
    }
    if prefetch_bit {
        framed[3] |= 0x80;
    }
    if misbehaviour == Misbehaviour::CutsOff && is_time {
        framed.truncate(framed.len() / 2);
    }
    let key = if misbehaviour == Misbehaviour::IgnoresKeys { 0 } else { response.key() };
    let mut out = Vec::new();
    for _ in 0..times {
        append_keyed(&mut out, &framed, key);
    }
    out
}

/// All that is due, with the first block of a long prefetch response before an urgent one.
fn broken_off(due: &[(Response, &[u8])]) -> Vec<u8> {
    let whole = |&(response, container): &(Response, &[u8])| {
        answer(&response, container, 0, Misbehaviour::None)
    };
    let is_long = |(response, container): &&(Response, &[u8])| {
        response.class() == Class::Prefetch && container.len() > 509
    };
    let first_block = due.iter().find(is_long).map(|long| whole(long)[..512].to_vec());
    // The byte in a marker's place must not look like one.
    let is_urgent = |(response, _): &(Response, &[u8])| {
        response.class() == Class::Urgent && response.id().archive != ARCHIVE_INDEXES
    };
    let place = due.iter().position(is_urgent);
    let mut out = Vec::new();
    for (at, response) in due.iter().enumerate() {
        if Some(at) == place {
            out.extend(first_block.iter().flatten());
        }
        out.extend(whole(response));
    }
    out
}

/// All that is due in blocks of 512 that name their response, one of each in turn.
fn interleaved(due: &[(Response, &[u8])], misbehaviour: Misbehaviour) -> Vec<u8> {
    let mut rests: Vec<_> = due.to_vec();
    let mut out = Vec::new();
    let mut turn = 0;
    while rests.iter().any(|(_, rest)| !rest.is_empty()) {
        for (response, rest) in rests.iter_mut().filter(|(_, rest)| !rest.is_empty()) {
            let (piece, later) = rest.split_at(rest.len().min(507));
            *rest = later;
            let mut block = vec![response.id().archive];
            let bit = if response.prefetch_bit() { 0x8000_0000 } else { 0 };
            block.extend((response.id().group | bit).to_be_bytes());
            block.extend(piece);
            if misbehaviour == Misbehaviour::InterleavesWrongly && turn == 1 {
                block[5] ^= 1;
            }
            append_keyed(&mut out, &block, response.key());
        }
        turn += 1;
    }
    out
}

/// The null server as a process of its own; it ends with the test.
pub(crate) struct NullServer {
    pub(crate) address: String,
    pub(crate) process: Child,
}

impl NullServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let arguments = [&["null-server", "--listen", "127.0.0.1:0"], options].concat();
        let mut process = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { address, process }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        self.process.kill().expect("it runs until now");
        self.process.wait().expect("it has ended");
    }
}

/// Runs the program; its output and its exit code.
pub(crate) fn loadgen(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program starts")
}

/// The program, with a memory of no other run.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_js5-loadgen"));
    command.args(arguments).env("XDG_CACHE_HOME", "/nonexistent");
    command
}

/// Holds the exit code, and shows everything if it is another.
#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "\n--- standard output\n{}\n--- standard error\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Runs a load with its result as JSON.
#[track_caller]
pub(crate) fn run_json(arguments: &[&str], code: i32) -> serde_json::Value {
    let mut all = arguments.to_vec();
    all.extend(["--json", "-"]);
    let output = loadgen(&all);
    assert_exit(&output, code);
    serde_json::from_slice(&output.stdout).expect("the result is JSON")
}

/// js5d itself, as a process of its own; it ends with the test.
pub(crate) struct Js5d {
    pub(crate) address: String,
    _process: Serving,
}

impl Js5d {
    /// Serves with these options, on a port of its own.
    pub(crate) fn start(options: &[&str]) -> Self {
        let own = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let process = Serving::start(Command::new(js5d_program()).args(own).args(options));
        let process = process.unwrap_or_else(|error| panic!("js5d {options:?}: {error}"));
        Self { address: process.address().to_string(), _process: process }
    }

    /// Runs one of its commands; what it prints.
    pub(crate) fn run(arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(js5d_program()).args(arguments).output().expect("it was built");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// The program of js5d, which cargo knows to be another package's: it is built where it would be.
fn js5d_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_js5-loadgen")).parent().expect("a directory");
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => "dev",
            Some(name) => name,
        };
        // Under the name of the target that cargo builds for, if the environment says which.
        let above = 1 + usize::from(env::var_os("CARGO_BUILD_TARGET").is_some());
        let target = directory.ancestors().nth(above).expect("a target directory");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", "js5d"])
            .args(["--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "js5d cannot be built");
        directory.join("js5d")
    })
}
