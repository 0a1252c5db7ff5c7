//! The sum of memory: connections take what the sum says, and settings that may need more than is
//! allowed are refused.

use crate::support::{
    Cache, Client, Http, Server, driver, eventually, id, js5d, raise_descriptors,
};
use js5d::net::Driver;
use js5d::net::footprint::{
    CONNECTION_BYTES, OUTPUT_COPIED_BYTES, connection_bytes_max, queues_bytes,
};
use js5d::protocol::Class;
use socket2::SockRef;
use std::thread;
use std::time::Duration;

/// Whether a connection was found to take what the sum says, a tenth more, or less: this percentage
/// of it at least.
fn check_from(state: &str, growth_kb: u64, connections: u64, said: u64, least: u64) {
    let found = growth_kb * 1024 / connections;
    let share = found * 100 / said;
    let is_said = (least..=110).contains(&share);
    assert!(is_said, "{state}: {found} bytes a connection, {share} % of the {said} that are said");
    println!("{state}: {found} bytes a connection of the {said} that are said");
}

/// Whether connections without output take what the sum says. With epoll some have a registration,
/// which they keep once the driver has waited to send to them.
fn check_connections(state: &str, growth_kb: u64, connections: u64, pools: u64) {
    let (at_least, said) = (CONNECTION_BYTES + pools, connection_bytes_max(driver()) + pools);
    check_from(state, growth_kb, connections, said, at_least * 90 / said);
}

/// Waits until the memory of `server` stays as it is.
fn settled_kb(server: &Server) -> u64 {
    let mut last = 0;
    eventually("memory settles", || {
        thread::sleep(Duration::from_millis(300));
        server.resident_kb() == std::mem::replace(&mut last, server.resident_kb())
    });
    last
}

fn start(options: &[&str]) -> (Server, Http) {
    raise_descriptors();
    let always = ["--admin", "127.0.0.1:0", "--idle-timeout", "5m", "--send-timeout", "5m"];
    let server = Server::with_cache(&Cache::sample(), &[&always, options].concat());
    let http = Http::of(&server);
    // What the first connections and scrapes leave behind is not theirs.
    drop([Client::connect(&server, 0), Client::connect(&server, 0)]);
    http.metrics();
    eventually("they are gone", || http.metrics().value("js5d_connections_open") == 0.0);
    (server, http)
}

#[test]
fn an_idle_connection_takes_what_the_sum_says_before_and_after_it_was_served() {
    const COUNT: u64 = 3000;
    let (server, http) = start(&[]);
    let before_kb = settled_kb(&server);
    let mut clients: Vec<_> = (0..COUNT).map(|_| Client::connect(&server, 0)).collect();
    let idle = "js5d_connections{state=\"idle\"}";
    eventually("all are idle", || http.metrics().value(idle) == COUNT as f64);
    check_connections("idle", settled_kb(&server).saturating_sub(before_kb), COUNT, 0);
    // What a connection needed while it was served it does not keep.
    for client in &mut clients {
        client.request((0..40).map(|group| (Class::Prefetch, id(1, group))));
    }
    for client in &mut clients {
        client.receive_many(40);
    }
    eventually("all are idle again", || http.metrics().value(idle) == COUNT as f64);
    // The workers' pools have grown meanwhile: outputs and queues that the next batches use.
    const POOLS: u64 = 150 << 10;
    let growth_kb = settled_kb(&server).saturating_sub(before_kb);
    check_connections("served", growth_kb, COUNT, POOLS / COUNT);
    drop(clients);
}

#[test]
fn the_table_of_descriptors_need_not_grow_for_peers() {
    raise_descriptors();
    let server = Server::with_cache(&Cache::sample(), &["--connections-max", "5000"]);
    // Room that this process needs for other tests may come to it by inheritance; it is less.
    assert!(server.descriptor_table() >= 5000, "{}", server.descriptor_table());
}

