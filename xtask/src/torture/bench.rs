//! What rows are made of: the binaries, a cache, servers, and what `/proc` and the server's own
//! metrics say of them.

use super::Findings;
use crate::compare::Result;
use crate::workspace::cargo;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::process::{kill_process, kill_process_group, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testkit::{Metrics, PATIENCE, Serving};

/// A client of each framing, one that knows no prefetch bit, and one of each handshake: every
/// row about bytes has all of them.
pub(crate) const CLIENTS: [&str; 5] = ["550", "oldschool", "718", "831", "nxt"];

/// Their builds.
pub(crate) const BUILDS_SERVED: &str = "550,223,718,831,926";

/// The build that peers announce which are no load generator's.
const BUILD: u32 = 550;

/// Binaries, and a place for what rows need.
pub(crate) struct Bench {
    pub(crate) js5d: PathBuf,
    pub(crate) loadgen: PathBuf,
    /// A demo cache of 3,000 groups.
    pub(crate) cache: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) quick: bool,
    pub(crate) soak: Duration,
}

/// All that rows run, built before the first of them.
const BUILDS: &[&[&str]] = &[
    &["build", "--package", "js5d", "--package", "js5-loadgen"],
    &["build", "--package", "js5d", "--example", "reliability"],
    &["test", "--package", "js5d", "--lib", "--test", "features", "--no-run"],
];

impl Bench {
    /// Builds the binaries and writes the cache.
    pub(crate) fn new(quick: bool, soak: Duration) -> Result<Self> {
        for build in BUILDS {
            if !cargo().args(*build).arg("--release").status()?.success() {
                return Err(format!("cargo {} failed", build.join(" ")).into());
            }
        }
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        // Beside this program, which cargo has built into the same directory.
        let own = std::env::current_exe()?;
        let bin = own.parent().ok_or("this program has no directory")?;
        let dir = bin.join("torture");
        fs::create_dir_all(&dir)?;
        let cache = dir.join("cache");
        let js5d = bin.join("js5d");
        // One that an earlier build wrote may be another cache.
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
        }
        let mut write = Command::new(&js5d);
        let written = write.arg("demo-cache").arg(&cache).stdout(Stdio::null()).status()?;
        if !written.success() {
            return Err("the demo cache cannot be written".into());
        }
        Ok(Self { js5d, loadgen: bin.join("js5-loadgen"), cache, dir, quick, soak })
    }

    /// So many, or a share of it with `--quick`.
    pub(crate) fn sized(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }

    /// Starts a server of this cache on a free port, with two workers, and waits until it is ready.
    pub(crate) fn serve(&self, options: &[&str]) -> Result<Server> {
        self.serve_cache(&self.cache, options)
    }

    /// The same of another cache.
    pub(crate) fn serve_cache(&self, cache: &Path, options: &[&str]) -> Result<Server> {
        let mut command = Command::new(&self.js5d);
        let admin = self.dir.join(format!("{}.sock", fastrand::u64(..)));
        self.serve_by(&mut command, cache, &admin, "127.0.0.1:0", options)
    }

    /// The same by another command, as one that runs js5d somewhere else.
    pub(crate) fn serve_by(
        &self,
        command: &mut Command,
        cache: &Path,
        admin: &Path,
        listen: &str,
        options: &[&str],
    ) -> Result<Server> {
        // Clients of every framing: whatever a row is about, it has all of them in memory.
        command.arg("--cache").arg(cache).args(["--build", BUILDS_SERVED, "--listen", listen]);
        command.arg("--admin").arg(format!("unix:{}", admin.display()));
        // All peers have one address.
        command.args(["--openings-per-ip-max", "1000000"]);
        if !options.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        let mut command = guarded(command.args(options))?;
        let process = Serving::start(command.stdin(Stdio::null()))?;
        Ok(Server { address: process.address(), process, admin: admin.to_owned() })
    }
}

/// A server of ours; killed when it is dropped.
pub(crate) struct Server {
    process: Serving,
    pub(crate) address: SocketAddr,
    admin: PathBuf,
}

impl Server {
    pub(crate) fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.process.pid())?).ok_or("no process has this id")?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.process.wait()?)
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Its metrics, by name and labels.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        let mut stream = UnixStream::connect(&self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(Metrics::parse(&text))
    }

    /// Waits until there is something.
    pub(crate) fn eventually<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = find(self) {
                return Ok(found);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("never: {what}; {:?}", self.log().lines().last()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a metric has a value that pleases.
    pub(crate) fn await_metric(
        &mut self,
        name: &str,
        pleases: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        self.eventually(name, |server| server.metrics().ok()?.get(name).filter(|&it| pleases(it)))
    }

    pub(crate) fn descriptors(&self) -> usize {
        testkit::descriptors(self.process.pid())
    }

    /// Whether as many are open as before, when the last of them had time to close.
    pub(crate) fn descriptors_back(&self, row: &str, before: usize, findings: &mut Findings) {
        let start = Instant::now();
        while self.descriptors() > before && start.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(50));
        }
        let name = format!("{row}: descriptors, to before");
        findings.at_most(&name, self.descriptors() as f64, before as f64, "");
    }

    /// Memory of its own that it has touched.
    pub(crate) fn memory_bytes(&self) -> u64 {
        testkit::memory_bytes(self.process.pid())
    }

    /// CPU time of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        testkit::cpu(self.process.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.admin);
    }
}

/// The same command as a process that ends with this one, however this one ends.
pub(super) fn guarded(command: &Command) -> Result<Command> {
    let mut guarded = Command::new(std::env::current_exe()?);
    guarded.arg("guarded").arg(command.get_program()).args(command.get_args());
    Ok(guarded)
}

/// Becomes a program that is killed when the thread that started it ends.
pub(crate) fn become_guarded(command: &[OsString]) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, arguments) = command.split_first().ok_or("which program?")?;
    Err(Command::new(program).args(arguments).exec().into())
}

/// Runs a command to its end, with all that it starts: whether it did well, and what it said. One
/// that takes longer is killed.
pub(super) fn output_within(command: &mut Command, time: Duration) -> Result<(bool, String)> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).process_group(0).spawn()?;
    let mut stdout = child.stdout.take().ok_or("no stdout")?;
    let said = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Ok(status),
            None if start.elapsed() > time => {
                kill_process_group(Pid::from_child(&child), Signal::KILL)?;
                child.wait()?;
                break Err(format!("it took longer than {} s", time.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = said.join().map_err(|_| "the reader of what it said panicked")??;
    Ok((status?.success(), text))
}

/// Says hello as the real client does.
pub(crate) fn greet(mut stream: TcpStream) -> Result<(TcpStream, u8)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&handshake())?;
    let mut status = [0xFF];
    stream.read_exact(&mut status)?;
    Ok((stream, status[0]))
}

/// The five bytes.
pub(crate) fn handshake() -> [u8; 5] {
    let [a, b, c, d] = BUILD.to_be_bytes();
    [15, a, b, c, d]
}

/// Whether a program can be called.
pub(crate) fn has_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(name).is_file())
}

/// Whether this is root, with the right to make network namespaces.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
