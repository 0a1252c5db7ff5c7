//! Reloading: what changes, what stays, and what is said about it.

use crate::support::{Cache, Client, Deployment, Server, eventually, id};
use js5d::cache::{StoreKind, StoreWriter};
use js5d::protocol::{Class, GroupId, MASTER_INDEX};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A group whose bytes differ between the generations.
const CHANGED: (u8, u32) = (3, 0);

fn changed() -> GroupId {
    id(CHANGED.0, CHANGED.1)
}

fn fetch(client: &mut Client, id: GroupId) -> Vec<u8> {
    client.request([(Class::Urgent, id)]);
    client.receive().container
}

fn fetch_anew(server: &Server, id: GroupId) -> Vec<u8> {
    fetch(&mut Client::connect(server, 0), id)
}

/// Changes one byte in the middle of a group.
fn corrupt(cache: &Path, id: GroupId) {
    let path = cache.join(format!("{}/{}.dat", id.archive, id.group));
    let mut bytes = fs::read(&path).expect("it was written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("writable");
}

#[test]
fn new_connections_get_the_new_cache_and_open_ones_the_old_to_their_end() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &[]);
    let mut open = Client::connect(&site.server, 0);
    let mut busy = Client::connect_slow(&site.server, 0x55);
    busy.request([(Class::Prefetch, changed()), (Class::Urgent, MASTER_INDEX)]);
    site.switch_to("new");
    let mut newer = Client::connect(&site.server, 0);
    for id in [changed(), MASTER_INDEX, id(1, 7)] {
        assert!(old.container(id) != new.container(id), "{id}: the test needs a difference");
        assert!(fetch(&mut open, id) == old.container(id), "{id}");
        assert!(fetch(&mut newer, id) == new.container(id), "{id}");
    }
    for answer in busy.receive_many(2) {
        assert!(answer.container == old.container(answer.id), "{}", answer.id);
    }
}

#[test]
fn whatever_is_wrong_with_the_new_cache_the_old_one_stays() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &[]);
    corrupt(&site.path("new"), id(2, 9));
    fs::create_dir(site.path("empty")).expect("a directory");
    let cases = [
        ("new", &["archive 2, group 9", "CRC-32", "js5d check"][..]),
        ("nowhere", &["nowhere", "demo-cache"]),
        ("empty", &["empty"]),
    ];
    for (name, words) in cases {
        site.point_to(name);
        let line = site.reload_until("reload failed");
        assert!(line.contains("ERROR") && line.contains(" stays: "), "{line}");
        // The link may be named by itself where it leads nowhere.
        let line = line.replace("current", "nowhere");
        for word in words {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
        assert!(fetch_anew(&site.server, changed()) == old.container(changed()), "{name}");
    }
    new.write_flat(&site.path("new"));
    site.switch_to("new");
    assert!(fetch_anew(&site.server, changed()) == new.container(changed()));
}

#[test]
fn a_cache_that_has_not_changed_is_recognised() {
    let cache = Cache::sample();
    let site = Deployment::start(&[("one", &cache), ("other", &cache)], &[]);
    site.reload_until("the cache is unchanged");
    site.point_to("other");
    site.reload_until("the cache is unchanged");
    assert!(fetch_anew(&site.server, changed()) == cache.container(changed()));
}

#[test]
fn going_back_uses_the_generation_that_is_still_in_memory() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &["--generation-timeout", "1s"]);
    let mut open = Client::connect(&site.server, 0);
    site.switch_to("new");
    site.point_to("old");
    let line = site.reload_until("reloaded: ");
    assert!(line.contains(" is back in the place of "), "{line}");
    // It is a connection of the current generation again, and has no deadline as such.
    assert!(!open.hears_within(Duration::from_millis(2500)));
    assert!(fetch(&mut open, changed()) == old.container(changed()));
}

#[test]
fn the_old_cache_is_freed_even_if_no_new_connection_comes() {
    let (old, new) = (Cache::huge(), Cache::sample());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &["--workers", "2"]);
    let held = Client::connect(&site.server, 0);
    site.switch_to("new");
    let both_kb = site.server.resident_kb();
    drop(held);
    // 14 MB of responses, of which the allocator keeps nothing.
    eventually("it is freed", || site.server.resident_kb() + 12_000 < both_kb);
}

#[test]
fn the_demo_cache_has_nothing_to_reload() {
    let server = Server::start(&[]);
    server.signal(Signal::HUP);
    eventually("an answer", || server.log().contains("there is nothing to reload"));
    assert!(!fetch_anew(&server, MASTER_INDEX).is_empty());
}

#[test]
fn the_last_of_several_signals_is_not_lost() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let site = Deployment::start(&[("old", &old), ("new", &new)], &[]);
    for name in ["new", "old", "new", "old", "new"] {
        site.server.signal(Signal::HUP);
        site.point_to(name);
        site.server.signal(Signal::HUP);
        let expected = if name == "new" { &new } else { &old };
        eventually("the last one is served", || {
            fetch_anew(&site.server, changed()) == expected.container(changed())
        });
    }
}

