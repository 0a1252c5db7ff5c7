//! The server under a supervisor such as systemd: sockets that are there before it, what it tells,
//! and the sandbox that it puts itself into.

use crate::support::{Cache, Client, Deployment, Server, eventually, id, js5d_with};
use js5d::protocol::Class;
use rustix::process::Signal;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// A socket that a supervisor keeps.
struct Kept {
    socket: TcpListener,
    address: SocketAddr,
}

impl Kept {
    fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        Self { socket, address }
    }

    fn serve(&self, prepare: &str, options: &[&str]) -> Server {
        let socket = self.socket.try_clone().expect("descriptors are left");
        let server = Server::start_with(socket.into(), prepare, options);
        assert_eq!(server.address, self.address, "the inherited one, not --listen's");
        server
    }
}

/// As systemd does it.
const ACTIVATION: &str = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=js5d.socket";

fn is_answered(server: &Server) {
    let mut client = Client::connect(server, 0);
    client.request([(Class::Urgent, id(255, 255))]);
    assert_eq!(client.receive().id, id(255, 255));
}

#[test]
fn a_restart_on_an_inherited_socket_refuses_nobody() {
    let kept = Kept::new();
    let mut first = kept.serve("", &["--inherit-fds", "3"]);
    is_answered(&first);
    first.stop();
    let mut waiting = TcpStream::connect(kept.address).expect("the socket is there still");
    let mut second = kept.serve(ACTIVATION, &["--workers", "3"]);
    std::io::Write::write_all(&mut waiting, &[15, 0, 0, 2, 38]).expect("connected");
    let mut status = [0xFF];
    std::io::Read::read_exact(&mut waiting, &mut status).expect("answered after the restart");
    assert_eq!(status, [0]);
    (0..6).for_each(|_| is_answered(&second));
    drop(waiting);
    second.stop();
}

#[test]
fn a_listener_that_somebody_shuts_is_named_and_ends_readiness() {
    let kept = Kept::new();
    let server = kept.serve("", &["--inherit-fds", "3", "--admin", "127.0.0.1:0"]);
    let http = crate::support::Http::of(&server);
    eventually("it is ready", || http.get("/readyz").status == 200);
    rustix::net::shutdown(&kept.socket, rustix::net::Shutdown::Both).expect("it listens");
    eventually("it is not ready", || http.get("/readyz").status == 503);
    let reply = http.get("/readyz");
    assert!(reply.body.contains("has lost a listening socket"), "{}", reply.body);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("ERROR")).expect("it says so");
    assert!(line.contains(&kept.address.to_string()), "{line}");
    assert_eq!(http.metrics().value("js5d_listeners_lost"), 1.0);
    assert_eq!(http.metrics().sum("js5d_accept_errors_total"), 1.0, "it is not tried again");
}

#[test]
fn an_inherited_socket_may_be_the_admin_address() {
    let kept = Kept::new();
    let socket = kept.socket.try_clone().expect("descriptors are left");
    let mut server = Server::start_with(socket.into(), "", &["--inherit-fds", "admin=3"]);
    let http = crate::support::Http(kept.address);
    eventually("it is ready", || http.get("/readyz").status == 200);
    server.stop();
}

#[test]
fn what_cannot_be_inherited_is_named() {
    let named = |variables: &[_], options: &[_], code: i32, part: &str| {
        let ended = js5d_with(variables, options);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    };
    named(&[], &["--inherit-fds", "900"], 78, "descriptor 900 cannot be inherited");
    named(&[], &["--inherit-fds", "1"], 64, "a number from 3 on is wanted");
    named(&[("JS5D_INHERIT_FDS", "js5=901")], &[], 78, "descriptor 901");
}

/// Where a supervisor is told how the server does.
struct Supervisor {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Supervisor {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        Self { dir, socket }
    }

    fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.dir.path().join("notify").display())
    }

    /// The next message that has `word`; the others that come before.
    fn hear(&self, word: &str) -> (String, Vec<String>) {
        let mut others = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{word} does not come: {error}; {others:?}");
            });
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.lines().any(|line| line.starts_with(word)) {
                return (text, others);
            }
            others.push(text);
        }
    }
}

#[test]
fn a_supervisor_is_notified_of_start_reload_heartbeats_and_end() {
    let supervisor = Supervisor::new();
    let kept = Kept::new();
    let prepare = format!("{ACTIVATION} WATCHDOG_USEC=200000 {}", supervisor.variable());
    let mut server = kept.serve(&prepare, &["--heartbeat-age-max", "1s"]);
    let (ready, _) = supervisor.hear("READY=1");
    assert!(ready.contains("STATUS=serving "), "{ready}");
    supervisor.hear("WATCHDOG=1");
    supervisor.hear("WATCHDOG=1");

    server.signal(Signal::HUP);
    let (reloading, _) = supervisor.hear("RELOADING=1");
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.is_some_and(|number| number.parse::<u64>().is_ok()), "{reloading}");
    supervisor.hear("READY=1");
    supervisor.hear("WATCHDOG=1");

    server.signal(Signal::TERM);
    supervisor.hear("STOPPING=1");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn a_server_gives_up_rights_that_it_does_not_need() {
    let options = ["--sandbox", "best-effort", "--admin", "127.0.0.1:0"];
    let site =
        Deployment::start(&[("one", &Cache::sample()), ("two", &Cache::reworked())], &options);
    let status =
        fs::read_to_string(format!("/proc/{}/status", site.server.pid())).expect("it runs");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let page = crate::support::Http::of(&site.server).status();
    let note = page["notes"][0]["text"].as_str().expect("a note").to_owned();
    assert!(site.server.log().contains(&note), "{note}");
    site.switch_to("two");
    if !note.starts_with("Landlock and no_new_privs") {
        eprintln!("not shown: this kernel has no Landlock, or an old one: {note}");
        return;
    }
    let elsewhere = tempfile::tempdir().expect("a scratch directory");
    Cache::sample().write_flat(&elsewhere.path().join("three"));
    fs::remove_dir_all(site.path("two")).expect("it is ours");
    std::os::unix::fs::symlink(elsewhere.path().join("three"), site.path("two")).expect("a link");
    let line = site.reload_until("reload failed");
    assert!(line.contains("Permission denied") && line.contains("--sandbox"), "{line}");
}

#[test]
fn without_the_sandbox_everything_stays_as_it_is() {
    let mut server = Server::start(&["--sandbox", "off"]);
    let own = fs::read_to_string("/proc/self/status").expect("we run");
    let line =
        |text: &str| text.lines().find(|line| line.starts_with("NoNewPrivs")).map(String::from);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    assert_eq!(line(&status), line(&own));
    assert!(!server.log().contains("sandbox"), "{}", server.log());
    server.stop();
}
