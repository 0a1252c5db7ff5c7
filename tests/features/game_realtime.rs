//! The priority of the thread that forwards game connections: what is asked for, what is said of
//! it, and that no other thread gets it.

use crate::support::game::{echo, game_server, log_in, start};
use crate::support::{Http, Server, to_its_end};
use js5d::platform::realtime;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

/// As sched(7) numbers them.
const ORDINARY: u32 = 0;
const ROUND_ROBIN: u32 = 2;

/// What is said where it is refused.
const REMEDIES: [&str; 3] = ["LimitRTPRIO=1", "docker run --ulimit rtprio=1", "'ulimit -r 1'"];

/// The scheduling policy of each thread, by its name.
fn policies(server: &Server) -> BTreeMap<String, u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let policy_of = |stat: &str| {
        // `TID (NAME) STATE …`; the policy is field 41, and a name may have blanks in it.
        let (before, after) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        Some((name.to_owned(), after.split(' ').nth(41 - 3)?.parse().ok()?))
    };
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.map(|stat| policy_of(&stat).expect("as Linux writes it")).collect()
}

/// The note of the status page.
fn note(server: &Server) -> Option<String> {
    let page = Http::of(server).status();
    let notes = page["notes"].as_array().expect("notes");
    let found = notes.iter().find(|note| note["name"] == "game priority");
    found.map(|note| note["text"].as_str().expect("text").to_owned())
}

/// Runs `test` with a command that becomes `js5d` without the right to real-time priority: what
/// there is of it is taken from the thread that starts it.
fn without_the_right<T: Send>(test: impl FnOnce(Command) -> T + Send) -> T {
    let body = || {
        // Root's right; other users do not have it, and the call fails.
        let _ = remove_capability_from_bounding_set(CapabilitySet::SYS_NICE);
        let mut command = Command::new("sh");
        let script = "ulimit -r 0; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_js5d")]).stdin(Stdio::null());
        test(command)
    };
    thread::scope(|scope| scope.spawn(body).join().expect("the test holds"))
}

#[test]
fn game_connections_have_real_time_priority_where_it_is_allowed_and_workers_never() {
    let server = start(game_server(echo), &["--workers", "2", "--admin", "127.0.0.1:0"]);
    let may = thread::spawn(realtime::enter).join().expect("it ends");
    drop(log_in(&server));
    let policies = policies(&server);
    let (log, note) = (server.log(), note(&server).expect("a note"));
    if may.is_ok() {
        assert_eq!(policies["game"], ROUND_ROBIN, "{policies:?}");
        assert!(log.contains("game connections: real-time priority\n"), "{log}");
        assert_eq!(note, "real-time");
    } else {
        eprintln!("not shown: real-time priority is refused here: {may:?}");
        assert_eq!(policies["game"], ORDINARY, "{policies:?}");
        assert!(note.starts_with("ordinary: "), "{note}");
    }
    for worker in ["worker-0", "worker-1"] {
        assert_eq!(policies[worker], ORDINARY, "{policies:?}");
    }
    assert!(policies.iter().all(|(name, policy)| name == "game" || *policy == ORDINARY));
}

#[test]
fn real_time_priority_that_is_switched_off_is_not_asked_for() {
    let options = ["--game-realtime", "off", "--admin", "127.0.0.1:0"];
    let server = start(game_server(echo), &options);
    assert_eq!(policies(&server)["game"], ORDINARY);
    assert_eq!(note(&server).as_deref(), Some("ordinary"));
    assert!(!server.log().contains("priority"), "{}", server.log());
}

#[test]
fn without_a_game_server_nothing_asks_for_real_time_priority() {
    let options = ["--game-realtime", "require", "--admin", "127.0.0.1:0"];
    let server = without_the_right(|command| Server::run(command, &options));
    assert_eq!(note(&server), None);
    assert!(!server.log().contains("priority"), "{}", server.log());
}

#[test]
fn a_server_that_is_refused_real_time_priority_serves_and_names_the_remedies() {
    let game = game_server(echo).to_string();
    let options = ["--game-server", &game, "--admin", "127.0.0.1:0"];
    let server = without_the_right(|command| Server::run(command, &options));
    drop(log_in(&server));
    assert_eq!(policies(&server)["game"], ORDINARY);
    let note = note(&server).expect("a note");
    assert!(note.starts_with("ordinary: ") && note.contains("not permitted"), "{note}");
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("priority")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for remedy in REMEDIES {
        assert!(lines[0].contains(remedy), "{}", lines[0]);
    }
}

#[test]
fn a_server_that_must_have_real_time_priority_does_not_start_without() {
    let game = game_server(echo).to_string();
    let options = ["--game-server", &game, "--game-realtime", "require"];
    let ended = without_the_right(|mut command| {
        command.args(options).args(["--listen", "127.0.0.1:0"]);
        to_its_end(command)
    });
    assert_eq!(ended.code, Some(77), "{ended:?}");
    let said = &ended.stderr;
    assert!(said.contains("js5d: game connections get no real-time priority"), "{said}");
    for remedy in REMEDIES.into_iter().chain(["--game-realtime best-effort"]) {
        assert!(said.contains(remedy), "{said}");
    }
}
