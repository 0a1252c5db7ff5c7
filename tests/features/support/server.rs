//! `js5d` as a process: started, watched, ended.

use super::{Cache, PATIENCE, eventually};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use testkit::Ending;

/// A server on a port of its own; killed when it is dropped.
pub(crate) struct Server {
    child: Ending,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    collector: Option<JoinHandle<()>>,
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
        command.args(options).stderr(Stdio::piped());
        if !options.contains(&"--listen") && !options.contains(&"--listen-proxy") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !options.contains(&"--workers") {
            command.args(["--workers", "1"]);
        }
        let mut child = Ending(command.spawn().expect("js5d starts"));
        let stderr = child.stderr.take().expect("it was asked for");
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, inbox) = channel();
        let collector = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.lock().unwrap().extend([&line, "\n"]);
                    if testkit::is_ready_line(&line) {
                        // After the first, nothing receives.
                        let _ = ready.send(line);
                    }
                }
            }
        });
        let ready = await_ready(&inbox, &log);
        let address = testkit::ready_address(&ready).expect("an address");
        Self { child, address, log, collector: Some(collector) }
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
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Stops it, and waits until all of its threads stand.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED);
        assert!(stopped.expect("it is ours").is_some_and(|(_, status)| status.stopped()));
    }

    /// Waits for its end: the exit code, and how long that took.
    pub(crate) fn wait(&mut self) -> (Option<i32>, Duration) {
        let mut status = None;
        let waited = eventually("js5d ends", || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        if let Some(collector) = self.collector.take() {
            collector.join().expect("the log is read");
        }
        (status.and_then(|status| status.code()), waited)
    }

    /// Asks it to stop, and returns its whole log.
    pub(crate) fn stop(&mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().0, Some(0), "{}", self.log());
        self.log()
    }

    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        testkit::descriptors(self.child.id())
    }

    /// For how many descriptors the kernel has a table.
    pub(crate) fn descriptor_table(&self) -> u64 {
        testkit::descriptor_table(self.child.id())
    }

    /// Memory of its own that it has touched, in kilobytes.
    pub(crate) fn resident_kb(&self) -> u64 {
        testkit::memory_bytes(self.child.id()) / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- js5d said:\n{}---", self.log());
        }
    }
}

fn await_ready(inbox: &Receiver<String>, log: &Mutex<String>) -> String {
    inbox.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not ready: {}", log.lock().unwrap()))
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
