//! What a server does wrong is seen, named, and decides the exit code.

use super::support::{Misbehaviour, NullServer, ReferenceServer, assert_exit, loadgen, run_json};
use std::time::Duration;

/// A download by four clients, each byte compared.
fn download(server: &ReferenceServer, more: &[&str], code: i32) -> serde_json::Value {
    let cache = tempfile::tempdir().unwrap();
    server.write_cache(cache.path());
    let (address, cache) = (server.address.to_string(), cache.path().display().to_string());
    let mut arguments = vec!["run", &address, "-c", "4", "--downloads", "1", "--cache", &cache];
    arguments.extend(["--stall-timeout", "1s"]);
    arguments.extend(more);
    run_json(&arguments, code)
}

#[test]
fn a_correct_server_passes_with_every_byte_compared() {
    let server = ReferenceServer::start(Misbehaviour::None);
    let groups = server.containers.len() as u64;
    for key in ["none", "77", "random", "changing"] {
        let result = download(&server, &["--key", key], 0);
        assert_eq!(result["stats"]["bytes_checked"], 4 * groups, "key {key}");
        assert_eq!(result["stats"]["faults"], serde_json::json!({}), "key {key}");
    }
}

#[test]
fn each_fault_is_named_and_gives_exit_3() {
    let cases = [
        (Misbehaviour::WrongByte, "wrong-bytes"),
        (Misbehaviour::WrongMarker, "wrong-marker"),
        (Misbehaviour::WrongClass, "wrong-class"),
        (Misbehaviour::Twice, "duplicate"),
    ];
    for (misbehaviour, name) in cases {
        let server = ReferenceServer::start(misbehaviour);
        let result = download(&server, &[], 3);
        let count = result["stats"]["faults"][name].as_u64().unwrap_or(0);
        assert!(count > 0, "{misbehaviour:?}: {}", result["stats"]["faults"]);
    }
}

#[test]
fn a_server_that_knows_no_keys_is_right_until_a_client_sets_one() {
    let server = ReferenceServer::start(Misbehaviour::IgnoresKeys);
    download(&server, &[], 0);
    for key in ["77", "changing"] {
        let result = download(&server, &["--key", key], 3);
        let faults = &result["stats"]["faults"];
        assert!(faults["wrong-key"].as_u64() > Some(0), "{key}: {faults}");
    }
    let address = server.address.to_string();
    let useless = ["run", &address, "-s", "hostile", "--tricks", "useless", "-c", "2", "-d", "1s"];
    let result = run_json(&useless, 0);
    assert_eq!(result["stats"]["faults"], serde_json::json!({}));
}

#[test]
fn a_server_that_limits_changes_of_the_key_is_not_called_wrong() {
    let server = ReferenceServer::start(Misbehaviour::LimitsKeys);
    let address = server.address.to_string();
    let result = run_json(&["run", &address, "-c", "1", "-d", "2s", "--key", "changing"], 0);
    let responses = result["stats"]["responses"]["urgent"].as_u64();
    assert!(responses > Some(10_500), "too few for the limit: {responses:?}");
    assert_eq!(result["stats"]["faults"], serde_json::json!({}));
}

#[test]
fn a_master_index_that_goes_on_behind_its_entries_is_as_clients_read_it() {
    let server = ReferenceServer::start(Misbehaviour::LongMaster);
    for more in [&[][..], &["--client", "550"]] {
        let result = download(&server, more, 0);
        assert_eq!(result["stats"]["faults"], serde_json::json!({}), "{more:?}");
    }
}

#[test]
fn before_a_run_the_fault_is_named_that_the_server_has() {
    let cases = [
        (
            Misbehaviour::OddCompression,
            " breaks the protocol: 255/255: compression 4 does not exist",
            "Is the server for other clients?",
        ),
        (
            Misbehaviour::WrongVersion,
            "index 255/1: version is 9, the master index says 8",
            "The server's indexes are wrong",
        ),
    ];
    for (misbehaviour, words, remedy) in cases {
        let server = ReferenceServer::start(misbehaviour);
        let output = loadgen(&["run", &server.address.to_string(), "--downloads", "1"]);
        assert_exit(&output, 3);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words) && said.contains(remedy), "{misbehaviour:?}: {said}");
    }
}

#[test]
fn a_wrong_byte_is_found_by_checksum_without_a_cache() {
    let server = ReferenceServer::start(Misbehaviour::WrongByte);
    let address = server.address.to_string();
    let arguments = ["run", &address, "-c", "1", "--downloads", "1", "--crc-every", "1"];
    let result = run_json(&arguments, 3);
    assert!(result["stats"]["faults"]["wrong-crc"].as_u64() > Some(0));
}

