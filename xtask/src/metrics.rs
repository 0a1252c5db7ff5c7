//! `cargo xtask metrics`: writes what is made of the table of metrics: docs/metrics.md and the
//! Grafana board. The tests compare what is committed with what this writes, and the alerts and
//! their documentation with the table.

mod board;
#[cfg(test)]
mod tests;

use crate::compare::Result;
use crate::workspace::root;
use js5d::admin::metrics::METRICS;
use std::fs;
use std::process::ExitCode;

const DOCS: &str = "docs/metrics.md";
const BOARD: &str = "deploy/grafana/js5d.json";

/// Writes both files.
pub(crate) fn run() -> Result<ExitCode> {
    for (path, text) in [(DOCS, docs()), (BOARD, board::board())] {
        fs::write(root().join(path), text)?;
        println!("wrote {path}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of all metrics.
fn docs() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         What `/metrics` of the admin address says, in Prometheus' text format. Counters begin \
         at 0 when the process starts. No label has a value that a peer could choose. How to read \
         the metrics, and what to do: \
         [monitoring](operations/monitoring.md#what-each-metric-means).\n\n\
         This page is made of `src/admin/metrics/table.rs` by `cargo xtask metrics`.\n\n\
         | metric | type | labels | |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    text
}
