//! The table of all metrics. A test fails if a counter of `net/count/counters.rs` is not here.
//!
//! Base units, `_total` for what only grows, and no label that a peer could make many values of.

use super::{Metric, counter, gauge, histogram};
use crate::net::count::errno_names;

/// All metrics.
pub const METRICS: &[Metric] = &[
    gauge(
        "js5d_connections",
        &["state"],
        "Open connections. opening: the PROXY header or the first byte has not arrived; \
         handshake: the handshake is not complete; refusing: the peer will be refused; idle: \
         nothing is being sent; sending: a send to the peer is under way; slow: the same, and the \
         peer reads slowly; credit: a cap on bandwidth makes the connection wait; \
         lingering: our side has ended, and the peer may still read.",
        |s, out| {
            out.labelled("opening", s.totals.connections_opening);
            out.labelled("handshake", s.totals.connections_handshake);
            out.labelled("refusing", s.totals.connections_refusing);
            out.labelled("idle", s.totals.connections_idle);
            out.labelled("sending", s.totals.connections_sending);
            out.labelled("slow", s.totals.connections_slow);
            out.labelled("credit", s.totals.connections_credit);
            out.labelled("lingering", s.totals.connections_lingering);
        },
    ),
    gauge("js5d_connections_open", &[], "Open connections of all states.", |s, out| {
        out.value(s.totals.connections);
    }),
    gauge(
        "js5d_connections_max",
        &[],
        "Most peers that are served at once: --connections-max, or what descriptors allow.",
        |s, out| out.value(s.bounds.connections_max),
    ),
    gauge(
        "js5d_connections_logged_in",
        &[],
        "Open connections whose player is logged in.",
        |s, out| out.value(s.totals.logged_in),
    ),
    gauge(
        "js5d_connections_outdated",
        &[],
        "Open connections that are served from an earlier generation.",
        |s, out| out.value(s.totals.connections_outdated),
    ),
    gauge(
        "js5d_profile_connections",
        &["profile"],
        "Open connections that are served, by the profile of their clients.",
        |s, out| out.by_profile(s, &s.totals.profile_connections),
    ),
    counter(
        "js5d_accepted_total",
        &[],
        "Connections accepted, those that were refused included.",
        |s, out| out.value(s.totals.accepted),
    ),
    counter(
        "js5d_refused_total",
        &["reason"],
        "Handshakes answered with a status that refuses. out_of_date: the build is not served, \
         or its token is wrong; server_full: --connections-max, or the server stops; \
         too_many_connections: --connections-per-ip-max, or --openings-per-ip-max, which refuses \
         before there is a handshake.",
        |s, out| {
            out.labelled("out_of_date", s.totals.refused_out_of_date);
            out.labelled("server_full", s.totals.refused_server_full);
            out.labelled("too_many_connections", s.totals.refused_address);
        },
    ),
    counter(
        "js5d_handshakes_total",
        &["status"],
        "Handshakes answered, by the status byte. ok: 0; out_of_date: 6 or 48; server_full: 7; \
         too_many_connections: 9.",
        |s, out| {
            out.labelled("ok", s.totals.handshakes_ok);
            out.labelled("out_of_date", s.totals.refused_out_of_date);
            out.labelled("server_full", s.totals.refused_server_full);
            out.labelled("too_many_connections", s.totals.refused_address);
        },
    ),
    counter(
        "js5d_profile_handshakes_total",
        &["profile"],
        "Handshakes answered 0, by the profile of the client.",
        |s, out| out.by_profile(s, &s.totals.profile_handshakes),
    ),
    counter(
        "js5d_closed_total",
        &["reason"],
        "Connections ended, by the first reason for it.",
        |s, out| {
            out.labelled("by_peer", s.totals.closed_by_peer);
            out.labelled("disconnect", s.totals.closed_disconnect);
            out.labelled("refused", s.totals.closed_refused);
            out.labelled("not_js5", s.totals.closed_not_js5);
            out.labelled("violation", s.totals.closed_violation);
            out.labelled("chatter", s.totals.closed_chatter);
            out.labelled("missing_group", s.totals.closed_missing_group);
            out.labelled("handshake_timeout", s.totals.closed_handshake_timeout);
            out.labelled("idle_timeout", s.totals.closed_idle_timeout);
            out.labelled("send_timeout", s.totals.closed_send_timeout);
            out.labelled("generation", s.totals.closed_generation);
            out.labelled("drain", s.totals.closed_drain);
            out.labelled("proxy_untrusted", s.totals.closed_proxy_untrusted);
            out.labelled("proxy_malformed", s.totals.closed_proxy_malformed);
            out.labelled("proxy_too_long", s.totals.closed_proxy_too_long);
            out.labelled("proxy_timeout", s.totals.closed_proxy_timeout);
            out.labelled("openings", s.totals.closed_openings);
            out.labelled("error", s.totals.closed_error);
        },
    ),
    counter(
        "js5d_violations_total",
        &["kind"],
        "Breaches of the protocol. not_js5: the connection opened with another service's opcode; \
         unknown_opcode: a message that the protocol does not know, or a malformed handshake.",
        |s, out| {
            out.labelled("not_js5", s.totals.closed_not_js5);
            out.labelled("unknown_opcode", s.totals.closed_violation);
        },
    ),
    counter("js5d_requests_total", &["class"], "Requests received.", |s, out| {
        out.labelled("urgent", s.totals.requests_urgent);
        out.labelled("prefetch", s.totals.requests_prefetch);
    }),
    counter("js5d_responses_total", &["class"], "Responses begun.", |s, out| {
        out.labelled("urgent", s.totals.responses_urgent);
        out.labelled("prefetch", s.totals.responses_prefetch);
    }),
    counter(
        "js5d_profile_responses_total",
        &["profile"],
        "Responses begun, by the profile of the client.",
        |s, out| out.by_profile(s, &s.totals.profile_responses),
    ),
    counter(
        "js5d_response_bytes_total",
        &["class"],
        "Bytes of the responses begun, each counted whole when it begins.",
        |s, out| {
            out.labelled("urgent", s.totals.response_bytes_urgent);
            out.labelled("prefetch", s.totals.response_bytes_prefetch);
        },
    ),
    counter(
        "js5d_unanswered_total",
        &["class"],
        "Requests without a response: the group is missing, or the connection ended first.",
        |s, out| {
            out.labelled("urgent", s.totals.unanswered_urgent);
            out.labelled("prefetch", s.totals.unanswered_prefetch);
        },
    ),
    counter("js5d_sent_bytes_total", &[], "Bytes that the kernel took.", |s, out| {
        out.value(s.totals.sent_bytes);
    }),
    counter(
        "js5d_egress_bytes_total",
        &["rank"],
        "Under a cap on bandwidth: bytes of responses, by the rank in which they were sent.",
        |s, out| {
            out.labelled("urgent_logged_in", s.totals.egress_urgent_logged_in_bytes);
            out.labelled("urgent_logged_out", s.totals.egress_urgent_logged_out_bytes);
            out.labelled("prefetch_logged_in", s.totals.egress_prefetch_logged_in_bytes);
            out.labelled("prefetch_logged_out", s.totals.egress_prefetch_logged_out_bytes);
        },
    ),
    gauge(
        "js5d_egress_max_bytes_per_second",
        &["cap"],
        "Caps on bandwidth, those that are set. total: --egress-max; connection: \
         --egress-max-per-connection; prefetch: --prefetch-egress-max.",
        |s, out| {
            let caps = s.bounds.caps;
            caps.total.iter().for_each(|&cap| out.labelled("total", cap));
            caps.connection.iter().for_each(|&cap| out.labelled("connection", cap));
            caps.prefetch.iter().for_each(|&cap| out.labelled("prefetch", cap));
        },
    ),
    counter(
        "js5d_credit_waits_total",
        &[],
        "Times that a cap on bandwidth made a connection wait.",
        |s, out| out.value(s.totals.credit_waits),
    ),
    gauge(
        "js5d_credit_waiting",
        &["rank"],
        "Connections that wait because of a cap on bandwidth, by the rank of their next response.",
        |s, out| {
            out.labelled("urgent_logged_in", s.totals.waiting_urgent_logged_in);
            out.labelled("urgent_logged_out", s.totals.waiting_urgent_logged_out);
            out.labelled("prefetch_logged_in", s.totals.waiting_prefetch_logged_in);
            out.labelled("prefetch_logged_out", s.totals.waiting_prefetch_logged_out);
        },
    ),
    histogram(
        "js5d_request_seconds",
        &["class"],
        "From reading a request until the kernel has taken the send that its response begins in. \
         A sample: about 1,000 requests a second and worker, picked by chance, are timed, and each \
         stands for all that arrived since the one before. Requests whose connection ends before \
         the kernel has taken that send are left out.",
        |s, out| {
            out.latency("urgent", &s.totals.latency_urgent);
            out.latency("prefetch", &s.totals.latency_prefetch);
        },
    ),
    gauge("js5d_queue_depth", &["class"], "Requests that wait, of all connections.", |s, out| {
        out.labelled("urgent", s.totals.queued_urgent);
        out.labelled("prefetch", s.totals.queued_prefetch);
    }),
    counter(
        "js5d_missing_groups_total",
        &[],
        "Requests for groups that the cache does not hold.",
        |s, out| out.value(s.totals.missing_groups),
    ),
    counter("js5d_rekeys_total", &[], "Messages that set the key.", |s, out| {
        out.value(s.totals.rekeys);
    }),
    counter(
        "js5d_state_changes_total",
        &[],
        "Messages that say whether the player is logged in.",
        |s, out| out.value(s.totals.state_changes),
    ),
    counter(
        "js5d_slow_peers_total",
        &[],
        "Times that a peer became slow: it took in less than it asked for.",
        |s, out| out.value(s.totals.slow_peers),
    ),
    counter(
        "js5d_broken_off_total",
        &[],
        "Prefetch responses that were broken off for an urgent one; each is sent again, whole.",
        |s, out| out.value(s.totals.broken_off),
    ),
    counter(
        "js5d_wasted_bytes_total",
        &[],
        "Bytes sent in vain: those of responses that were broken off afterwards.",
        |s, out| out.value(s.totals.wasted_bytes),
    ),
    counter(
        "js5d_accept_errors_total",
        &["errno"],
        "Connections that could not be accepted. EMFILE and ENFILE: no descriptor was left.",
        |s, out| {
            errno_names().zip(s.totals.accept_errnos).for_each(|(n, count)| {
                out.labelled(n, count);
            });
        },
    ),
    gauge(
        "js5d_listeners_lost",
        &[],
        "Listening sockets that accept nobody: another process that holds them has shut them.",
        |s, out| out.value(s.totals.listeners_lost),
    ),
    counter(
        "js5d_ring_errors_total",
        &["errno"],
        "Failed operations on connections, those that are tried again included. Failures that a \
         peer causes, such as a reset, are not counted.",
        |s, out| {
            errno_names().zip(s.totals.ring_errnos).for_each(|(n, count)| {
                out.labelled(n, count);
            });
        },
    ),
    counter(
        "js5d_proxy_headers_total",
        &["kind"],
        "PROXY headers received. announced: with the client's address; local: without one, from \
         the balancer itself.",
        |s, out| {
            out.labelled("announced", s.totals.proxy_headers);
            out.labelled("local", s.totals.proxy_headers_local);
        },
    ),
    gauge(
        "js5d_game_connections",
        &[],
        "Open connections that are forwarded to the game server.",
        |s, out| out.value(s.totals.game_connections),
    ),
    counter(
        "js5d_game_accepted_total",
        &[],
        "Connections handed on to the game server.",
        |s, out| out.value(s.totals.game_accepted),
    ),
    counter(
        "js5d_game_closed_total",
        &["reason"],
        "Game connections ended. ended: both sides did, in good order; reset: a side was reset; \
         refused: a limit of game connections was reached; unreachable: the game server did not \
         accept the connection.",
        |s, out| {
            out.labelled("ended", s.totals.game_closed);
            out.labelled("reset", s.totals.game_closed_reset);
            out.labelled("refused", s.totals.game_refused);
            out.labelled("unreachable", s.totals.game_connect_errors);
            out.labelled("idle_timeout", s.totals.game_closed_idle);
            out.labelled("drain", s.totals.game_closed_drain);
            out.labelled("error", s.totals.game_closed_error);
        },
    ),
    counter(
        "js5d_game_bytes_total",
        &["direction"],
        "Bytes forwarded: to_server from clients, to_client from the game server.",
        |s, out| {
            out.labelled("to_server", s.totals.game_received_bytes);
            out.labelled("to_client", s.totals.game_sent_bytes);
        },
    ),
    gauge(
        "js5d_game_heartbeat_age_seconds",
        &[],
        "Time since the last heartbeat of the thread of game connections, if there is one.",
        |s, out| s.game_heartbeat_age.iter().for_each(|age| out.number(age.as_secs_f64())),
    ),
    gauge(
        "js5d_worker_heartbeat_age_seconds",
        &["worker"],
        "Time since a worker's last heartbeat; a worker has one every 0.1 s.",
        |s, out| {
            for (number, worker) in s.workers.iter().enumerate() {
                out.labelled_number(number, worker.heartbeat_age.as_secs_f64());
            }
        },
    ),
    counter(
        "js5d_late_heartbeats_total",
        &[],
        "Heartbeats more than 0.1 s late: the core was overloaded, or js5d was stopped.",
        |s, out| out.value(s.totals.late_heartbeats),
    ),
    gauge(
        "js5d_worker_busy_ratio",
        &["worker"],
        "Share of the last second in which a worker's thread used the CPU. At 1 its core is full.",
        |s, out| {
            for (number, worker) in s.workers.iter().enumerate() {
                out.labelled_number(number, worker.busy_ratio);
            }
        },
    ),
    gauge(
        "js5d_catalog_info",
        &["generation"],
        "Always 1; its label is the generation that is served.",
        |s, out| {
            out.labelled(format_args!("{:016x}", s.catalog.generation), 1);
        },
    ),
    gauge("js5d_catalog_archives", &[], "Archives that are served.", |s, out| {
        out.value(s.catalog.totals.archives as u64);
    }),
    gauge(
        "js5d_catalog_groups",
        &[],
        "Groups that are served, archive indexes and the master index included.",
        |s, out| out.value(s.catalog.totals.groups as u64),
    ),
    gauge("js5d_catalog_bytes", &[], "Length of all responses on the wire.", |s, out| {
        out.value(s.catalog.totals.wire_bytes);
    }),
    counter(
        "js5d_reloads_total",
        &["result"],
        "Reloads. changed: another cache is served; unchanged: the cache was the same; \
         failed: the new cache could not be loaded, and the old one is served.",
        |s, out| {
            out.labelled("changed", s.facts.reloads_changed);
            out.labelled("unchanged", s.facts.reloads_unchanged);
            out.labelled("failed", s.facts.reloads_failed);
        },
    ),
    gauge(
        "js5d_generations_alive",
        &[],
        "Snapshots in memory: the current one, and earlier ones that connections still hold.",
        |s, out| out.value(s.facts.generations_alive),
    ),
    gauge(
        "js5d_draining",
        &[],
        "1 after the stop signal or a hand-over, otherwise 0.",
        |s, out| {
            out.value(s.draining.into());
        },
    ),
    gauge(
        "js5d_build_info",
        &["version"],
        "Always 1; its label is the version of js5d.",
        |_, out| {
            out.labelled(env!("CARGO_PKG_VERSION"), 1);
        },
    ),
    gauge(
        "js5d_driver_info",
        &["driver"],
        "Always 1; its label is the driver: ring (io_uring), or epoll where there is no ring.",
        |s, out| out.labelled(s.facts.driver, 1),
    ),
    counter("process_cpu_seconds_total", &[], "CPU time, user and system.", |s, out| {
        s.usage.iter().for_each(|usage| out.number(usage.cpu_seconds));
    }),
    gauge("process_resident_memory_bytes", &[], "Resident memory.", |s, out| {
        s.usage.iter().for_each(|usage| out.value(usage.resident_bytes));
    }),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory.", |s, out| {
        s.usage.iter().for_each(|usage| out.value(usage.virtual_bytes));
    }),
    gauge("process_open_fds", &[], "Open descriptors.", |s, out| {
        s.usage.iter().for_each(|usage| out.value(usage.descriptors));
    }),
    gauge("process_max_fds", &[], "Descriptors that may be open.", |s, out| {
        s.usage.iter().for_each(|usage| out.value(usage.descriptors_max));
    }),
    gauge("process_threads", &[], "Threads.", |s, out| {
        s.usage.iter().for_each(|usage| out.value(usage.threads));
    }),
    gauge(
        "process_start_time_seconds",
        &[],
        "When the process started, in seconds since 1970.",
        |s, out| {
            s.usage.iter().for_each(|usage| out.number(usage.start_seconds));
        },
    ),
];
