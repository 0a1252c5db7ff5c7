//! `replay`: a recorded trace as an open loop, each request at its time.

use super::measure::{Bench, Interrupt, Start};
use super::{options, output};
use crate::cli::ReplayArgs;
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::human::Ramp;
use crate::judgement::Judged;
use crate::report::live::LiveLine;
use crate::scenario::{Kind, Paced, Rhythm, Scenario, Then, Work};
use crate::trace;
use std::sync::Arc;

/// Replays and reports.
pub(crate) fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let mut settings = options::settings_of(&args.run)?;
    let load = &settings.options;
    let given = [
        ("--scenario", load.scenario.is_some()),
        ("--mix", load.mix.is_some()),
        ("--connections", load.connections.is_some()),
        ("--rate", load.rate.is_some()),
        ("--requests", load.requests.is_some()),
        ("--downloads", load.downloads.is_some()),
        ("--urgent", load.urgent.is_some()),
        ("--prefetch", load.prefetch.is_some()),
        ("--processes", load.processes.is_some()),
        ("--print-scenario", args.run.print_scenario),
        ("--start-at", args.run.start_at.is_some()),
        ("--baseline", args.run.baseline.is_some()),
    ];
    let instead =
        "The trace sets the clients, requests and times; --speed makes it faster or slower.";
    options::refuse("replay", &given, instead)?;
    if let Some(path) = &args.run.trace {
        output::check_writable(path)?;
    }
    let path = &args.from;
    let remedy = "Give a trace that record or run --trace wrote.";
    let unreadable = |e| Failure::usage(format!("{}: {e}", path.display()), remedy);
    let mut clients = trace::read(path).map_err(unreadable)?;
    if clients.is_empty() || args.speed.is_nan() || args.speed <= 0.0 {
        let cause = format!("{} has no request, or --speed is not above 0", path.display());
        return Err(Failure::usage(cause, remedy));
    }
    for request in clients.iter_mut().flat_map(|client| &mut client.requests) {
        request.at_us = (request.at_us as f64 / args.speed) as u64;
    }
    let asserts = output::prepare(&args.run.output)?;
    let count = clients.len() as f64;
    settings.options.connections = Some(Ramp { from: count, to: count });
    settings.options.rate = None;
    settings.kinds = vec![Kind {
        scenario: Scenario::Play,
        weight: 1,
        urgent: u32::MAX,
        prefetch: u32::MAX,
        work: Work::Trace(Arc::new(clients)),
        visit_requests: None,
        rhythm: Rhythm::Eager,
        then: Then::Stay,
        read_rate: None,
        paced: Paced::Nothing,
        is_download: false,
    }];
    options::check_limits(&settings, &args.run)?;
    let bench = Bench::set_up(settings, Interrupt::watch()?)?;
    bench.warn();
    let mut plan = bench.plan(Part { index: 0, of: 1 }, args.run.trace.is_some());
    // The trace ends the run, unless a duration was given.
    plan.duration_ns = bench.settings.options.duration.map(crate::human::Span::ns);
    let mut live = LiveLine::new(args.run.output.quiet);
    let (mut result, mut written, _) = bench.measure(plan, Start::soon(), &mut live)?;
    live.finish();
    if let Some(path) = &args.run.trace {
        trace::write(path, &mut written).map_err(|e| output::unwritable(path, &e))?;
    }
    result.load.scenario = format!("replay of {}", args.from.display());
    let judged = Judged::of(result, &asserts);
    output::write(&judged, &args.run.output)?;
    Ok(judged.exit)
}
