//! What cannot be measured is refused before the run, with the reason; and servers that are not
//! what they were taken for are named.

use super::support::{Misbehaviour, ReferenceServer, loadgen};
use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use testkit::{Denial, deny_ring};

/// Ends with this code, and says this on standard error.
#[track_caller]
fn refused(arguments: &[&str], code: i32, words: &str) {
    let output = loadgen(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(stderr.contains(words), "{arguments:?}: {stderr}");
}

#[test]
fn options_without_effect_are_refused() {
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    let run = |more: &[&'static str], code, words| {
        refused(&[&["run", &address], more].concat(), code, words);
    };
    run(&["-c", "0"], 2, "at least one client");
    run(&["-d", "0s"], 2, "--duration 0 ends before anything is measured");
    run(&["-n", "0"], 2, "--requests 0 ends before anything is measured");
    run(
        &["-d", "1s", "--think", "1s"],
        2,
        "--think would have no effect: it belongs to the scenario",
    );
    run(&["-s", "play", "-r", "9", "--think", "1s"], 2, "the scenario play without --rate");
    run(&["--ramp", "1s"], 2, "--ramp would have no effect");
    run(&["--arrivals", "poisson"], 2, "--arrivals would have no effect");
    run(&["-s", "idle", "-r", "100"], 2, "--rate: clients of this scenario do not ask at a rate");
    run(&["-c", "9..2"], 2, "a ramp of connections must rise");
    run(&["-c", "2..9", "--open-rate", "5"], 2, "--open-rate with a ramp");
    run(&["--start-at", "1000000000"], 6, "the common start was");
    run(
        &["-s", "priority", "--warmup", "1s"],
        2,
        "--warmup does not go with the scenario priority",
    );
    run(&["-s", "priority", "--processes", "2"], 2, "--processes does not go with the scenario");
    run(&["-s", "priority", "--trace", "x"], 2, "--trace does not go with the scenario priority");
    run(&["-s", "priority", "--start-at", "+1s"], 2, "--start-at does not go with the scenario");
    let compare = ["compare", "--server", &format!("a={address}")];
    refused(&[&compare[..], &["-d", "1s"]].concat(), 2, "--duration does not go with compare");
    refused(&[&compare[..], &[&address]].concat(), 2, "HOST:PORT does not go with compare");
    refused(&[&compare[..], &["--rounds", "2"]].concat(), 2, "a ratio needs 3 or more");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.toml");
    std::fs::write(&file, "target = \"127.0.0.1:1\"\n").unwrap();
    let file = file.display().to_string();
    refused(&[&compare[..], &["-f", &file]].concat(), 2, "HOST:PORT does not go with compare");
    refused(&["compare", "-c", "2"], 2, "--server");
    refused(&["replay", "--from", "x", "--urgent", "3"], 2, "--urgent does not go with replay");
    refused(&["find-max", &address, "--steps", "1"], 2, "--steps 2 or more");
    refused(&["find-max", &address, "-r", "5"], 2, "--rate does not go with find-max");
    refused(&["replay", "--from", "x", "-c", "3"], 2, "--connections does not go with replay");
    refused(&["merge", "x", "--start-at", "+1s"], 2, "unexpected argument '--start-at'");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere").join("file").display().to_string();
    for option in ["--json", "--hlog", "--html", "--hgrm", "--trace"] {
        refused(&["run", &address, "-d", "60s", option, &nowhere], 6, "No such file or directory");
    }
    // An earlier result stays until there is another, and none is left where there was none.
    let (kept, absent) = (dir.path().join("kept"), dir.path().join("absent"));
    std::fs::write(&kept, "kept").unwrap();
    let names = [&kept, &absent].map(|path| path.display().to_string());
    let files = ["--json", &names[0], "--html", &names[1]];
    refused(&[&["run", &address, "--groups", "x"], &files[..]].concat(), 2, "ARCHIVE/GROUP");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    assert!(!absent.exists());
}

#[test]
fn a_server_that_is_another_one_is_named() {
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    let other = ["run", &address, "-c", "1", "--downloads", "1", "--cache", "demo"];
    refused(&other, 3, "the server does not serve this --cache: ");
    let refuses = ReferenceServer::start(Misbehaviour::Refuses).address.to_string();
    refused(&["run", &refuses, "-c", "1"], 6, "refuses a client of build 550: status 7, full");
    let web = answering(|mut client| drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    refused(&["run", &web.to_string()], 6, "does not speak JS5: status byte 72");
    let silent = answering(|mut client| drop(copy(&mut client, &mut std::io::sink())));
    let silent = ["run", &silent.to_string(), "--stall-timeout", "300ms"];
    refused(&silent, 6, "does not answer a handshake within 300ms");
}

/// A listener that has each connection dealt with on a thread of its own.
fn answering(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer(client));
        }
    });
    address
}

/// The header of version 2 for TCP over IPv4, written by hand: signature, version and command,
/// family and protocol, length, and both ends.
fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
        panic!("loopback of IPv4");
    };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(source.ip().octets());
    header.extend(destination.ip().octets());
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

#[test]
fn clients_announce_themselves_to_a_server_that_demands_it() {
    let server = ReferenceServer::start(Misbehaviour::None).address;
    let proxy = answering(move |mut client: TcpStream| {
        let expected = header(client.peer_addr().unwrap(), client.local_addr().unwrap());
        // No byte more than is judged is waited for: a handshake has five.
        for byte in expected {
            let mut read = [0];
            if client.read_exact(&mut read).is_err() || read != [byte] {
                return;
            }
        }
        let mut upstream = TcpStream::connect(server).unwrap();
        let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            to.shutdown(Shutdown::Both)
        });
        let _ = copy(&mut client, &mut upstream);
        let _ = upstream.shutdown(Shutdown::Both);
    });
    let proxy = proxy.to_string();
    let run = ["run", &proxy, "-c", "3", "--downloads", "1"];
    refused(&run, 6, "wants --proxy-header");
    refused(&[&run[..], &["--proxy-header"]].concat(), 0, "limits");
}

#[test]
fn where_the_ring_is_denied_it_says_that_it_measures_by_nothing_else() {
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    let run = ["run", &address, "--connections", "1", "--duration", "1s"];
    let without: [(&[&str], &str); 3] = [
        (&run, "a worker cannot run: "),
        (&["self-test", "--quick"], "the null server: "),
        (&["null-server", "--listen", "127.0.0.1:0"], "the null server at 127.0.0.1:0: "),
    ];
    thread::scope(|scope| {
        // The denial is this thread's, and for good.
        scope.spawn(|| {
            deny_ring(Denial::NotPermitted).expect("this kernel has seccomp filters");
            for (arguments, cause) in without {
                refused(arguments, 6, cause);
                refused(arguments, 6, "measures through io_uring, and through nothing else");
            }
        });
    });
}
