//! Whether the files that name metrics name those that exist.

use super::*;
use std::collections::BTreeSet;
use std::process::Command;

const RULES: &str = "deploy/prometheus/js5d.rules.yml";
const OPERATIONS: &str = "docs/operations.md";

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
fn promtool_accepts_the_alerts() {
    let rules = root().join(RULES);
    match Command::new("promtool").args(["check", "rules"]).arg(rules).output() {
        Err(_) => eprintln!("SKIP: promtool is not installed (Debian: the package prometheus)"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
}
