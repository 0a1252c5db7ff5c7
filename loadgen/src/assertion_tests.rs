//! The grammar, and what conditions say of a result.

use super::*;
use crate::result::Load;
use crate::stats::Recorder;
use js5d::protocol::Class;

const MS: u64 = 1_000_000;

/// Of 1,000 urgent responses in a second, taking 1 ms to 1 s.
fn result() -> RunResult {
    let mut recorder = Recorder::new(0, 1000 * MS);
    for i in 1..=1000_u64 {
        recorder.request(Class::Urgent, 0);
        recorder.response(Class::Urgent, 0, 0, i * MS, 300);
    }
    let mut result = RunResult::new(Load::default(), recorder.finish(1000 * MS), 1000);
    result.compute_rates();
    result
}

#[test]
fn a_condition_holds_if_the_arithmetic_says_so() {
    let result = result();
    let cases = [
        ("urgent.response.p99<1s", true),
        ("urgent.response.p99 < 980ms", false),
        ("urgent.service.p50<=501ms", true),
        ("urgent.response.max>=1s", true),
        ("urgent.response.mean>499000us", true),
        ("urgent.response.count=1000", true),
        ("urgent.wait.max<1us", true),
        ("errors=0", true),
        ("errors.share<0.1%", true),
        ("faults==0", true),
        ("rate>=1k", true),
        ("rate>2M/s", false),
        ("throughput>=300kB/s", true),
        ("throughput>1.5GB", false),
        ("throughput<8Gbit/s", true),
        ("connections<1", true),
        // Nothing measured, too few samples, no rate offered: nothing is proven.
        ("connect.p99<1s", false),
        ("urgent.response.p99.9<60s", false),
        ("sent>90%", false),
    ];
    for (text, holds) in cases {
        let judged = text.parse::<Assertion>().unwrap().judge(&result);
        assert_eq!(judged.holds, holds, "{text}: measured {}", judged.measured);
    }
    let few = "urgent.response.p999<1s".parse::<Assertion>().unwrap().judge(&result);
    assert_eq!(few.measured, "1,000 samples are too few; 10,000 are needed");
}

#[test]
fn errors_name_the_bad_part_and_the_nearest_right_name() {
    let cases = [
        ("urgent.response.p99", "has no operator"),
        (
            "urgent.p99<20ms",
            "there is no metric \"urgent.p99\"; did you mean \"urgent.response.p99\"",
        ),
        ("urgnt.response.p50<1ms", "did you mean \"urgent.response.p50\""),
        ("eror<1", "did you mean \"errors\""),
        ("conect.p99<1s", "did you mean \"connect.p99\""),
        ("connect.p101<1s", "connect has no statistic \"p101\""),
        ("connect.median<1s", "connect has no statistic \"median\""),
        ("connect.p99<20", "\"20\" is not a time with its unit"),
        ("errors<1ms", "\"1ms\" is not a number"),
        ("throughput>1Gb", "write 1Gbit/s for bits or 1GB/s for bytes"),
        ("throughput>100", "100/s lacks its unit; write it as"),
        ("errors.share<", "\"\" is not a share"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Assertion>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
