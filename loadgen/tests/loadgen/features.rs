//! What the program can do, against the reference server.

use super::support::{Misbehaviour, ReferenceServer, assert_exit, command, loadgen, run_json};
use std::process::Stdio;
use std::time::Duration;

fn server() -> (ReferenceServer, String) {
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    (server, address)
}

#[test]
fn two_runs_with_one_seed_ask_for_the_same_groups_in_the_same_order() {
    let (_server, address) = server();
    let directory = tempfile::tempdir().unwrap();
    let asked = |scenario: &str, seed: &str, name: &str| -> Vec<Vec<String>> {
        let path = directory.path().join(name);
        let trace = path.display().to_string();
        let arguments = ["run", &address, "-s", scenario, "-c", "3", "-n", "900", "--seed", seed];
        assert_exit(&loadgen(&[&arguments[..], &["-q", "--trace", &trace]].concat()), 0);
        let mut clients = vec![Vec::new(); 3];
        for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            clients[words[1].parse::<usize>().unwrap()].push(words[3].to_owned());
        }
        clients
    };
    for scenario in ["download", "churn"] {
        let first = asked(scenario, "7", "a");
        assert_eq!(first.iter().map(Vec::len).sum::<usize>(), 900);
        assert_eq!(first, asked(scenario, "7", "b"), "{scenario}");
        assert_ne!(first, asked(scenario, "8", "c"), "{scenario}");
    }
}

#[test]
fn every_scenario_runs_clean_against_a_correct_server() {
    let (_server, address) = server();
    for scenario in ["play", "login-storm", "update-day", "churn", "slow"] {
        let short = ["--think", "50ms", "--prefetch-gap", "10ms", "--read-rate", "200k"];
        let arguments = ["run", &address, "-s", scenario, "-c", "4", "-d", "600ms"];
        let result = run_json(&[&arguments[..], &short].concat(), 0);
        let responses = result["stats"]["responses"]["urgent"].as_u64();
        assert!(responses > Some(0), "{scenario}: {}", result["stats"]["responses"]);
    }
    let idle = ["run", &address, "-s", "idle", "-c", "20", "-d", "600ms", "--keepalive", "100ms"];
    let result = run_json(&idle, 0);
    assert_eq!(result["stats"]["connections_max"], 20);
}

#[test]
fn a_mix_at_a_rate_is_offered_as_asked() {
    let (_server, address) = server();
    let mix = ["run", &address, "--mix", "play=3,churn=1", "-c", "8", "-r", "500", "-d", "600ms"];
    let output = loadgen(&[&mix[..], &["--arrivals", "poisson", "--json", "-"]].concat());
    // On a busy machine the generator says that it was late: that is 5, and is no defect.
    assert!(matches!(output.status.code(), Some(0 | 5)), "{output:?}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["load"]["scenario"], "play=3,churn=1");
    assert_eq!(result["stats"]["faults"], serde_json::json!({}));
    let offered = result["offered"].as_u64().unwrap();
    // A generator that gets its core late measures for longer.
    let due = result["measured_ms"].as_u64().unwrap() / 2;
    assert!((due - 15..=due + 30).contains(&offered), "500 a second, {due} due: {offered}");
    let requests = &result["stats"]["requests"];
    let written = requests["urgent"].as_u64().unwrap() + requests["prefetch"].as_u64().unwrap();
    assert!((due * 2 / 3..=due * 4 / 3).contains(&written), "{due} due: {written}");
}

#[test]
fn hostile_clients_do_not_make_a_correct_server_look_wrong() {
    let (_server, address) = server();
    let arguments = ["run", &address, "--mix", "hostile=12,download=1", "-c", "26", "-d", "1500ms"];
    let result = run_json(&[&arguments[..], &["--hold", "300ms"]].concat(), 0);
    let outcomes = &result["stats"]["outcomes"];
    assert!(outcomes["closed-by-client"].as_u64() > Some(0), "{outcomes}");
    assert!(outcomes["closed-by-server"].as_u64() > Some(0), "{outcomes}");
}

#[test]
fn priority_prints_a_ratio_with_its_interval() {
    let (_server, address) = server();
    let arguments = ["run", &address, "-s", "priority", "-c", "2", "-d", "4s"];
    let result = run_json(&arguments, 0);
    assert_eq!(result["comparison"]["kind"], "priority");
    let rows = result["comparison"]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "urgent.service.p50").unwrap();
    let ratio = &row["ratio"];
    assert!(ratio["low"].as_f64() <= ratio["median"].as_f64(), "{row}");
    assert!(ratio["median"].as_f64() <= ratio["high"].as_f64(), "{row}");
}

