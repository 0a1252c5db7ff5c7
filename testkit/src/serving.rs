//! A server as a child: started, watched, ended.

use super::Ending;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a start or an end may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that says on its standard error where it serves; killed when it is dropped.
#[derive(Debug)]
pub struct Serving {
    child: Ending,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    collector: Option<JoinHandle<()>>,
}

impl Serving {
    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// It does not start, or ends or says nothing for [`PATIENCE`]: then with what it said.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = Ending(command.stderr(Stdio::piped()).spawn()?);
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, inbox) = channel();
        let collected = Arc::clone(&log);
        let collector = thread::spawn(move || {
            collect(stderr, &collected, |address| {
                // Nobody listens any more after the first.
                let _ = ready.send(address);
            });
        });
        let mut serving =
            Self { child, address: SocketAddr::from(([0; 4], 0)), log, collector: Some(collector) };
        serving.address = inbox.recv_timeout(PATIENCE).map_err(|_| {
            io::Error::other(format!("it does not say where it serves:\n{}", serving.log()))
        })?;
        Ok(serving)
    }

    /// Where it serves; of several addresses the first.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its end. From then on [`Serving::log`] is whole.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if let Some(collector) = self.collector.take() {
                    collector.join().map_err(|_| io::Error::other("the log is not text"))?;
                }
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Keeps what a server says, and tells where it serves when it says so.
fn collect(said: impl Read, log: &Mutex<String>, tell: impl Fn(SocketAddr)) {
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        log.lock().unwrap_or_else(PoisonError::into_inner).extend([&line, "\n"]);
        address_in(&line).into_iter().for_each(&tell);
    }
}

/// The address in `serving …, on 127.0.0.1:43594 with 1 worker; …`: js5d says so when it is ready,
/// and what it is measured beside says `serving on ADDRESS`. Of several addresses the first.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("serving")?;
    let (_, rest) = rest.split_once(" on ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_so_has_the_first_address() {
        let one = "2026-11-26T04:09:21Z  INFO serving 7 groups, on 127.0.0.1:43594 with 1 worker; \
                   at most 50000 peers";
        let two = "serving 7, on 127.0.0.1:1 (PROXY) and [::1]:2 with 2 workers; 9 peers";
        assert_eq!(address_in(one), Some(SocketAddr::from(([127, 0, 0, 1], 43594))));
        assert_eq!(address_in(two), Some(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(address_in("serving on 127.0.0.1:5"), "127.0.0.1:5".parse().ok());
        for other in ["serving nobody", "INFO admin address on 127.0.0.1:9550"] {
            assert_eq!(address_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_server_is_awaited_and_its_last_words_are_kept() {
        let script = "echo serving on 127.0.0.1:5 >&2; echo bye >&2";
        let mut serving = Serving::start(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(serving.address(), "127.0.0.1:5".parse().unwrap());
        assert!(serving.wait().unwrap().success());
        assert_eq!(serving.log(), "serving on 127.0.0.1:5\nbye\n");
        let error = Serving::start(Command::new("sh").args(["-c", "echo no cache >&2"]));
        assert!(error.unwrap_err().to_string().ends_with("no cache\n"));
    }
}
