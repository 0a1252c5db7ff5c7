//! The Grafana board: twelve panels in four rows, which begin with what an operator looks at first.
//! Which metrics stand together is chosen here; how each is asked for follows from its declaration.

use js5d::admin::metrics::{Kind, METRICS, Metric};
use serde_json::{Value, json};

/// Grafana's grid is 24 wide.
const WIDTH: usize = 8;
const HEIGHT: usize = 8;

/// Metrics without a place on the board: constants, and what only an investigation asks for.
#[cfg(test)]
pub(super) const LEFT_OUT: &[&str] = &[
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "js5d_catalog_archives",
    "js5d_catalog_groups",
];

struct Panel {
    title: &'static str,
    look: Look,
    unit: &'static str,
    series: &'static [Series],
}

#[derive(Clone, Copy)]
enum Look {
    /// The latest values, large.
    Values,
    /// Lines over time.
    Lines,
    /// Areas on top of one another: parts of a whole.
    Stacked,
}

/// What is drawn of a metric, and what the legend begins with.
struct Series {
    metric: &'static str,
    called: &'static str,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    /// All servers together, by the metric's own labels; counters as a rate.
    Sum,
    /// The same, without a line that is always at zero: for failures.
    SumNotZero,
    /// The largest, by server: one that is ill must not vanish in the others.
    Worst,
    /// How many different values a label has.
    Different(&'static str),
    /// The share of this metric that the first is.
    Share(&'static str),
    /// A quantile of a histogram.
    Quantile(&'static str),
}

const fn series(metric: &'static str, called: &'static str, of: Of) -> Series {
    Series { metric, called, of }
}

const ROWS: [(&str, [Panel; 3]); 4] = [
    (
        "Overview",
        [
            Panel {
                title: "Servers, generations, draining",
                look: Look::Values,
                unit: "short",
                series: &[
                    series("js5d_build_info", "servers", Of::Different("instance")),
                    series("js5d_driver_info", "drivers", Of::Different("driver")),
                    series("js5d_catalog_info", "generations served", Of::Different("generation")),
                    series("js5d_draining", "draining", Of::Sum),
                    series("js5d_generations_alive", "snapshots in memory, at most", Of::Worst),
                ],
            },
            Panel {
                title: "Places taken",
                look: Look::Values,
                unit: "percentunit",
                series: &[
                    series("js5d_connections_open", "", Of::Share("js5d_connections_max")),
                    series("process_open_fds", "descriptors", Of::Share("process_max_fds")),
                ],
            },
            Panel {
                title: "How long requests wait",
                look: Look::Lines,
                unit: "s",
                series: &[
                    series("js5d_request_seconds", "p50", Of::Quantile("0.5")),
                    series("js5d_request_seconds", "p99", Of::Quantile("0.99")),
                    series("js5d_request_seconds", "p99.9", Of::Quantile("0.999")),
                ],
            },
        ],
    ),
    (
        "Clients",
        [
            Panel {
                title: "Connections",
                look: Look::Stacked,
                unit: "short",
                series: &[
                    series("js5d_connections", "", Of::Sum),
                    series("js5d_game_connections", "game", Of::Sum),
                    series("js5d_profile_connections", "of these, served:", Of::SumNotZero),
                    series("js5d_connections_logged_in", "of these, logged in", Of::Sum),
                    series("js5d_connections_outdated", "of these, of an old generation", Of::Sum),
                ],
            },
            Panel {
                title: "Coming, a second",
                look: Look::Lines,
                unit: "cps",
                series: &[
                    series("js5d_accepted_total", "accepted", Of::Sum),
                    series("js5d_handshakes_total", "handshake:", Of::Sum),
                    series("js5d_profile_handshakes_total", "served:", Of::SumNotZero),
                    series("js5d_refused_total", "refused:", Of::SumNotZero),
                    series("js5d_proxy_headers_total", "PROXY header:", Of::SumNotZero),
                    series("js5d_game_accepted_total", "game", Of::SumNotZero),
                ],
            },
            Panel {
                title: "Going, a second",
                look: Look::Lines,
                unit: "cps",
                series: &[
                    series("js5d_closed_total", "", Of::SumNotZero),
                    series("js5d_game_closed_total", "game:", Of::SumNotZero),
                ],
            },
        ],
    ),
    (
        "Work",
        [
            Panel {
                title: "Requests and responses, a second",
                look: Look::Lines,
                unit: "cps",
                series: &[
                    series("js5d_requests_total", "requests:", Of::Sum),
                    series("js5d_responses_total", "responses:", Of::Sum),
                    series("js5d_profile_responses_total", "responses to:", Of::SumNotZero),
                    series("js5d_broken_off_total", "broken off", Of::SumNotZero),
                    series("js5d_rekeys_total", "rekeys", Of::SumNotZero),
                    series("js5d_state_changes_total", "log-ins and log-outs", Of::SumNotZero),
                ],
            },
            Panel {
                title: "Bytes, a second",
                look: Look::Lines,
                unit: "Bps",
                series: &[
                    series("js5d_sent_bytes_total", "sent", Of::Sum),
                    series("js5d_response_bytes_total", "responses:", Of::Sum),
                    series("js5d_wasted_bytes_total", "wasted", Of::SumNotZero),
                    series("js5d_egress_bytes_total", "under the cap:", Of::SumNotZero),
                    series("js5d_egress_max_bytes_per_second", "cap:", Of::Sum),
                    series("js5d_game_bytes_total", "game:", Of::SumNotZero),
                ],
            },
            Panel {
                title: "Waiting",
                look: Look::Lines,
                unit: "short",
                series: &[
                    series("js5d_queue_depth", "requests:", Of::Sum),
                    series("js5d_credit_waiting", "for the cap:", Of::SumNotZero),
                    series(
                        "js5d_credit_waits_total",
                        "waits for the cap, a second",
                        Of::SumNotZero,
                    ),
                    series("js5d_slow_peers_total", "peers that become slow, a second", Of::Sum),
                ],
            },
        ],
    ),
    (
        "Machine and faults",
        [
            Panel {
                title: "Cores",
                look: Look::Lines,
                unit: "short",
                series: &[
                    series("js5d_worker_busy_ratio", "busy:", Of::Worst),
                    series("process_cpu_seconds_total", "cores used, all servers", Of::Sum),
                    series("js5d_worker_heartbeat_age_seconds", "heartbeat age, s:", Of::Worst),
                    series("js5d_game_heartbeat_age_seconds", "game heartbeat age, s:", Of::Worst),
                    series(
                        "js5d_late_heartbeats_total",
                        "late heartbeats, a second",
                        Of::SumNotZero,
                    ),
                ],
            },
            Panel {
                title: "Memory",
                look: Look::Lines,
                unit: "bytes",
                series: &[
                    series("process_resident_memory_bytes", "", Of::Worst),
                    series("js5d_catalog_bytes", "a generation:", Of::Worst),
                ],
            },
            Panel {
                title: "Faults, a second",
                look: Look::Lines,
                unit: "cps",
                series: &[
                    series("js5d_listeners_lost", "listeners lost", Of::SumNotZero),
                    series("js5d_accept_errors_total", "accept:", Of::SumNotZero),
                    series("js5d_ring_errors_total", "ring:", Of::SumNotZero),
                    series("js5d_violations_total", "violation:", Of::SumNotZero),
                    series("js5d_missing_groups_total", "missing groups", Of::SumNotZero),
                    series("js5d_unanswered_total", "unanswered:", Of::SumNotZero),
                    series("js5d_reloads_total", "reload:", Of::SumNotZero),
                ],
            },
        ],
    ),
];

/// As Grafana imports it.
pub(super) fn board() -> String {
    let mut panels = Vec::new();
    for (row, (title, in_it)) in ROWS.iter().enumerate() {
        let top = row * (HEIGHT + 1);
        panels.push(json!({
            "id": panels.len() + 1,
            "type": "row",
            "title": title,
            "collapsed": false,
            "gridPos": { "x": 0, "y": top, "w": 24, "h": 1 },
            "panels": [],
        }));
        for (place, one) in in_it.iter().enumerate() {
            let at = json!({ "x": place * WIDTH, "y": top + 1, "w": WIDTH, "h": HEIGHT });
            panels.push(panel(panels.len() + 1, one, at));
        }
    }
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

fn panel(id: usize, panel: &Panel, at: Value) -> Value {
    let targets = panel.series.iter().enumerate().map(|(number, series)| {
        json!({
            "refId": char::from(b'A' + number as u8).to_string(),
            "datasource": datasource(),
            "expr": query(series),
            "legendFormat": legend(series),
        })
    });
    let draw = match panel.look {
        Look::Values => json!({}),
        Look::Lines => json!({ "custom": { "fillOpacity": 0, "showPoints": "never" } }),
        Look::Stacked => json!({ "custom": {
            "fillOpacity": 25, "showPoints": "never", "stacking": { "mode": "normal" },
        } }),
    };
    let mut defaults = json!({ "unit": panel.unit, "min": 0 });
    if let (Some(defaults), Value::Object(draw)) = (defaults.as_object_mut(), draw) {
        defaults.extend(draw);
    }
    // Parts of what is stacked already stand beside the stack, as lines.
    let beside = json!([{
        "matcher": { "id": "byRegexp", "options": "/^of these, /" },
        "properties": [
            { "id": "custom.stacking", "value": { "mode": "none" } },
            { "id": "custom.fillOpacity", "value": 0 },
        ],
    }]);
    let overrides = if matches!(panel.look, Look::Stacked) { beside } else { json!([]) };
    let (kind, options) = match panel.look {
        Look::Values => (
            "stat",
            json!({
                "colorMode": "none",
                "graphMode": "area",
                "reduceOptions": { "calcs": ["lastNotNull"], "values": false },
                "textMode": "value_and_name",
            }),
        ),
        Look::Lines | Look::Stacked => (
            "timeseries",
            json!({
                "legend": { "displayMode": "list", "placement": "bottom" },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        ),
    };
    json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": description(panel),
        "datasource": datasource(),
        "gridPos": at,
        "fieldConfig": { "defaults": defaults, "overrides": overrides },
        "options": options,
        "targets": targets.collect::<Vec<_>>(),
    })
}

/// The help texts of a panel's metrics.
fn description(panel: &Panel) -> String {
    let mut lines = Vec::new();
    for series in panel.series {
        let metric = declared(series.metric);
        let line = format!("`{}`: {}", metric.name, metric.help);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n\n")
}

/// The metric of that name. A test makes every panel, so it finds a wrong name.
fn declared(name: &str) -> &'static Metric {
    METRICS.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name} is no metric"))
}

fn query(series: &Series) -> String {
    let metric = declared(series.metric);
    let name = metric.name;
    let chosen = "{instance=~\"$instance\"}";
    let value = match metric.kind {
        Kind::Counter => format!("rate({name}{chosen}[$__rate_interval])"),
        Kind::Gauge => format!("{name}{chosen}"),
        Kind::Histogram => format!("rate({name}_bucket{chosen}[$__rate_interval])"),
    };
    let own = metric.labels.join(", ");
    let sum =
        if own.is_empty() { format!("sum({value})") } else { format!("sum by ({own}) ({value})") };
    match series.of {
        Of::Sum => sum,
        Of::SumNotZero => format!("{sum} > 0"),
        Of::Worst => format!("max by ({}) ({value})", by_instance(metric)),
        Of::Different(label) => format!("count(count by ({label}) ({value}))"),
        Of::Share(whole) => {
            format!("sum({value}) / sum({}{chosen})", declared(whole).name)
        }
        Of::Quantile(share) => {
            format!("histogram_quantile({share}, sum by (le, {own}) ({value}))")
        }
    }
}

fn by_instance(metric: &Metric) -> String {
    [&["instance"], metric.labels].concat().join(", ")
}

fn legend(series: &Series) -> String {
    let metric = declared(series.metric);
    let labels = match series.of {
        Of::Different(_) | Of::Share(_) => String::new(),
        Of::Worst => by_instance(metric),
        Of::Sum | Of::SumNotZero | Of::Quantile(_) => metric.labels.join(", "),
    };
    let values = labels.split(", ").filter(|label| !label.is_empty());
    let values: Vec<_> = values.map(|label| format!("{{{{{label}}}}}")).collect();
    let called =
        if series.called.is_empty() && values.is_empty() { "connections" } else { series.called };
    format!("{called} {}", values.join(" ")).trim().to_owned()
}
