//! `js5d` as a process: started, watched, ended.

use super::{Cache, PATIENCE};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testkit::Serving;

/// A server on a port of its own; killed when it is dropped.
pub(crate) struct Server {
    process: Serving,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `js5d` with these options on a free port, with one worker unless they say else.
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_js5d"));
        command.stdin(Stdio::null());
        Self::run(command, options)
    }

    /// As [`Server::start`], from a shell that first says `prepare` (as `LISTEN_FDS=1`), has
    /// `socket` as descriptor 3, and then becomes `js5d`.
    pub(crate) fn start_with(socket: OwnedFd, prepare: &str, options: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{prepare} exec \"$0\" \"$@\" 3<&0 0</dev/null");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_js5d")]).stdin(Stdio::from(socket));
        Self::run(command, options)
    }

    /// As [`Server::start`], by a command that becomes `js5d` and takes its options.
    pub(crate) fn run(mut command: Command, options: &[&str]) -> Self {
        command.args(options);
        if !options.contains(&"--listen") && !options.contains(&"--listen-proxy") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !options.contains(&"--workers") {
            command.args(["--workers", "1"]);
        }
        let process = Serving::start(&mut command).unwrap_or_else(|error| panic!("{error}"));
        Self { address: process.address(), process }
    }

    /// Writes `cache` as flat files and serves it to clients of any build. The files are gone
    /// when this returns: nothing is read from them later.
    pub(crate) fn with_cache(cache: &Cache, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        cache.write_flat(dir.path());
        let path = dir.path().to_str().expect("a plain path").to_owned();
        let mut all = vec!["--cache", &path];
        if !options.contains(&"--build") {
            all.extend(["--build", "550"]);
        }
        all.extend(options);
        Self::start(&all)
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("it runs");
    }

    /// Stops it, and waits until all of its threads stand.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(self.id()), WaitOptions::UNTRACED);
        assert!(stopped.expect("it is ours").is_some_and(|(_, status)| status.stopped()));
    }

    /// Waits for its end: the exit code, and how long that took.
    pub(crate) fn wait(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let status = self.process.wait().expect("js5d ends");
        (status.code(), start.elapsed())
    }

    /// Asks it to stop, and returns its whole log.
    pub(crate) fn stop(&mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().0, Some(0), "{}", self.log());
        self.log()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.id().as_raw_nonzero().get()
    }

    fn id(&self) -> Pid {
        i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        testkit::descriptors(self.process.pid())
    }

    /// For how many descriptors the kernel has a table.
    pub(crate) fn descriptor_table(&self) -> u64 {
        testkit::descriptor_table(self.process.pid())
    }

    /// Memory of its own that it has touched, in kilobytes.
    pub(crate) fn resident_kb(&self) -> u64 {
        testkit::memory_bytes(self.process.pid()) / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- js5d said:\n{}---", self.log());
        }
    }
}

/// A run of `js5d` that ends by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `js5d` to its end.
pub(crate) fn js5d(arguments: &[&str]) -> Ended {
    js5d_with(&[], arguments)
}

/// The same, with these variables.
pub(crate) fn js5d_with(variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_js5d"));
    command.envs(variables.iter().copied()).args(arguments).stdin(Stdio::null());
    to_its_end(command)
}

/// Runs a command that becomes `js5d` to its end.
pub(crate) fn to_its_end(mut command: Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("js5d starts");
    let pid = Pid::from_child(&child);
    let run = thread::spawn(move || child.wait_with_output().expect("it is ours"));
    let start = Instant::now();
    while !run.is_finished() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    if !run.is_finished() {
        // Not reaped yet, so the number is still its own.
        let _ = kill_process(pid, Signal::KILL);
    }
    let output = run.join().expect("it is waited for");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}