#[test]
fn a_server_that_stops_answering_is_named_and_does_not_hang_the_run() {
    let server = ReferenceServer::start(Misbehaviour::StopsAnswering);
    let result = download(&server, &[], 3);
    assert_eq!(result["stats"]["stalls"], 4);
    let detail = &result["stats"]["stall_details"][0];
    let outstanding = detail["outstanding"].as_str().unwrap();
    assert!(outstanding.contains('/'), "what was outstanding is named: {outstanding}");
    assert!(detail["lasted_ms"].as_u64() >= Some(1000));
    assert!(result["stats"]["in_flight_at_end"]["urgent"].as_u64() > Some(0));
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was_and_asks_for_no_group_twice() {
    let server = ReferenceServer::start(Misbehaviour::CutsOff);
    let groups = server.containers.len() as u64;
    let result = download(&server, &["--retry", "1ms", "--resume", "--key", "random"], 0);
    let stats = &result["stats"];
    assert_eq!(stats["bytes_checked"], 4 * groups, "each whole answer came once");
    assert!(stats["outcomes"]["cut"].as_u64() >= Some(4 * 5), "{}", stats["outcomes"]);
    let asked = stats["requests"]["urgent"].as_u64().unwrap();
    let again = asked + stats["requests"]["prefetch"].as_u64().unwrap() - 4 * groups;
    // A window of each class at most for each connection, whatever became of it.
    let cuts = stats["outcomes"]["cut"].as_u64().unwrap();
    let opened = stats["outcomes"]["status-ok"].as_u64().unwrap();
    let bounds = cuts..=40 * opened;
    assert!(bounds.contains(&again), "{again} asked again: {}", stats["outcomes"]);
    assert_eq!(stats["times"]["download"]["count"], 4, "{}", stats["times"]["download"]);
}

#[test]
fn going_on_needs_a_way_back_and_something_to_go_on_with() {
    let run = |more: &[&str]| loadgen(&[&["run", "127.0.0.1:1", "--resume"][..], more].concat());
    assert_exit(&run(&[]), 2);
    assert_exit(&run(&["--retry", "1s", "-s", "play"]), 2);
    assert_exit(&run(&["--retry", "1s", "-s", "login-storm"]), 2);
}

#[test]
fn requests_that_are_lost_after_the_status_are_found_and_settle_avoids_it() {
    let server = ReferenceServer::start(Misbehaviour::LosesEarlyRequests);
    let address = server.address.to_string();
    let base = ["run", &address, "-c", "2", "-n", "40", "--groups", "0/0..9"];
    let mut arguments = base.to_vec();
    arguments.extend(["--stall-timeout", "500ms"]);
    let result = run_json(&arguments, 3);
    let outstanding = result["stats"]["stall_details"][0]["outstanding"].as_str().unwrap();
    assert!(outstanding.contains("--settle"), "{outstanding}");
    let mut arguments = base.to_vec();
    arguments.extend(["--settle", "300ms"]);
    run_json(&arguments, 0);
}

#[test]
fn wrong_bytes_win_over_a_missed_assertion_which_gives_exit_4() {
    let missed = ["--assert", "urgent.response.p99<1us", "--urgent", "1", "--prefetch", "0"];
    let slow = ReferenceServer::start(Misbehaviour::Slow(Duration::from_millis(3)));
    let address = slow.address.to_string();
    let mut arguments = vec!["run", &address, "-c", "1", "-n", "100"];
    arguments.extend(missed);
    run_json(&arguments, 4);
    let wrong = ReferenceServer::start(Misbehaviour::WrongByte);
    download(&wrong, &missed, 3);
}

#[test]
fn a_rate_that_the_generator_cannot_reach_gives_exit_5_and_says_why() {
    let server = NullServer::start(&["--pin", "0"]);
    let address = server.address.clone();
    let arguments = ["run", &address, "-c", "4", "-r", "50M", "-d", "1s", "--urgent", "5000"];
    let output = loadgen(&[&arguments[..], &["--pin", "0", "--prefetch", "0"]].concat());
    assert_exit(&output, 5);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the generator"), "{text}");
}

#[test]
fn a_refusal_and_an_absent_server_are_no_start() {
    let server = ReferenceServer::start(Misbehaviour::Refuses);
    assert_exit(&loadgen(&["run", &server.address.to_string(), "-n", "1"]), 6);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = loadgen(&["run", &nobody.to_string(), "-n", "1"]);
    assert_exit(&output, 6);
    assert!(String::from_utf8_lossy(&output.stderr).contains("listening"));
}
