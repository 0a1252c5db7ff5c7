//! The Grafana board: a plot a metric, in the table's order, with what its type calls for.

use js5d::admin::metrics::{Kind, METRICS, Metric};
use serde_json::{Value, json};

/// Grafana's grid is 24 wide.
const WIDTH: usize = 8;
const HEIGHT: usize = 7;
const IN_A_ROW: usize = 24 / WIDTH;

/// As Grafana imports it.
pub(super) fn board() -> String {
    // A constant and a date have no curve.
    let has_curve = |metric: &&Metric| {
        !metric.name.ends_with("_info") && !metric.name.ends_with("_start_time_seconds")
    };
    let panels = METRICS.iter().filter(has_curve);
    let panels: Vec<_> = panels.enumerate().map(|(place, metric)| panel(place, metric)).collect();
    let variable = |name: &str, more: Value| {
        let mut variable = json!({ "name": name, "label": name });
        if let (Some(variable), Value::Object(more)) = (variable.as_object_mut(), more) {
            variable.extend(more);
        }
        variable
    };
    let board = json!({
        "title": "js5d",
        "uid": "js5d",
        "tags": ["js5d"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            variable("datasource", json!({ "type": "datasource", "query": "prometheus" })),
            variable("instance", json!({
                "type": "query",
                "datasource": datasource(),
                "query": "label_values(js5d_build_info, instance)",
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "current": { "text": "All", "value": "$__all" },
            })),
        ] },
        "panels": panels,
    });
    format!("{board:#}\n")
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panel(place: usize, metric: &Metric) -> Value {
    let targets: Vec<_> = queries(metric)
        .into_iter()
        .enumerate()
        .map(|(number, (expr, legend))| {
            json!({
                "refId": char::from(b'A' + number as u8).to_string(),
                "datasource": datasource(),
                "expr": expr,
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": place + 1,
        "type": "timeseries",
        "title": title(metric),
        "description": metric.help,
        "datasource": datasource(),
        "gridPos": {
            "x": place % IN_A_ROW * WIDTH,
            "y": place / IN_A_ROW * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": { "defaults": { "unit": unit(metric), "min": 0 }, "overrides": [] },
        "options": { "legend": { "displayMode": "list", "placement": "bottom" } },
        "targets": targets,
    })
}

/// Expressions and legends.
fn queries(metric: &Metric) -> Vec<(String, String)> {
    let chosen = "{instance=~\"$instance\"}";
    let name = metric.name;
    let labels = match metric.labels {
        [] => "instance".to_owned(),
        labels => labels.join(", "),
    };
    let legend = format!("{{{{{labels}}}}}");
    match metric.kind {
        Kind::Counter => {
            let rate = format!("rate({name}{chosen}[$__rate_interval])");
            vec![(format!("sum by ({labels}) ({rate})"), legend)]
        }
        // Of several servers, the worst worker is what matters.
        Kind::Gauge if metric.labels == ["worker"] => {
            vec![(format!("max by (instance, worker) ({name}{chosen})"), legend)]
        }
        Kind::Gauge => vec![(format!("sum by ({labels}) ({name}{chosen})"), legend)],
        Kind::Histogram => {
            let rate = format!("rate({name}_bucket{chosen}[$__rate_interval])");
            let quantile = |(share, called): (&str, &str)| {
                let expr = format!("histogram_quantile({share}, sum by (le, {labels}) ({rate}))");
                (expr, format!("{called} {legend}"))
            };
            [("0.5", "p50"), ("0.99", "p99"), ("0.999", "p99.9")].map(quantile).into()
        }
    }
}

fn title(metric: &Metric) -> String {
    let name = metric.name.trim_start_matches("js5d_").trim_end_matches("_total");
    let suffix = if metric.kind == Kind::Counter { ", a second" } else { "" };
    let by = match metric.labels {
        [] => String::new(),
        labels => format!(" by {}", labels.join(", ")),
    };
    format!("{}{by}{suffix}", name.replace('_', " "))
}

fn unit(metric: &Metric) -> &'static str {
    let name = metric.name.trim_end_matches("_total");
    match metric.kind {
        Kind::Counter if name.ends_with("_bytes") => "Bps",
        Kind::Counter if name.ends_with("_seconds") => "percentunit",
        Kind::Counter => "cps",
        _ if name.ends_with("_bytes") => "bytes",
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_ratio") => "percentunit",
        _ => "short",
    }
}
