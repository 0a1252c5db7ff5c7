//! A server's status in some lines for people: what `js5d status` prints.

use super::text::{counted, megabytes, thousands};
use serde_json::Value as Json;
use std::fmt::Write;
use std::time::Duration;

/// What a person wants to know first, a line a subject.
pub(super) fn summary(status: &Json) -> String {
    let lines = [state, traffic, front, machinery].map(|part| part(status)).concat();
    let width = lines.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<width$}{value}");
    }
    text
}

type Lines = Vec<(String, String)>;

fn state(status: &Json) -> Lines {
    let up = Duration::from_secs(number(&status["uptime_seconds"]) as u64);
    let up = humantime::format_duration(up);
    let catalog = &status["catalog"];
    let mut lines = vec![
        ("js5d".into(), format!("{}, up {up}", text(&status["version"]))),
        ("readiness".into(), text(&status["readiness"])),
        ("liveness".into(), text(&status["liveness"])),
        (
            "catalog".into(),
            format!(
                "{}, {}, {}",
                counted(whole(&catalog["archive_count"]), "archive"),
                counted(whole(&catalog["groups"]), "group"),
                megabytes(whole(&catalog["bytes"])),
            ),
        ),
    ];
    for limit in each(&status["limits"]) {
        let (used, max) = (thousands(whole(&limit["used"])), thousands(whole(&limit["max"])));
        lines.push((text(&limit["name"]), format!("{used} of {max}")));
    }
    lines
}

fn traffic(status: &Json) -> Lines {
    let metrics = &status["metrics"];
    let mut lines = vec![
        ("connections".into(), by_label(&metrics["js5d_connections"])),
        ("responses".into(), by_label(&metrics["js5d_responses_total"])),
        ("sent".into(), megabytes(whole(&metrics["js5d_sent_bytes_total"]))),
    ];
    for class in ["urgent", "prefetch"] {
        let latency = &status["latency_seconds"][class];
        let bound = |name: &str| latency[name].as_f64().map_or("above 31 s".into(), wait);
        let waits = match latency["p50"].is_null() {
            true => "none timed in the last minute".to_owned(),
            false => format!(
                "p50 {}, p99 {}, p99.9 {} at most, in the last minute",
                bound("p50"),
                bound("p99"),
                bound("p999"),
            ),
        };
        lines.push((format!("{class} wait"), waits));
    }
    lines.push(("refused".into(), by_label(&metrics["js5d_refused_total"])));
    lines.push(("closed".into(), by_label(&metrics["js5d_closed_total"])));
    lines
}

/// What is in front of JS5 and beside it, of a server that has it.
fn front(status: &Json) -> Lines {
    let metrics = &status["metrics"];
    let mut lines = Lines::new();
    if metrics["js5d_egress_max_bytes_per_second"].is_object() {
        lines.push(("waiting".into(), by_label(&metrics["js5d_credit_waiting"])));
    }
    let headers = &metrics["js5d_proxy_headers_total"];
    if each_value(headers).any(|count| count > 0) {
        lines.push(("PROXY headers".into(), by_label(headers)));
    }
    if metrics["js5d_game_heartbeat_age_seconds"].is_number() {
        let bytes = &metrics["js5d_game_bytes_total"];
        let [up, down] = ["to_server", "to_client"].map(|way| megabytes(whole(&bytes[way])));
        lines.push(("game".into(), format!("{up} to the server, {down} to clients")));
        lines.push(("game closed".into(), by_label(&metrics["js5d_game_closed_total"])));
    }
    lines
}

fn machinery(status: &Json) -> Lines {
    let mut lines = Lines::new();
    for worker in each(&status["workers"]) {
        let busy = number(&worker["busy_ratio"]) * 100.0;
        let age = number(&worker["heartbeat_age_seconds"]);
        let how = match worker["ended"].as_bool() {
            Some(true) => "has drained".to_owned(),
            _ => format!("{busy:.0} % busy, heartbeat {age:.2} s ago"),
        };
        lines.push((format!("worker {}", whole(&worker["worker"])), how));
    }
    let game_age = &status["metrics"]["js5d_game_heartbeat_age_seconds"];
    if game_age.is_number() {
        lines.push(("game thread".into(), format!("heartbeat {:.2} s ago", number(game_age))));
    }
    for note in each(&status["notes"]) {
        lines.push((text(&note["name"]), text(&note["text"])));
    }
    lines
}

/// `3 idle, 1 sending`, without what is zero.
fn by_label(values: &Json) -> String {
    let values = values.as_object().into_iter().flatten();
    let some = values.filter(|(_, value)| whole(value) > 0);
    let some: Vec<_> =
        some.map(|(label, value)| format!("{} {label}", thousands(whole(value)))).collect();
    if some.is_empty() { "none".into() } else { some.join(", ") }
}

fn each(values: &Json) -> impl Iterator<Item = &Json> {
    values.as_array().into_iter().flatten()
}

fn each_value(values: &Json) -> impl Iterator<Item = u64> {
    values.as_object().into_iter().flatten().map(|(_, value)| whole(value))
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn number(value: &Json) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn whole(value: &Json) -> u64 {
    number(value) as u64
}

/// `17.8 µs`, `5.62 ms`: three digits, in the unit in which they are easiest to read.
fn wait(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e3, "ms"), (1e6, "µs")];
    // What rounds up to a thousand of a unit is one of the next.
    let fits = |&(factor, _): &(f64, &str)| seconds * factor >= 0.9995;
    let (factor, unit) = units.into_iter().find(fits).unwrap_or((1e9, "ns"));
    let value = seconds * factor;
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_zero_is_left_out() {
        let values = json!({ "idle": 1200.0, "slow": 0.0, "sending": 3.0 });
        assert_eq!(by_label(&values), "1,200 idle, 3 sending");
        assert_eq!(by_label(&json!({ "idle": 0.0 })), "none");
    }

    #[test]
    fn waits_have_three_digits_and_a_unit() {
        for (seconds, text) in [
            (1e-6, "1.00 µs"),
            (0.000_031_6, "31.6 µs"),
            (0.000_999_6, "1.00 ms"),
            (0.316, "316 ms"),
            (31.6, "31.6 s"),
            (0.000_000_5, "500 ns"),
        ] {
            assert_eq!(wait(seconds), text);
        }
    }

    #[test]
    fn an_answer_that_lacks_everything_is_no_panic() {
        assert!(summary(&json!({})).contains("readiness     ?"));
    }
}
