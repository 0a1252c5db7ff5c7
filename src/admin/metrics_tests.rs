//! What the table says, against what is read and written elsewhere.

use super::*;
use crate::net::count::Totals;
use std::collections::BTreeSet;

/// What is shown as something else.
const SHOWN_OTHERWISE: &[(&str, &str)] =
    &[("accept_errors", "by errno, as js5d_accept_errors_total")];

fn text_of(scrape: &Scrape) -> String {
    to_text(&gather(scrape))
}

#[test]
fn every_counter_is_shown_by_some_metric() {
    let (totals, names) = Totals::numbered();
    let text = text_of(&Scrape { totals, ..Scrape::default() });
    let shown: BTreeSet<_> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    for (name, value) in names {
        if SHOWN_OTHERWISE.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let is_shown = shown.contains(&value.to_string()[..]);
        assert!(is_shown, "counter '{name}' is in no line of src/admin/metrics/table.rs");
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let mut scrape = Scrape::default();
    scrape.totals.accepted = 12;
    scrape.totals.refused_server_full = 3;
    scrape.totals.latency_urgent[0] = 5;
    scrape.totals.latency_urgent[2] = 2;
    scrape.totals.latency_urgent[SUM_AT - 1] = 1;
    scrape.totals.latency_urgent[SUM_AT] = 2_500_000_000;
    let text = text_of(&scrape);
    for lines in [
        "# HELP js5d_accepted_total Connections accepted, those that were refused included.\n\
         # TYPE js5d_accepted_total counter\n\
         js5d_accepted_total 12\n",
        "\njs5d_refused_total{reason=\"server_full\"} 3\n",
        "\njs5d_request_seconds_bucket{class=\"urgent\",le=\"0.00001\"} 5\n",
        "\njs5d_request_seconds_bucket{class=\"urgent\",le=\"0.0000178\"} 5\n",
        "\njs5d_request_seconds_bucket{class=\"urgent\",le=\"0.0000316\"} 7\n",
        "\njs5d_request_seconds_bucket{class=\"urgent\",le=\"31.6\"} 7\n",
        "\njs5d_request_seconds_bucket{class=\"urgent\",le=\"+Inf\"} 8\n",
        "\njs5d_request_seconds_sum{class=\"urgent\"} 2.5\n",
        "\njs5d_request_seconds_count{class=\"urgent\"} 8\n",
        "\njs5d_accept_errors_total{errno=\"EMFILE\"} 0\n",
    ] {
        assert!(text.contains(lines), "{lines}\nis not in\n{text}");
    }
}

#[test]
fn names_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for metric in METRICS {
        let Metric { name, kind, labels, help, .. } = metric;
        assert!(seen.insert(name), "{name} is declared twice");
        assert!(name.starts_with("js5d_") || name.starts_with("process_"), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n') && help.len() > 7, "{name}: {help}");
        assert!(labels.len() <= 1, "{name}: values have one label here");
    }
    assert!(seen.len() > 35, "{}", seen.len());
}