#[test]
fn quiet_connections_come_back_after_the_generation_timeout() {
    let (old, new) = (Cache::sample(), Cache::reworked());
    let options = ["--generation-timeout", "2s"];
    let site = Deployment::start(&[("old", &old), ("new", &new)], &options);
    let mut quiet: Vec<_> = (0..120).map(|_| Client::connect(&site.server, 0)).collect();
    let mut busy = Client::connect(&site.server, 0);
    site.switch_to("new");
    let mut current = Client::connect(&site.server, 0);
    let start = Instant::now();
    let busy = thread::spawn(move || {
        // Never quiet for a second: it is served until twice the time has passed.
        while !busy.hears_within(Duration::from_millis(20)) {
            busy.request([(Class::Urgent, id(1, 1))]);
            // A request may cross the end.
            let Some(answer) = busy.receive_or_end() else { break };
            assert!(answer.container == Cache::sample().container(id(1, 1)));
        }
        assert_eq!(busy.receive_to_end(), []);
        start.elapsed()
    });
    for client in &mut quiet {
        assert_eq!(client.receive_to_end(), [], "an end in good order");
    }
    let waited = start.elapsed();
    assert!((1800..3700).contains(&waited.as_millis()), "{waited:?}");
    let waited = busy.join().expect("served to the end");
    assert!((3700..6000).contains(&waited.as_millis()), "{waited:?}");
    assert!(fetch(&mut current, changed()) == new.container(changed()), "it has no such end");
}

/// A peer in the middle of 9 MB of an earlier generation, which has two more seconds.
fn in_mid_response(site: &Deployment) -> Client {
    let mut slow = Client::connect_slow(&site.server, 0);
    slow.request([(Class::Urgent, id(3, 1)), (Class::Prefetch, id(1, 1))]);
    slow.read_some(1000);
    slow
}

#[test]
fn a_peer_in_mid_response_gets_all_of_it_before_it_is_asked_to_come_back() {
    let (old, new) = (Cache::huge(), Cache::reworked());
    let options = ["--generation-timeout", "1s"];
    let site = Deployment::start(&[("old", &old), ("new", &new)], &options);
    let (mut in_time, mut too_late) = (in_mid_response(&site), in_mid_response(&site));
    site.switch_to("new");
    thread::sleep(Duration::from_millis(2300));
    let answers = in_time.receive_to_end();
    assert_eq!(answers.len(), 2, "what was queued is answered");
    for answer in answers {
        assert!(answer.container == old.container(answer.id), "{}", answer.id);
    }
    thread::sleep(Duration::from_millis(1200));
    let mut rest = Vec::new();
    let ended = too_late.stream.read_to_end(&mut rest);
    assert!(ended.is_err() && rest.len() < 8_000_000, "{ended:?}");
    site.point_to("old");
    let line = site.reload_until("reloaded: ");
    assert!(line.contains(" replaces "), "nobody held it any longer: {line}");
}

#[test]
fn what_connections_hold_is_bounded_in_number_and_memory() {
    let caches = [Cache::sample(), Cache::reworked(), Cache::without_archive_5()];
    let names: Vec<_> = ["a", "b", "c"].into_iter().zip(&caches).collect();
    let site = Deployment::start(&names, &["--generations-max", "2"]);
    let open = Client::connect(&site.server, 0);
    site.switch_to("b");
    site.point_to("c");
    let line = site.reload_until("reload failed");
    assert!(line.contains("2 generations are in memory"), "{line}");
    drop(open);
    eventually("the first one is gone", || {
        site.server.signal(Signal::HUP);
        fetch_anew(&site.server, MASTER_INDEX) == caches[2].container(MASTER_INDEX)
    });

    let site = Deployment::start(&names, &["--generations-memory-max", "20MB"]);
    site.point_to("b");
    let line = site.reload_until("reload failed");
    assert!(line.contains("MB to load") && line.contains("--generations-memory-max"), "{line}");
}

#[test]
fn sigterm_during_a_reload_drains_at_once() {
    let old = Cache::sample();
    let mut site = Deployment::start(&[("old", &old)], &[]);
    let mut writer = StoreWriter::create(&site.path("long"), StoreKind::Dat2).expect("a store");
    for (id, stored) in Cache::reworked().stored() {
        writer.put(id.archive, id.group, &stored).expect("room");
    }
    writer.finish().expect("a store");
    // A hole of 2 GB, which is read like everything else and takes its time.
    let data = File::options().write(true).open(site.path("long/main_file_cache.dat2"));
    data.and_then(|data| data.set_len(2 << 30)).expect("a sparse file");
    site.point_to("long");
    site.reload_until("reloading ");
    assert!(fetch_anew(&site.server, changed()) == old.container(changed()));
    site.server.signal(Signal::TERM);
    let (code, waited) = site.server.wait();
    assert_eq!(code, Some(0));
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    let log = site.server.log();
    assert!(!log.contains("reload failed") && !log.contains("reloaded: "), "too soon: {log}");
}
