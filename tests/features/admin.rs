//! What the admin address shows, compared with what clients did.

use crate::support::{Cache, Client, Deployment, Http, Server, eventually, id, js5d, read_to_end};
use js5d::protocol::Class;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

fn start(options: &[&str]) -> (Server, Http) {
    let server = Server::with_cache(&Cache::sample(), &[&ADMIN, options].concat());
    let http = Http::of(&server);
    (server, http)
}

#[test]
fn each_route_answers_what_it_is_for() {
    let (server, http) = start(&["--workers", "2"]);
    eventually("both workers have begun", || http.get("/readyz").status == 200);
    let ready = server.log();
    let (_, generation) = ready.split_once("generation ").expect("the ready line");
    let generation = &generation[..16];
    let cases = [
        ("/readyz", "text/plain; charset=utf-8", format!("ready: generation {generation}\n")),
        ("/livez", "text/plain; charset=utf-8", "alive: ".to_owned()),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "\njs5d_draining 0\n".to_owned()),
        ("/status.json", "application/json", format!("\"generation\":\"{generation}\"")),
        ("/", "text/html; charset=utf-8", "<title>js5d</title>".to_owned()),
    ];
    for (path, kind, part) in cases {
        let reply = http.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.headers["content-type"], kind, "{path}");
        assert!(reply.body.contains(&part), "{path}: {}", reply.body);
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(reply.headers["content-security-policy"].starts_with("default-src 'none'"));
    }
    let info = format!("js5d_catalog_info{{generation=\"{generation}\"}} 1\n");
    assert!(http.get("/metrics").body.contains(&info));
    assert_eq!(http.get("/nowhere").status, 404);
    assert_eq!(http.get("/reload").status, 405, "a look must not change anything");
    let post = format!("POST /metrics HTTP/1.1\r\nHost: {}\r\n", http.0);
    let reply = http.send(&post, "");
    assert_eq!((reply.status, &reply.headers["allow"][..]), (405, "GET, HEAD"));
    let page = http.get("/").body;
    let is_format = |at| page[at..].starts_with("://www.w3.org/2000/svg");
    assert!(page.match_indices("://").all(|(at, _)| is_format(at)), "nothing from elsewhere");
}

#[test]
fn the_metrics_add_up_with_what_clients_did() {
    let (server, http) = start(&["--workers", "2"]);
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(&server, 0x21)).collect();
    let mut bytes = 0;
    for client in &mut clients {
        client.request((0..40).map(|group| (Class::Urgent, id(1, group))));
        client.request((0..10).map(|group| (Class::Prefetch, id(2, group))));
        client.request([(Class::Urgent, id(4, 0)), (Class::Prefetch, id(1, 9999))]);
        for answer in client.receive_many(50) {
            // Header and container, and a marker before each further block.
            let len = answer.container.len();
            bytes += 2 + len + (512 + len) / 511;
        }
    }
    clients.pop().expect("one").reset();
    let mut stranger = TcpStream::connect(server.address).unwrap();
    stranger.write_all(&[14, 0]).unwrap();
    read_to_end(&mut stranger);
    eventually("all of it is published", || {
        let metrics = http.metrics();
        metrics.sum("js5d_closed_total") == 2.0
            && metrics.value("js5d_connections{state=\"idle\"}") == 3.0
    });
    let metrics = http.metrics();
    for (name, value) in [
        ("js5d_accepted_total", 5.0),
        ("js5d_handshakes_total{status=\"ok\"}", 4.0),
        ("js5d_refused_total{reason=\"server_full\"}", 0.0),
        ("js5d_closed_total{reason=\"by_peer\"}", 1.0),
        ("js5d_closed_total{reason=\"not_js5\"}", 1.0),
        ("js5d_violations_total{kind=\"not_js5\"}", 1.0),
        ("js5d_requests_total{class=\"urgent\"}", 164.0),
        ("js5d_requests_total{class=\"prefetch\"}", 44.0),
        ("js5d_responses_total{class=\"urgent\"}", 160.0),
        ("js5d_responses_total{class=\"prefetch\"}", 40.0),
        ("js5d_unanswered_total{class=\"urgent\"}", 4.0),
        ("js5d_unanswered_total{class=\"prefetch\"}", 4.0),
        ("js5d_missing_groups_total", 8.0),
        ("js5d_rekeys_total", 4.0),
        ("js5d_state_changes_total", 4.0),
        ("js5d_connections_open", 3.0),
        ("js5d_queue_depth{class=\"urgent\"}", 0.0),
        ("js5d_generations_alive", 1.0),
    ] {
        assert_eq!(metrics.value(name), value, "{name}");
    }
    let sent = metrics.value("js5d_sent_bytes_total") as usize;
    assert_eq!(sent, bytes + 4, "and a status byte each");
    assert_eq!(metrics.sum("js5d_response_bytes_total") as usize, bytes);
    let timed = metrics.sum("js5d_request_seconds_count");
    assert!((100.0..=208.0).contains(&timed), "{timed} of 208 are stood for");
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
    assert!(metrics.value("process_cpu_seconds_total") > 0.0);
}

