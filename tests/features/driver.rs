//! The way to the kernel: the ring where it is allowed, epoll where it is not, and no server
//! without a word about it.

use crate::support::{Cache, Client, Http, Server, id, js5d, to_its_end};
use js5d::protocol::Class;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use testkit::{Denial, deny_ring};

/// Does something where io_uring is denied. The denial is a thread's and what it starts, for good.
fn where_the_ring_is_denied<T: Send>(denial: Denial, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let denied = scope.spawn(|| {
            deny_ring(denial).expect("this kernel has seccomp filters");
            act()
        });
        denied.join().expect("it holds where the ring is denied, too")
    })
}

/// What js5d says of such a denial, and what would mend it. On a host that has switched the ring
/// off, its switch is named first, because a filter that is lifted would not help.
fn reason_and_remedy() -> [&'static str; 2] {
    let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match switch.trim() {
        "" | "0" => ["a seccomp filter forbids io_uring", "--security-opt seccomp"],
        _ => ["io_uring is switched off by kernel.io_uring_disabled", "sysctl -w kernel."],
    }
}

/// Whether a server serves as it should, with that driver.
fn check_serves(server: &Server, driver: &str) {
    let cache = Cache::sample();
    let mut client = Client::connect(server, 7);
    client.request([(Class::Urgent, id(1, 0)), (Class::Prefetch, id(2, 3))]);
    for answer in client.receive_many(2) {
        assert_eq!(answer.container, cache.container(answer.id));
    }
    let http = Http::of(server);
    let named = format!("js5d_driver_info{{driver=\"{driver}\"}}");
    assert_eq!(http.metrics().value(&named), 1.0);
    let status = http.status();
    let notes = status["notes"].as_array().expect("notes");
    let note = notes.iter().find(|note| note["name"] == "driver").expect("one is the driver's");
    assert!(note["text"].as_str().expect("text").starts_with(driver), "{note}");
}

fn start(driver: &str) -> Server {
    Server::with_cache(&Cache::sample(), &["--driver", driver, "--admin", "127.0.0.1:0"])
}

#[test]
fn auto_serves_on_epoll_where_the_ring_is_denied_and_says_why_once() {
    let log = where_the_ring_is_denied(Denial::NotPermitted, || {
        let mut server = start("auto");
        check_serves(&server, "epoll");
        server.stop()
    });
    let lines: Vec<_> = log.lines().filter(|line| line.contains("driver: ")).collect();
    let [line] = lines[..] else { panic!("one line, not {lines:?}") };
    assert!(line.contains("WARN"), "{line}");
    let [reason, remedy] = reason_and_remedy();
    for part in ["epoll", reason, "more CPU", remedy] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// The one test that needs the ring: `.ci/run` leaves it out where it denies it to the others.
#[test]
fn the_ring_is_what_auto_takes_where_it_is_allowed() {
    let mut server = start("auto");
    check_serves(&server, "ring");
    let log = server.stop();
    assert!(log.contains("driver: ring\n") && !log.contains("epoll"), "{log}");
}

#[test]
fn epoll_never_asks_for_a_ring() {
    let log = where_the_ring_is_denied(Denial::Kills, || {
        let mut server = start("epoll");
        check_serves(&server, "epoll");
        server.stop()
    });
    assert!(log.contains("driver: epoll\n") && !log.contains("WARN"), "{log}");
}

#[test]
fn a_server_that_must_have_the_ring_does_not_start_without() {
    let ended = where_the_ring_is_denied(Denial::NotPermitted, || js5d(&["--driver", "ring"]));
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains(reason_and_remedy()[0]), "{ended:?}");
    assert!(ended.stderr.contains("or leave --driver at auto"), "{ended:?}");
}

#[test]
fn check_says_which_driver_serves_here_and_commands_need_none() {
    let dir = tempfile::tempdir().unwrap();
    Cache::sample().write_flat(dir.path());
    let path = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let (cache, to) = (path(dir.path()), path(&dir.path().join("converted")));
    let commands: [&[&str]; 4] = [
        &["check", "--cache", &cache, "--driver", "auto"],
        &["check", "--cache", &cache, "--driver", "auto", "--json"],
        &["crcs", &cache],
        &["convert", &cache, &to, "--format", "dat2"],
    ];
    let run = |denial| where_the_ring_is_denied(denial, || commands.map(js5d));
    let [text, json, crcs, convert] = run(Denial::NotPermitted);
    for ended in [&text, &json, &crcs, &convert] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let line = text.stdout.lines().find(|line| line.starts_with("driver: ")).expect("a line");
    let [reason, _] = reason_and_remedy();
    assert!(line.contains(&format!("epoll: {reason}")), "{line}");
    let report: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(report["driver"], "epoll");
    assert!(report["ring_missing"].as_str().expect("why").contains(reason), "{report}");
    let mut asked = Command::new(env!("CARGO_BIN_EXE_js5d"));
    asked.args(["check", "--cache", &cache, "--driver", "epoll"]);
    let ended = where_the_ring_is_denied(Denial::Kills, || to_its_end(asked));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("driver: epoll\n"), "{ended:?}");
}
