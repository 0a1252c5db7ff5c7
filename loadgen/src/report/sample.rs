//! A result as a real run would give it, for tests and for looking at reports.

use crate::judgement::Judged;
use crate::machine::Environment;
use crate::result::{Load, RunResult};
use crate::stats::{Outcome, Recorder};
use js5d::protocol::Class;

const MS: u64 = 1_000_000;

/// Half a minute at 2,000 requests a second, with a stall of the server, a slow stretch, and a
/// generator that is a little late at times.
pub(crate) fn result() -> RunResult {
    let mut rng = fastrand::Rng::with_seed(550);
    let mut recorder = Recorder::new(0, 1000 * MS);
    recorder.usage(0, 0, 0);
    let (mut cpu_ns, mut queue_ns) = (0, 0);
    for connection in 0..64_u64 {
        recorder.connect(0, 80_000 + connection * 3_000);
        recorder.handshake(90_000, 150_000 + connection * 2_000);
        recorder.outcome(Outcome::StatusOk, 200_000);
    }
    let (count, seconds) = (60_000_u64, 30);
    let mut done_before = 0;
    for i in 0..count {
        let intended = i * seconds * 1000 * MS / count;
        let (class, size) = if i % 3 == 0 { (Class::Urgent, 519) } else { (Class::Prefetch, 2400) };
        if recorder.tick(intended.max(done_before)) {
            recorder.usage(intended, cpu_ns, queue_ns);
        }
        let lag = 2_000 + (1.0 / (rng.f64() + 1e-4)) as u64 * 1_500;
        let stalled_until =
            if (12_000..12_200).contains(&(intended / MS)) { 12_200 * MS } else { 0 };
        let base = if class == Class::Urgent { 55_000.0 } else { 140_000.0 };
        let slow = if (20_000..24_000).contains(&(intended / MS)) { 3.0 } else { 1.0 };
        let tail = base * slow * (1.0 + 0.1 / (rng.f64() + 0.002));
        let written = intended + lag;
        let done = (written.max(stalled_until) + tail as u64).max(done_before);
        // Others wait behind a slow one, but not for all of it: there are 64 connections.
        done_before = done_before.max(done - tail as u64);
        recorder.lag(intended, written);
        recorder.request(class, written);
        recorder.due(intended, 1, true);
        recorder.response(class, intended, written, done, size);
        cpu_ns += 180_000 + if slow > 1.0 { 60_000 } else { rng.u64(..20_000) };
        queue_ns += rng.u64(..6_000);
    }
    recorder.checked(600, 0);
    recorder.usage(seconds * 1000 * MS - MS, cpu_ns, queue_ns);
    let load = Load {
        scenario: "play".to_owned(),
        target: "127.0.0.1:43594".to_owned(),
        connections: 64,
        rate: Some("2000".to_owned()),
        urgent_window: 20,
        prefetch_window: 20,
        seed: 550,
        build: 550,
        client: "rs2-530".to_owned(),
        verification: "framing, and 1 checksum in 100".to_owned(),
        ..Load::default()
    };
    let mut result = RunResult::new(load, recorder.finish(seconds * 1000 * MS), seconds * 1000);
    result.started_unix_ms = 1_764_000_000_000;
    result.warmup_ms = 2000;
    result.offered = Some(count);
    let command = ["js5-loadgen", "run", "--scenario", "play", "--rate", "2000"];
    result.environments = vec![Environment {
        host: "bench-1".to_owned(),
        kernel: "6.18.0".to_owned(),
        cpu: "AMD EPYC 9R14".to_owned(),
        cores_allowed: 2,
        cores: 2,
        memory_bytes: 16_000_000_000,
        version: "0.1.0".to_owned(),
        command: command.map(str::to_owned).to_vec(),
        ..Environment::default()
    }];
    result.compute_rates();
    result
}

/// The same, with three assertions held against it.
pub(crate) fn judged() -> Judged {
    let asserts = ["urgent.response.p99<50ms", "prefetch.response.p99<1s", "errors=0"];
    Judged::of(result(), &asserts.map(|text| text.parse().unwrap()))
}
