//! What a result promises: its exit code, its verdict, its sums.

use super::*;
use crate::stats::{FaultKind, Recorder};
use crate::verdict::Limit;
use js5d::protocol::Class;

const MS: u64 = 1_000_000;

/// A second of 100 responses a class of 2 ms each; `touch` adds what the case is about.
fn result(touch: impl FnOnce(&mut Recorder)) -> RunResult {
    let mut recorder = Recorder::new(0, 100 * MS);
    for i in 0..100_u64 {
        for class in [Class::Urgent, Class::Prefetch] {
            let begun = i * 10 * MS;
            recorder.request(class, begun);
            recorder.response(class, begun, begun, begun + 2 * MS, 300);
        }
    }
    touch(&mut recorder);
    RunResult::new(Load::default(), recorder.finish(1000 * MS), 1000)
}

fn late(recorder: &mut Recorder) {
    for _ in 0..100 {
        recorder.lag(0, 50 * MS);
    }
}

#[test]
fn wrong_bytes_win_over_an_invalid_measurement_and_that_over_a_missed_assertion() {
    let held: Assertion = "urgent.response.p99<3ms".parse().unwrap();
    let missed: Assertion = "urgent.response.p99<1ms".parse().unwrap();
    // Wrong bytes, a stall, interrupted, late, missed: the exit code.
    let cases = [
        (false, false, false, false, false, 0),
        (false, false, false, false, true, 4),
        (false, false, false, true, false, 5),
        (false, false, false, true, true, 5),
        (false, false, true, true, true, 130),
        (true, false, false, false, false, 3),
        (false, true, false, false, false, 3),
        (true, true, true, true, true, 3),
    ];
    for (wrong, stalled, interrupted, is_late, is_missed, expected) in cases {
        let mut result = result(|recorder| {
            if wrong {
                recorder.fault(FaultKind::WrongBytes, 7, 5 * MS, || "2/7".to_owned());
            }
            if stalled {
                recorder.stall(7, 0, 5 * MS, 0, || "urgent 2/7".to_owned());
            }
            if is_late {
                late(recorder);
            }
        });
        result.interrupted = interrupted;
        result.offered = Some(200);
        result.judge(std::slice::from_ref(if is_missed { &missed } else { &held }));
        let case = (wrong, stalled, interrupted, is_late, is_missed);
        assert_eq!(result.exit_code, expected, "{case:?}: {:?}", result.verdict);
    }
}

/// What a case does to the recorder.
type Touch<'a> = &'a dyn Fn(&mut Recorder);

#[test]
fn the_verdict_names_the_side_that_set_the_limit() {
    let busy = |recorder: &mut Recorder| {
        recorder.usage(0, 0, 0);
        recorder.usage(999 * MS, 980 * MS, 0);
    };
    let starved = |recorder: &mut Recorder| {
        recorder.usage(0, 0, 0);
        recorder.usage(999 * MS, 500 * MS, 300 * MS);
    };
    let nothing = |_: &mut Recorder| {};
    // What happened, requests due in an open loop, the limit, whether the result is valid.
    let cases: [(Touch, _, _, _); 7] = [
        (&nothing, None, Limit::Valid, true),
        (&nothing, Some(202), Limit::RateLimited, true),
        (&nothing, Some(400), Limit::ServerLimited, true),
        (&late, Some(200), Limit::GeneratorLimited, false),
        (&busy, Some(400), Limit::GeneratorLimited, false),
        (&starved, Some(200), Limit::GeneratorLimited, false),
        // A closed loop without assertions promises nothing.
        (&busy, None, Limit::GeneratorLimited, true),
    ];
    for (touch, offered, limit, is_valid) in cases {
        let mut result = result(touch);
        result.offered = offered;
        result.judge(&[]);
        let Verdict { limit: found, is_valid: valid, reason, .. } = result.verdict;
        assert_eq!((found, valid), (limit, is_valid), "{offered:?}: {reason}");
    }
}

#[test]
fn results_of_two_machines_add_up_after_a_way_through_files() {
    let file = |host: &str, listen_drops| {
        let mut result = result(|_| {});
        let mut environment = Environment { host: host.to_owned(), ..Environment::default() };
        environment.counters.listen_drops = listen_drops;
        result.environments.push(environment);
        result.offered = Some(200);
        result.judge(&[]);
        RunResult::parse(&serde_json::to_string(&result).unwrap()).unwrap()
    };
    // Two processes of one machine see one kernel.
    let parts = vec![file("a", 3), file("b", 4), file("b", 4)];
    let sum = RunResult::merge(parts).unwrap();
    assert_eq!((sum.parts, sum.offered, sum.stats.responses.urgent), (3, Some(600), 300));
    assert_eq!(sum.rates.responses_per_s, 600.0);
    let drops: Vec<u64> = sum.environments.iter().map(|e| e.counters.listen_drops).collect();
    assert_eq!(drops, [3, 4]);
}

#[test]
fn files_of_another_schema_are_refused_by_name() {
    let error = RunResult::parse(r#"{"schema":"js5-loadgen/2"}"#).unwrap_err().to_string();
    assert!(error.contains("js5-loadgen/2") && error.contains("js5-loadgen/1"), "{error}");
}
