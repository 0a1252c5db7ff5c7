//! `/status.json`: everything that the page and `js5d status` show.

use super::history::History;
use super::metrics::{gather, to_json};
use super::scrape::Scrape;
use super::state::State;
use serde_json::{Value as Json, json};

/// All of it, with the history after moment number `since`.
pub(super) fn status(state: &State, since: u64) -> Json {
    let scrape = state.scrape();
    let (ready, live) = (state.readiness(), state.liveness());
    let text = |result: Result<String, String>| result.unwrap_or_else(|reason| reason);
    let archives = scrape.catalog.archives.iter().map(
        |(archive, groups, bytes)| json!({ "archive": archive, "groups": groups, "bytes": bytes }),
    );
    let workers = scrape.workers.iter().enumerate().map(|(number, worker)| {
        json!({
            "worker": number,
            "heartbeat_age_seconds": worker.heartbeat_age.as_secs_f64(),
            "busy_ratio": worker.busy_ratio,
            "ended": worker.has_ended,
        })
    });
    let notes =
        state.sources.notes.iter().map(|(name, text)| json!({ "name": name, "text": text }));
    let history = state.history();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.started.elapsed().as_secs(),
        "ready": ready.is_ok(),
        "readiness": text(ready),
        "live": live.is_ok(),
        "liveness": text(live),
        "draining": scrape.draining,
        "generation": format!("{:016x}", scrape.catalog.generation),
        "catalog": {
            "archives": archives.collect::<Vec<_>>(),
            "archive_count": scrape.catalog.totals.archives,
            "groups": scrape.catalog.totals.groups,
            "bytes": scrape.catalog.totals.wire_bytes,
        },
        "workers": workers.collect::<Vec<_>>(),
        "limits": limits(&scrape, &history),
        "latency_seconds": history.recent_latencies(),
        "notes": notes.collect::<Vec<_>>(),
        "metrics": to_json(&gather(&scrape)),
        "history": history.to_json(since),
    })
}

/// Bounds, and how near they are.
fn limits(scrape: &Scrape, history: &History) -> Json {
    let (totals, bounds) = (&scrape.totals, &scrape.bounds);
    let others = totals.connections_refusing + totals.connections_opening;
    let peers = totals.connections.saturating_sub(others);
    let mut all = vec![
        json!({ "name": "peers", "used": peers, "max": bounds.connections_max }),
        json!({
            "name": "refused peers",
            "used": totals.connections_refusing,
            "max": bounds.refusals_max,
        }),
    ];
    let front = [
        ("openings", totals.connections_opening, bounds.openings_max),
        ("game connections", totals.game_connections, bounds.game_connections_max),
    ];
    for (name, used, max) in front {
        if let Some(max) = max {
            all.push(json!({ "name": name, "used": used, "max": max }));
        }
    }
    if let Some(usage) = &scrape.usage {
        let (used, max) = (usage.descriptors, usage.descriptors_max);
        all.push(json!({ "name": "descriptors", "used": used, "max": max }));
    }
    let caps = [
        ("bytes a second", "", bounds.caps.total),
        ("bytes of prefetch a second", "prefetch", bounds.caps.prefetch),
    ];
    for (name, ranks, cap) in caps {
        if let Some(max) = cap {
            let used = history.recent_rate("js5d_egress_bytes_total", ranks).round() as u64;
            all.push(json!({ "name": name, "used": used, "max": max }));
        }
    }
    Json::Array(all)
}
