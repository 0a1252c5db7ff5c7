//! Whether the files that name metrics name those that exist.

use super::*;
use std::collections::BTreeSet;

const RULES: &str = "deploy/prometheus/js5d.rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/js5d.rules.test.yml";
const OPERATIONS: &str = "docs/operations/monitoring.md";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that look like metrics of ours.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("js5d_") || word.starts_with("process_")).collect()
}

fn alerts(rules: &str) -> BTreeSet<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

fn exists(word: &str) -> bool {
    let base = |suffix| word.strip_suffix(suffix).unwrap_or(word);
    let known = |name: &str| METRICS.iter().any(|metric| metric.name == name);
    known(word) || ["_bucket", "_count", "_sum"].into_iter().any(|suffix| known(base(suffix)))
}

#[test]
fn what_is_made_of_the_table_is_in_step_with_it() {
    for (path, text) in [(DOCS, docs()), (BOARD, board::board())] {
        assert!(read(path) == text, "{path} is not what the table says: run 'cargo xtask metrics'");
    }
}

#[test]
fn alerts_board_and_documentation_name_metrics_that_exist() {
    for (path, least) in [(RULES, 12), (OPERATIONS, 30), (BOARD, 35)] {
        let text = read(path);
        let names = named(&text);
        assert!(names.len() >= least, "{path}: {names:?}");
        for name in names {
            assert!(exists(name), "{path} names {name}, which does not exist");
        }
    }
    assert!(!exists("js5d_accepted") && !exists("js5d_accepted_total_more"));
}

#[test]
fn every_metric_and_every_alert_has_its_line_in_the_operators_guide() {
    let (operations, rules) = (read(OPERATIONS), read(RULES));
    let explained = named(&operations);
    for metric in METRICS {
        assert!(explained.contains(metric.name), "{OPERATIONS} does not explain {}", metric.name);
    }
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in &alerts {
        let row = format!("| `{alert}` |");
        assert!(operations.contains(&row), "{OPERATIONS} does not say what to do about {alert}");
    }
    assert_eq!(operations.matches("| `Js5d").count(), alerts.len(), "an alert that is no more");
}

#[test]
fn every_alert_is_tried_both_ways() {
    let (rules, tests) = (read(RULES), read(RULE_TESTS));
    // A case has series of the alert's own metrics, asks for that alert, and expects what its name
    // says: with other series it could not fire at all. promtool runs the cases.
    let fires = |alert: &str, what: &str| {
        let mut cases = tests.split("  - name: \"").skip(1);
        let case = cases.find(|case| case.starts_with(&format!("{alert} {what}: ")))?;
        let asks = case.matches("alertname: ").count();
        let own = case.matches(&format!("alertname: {alert}\n")).count();
        let mut all = rules.split("- alert: ");
        let rule = all.find(|rule| rule.starts_with(&format!("{alert}\n")))?;
        let (metrics, series) = (named(rule), named(case));
        let is_about_it = metrics.is_empty() || metrics.iter().all(|name| series.contains(name));
        (asks > 0 && own == asks && is_about_it).then(|| case.contains("exp_labels: "))
    };
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 20, "the alerts were not found");
    for alert in alerts {
        assert_eq!(fires(alert, "fires"), Some(true), "{RULE_TESTS}: {alert} fires");
        assert_eq!(fires(alert, "does not fire"), Some(false), "{RULE_TESTS}: {alert} does not");
    }
    assert_eq!(fires("Js5dNoSuchAlert", "fires"), None);
}

#[test]
fn the_board_is_an_overview_and_three_more_rows_of_three_panels() {
    let board: serde_json::Value = serde_json::from_str(&read(BOARD)).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let is_row = |panel: &&serde_json::Value| panel["type"] == "row";
    let rows: Vec<_> = panels.iter().filter(is_row).map(|row| &row["title"]).collect();
    assert_eq!(rows, ["Overview", "Clients", "Work", "Machine and faults"]);
    assert_eq!(panels.len() - rows.len(), 12);
    // Nothing lies on anything else: each place of the grid is taken at most once.
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{} twice", panel["id"]);
        let of = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        for place in (of("y")..of("y") + of("h")).flat_map(|y| (0..of("w")).map(move |x| (x, y))) {
            let (x, y) = (place.0 + of("x"), place.1);
            assert!(x < 24 && taken.insert((x, y)), "{}: {x}, {y}", panel["title"]);
        }
    }
}

#[test]
fn every_metric_has_its_place_on_the_board_or_is_left_out_by_name() {
    let text = read(BOARD);
    let shown = named(&text);
    for metric in METRICS {
        let bucket = format!("{}_bucket", metric.name);
        let is_there = shown.contains(metric.name) || shown.contains(bucket.as_str());
        let is_out = board::LEFT_OUT.contains(&metric.name);
        assert!(is_there != is_out, "{} is on the board: {is_there}", metric.name);
    }
    for name in board::LEFT_OUT {
        assert!(exists(name), "{name} is left out and does not exist");
    }
}
