//! When arrivals are due, and who takes them.

use super::*;
use crate::catalogue::Catalogue;
use crate::cli::LoadOptions;
use crate::engine::plan::Part;
use crate::human::Ramp;
use crate::settings::Settings;
use std::collections::HashMap;
use std::sync::Arc;

const MS: u64 = 1_000_000;

#[test]
fn an_even_pace_is_a_grid() {
    let curve = Curve { rate: Ramp { from: 1000.0, to: 1000.0 }, ramp_s: 0.0, start_ns: 5 };
    assert_eq!(curve.due_ns(0.0), 5);
    assert_eq!(curve.due_ns(2500.0), 2_500_000_005);
}

#[test]
fn due_times_and_arrivals_are_each_others_inverse() {
    for (from, to) in [(0.0, 1000.0), (1000.0, 100.0), (500.0, 500.0)] {
        let curve = Curve { rate: Ramp { from, to }, ramp_s: 4.0, start_ns: 1_000_000_000 };
        for x in [1.0, 100.0, 1500.0, 2500.0, 9000.0] {
            let back = curve.arrivals(curve.due_ns(x));
            assert!((back - x).abs() < 0.01, "{from}..{to}: {x} came back as {back}");
        }
    }
}

/// A plan of 1,000 requests a second by ten clients.
fn plan(mix: &str, threads: u32, prefetch: u32) -> Plan {
    let options = LoadOptions {
        mix: Some(mix.to_owned()),
        rate: Some("1000".parse().unwrap()),
        connections: Some("10".parse().unwrap()),
        prefetch: Some(prefetch),
        threads: Some(threads),
        ..LoadOptions::default()
    };
    let catalogue = Catalogue::new(Vec::new(), Vec::new(), HashMap::new(), 1, 1.0);
    let settings = Settings::new(options).unwrap();
    settings.plan(Arc::new(catalogue), None, Part { index: 0, of: 1 }, false)
}

/// Takes all that is due, by clients that always have room; the times at which it was due.
fn take(arrivals: &mut Arrivals, now_ns: u64) -> Vec<u64> {
    let mut due = Vec::new();
    while let Some(call) = arrivals.call(now_ns) {
        arrivals.taken(&call);
        arrivals.ready(arrivals.lines[call.line].kind, call.class, call.slot, now_ns);
        due.push(call.due_ns);
    }
    due
}

#[test]
fn all_workers_and_classes_together_are_one_even_pace() {
    for (threads, prefetch) in [(1, 0), (1, 20), (2, 0), (2, 20)] {
        let plan = plan("download", threads, prefetch);
        let mut due = Vec::new();
        for worker in 0..threads {
            let mut arrivals = Arrivals::new(&plan, worker);
            for class in [Class::Urgent, Class::Prefetch] {
                arrivals.ready(0, class, 0, 0);
            }
            due.extend(take(&mut arrivals, 19_500_000));
        }
        due.sort_unstable();
        let grid: Vec<u64> = (0..20).map(|i| i * MS).collect();
        assert_eq!(due, grid, "{threads} threads, {prefetch} prefetch: one a millisecond");
    }
}

#[test]
fn clients_that_have_no_share_in_the_pace_take_none_of_it() {
    // Half of the clients are idle or hostile: the whole rate is the others'.
    for mix in ["idle=5,play=5", "hostile=5,play=5"] {
        let mut arrivals = Arrivals::new(&plan(mix, 1, 0), 0);
        arrivals.ready(0, Class::Urgent, 0, 0);
        arrivals.ready(1, Class::Urgent, 5, 0);
        assert_eq!(take(&mut arrivals, 999 * MS).len(), 1000, "{mix}");
    }
}

#[test]
fn what_nobody_can_take_keeps_its_time() {
    let mut arrivals = Arrivals::new(&plan("download", 1, 0), 0);
    assert_eq!(arrivals.call(50 * MS), None);
    let mut held = Vec::new();
    arrivals.unwritten(3 * MS + 1, |_, due_ns, count| held.push((due_ns, count)));
    assert_eq!(held, [0, MS, 2 * MS, 3 * MS].map(|due_ns| (due_ns, 1)));
    arrivals.ready(0, Class::Urgent, 7, 2 * MS);
    assert_eq!(take(&mut arrivals, 2 * MS), [0, MS, 2 * MS]);
}

#[test]
fn lateness_counts_from_when_somebody_could_have_asked() {
    let mut arrivals = Arrivals::new(&plan("download", 1, 0), 0);
    // Due at 0, and no client is ready before 5 ms: the generator is not late.
    arrivals.ready(0, Class::Urgent, 3, 5 * MS);
    let call = arrivals.call(8 * MS).unwrap();
    assert_eq!((call.slot, call.due_ns, call.possible_ns), (3, 0, 5 * MS));
    arrivals.taken(&call);
    // Client 3 was asked and is not ready again: the next waits for client 4.
    assert_eq!(arrivals.call(8 * MS), None);
    arrivals.ready(0, Class::Urgent, 4, 9 * MS);
    arrivals.ready(0, Class::Urgent, 3, 9 * MS);
    let call = arrivals.call(9 * MS).unwrap();
    assert_eq!((call.slot, call.due_ns, call.possible_ns), (4, MS, 9 * MS));
    // A stopped generator finds clients that were ready all along.
    let mut due = take(&mut arrivals, 9 * MS);
    assert_eq!(due.pop(), Some(9 * MS));
    let call = arrivals.call(60 * MS).unwrap();
    assert_eq!((call.due_ns, call.possible_ns), (10 * MS, 10 * MS));
}

#[test]
fn a_call_that_is_not_taken_goes_to_the_next_client() {
    let mut arrivals = Arrivals::new(&plan("download", 1, 0), 0);
    arrivals.ready(0, Class::Urgent, 1, 0);
    arrivals.ready(0, Class::Urgent, 2, 0);
    let first = arrivals.call(0).unwrap();
    let second = arrivals.call(0).unwrap();
    assert_eq!((first.slot, second.slot), (1, 2));
    assert_eq!(first.due_ns, second.due_ns);
}

#[test]
fn nothing_is_due_when_all_have_done_what_they_wanted() {
    let mut arrivals = Arrivals::new(&plan("download", 1, 0), 0);
    for _ in 0..9 {
        arrivals.done(0);
    }
    arrivals.ready(0, Class::Urgent, 1, 0);
    assert_eq!(take(&mut arrivals, 4 * MS).len(), 5);
    arrivals.done(0);
    assert_eq!(arrivals.call(9 * MS), None);
    arrivals.unwritten(9 * MS, |_, _, _| panic!("nothing is owed any more"));
}

#[test]
fn what_was_never_written_is_counted_whole_however_much_it_is() {
    let mut plan = plan("download", 1, 0);
    plan.pace = plan.pace.map(|curve| Curve { rate: Ramp { from: 5e7, to: 5e7 }, ..curve });
    let (mut steps, mut count) = (0, 0);
    Arrivals::new(&plan, 0).unwritten(1000 * MS, |_, _, n| {
        steps += 1;
        count += n;
    });
    assert!(steps <= 100_001 && (49_999_000..=50_001_000).contains(&count), "{steps}, {count}");
}