#[test]
fn what_a_slow_peer_leaves_in_the_queue_is_seen_and_gone_with_it() {
    let server = Server::with_cache(&Cache::huge(), &ADMIN);
    let http = Http::of(&server);
    let mut client = Client::connect_slow(&server, 0);
    client.request([(Class::Urgent, id(3, 1))]);
    client.read_some(1000);
    client.request((0..30).map(|group| (Class::Prefetch, id(1, group))));
    let depth = "js5d_queue_depth{class=\"prefetch\"}";
    eventually("they wait", || http.metrics().value(depth) == 30.0);
    let slow = "js5d_connections{state=\"slow\"}";
    eventually("it counts as slow", || http.metrics().value(slow) == 1.0);
    assert_eq!(http.metrics().value("js5d_slow_peers_total"), 1.0);
    client.reset();
    eventually("they do not", || http.metrics().value(depth) == 0.0);
    assert_eq!(http.metrics().value("js5d_unanswered_total{class=\"prefetch\"}"), 30.0);
    let server = Server::with_cache(&Cache::huge(), &ADMIN);
    let http = Http::of(&server);
    let mut client = Client::connect_slow(&server, 0);
    client.request([(Class::Urgent, id(3, 1))]);
    client.read_some(1000);
    let mut messages: Vec<u8> = (0..30).flat_map(|group| [0, 1, 0, group]).collect();
    messages.extend([7, 0, 0, 0]);
    client.stream.write_all(&messages).unwrap();
    eventually("opcode 7 gives them up", || {
        http.metrics().value("js5d_unanswered_total{class=\"prefetch\"}") == 30.0
    });
    assert_eq!(http.metrics().value(depth), 0.0);
}

#[test]
fn while_it_drains_it_is_not_ready_but_alive() {
    let server = Server::with_cache(&Cache::huge(), &ADMIN);
    let http = Http::of(&server);
    let mut client = Client::connect_slow(&server, 0);
    client.request([(Class::Urgent, id(3, 1))]);
    client.read_some(1000);
    eventually("it is ready", || http.get("/readyz").status == 200);
    server.signal(Signal::TERM);
    eventually("it has heard", || server.log().contains("stopping"));
    let reply = http.get("/readyz");
    assert_eq!(reply.status, 503);
    assert!(reply.body.starts_with("not ready: draining"), "{}", reply.body);
    assert_eq!(http.get("/livez").status, 200);
    assert_eq!(http.metrics().value("js5d_draining"), 1.0);
    assert_eq!(http.status()["draining"], true);
    assert_eq!(client.receive_to_end().len(), 1);
}