#[test]
fn a_comparison_with_itself_is_the_noise_floor() {
    let (_server, address) = server();
    let pid = std::process::id().to_string();
    let arguments = ["compare", "--a", &address, "--pid-a", &pid, "--rounds", "3"];
    let result = run_json(&[&arguments[..], &["--interval", "200ms", "-c", "2"]].concat(), 0);
    assert_eq!(result["comparison"]["kind"], "noise-floor");
    let rows = result["comparison"]["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["name"] == "cpu a request" && row["a"].as_f64() > Some(0.0)));
}

#[test]
fn find_max_keeps_every_step() {
    let server = ReferenceServer::start(Misbehaviour::Slow(Duration::from_millis(2)));
    let address = server.address.to_string();
    // Two clients, 2 ms an answer each: 1,000 a second and no more.
    let bounds = ["--rate-min", "50", "--rate-max", "20k", "--steps", "3", "--step", "400ms"];
    let load = ["-c", "2", "--precision", "0.5", "--assert", "urgent.response.p99<60s"];
    let arguments = [&["find-max"][..], &bounds, &load, &[&address, "--json", "-"]].concat();
    let output = loadgen(&arguments);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = result["steps"].as_array().unwrap();
    assert!(steps.len() >= 3, "{steps:?}");
    let fastest = steps.iter().find(|step| step["offered_per_s"] == 20_000.0).unwrap();
    assert_eq!(fastest["holds"], false);
    assert_ne!(fastest["why"], "");
}

#[test]
fn a_trace_is_recorded_and_replayed() {
    let (_server, address) = server();
    let directory = tempfile::tempdir().unwrap();
    let (recorded, replayed) = (directory.path().join("a"), directory.path().join("b"));
    let arguments = ["record", "--listen", "127.0.0.1:0", "--to", &address, "-d", "2s"];
    let mut record = command(&arguments).arg(&recorded).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(record.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let proxy = line.split(' ').nth(1).unwrap().to_owned();
    let run = ["run", &proxy, "-c", "2", "-n", "100", "-q", "--groups", "0/0..20,1/1..9"];
    assert_exit(&loadgen(&run), 0);
    assert!(record.wait().unwrap().success());
    let text = std::fs::read_to_string(&recorded).unwrap();
    assert_eq!(text.lines().count(), 101, "a head and a line a request");
    let (from, trace) = (recorded.display().to_string(), replayed.display().to_string());
    let result = run_json(&["replay", &address, "--from", &from, "--trace", &trace], 0);
    assert_eq!(result["stats"]["warmup_responses"], 0);
    let groups = |text: &str| -> Vec<String> {
        let lines = text.lines().skip(1).map(|line| line.split(' ').nth(3).unwrap().to_owned());
        let mut groups: Vec<String> = lines.collect();
        groups.sort();
        groups
    };
    assert_eq!(groups(&std::fs::read_to_string(&replayed).unwrap()), groups(&text));
}

#[test]
fn processes_share_the_clients_and_results_merge() {
    let (_server, address) = server();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result.json").display().to_string();
    let arguments = ["run", &address, "-c", "6", "-d", "500ms", "--processes", "2", "-q"];
    assert_exit(&loadgen(&[&arguments[..], &["--json", &path]].concat()), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let one: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&one["parts"], &one["load"]["connections"]), (&2.into(), &6.into()));
    assert_eq!(one["stats"]["connections_max"], 6);
    let two = run_json(&["merge", &path, &path], 0);
    let responses = |result: &serde_json::Value| result["stats"]["responses"]["urgent"].as_u64();
    assert_eq!(responses(&two), responses(&one).map(|n| 2 * n));
}

#[test]
fn an_interrupted_run_still_writes_its_report() {
    let (_server, address) = server();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result.json");
    let mut run = command(&["run", &address, "-d", "60s", "-q", "--json"]);
    let mut run = run.arg(&path).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(800));
    let pid = rustix::process::Pid::from_raw(run.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let text = std::fs::read_to_string(&path).unwrap();
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["interrupted"], true);
    assert!(result["stats"]["responses"]["urgent"].as_u64() > Some(0));
}

#[test]
fn a_scenario_file_is_written_and_read_and_options_win() {
    let (_server, address) = server();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evening.toml");
    let load = ["run", &address, "--mix", "play=8,churn=2", "-c", "10..20", "-r", "1k..2k"];
    let printed = loadgen(&[&load[..], &["--think", "1500ms", "--print-scenario"]].concat());
    assert_exit(&printed, 0);
    std::fs::write(&path, &printed.stdout).unwrap();
    let path = path.display().to_string();
    let again = loadgen(&["run", "-f", &path, "--print-scenario"]);
    assert_eq!(again.stdout, printed.stdout);
    let other = loadgen(&["run", "-f", &path, "-s", "idle", "-c", "3", "--print-scenario"]);
    let text = String::from_utf8(other.stdout).unwrap();
    assert!(text.contains("scenario = \"idle\"") && text.contains("connections = \"3\""), "{text}");
    assert!(!text.contains("mix"), "{text}");
    std::fs::write(&path, "conections = 3\n").unwrap();
    assert_exit(&loadgen(&["run", "-f", &path]), 2);
}

#[test]
fn the_percentiles_tell_the_truth_about_a_stall() {
    assert_exit(&loadgen(&["self-test", "--quick"]), 0);
}
