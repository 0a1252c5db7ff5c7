//! What a judged result promises: its exit code, and the evidence that its verdict is made of.

use super::*;
use crate::result::Load;
use crate::stats::{FaultKind, Recorder};
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
        let judged =
            Judged::of(result, std::slice::from_ref(if is_missed { &missed } else { &held }));
        let case = (wrong, stalled, interrupted, is_late, is_missed);
        assert_eq!(judged.exit_code, expected, "{case:?}: {:?}", judged.verdict);
    }
}

#[test]
fn what_was_counted_becomes_the_evidence() {
    let result = result(|recorder| {
        recorder.due(0, 150, true);
        recorder.due(0, 50, false);
        late(recorder);
        recorder.pause(120 * MS, 900 * MS);
        recorder.usage(0, 0, 0);
        recorder.usage(999 * MS, 800 * MS, 30 * MS);
        recorder.outcome(Outcome::StatusOk, MS);
        recorder.outcome(Outcome::StatusServerFull, MS);
    });
    let result = RunResult { offered: Some(200), ceiling_per_s: Some(400.0), ..result };
    let Judged { verdict, .. } = Judged::of(result, &[]);
    let found = verdict.evidence;
    assert_eq!(found.sent_share, Some(0.75));
    assert!((found.lag_p99_us / 50_000.0 - 1.0).abs() < 0.001, "{found:?}");
    assert!((found.response_p99_us / 2000.0 - 1.0).abs() < 0.001, "{found:?}");
    assert_eq!((found.paused_share, found.cpu_share_max), (0.12, 0.8));
    assert_eq!((found.run_queue_share_max, found.ceiling_share), (0.03, Some(0.5)));
    assert_eq!((found.stalls, found.refused), (0, 0), "one was let in");
}

#[test]
fn several_conditions_at_once_say_that_they_are_several() {
    let conditions = ["urgent.response.p99<3ms", "errors=0"].map(|text| text.parse().unwrap());
    let judged = Judged::of(result(|_| {}), &conditions);
    assert!(judged.verdict.notes.iter().any(|note| note.contains("tested at once: 2")));
    assert!(Judged::of(result(|_| {}), &conditions[..1]).verdict.notes.is_empty());
}
