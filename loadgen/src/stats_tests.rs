//! What the recorder promises.

use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn within(found: u64, expected: u64) -> bool {
    // Three digits of HdrHistogram: one part in a thousand.
    found.abs_diff(expected) * 1000 <= expected
}

#[test]
fn requests_in_flight_at_the_end_are_counted_as_at_least_that_slow() {
    let mut recorder = Recorder::new(0, SECOND);
    recorder.response(Class::Urgent, 0, 0, MS, 300);
    recorder.in_flight_at_end(Class::Urgent, 1000 * MS, 1500 * MS, 4000 * MS);
    recorder.unwritten_at_end(Class::Urgent, 2000 * MS, 4000 * MS, 1);
    let stats = recorder.finish(4 * SECOND);
    assert_eq!((stats.in_flight_at_end.urgent, stats.unwritten_at_end), (2, 1));
    assert_eq!(stats.responses.urgent, 1);
    let response = stats.times(Metric::UrgentResponse).unwrap();
    assert_eq!(response.count(), 3);
    assert!(within(response.max(), 3000 * MS), "{}", response.max());
    let service = stats.times(Metric::UrgentService).unwrap();
    assert_eq!(service.count(), 2);
    assert!(within(service.max(), 2500 * MS), "{}", service.max());
}

#[test]
fn times_beyond_a_minute_are_recorded_as_a_minute_and_counted() {
    let mut recorder = Recorder::new(0, SECOND);
    recorder.download(0, 90 * SECOND);
    recorder.download(0, 59 * SECOND);
    let stats = recorder.finish(100 * SECOND);
    let times = stats.times(Metric::Download).unwrap();
    assert_eq!((times.count(), times.clamped()), (2, 1));
    assert!(within(times.max(), 60 * SECOND), "{}", times.max());
}

#[test]
fn the_warm_up_is_left_out_by_the_time_at_which_requests_were_due() {
    let mut recorder = Recorder::new(10 * SECOND, SECOND);
    recorder.response(Class::Prefetch, 9 * SECOND, 9 * SECOND, 10 * SECOND - 1, 300);
    recorder.response(Class::Prefetch, 9 * SECOND, 9 * SECOND, 10 * SECOND + 1, 300);
    recorder.response(Class::Prefetch, 11 * SECOND, 11 * SECOND, 11 * SECOND + MS, 300);
    let stats = recorder.finish(12 * SECOND);
    assert_eq!((stats.warmup_responses, stats.responses.prefetch), (1, 2));
    assert_eq!(stats.times(Metric::PrefetchResponse).unwrap().count(), 1);
}

#[test]
fn intervals_hold_what_ended_in_them_and_sum_up_to_the_totals() {
    let mut recorder = Recorder::new(0, SECOND);
    recorder.usage(0, 0, 0);
    for i in 0..30_u64 {
        let now = i * SECOND / 10;
        if recorder.tick(now) {
            recorder.usage(now, now / 2, 0);
        }
        recorder.response(Class::Urgent, now, now, now + i * MS, 100);
    }
    recorder.usage(3 * SECOND, 3 * SECOND / 2, 0);
    let stats = recorder.finish(3 * SECOND);
    let counts: Vec<u64> = stats.intervals.iter().map(|i| i.responses.urgent).collect();
    assert_eq!(counts, [10, 10, 10]);
    let cpu: Vec<u64> = stats.intervals.iter().map(|i| i.cpu_ns / MS).collect();
    assert_eq!(cpu, [500, 500, 500]);
    assert_eq!(stats.times(Metric::UrgentResponse).unwrap().count(), 30);
    assert_eq!((stats.responses.urgent, stats.bytes), (30, 3000));
}

#[test]
fn merging_adds_histograms_exactly() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut all = Recorder::new(0, SECOND);
    let mut parts = [Recorder::new(0, SECOND), Recorder::new(0, SECOND)];
    for i in 0..5000_u64 {
        let done = (i + 60) * MS;
        let begun = done - rng.u64(1000..50 * MS);
        all.response(Class::Urgent, begun, begun, done, 10);
        parts[usize::from(rng.bool())].response(Class::Urgent, begun, begun, done, 10);
    }
    let all = all.finish(6 * SECOND);
    let [mut sum, other] = parts.map(|part| part.finish(6 * SECOND));
    sum.merge(&other);
    assert_eq!(sum.times(Metric::UrgentResponse).unwrap().count(), 5000);
    assert!(sum.times == all.times && sum.intervals == all.intervals, "merged is not the sum");
    // And so after a way through a file.
    let text = serde_json::to_string(&sum).unwrap();
    let back: Stats = serde_json::from_str(&text).unwrap();
    assert!(back == sum, "a file changes the result");
}