#[test]
fn another_generation_than_the_expected_one_is_not_ready() {
    let (_server, http) = start(&[]);
    eventually("it is ready", || http.get("/readyz").status == 200);
    let generation = http.status()["generation"].as_str().expect("text").to_owned();
    for (expected, status) in [(&generation[..], 200), ("0123456789abcdef", 503)] {
        let (_server, http) = start(&["--expect-generation", expected]);
        let reply = || http.get("/readyz");
        eventually("it says so", || reply().status == status && !reply().body.contains("starting"));
        assert!(reply().body.contains(&generation) && reply().body.contains(expected));
    }
    let ended = js5d(&["--expect-generation", "9f3c"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
}

#[test]
fn a_process_that_was_stopped_lives_again_and_says_that_it_was_late() {
    let (server, http) = start(&["--heartbeat-age-max", "300ms", "--workers", "2"]);
    eventually("it lives", || http.get("/livez").status == 200);
    let pid = Pid::from_raw(server.pid()).expect("a process");
    kill_process(pid, Signal::STOP).expect("it runs");
    thread::sleep(Duration::from_millis(600));
    kill_process(pid, Signal::CONT).expect("it is there");
    eventually("it lives again", || http.get("/livez").status == 200);
    eventually("each worker was late once", || {
        http.metrics().value("js5d_late_heartbeats_total") >= 2.0
    });
}

#[test]
fn status_is_told_in_lines_and_as_json() {
    let (server, http) = start(&[]);
    let mut client = Client::connect(&server, 0);
    client.request([(Class::Urgent, id(1, 1))]);
    client.receive();
    eventually("it is published", || http.metrics().sum("js5d_responses_total") == 1.0);
    let address = http.0.to_string();
    let ended = js5d(&["status", "--admin", &address]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in
        ["readiness     ready: generation ", "connections   1 idle", "responses     1 urgent"]
    {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    let ended = js5d(&["status", "--json", "--admin", &address]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["metrics"]["js5d_responses_total"]["urgent"], 1.0);
    assert_eq!(json["catalog"]["archives"].as_array().expect("archives").len(), 6);
    drop(server);
    let ended = js5d(&["status", "--admin", &address]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains(&address), "{ended:?}");
}

#[test]
fn the_answer_to_a_reload_says_its_result() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &ADMIN);
    let http = Http::of(&site.server);
    let address = http.0.to_string();
    let reload = || js5d(&["reload", "--admin", &address]);
    let before = http.status()["generation"].as_str().expect("text").to_owned();
    site.point_to("new");
    let ended = reload();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let after = http.status()["generation"].as_str().expect("text").to_owned();
    assert_ne!(before, after);
    let said = format!("generation {after} replaces {before}");
    assert!(ended.stdout.contains(&said), "{ended:?}");
    assert_eq!(reload().code, Some(0), "nothing has changed, and that is no failure");
    fs::write(site.path("new").join("1/7.dat"), "not a group").expect("a file");
    let ended = reload();
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("corrupt"), "{ended:?}");
    assert_eq!(http.status()["generation"], after, "the old content stays");
    let metrics = http.metrics();
    for result in ["changed", "unchanged", "failed"] {
        assert_eq!(metrics.value(&format!("js5d_reloads_total{{result=\"{result}\"}}")), 1.0);
    }
}

#[test]
fn history_is_kept_for_pages_that_come_later() {
    let (server, http) = start(&[]);
    let mut client = Client::connect(&server, 0);
    let mut points = || {
        client.request((0..20).map(|group| (Class::Urgent, id(1, group))));
        client.receive_many(20);
        let status = http.status();
        let rates = &status["history"]["columns"]["js5d_responses_total.urgent"];
        let rates = rates.as_array().cloned().unwrap_or_default();
        rates.iter().filter(|rate| rate.as_f64() > Some(0.0)).count()
    };
    eventually("three seconds with a load are in it", || points() >= 3);
    let last = http.status()["history"]["last"].as_u64().expect("a number");
    let later = http.get(&format!("/status.json?since={}", last + 1000)).body;
    let later: serde_json::Value = serde_json::from_str(&later).expect("JSON");
    assert_eq!(later["history"]["times_ms"], serde_json::json!([]));
}

#[test]
fn scraping_ten_times_a_second_makes_no_heartbeat_late() {
    let (server, http) = start(&[]);
    let mut client = Client::connect(&server, 0);
    let before = http.metrics().value("js5d_late_heartbeats_total");
    let start = Instant::now();
    let mut scrapes = 0;
    while start.elapsed() < Duration::from_secs(3) {
        let next = Instant::now() + Duration::from_millis(100);
        http.metrics();
        scrapes += 1;
        while Instant::now() < next {
            client.request((0..20).map(|group| (Class::Urgent, id(1, group))));
            client.receive_many(20);
        }
    }
    assert!(scrapes >= 20, "{scrapes}");
    let late = http.metrics().value("js5d_late_heartbeats_total") - before;
    // A machine that does other work can make one late by itself.
    assert!(late <= 1.0, "{late} late heartbeats");
}

#[test]
#[ignore = "needs promtool (Debian: the package prometheus); .ci/deep runs it"]
fn promtool_finds_nothing_to_complain_about() {
    let (_server, http) = start(&[]);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("it is installed");
    let metrics = http.get("/metrics").body;
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
