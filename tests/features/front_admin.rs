//! What operators see of what is in front of JS5 and beside it: headers, game connections, caps.

use crate::support::game::{LOGIN, connect, echo, game_server, is_reset, log_in, ping, start};
use crate::support::{Cache, Client, Http, Server, eventually, id, js5d, read_to_end};
use js5d::protocol::Class::{Prefetch, Urgent};
use js5d::protocol::handshake::handshake;
use std::io::{Read, Write};
use std::net::TcpStream;

const ADMIN: [&str; 4] = ["--admin", "127.0.0.1:0", "--log-level", "debug"];

/// A connection that a balancer announces as this address's.
fn announced(server: &Server, address: &str, then: &[u8]) -> TcpStream {
    let mut stream = connect(server);
    let header = format!("PROXY TCP4 {address} 192.0.2.1 55555 43594\r\n");
    stream.write_all(&[header.as_bytes(), then].concat()).expect("js5d reads");
    stream
}

fn read_byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0xEE];
    stream.read_exact(&mut byte).expect("a byte");
    byte[0]
}

/// How much of a limit is used, and the limit.
fn limit(http: Http, name: &str) -> Option<(u64, u64)> {
    let status = http.status();
    let limits = status["limits"].as_array().expect("limits");
    let limit = limits.iter().find(|limit| limit["name"] == name)?;
    limit["used"].as_u64().zip(limit["max"].as_u64())
}

#[test]
fn the_announced_address_is_what_limits_count_and_the_log_names() {
    let limits = ["--connections-per-ip-max", "1", "--openings-max", "64"];
    let options = [&["--listen-proxy", "127.0.0.1:0"], &limits[..], &ADMIN].concat();
    let mut server = Server::with_cache(&Cache::sample(), &options);
    let http = Http::of(&server);
    let mut first = announced(&server, "203.0.113.9", &handshake(550));
    assert_eq!(read_byte(&mut first), 0);
    let mut second = announced(&server, "203.0.113.9", &handshake(550));
    assert_eq!(read_byte(&mut second), 9, "the same client, however it comes");
    let mut other = announced(&server, "203.0.113.10", &handshake(550));
    assert_eq!(read_byte(&mut other), 0, "another client of the same balancer");
    let mut no_header = connect(&server);
    no_header.write_all(&handshake(550)).expect("js5d reads");
    let _ = no_header.read(&mut [0; 1]);
    let mute = connect(&server);
    eventually("it is seen to say nothing", || limit(http, "openings") == Some((1, 64)));
    eventually("the two that are served count as peers, and it does not", || {
        limit(http, "peers").is_some_and(|(used, _)| used == 2)
    });
    let metrics = http.metrics();
    for (name, expected) in [
        ("js5d_proxy_headers_total{kind=\"announced\"}", 3.0),
        ("js5d_refused_total{reason=\"too_many_connections\"}", 1.0),
        ("js5d_closed_total{reason=\"proxy_malformed\"}", 1.0),
        ("js5d_connections{state=\"opening\"}", 1.0),
    ] {
        assert_eq!(metrics.value(name), expected, "{name}");
    }
    let told = js5d(&["status", "--admin", &http.0.to_string()]).stdout;
    assert!(told.lines().any(|line| line.trim_end() == "PROXY headers 3 announced"), "{told}");
    drop((first, second, other, mute));
    let log = server.stop();
    let refusals: Vec<_> = log.lines().filter(|line| line.contains("connection refused")).collect();
    assert_eq!(refusals.len(), 1, "{log}");
    assert!(refusals[0].contains("address=203.0.113.9:55555"), "{refusals:?}");
}

#[test]
fn game_connections_are_shown_while_they_are_open_and_how_they_ended() {
    let limits = ["--game-connections-max", "2"];
    let server = start(game_server(echo), &[&limits[..], &ADMIN].concat());
    let http = Http::of(&server);
    let (mut player, other) = (log_in(&server), log_in(&server));
    ping(&mut player, &[7; 98]);
    let mut late = connect(&server);
    late.write_all(&LOGIN).expect("js5d reads");
    assert!(is_reset(&mut late), "there are two already");
    let value = |name: &str| http.metrics().value(name);
    eventually("the third is counted", || {
        value("js5d_game_closed_total{reason=\"refused\"}") == 1.0
    });
    eventually("all is published", || {
        value("js5d_game_bytes_total{direction=\"to_client\"}") == 102.0
    });
    assert_eq!(value("js5d_game_bytes_total{direction=\"to_server\"}"), 102.0);
    assert_eq!(value("js5d_game_connections"), 2.0);
    assert_eq!(value("js5d_game_accepted_total"), 2.0);
    assert!(value("js5d_game_heartbeat_age_seconds") < 5.0);
    assert_eq!(limit(http, "game connections"), Some((2, 2)));
    eventually("they are no peers", || limit(http, "peers").is_some_and(|(used, _)| used == 0));
    drop((player, other));
    eventually("they have ended", || value("js5d_game_closed_total{reason=\"ended\"}") == 2.0);
    eventually("none is open", || value("js5d_game_connections") == 0.0);
    let told = js5d(&["status", "--admin", &http.0.to_string()]).stdout;
    for words in ["game closed", "2 ended", "1 refused", "game thread", "0 of 2"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_server_with_nothing_in_front_shows_nothing_of_it() {
    let server = Server::with_cache(&Cache::sample(), &ADMIN);
    let http = Http::of(&server);
    let told = js5d(&["status", "--admin", &http.0.to_string()]).stdout;
    for words in ["game", "PROXY", "openings", "waiting"] {
        assert!(!told.contains(words), "{words}: {told}");
    }
    assert!(!http.get("/metrics").body.contains("js5d_game_heartbeat_age_seconds"));
}

#[test]
fn who_waits_for_credit_is_shown_by_the_rank_of_what_comes_next() {
    for cap in ["--egress-max", "--egress-max-per-connection"] {
        let options = [&[cap, "20kB/s"], &ADMIN[..]].concat();
        let server = Server::with_cache(&Cache::sample(), &options);
        let http = Http::of(&server);
        let waiting = |expected: Option<&str>| {
            let metrics = http.metrics();
            let of = |rank: &str| metrics.value(&format!("js5d_credit_waiting{{rank=\"{rank}\"}}"));
            metrics.sum("js5d_credit_waiting") == f64::from(u8::from(expected.is_some()))
                && expected.is_none_or(|rank| of(rank) == 1.0)
        };
        let mut client = Client::connect(&server, 0);
        client.request((0..20).map(|group| (Prefetch, id(2, group))));
        eventually("its prefetch waits", || waiting(Some("prefetch_logged_out")));
        client.request((0..20).map(|group| (Urgent, id(2, group))));
        eventually("what is urgent waits", || waiting(Some("urgent_logged_out")));
        client.log_in(true);
        client.flush();
        eventually("its player is in the game", || waiting(Some("urgent_logged_in")));
        let told = js5d(&["status", "--admin", &http.0.to_string()]).stdout;
        assert!(told.contains("1 urgent_logged_in"), "{told}");
        client.reset();
        eventually("it has gone", || waiting(None));
    }
    // Without a cap no connection waits.
    let server = Server::with_cache(&Cache::sample(), &ADMIN);
    let mut stream = connect(&server);
    stream.write_all(&handshake(550)).expect("js5d reads");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    assert_eq!(read_to_end(&mut stream), [0]);
    assert_eq!(Http::of(&server).metrics().sum("js5d_credit_waiting"), 0.0);
}
