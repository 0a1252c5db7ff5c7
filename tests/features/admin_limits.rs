//! The bounds of the admin address, and which requests may change something.

use crate::support::{Cache, Http, Reply, Server, eventually, js5d};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

fn start(options: &[&str]) -> (Server, Http) {
    let server =
        Server::with_cache(&Cache::sample(), &[&["--admin", "127.0.0.1:0"], options].concat());
    let http = Http::of(&server);
    (server, http)
}

#[test]
fn a_taken_admin_port_exits_with_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = js5d(&["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains(&format!("--admin {address}")), "{ended:?}");
    assert!(ended.stderr.contains("another port"), "{ended:?}");
    assert!(!ended.stderr.contains("at most"), "before it serves: {ended:?}");
}

#[test]
fn a_unix_socket_is_for_its_owner_and_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    // What a process that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let admin = format!("unix:{}", path.display());
    let mut server = Server::with_cache(&Cache::sample(), &["--admin", &admin]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = || {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        Reply::read(stream)
    };
    eventually("it answers", || ask().status == 200);
    let ended = js5d(&["status", "--admin", &admin]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = js5d(&["--listen", "127.0.0.1:0", "--admin", &admin]);
    assert_eq!(ended.code, Some(71), "it is used: {ended:?}");
    assert_eq!(ask().status, 200, "and goes on");
    server.stop();
    assert!(!path.exists(), "it goes with the server");
    for (admin, code) in [("unix:", 64), ("localhost:9550", 64), ("unix:/no/such/dir/x", 71)] {
        let ended = js5d(&["--listen", "127.0.0.1:0", "--admin", admin]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let (server, http) = start(&["--admin-connections-max", "2", "--admin-timeout", "1s"]);
    let held = [http.connect(), http.connect()];
    let reply = http.get("/livez");
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["content-length"], reply.body.len().to_string());
    assert!(reply.body.contains("too many connections"), "{}", reply.body);
    let start = Instant::now();
    eventually("who sends nothing is gone in time", || http.get("/livez").status == 200);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(held);
    let before = server.descriptors();
    for _ in 0..50 {
        assert_eq!(http.get("/livez").status, 200);
        // The place is free once the server has seen the end.
        thread::sleep(Duration::from_millis(5));
    }
    eventually("nothing is left of them", || server.descriptors() <= before);
}

#[test]
fn a_request_has_bounds_and_a_deadline() {
    let (_server, http) = start(&["--admin-timeout", "500ms"]);
    let long = "x".repeat(9000);
    let many: String = (0..70).map(|n| format!("X-{n}: y\r\n")).collect();
    for (head, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n"), [414, 431]),
        (format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {long}\r\n"), [431, 431]),
        (format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}"), [431, 431]),
        (
            format!("POST /reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 5000\r\n", http.0),
            [413, 413],
        ),
        ("nonsense\r\n".to_owned(), [400, 400]),
    ] {
        let mut stream = http.connect();
        // It may have heard enough before all is written.
        let _ = write!(stream, "{head}Connection: close\r\n\r\n");
        let _ = write!(stream, "{}", if status == [413, 413] { &long[..5000] } else { "" });
        let reply = Reply::read_some(stream);
        assert!(status.contains(&reply.status), "{}: {reply:?}", &head[..40.min(head.len())]);
    }
    let slow: &[&str] = &["", "GET /livez HT", "GET /livez HTTP/1.1\r\nHost: x\r\n"];
    for part in slow {
        let mut stream = http.connect();
        stream.write_all(part.as_bytes()).unwrap();
        let start = Instant::now();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(400), "{part:?}: {waited:?}");
        assert!(waited < Duration::from_secs(3), "{part:?}: {waited:?}");
    }
    let mut stream = http.connect();
    write!(stream, "POST /reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nhalf", http.0)
        .unwrap();
    let reply = Reply::read_some(stream);
    assert_eq!(reply.status, 408, "{reply:?}");
}

#[test]
fn no_page_of_another_site_can_make_it_reload() {
    let (_server, http) = start(&["--admin-host", "cache1.example"]);
    let own = http.0.to_string();
    // 422: its cache is gone, so it was asked to reload.
    let cases = [
        (&own[..], "", false),
        ("localhost:1", "", false),
        ("cache1.example", "", false),
        ("cache2.example", "", true),
        (&own, "Origin: http://evil.example\r\n", true),
        (&own, "Origin: null\r\n", true),
        (&own, "Sec-Fetch-Site: cross-site\r\n", true),
        (&own, "Sec-Fetch-Site: same-origin\r\n", false),
    ];
    for (host, more, is_refused) in cases {
        let reply = http.send(&format!("POST /reload HTTP/1.1\r\nHost: {host}\r\n{more}"), "");
        assert_eq!(reply.status == 403, is_refused, "{host} {more}: {reply:?}");
    }
    let ended = js5d(&["reload", "--admin", &own]);
    assert!(!ended.stderr.contains("refused"), "{ended:?}");
}
