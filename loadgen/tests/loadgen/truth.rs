//! No verdict is false: which side was late, which side stood still, what was due.
//!
//! The machine that runs these may be busy, and then the generator says of itself that it was late
//! or starved: exit code 5. That is the truth, too, so where the server is in order both 0 and 5
//! pass; what must not come is a word against the server.

use super::support::{Misbehaviour, NullServer, ReferenceServer, command, run_json};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Runs a load; the exit code, and the result.
fn run(arguments: &[&str]) -> (Option<i32>, Value) {
    finish(begin(arguments))
}

fn begin(arguments: &[&str]) -> Child {
    let all = [arguments, &["--json", "-", "--quiet"]].concat();
    command(&all).stdout(Stdio::piped()).spawn().expect("the program starts")
}

fn finish(run: Child) -> (Option<i32>, Value) {
    let output = run.wait_with_output().expect("the program ends");
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("a result"))
}

fn limit(result: &Value) -> &str {
    result["verdict"]["limit"].as_str().expect("a verdict")
}

/// Stops a process for a while.
fn stop(process: &Child, after: Duration, length: Duration) {
    let pid = Pid::from_child(process);
    sleep(after);
    kill_process(pid, Signal::STOP).expect("it runs");
    sleep(length);
    kill_process(pid, Signal::CONT).expect("it is there");
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn clients_that_never_ask_do_not_make_a_server_look_slow() {
    let server = NullServer::start(&[]);
    for mix in ["hostile=1,play=9", "idle=5,play=5"] {
        let load = ["-c", "20", "-r", "500", "-d", "1s", "--warmup", "200ms"];
        let (code, result) = run(&[&["run", &server.address, "--mix", mix][..], &load].concat());
        assert!(matches!(code, Some(0 | 5)), "{mix}: {code:?}, {}", result["verdict"]);
        assert!(["rate-limited", "generator-limited"].contains(&limit(&result)), "{mix}");
        let sent = result["verdict"]["evidence"]["sent_share"].as_f64().unwrap();
        assert!(code != Some(0) || sent > 0.98, "{mix}: {sent} of the rate was sent");
    }
}

#[test]
fn a_server_that_stands_still_is_found_whatever_the_stall_timeout() {
    let server = ReferenceServer::start(Misbehaviour::StopsAnswering);
    let load = ["-c", "4", "-d", "2s", "--stall-timeout", "60s"];
    let result = run_json(&[&["run", &server.address.to_string()][..], &load].concat(), 3);
    assert_eq!(result["stats"]["stalls"], 4, "{}", result["verdict"]);
    assert_eq!(limit(&result), "server-stalled");
    assert!(result["verdict"]["reason"].as_str().unwrap().contains("the server stood still"));
}

#[test]
fn a_server_that_is_slow_for_all_of_its_clients_does_not_stand_still() {
    // Ten answers a second for twenty clients: each waits for two of the three seconds.
    let server = NullServer::start(&["--rate", "10"]);
    let load = ["-c", "20", "--urgent", "1", "--prefetch", "0", "-d", "3s"];
    let (code, result) = run(&[&["run", &server.address][..], &load].concat());
    assert_eq!((code, &result["stats"]["stalls"]), (Some(0), &0.into()), "{}", result["verdict"]);
}

#[test]
fn a_generator_that_was_stopped_accuses_itself() {
    let server = NullServer::start(&[]);
    let open = ["-r", "2000", "-d", "3s"];
    // A closed loop promises nothing, unless there is an assertion.
    let closed = ["-d", "3s", "--assert", "errors=0"];
    for load in [&open[..], &closed] {
        // The server's stall timeout is shorter than the stop: it must not be accused.
        let all = [&["run", &server.address, "-c", "4", "--stall-timeout", "1s"], load].concat();
        let generator = begin(&all);
        stop(&generator, ms(1000), ms(1500));
        let (code, result) = finish(generator);
        assert_eq!((code, limit(&result)), (Some(5), "generator-limited"), "{}", result["verdict"]);
        let paused = result["stats"]["paused_max_ns"].as_u64().unwrap();
        assert!((1_000_000_000..2_500_000_000).contains(&paused), "{paused}");
    }
}

#[test]
fn a_server_that_was_stopped_is_not_the_generators_fault() {
    // For a third of the run: its clients feel it, and it goes on.
    let server = NullServer::start(&[]);
    let load = ["run", &server.address, "-c", "4", "-r", "1000", "-d", "3s"];
    let generator = begin(&load);
    stop(&server.process, ms(800), ms(1000));
    let (code, result) = finish(generator);
    assert!(matches!(code, Some(0 | 5)), "{code:?}: {}", result["verdict"]);
    let p99 = result["stats"]["times"]["urgent.response"]["p99_us"].as_f64().unwrap();
    assert!(p99 > 800_000.0, "a third of the requests waited: p99 {p99} us");
    let lag = result["verdict"]["evidence"]["lag_p99_us"].as_f64().unwrap();
    assert!(lag < 0.5 * p99, "the lag is the generator's own: {lag} of {p99} us");
    // For most of it: that is a finding, though the stall timeout is 5 s.
    let generator = begin(&load);
    stop(&server.process, ms(600), ms(2000));
    let (code, result) = finish(generator);
    assert_eq!(code, Some(3), "{}", result["verdict"]);
    assert_eq!(result["stats"]["stalls"], 4);
}

#[test]
fn what_was_due_while_the_server_was_away_is_counted_as_late() {
    // Each connection is cut after 25 answers, and its client comes back after the end of the run.
    let server = ReferenceServer::start(Misbehaviour::CutsOff);
    let address = server.address.to_string();
    let load = ["-c", "2", "-r", "200", "-d", "2s", "--prefetch", "0", "--retry", "60s"];
    let (code, result) = run(&[&["run", &address][..], &load].concat());
    assert_eq!(code, Some(5), "the rate was not reached: {}", result["verdict"]);
    let (stats, offered) = (&result["stats"], result["offered"].as_u64().unwrap());
    assert!((380..=440).contains(&offered), "200 a second for 2 s: {offered}");
    let answered = stats["responses"]["urgent"].as_u64().unwrap();
    let counted = stats["times"]["urgent.response"]["count"].as_u64().unwrap();
    assert!(answered <= 60, "two connections of 25 answers: {answered}");
    assert_eq!(counted, offered, "each that was due has a time");
    let p90 = stats["times"]["urgent.response"]["p90_us"].as_f64().unwrap();
    assert!(p90 > 1_000_000.0, "most waited for more than a second: p90 {p90} us");
}

#[test]
fn what_a_lost_connection_owed_keeps_its_first_due_time() {
    // Cut every 25 answers; 300 ms pass before the client is back and asks again.
    let server = ReferenceServer::start(Misbehaviour::CutsOff);
    let address = server.address.to_string();
    let load = ["-c", "1", "-r", "400", "-d", "1500ms", "--retry", "300ms", "--resume"];
    let (_, result) = run(&[&["run", &address][..], &load, &["--prefetch", "0"]].concat());
    let stats = &result["stats"];
    // A server that closes with requests unread resets.
    let ended = |outcome| stats["outcomes"][outcome].as_u64().unwrap_or(0);
    assert!(ended("cut") + ended("reset") >= 2, "{}", stats["outcomes"]);
    let offered = result["offered"].as_u64().unwrap();
    assert_eq!(stats["times"]["urgent.response"]["count"].as_u64(), Some(offered));
    let median = stats["times"]["urgent.response"]["p50_us"].as_f64().unwrap();
    assert!(median > 200_000.0, "the outages are in the times: median {median} us");
}

#[test]
fn a_rate_that_the_server_does_not_reach_is_invalid_and_its_doing() {
    let server = NullServer::start(&["--rate", "500"]);
    let load = ["-c", "2", "-r", "2000", "-d", "1500ms"];
    let (code, result) = run(&[&["run", &server.address][..], &load].concat());
    assert_eq!(code, Some(5), "{}", result["verdict"]);
    assert!(["server-limited", "generator-limited"].contains(&limit(&result)));
    let sent = result["verdict"]["evidence"]["sent_share"].as_f64().unwrap();
    assert!(sent < 0.5, "500 of 2,000, and the windows: {sent}");
}

#[test]
fn a_replay_is_an_open_loop_and_judged_as_one() {
    let server = NullServer::start(&["--rate", "200"]);
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    // 1,000 requests within a second, and a duration of two: 400 are answered.
    let line = |i: u64| format!("{} {} u 0/{}\n", i * 1000, i % 4, i % 100);
    std::fs::write(&trace, (0..1000).map(line).collect::<String>()).unwrap();
    let trace = trace.display().to_string();
    let (code, result) = run(&["replay", &server.address, "--from", &trace, "-d", "2s"]);
    assert_eq!(result["offered"], 1000, "{}", result["verdict"]);
    assert_eq!(result["stats"]["times"]["urgent.response"]["count"], 1000);
    assert!(matches!(code, Some(0 | 5)), "{}", result["verdict"]);
    // It knows how much of the trace was sent, and so does its verdict.
    assert_eq!(result["verdict"]["evidence"]["sent_share"], 1.0);
    assert!(["rate-limited", "generator-limited"].contains(&limit(&result)));
    // A stopped generator replays late.
    let generator = begin(&["replay", &server.address, "--from", &trace, "-d", "2s"]);
    stop(&generator, ms(400), ms(900));
    let (code, result) = finish(generator);
    assert_eq!((code, limit(&result)), (Some(5), "generator-limited"), "{}", result["verdict"]);
}

#[test]
fn find_max_finds_a_limit_that_is_known() {
    let server = NullServer::start(&["--rate", "1500"]);
    let search = ["--rate-min", "500", "--rate-max", "6k", "--steps", "3", "--step", "1s"];
    // Windows that hold what a busy machine delays.
    let load = ["-c", "20", "--prefetch", "0", "--urgent", "40"];
    let (code, result) = run(&[&["find-max", &server.address][..], &search, &load].concat());
    let steps = &result["steps"];
    let bound = result["found"]["high_per_s"].as_f64();
    // On a machine that is too busy to ask nothing may be said of the server's bound; and a server
    // that has no core is slower than it was set to be, but never faster.
    assert!(code == Some(0) || code == Some(5) && bound.is_none(), "{code:?}: {steps}");
    let rate = result["found"]["rate_per_s"].as_f64().unwrap_or(0.0);
    assert!(rate < 1650.0, "{rate}: {steps}");
    let spoilt = steps.as_array().unwrap().iter().any(|step| step["is_valid"] == false);
    if let (Some(bound), false) = (bound, spoilt) {
        let low = result["found"]["low_per_s"].as_f64().unwrap();
        assert!(rate > 1350.0 && low <= 1515.0 && bound >= 1485.0, "{low} to {bound}: {steps}");
    }
}