#[test]
fn a_peer_that_reads_nothing_holds_what_the_sum_says() {
    const COUNT: u64 = 100;
    let (server, http) = start(&["--queue-len-max", "256"]);
    let before_kb = settled_kb(&server);
    // Keyed responses are copied: an output is full of them.
    let clients: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut client = Client::connect(&server, 7);
            SockRef::from(&client.stream).set_recv_buffer_size(64 << 10).expect("a socket");
            let requests = (0..320).map(|place| (Class::Prefetch, id(2, place % 40)));
            client.request(requests);
            // It reads well until it is sent as much at once as any peer, and then no more: what
            // it holds up is a whole output.
            client.receive_many(60);
            client.request((0..300).map(|place| (Class::Urgent, id(2, place % 40))));
            client
        })
        .collect();
    let said = CONNECTION_BYTES + queues_bytes(256) + OUTPUT_COPIED_BYTES;
    let slow = "js5d_connections{state=\"slow\"}";
    eventually("all are held up", || http.metrics().value(slow) == COUNT as f64);
    eventually("queues are full", || {
        let waiting = http.metrics().value("js5d_queue_depth{class=\"prefetch\"}");
        waiting >= (COUNT * 250) as f64
    });
    // What is held up is the batch that was sent when the socket filled, often a shorter one. A
    // client that a busy machine made read late counts as slow and is sent little at once.
    check_from("held up", settled_kb(&server).saturating_sub(before_kb), COUNT, said, 20);
    drop(clients);
}

/// Settings whose worst case is easily computed: the peers' part is 100 of the same.
const SMALL: [&str; 8] = [
    "--connections-max",
    "100",
    "--workers",
    "1",
    "--refusals-max",
    "10",
    "--queue-len-max",
    "200",
];

#[test]
fn check_computes_the_worst_case_and_refuses_more_than_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    Cache::sample().write_flat(dir.path());
    let path = dir.path().to_str().unwrap();
    let check = |more: &[&str]| js5d(&[&["check", "--cache", path], &SMALL[..], more].concat());

    let ended = check(&["--memory-max", "1GB"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let peers = match driver() {
        Driver::Ring => "100 of 88,740 bytes",
        Driver::Epoll => "100 of 89,340 bytes",
    };
    assert!(ended.stdout.contains(peers), "{ended:?}");
    assert!(ended.stdout.contains("--memory-max allows 1,000.0 MB"), "{ended:?}");

    let ended = check(&["--memory-max", "1GB", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let parts = report["memory"]["parts"].as_array().expect("parts").clone();
    let sum = parts.iter().map(|part| {
        part["count"].as_u64().expect("a number") * part["bytes_each"].as_u64().expect("a number")
    });
    let worst = report["memory"]["worst_case_bytes"].as_u64().expect("a number");
    assert_eq!(sum.sum::<u64>(), worst);

    // To the byte: the sum is allowed, a byte less is not.
    let ended = check(&["--memory-max", &format!("{worst}B")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let less = format!("{}B", worst - 1);
    let ended = check(&["--memory-max", &less]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("--memory-max allows"), "{ended:?}");
    assert!(ended.stderr.contains("lower --connections-max to 99, or allow more"), "{ended:?}");
    let followed: Vec<_> = SMALL.iter().map(|&it| if it == "100" { "99" } else { it }).collect();
    let check_fewer = ["check", "--cache", path, "--memory-max", &less];
    let ended = js5d(&[&check_fewer[..], &followed].concat());
    assert_eq!(ended.code, Some(0), "the remedy is one: {ended:?}");
    let ended = check(&["--memory-max", "1MB"]);
    assert!(ended.stderr.contains("everything besides the peers takes"), "{ended:?}");

    let serve = ["--cache", path, "--listen", "127.0.0.1:0", "--memory-max", &less];
    let ended = js5d(&[&serve, &SMALL[..]].concat());
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("lower --connections-max to 99"), "{ended:?}");
}
