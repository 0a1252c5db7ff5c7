//! Makes a plan of the options: merges the scenario file with the command line, adds defaults, and
//! checks everything. Only this file uses both the command line's types and the engine's.

use crate::catalogue::Catalogue;
use crate::changes;
use crate::cli::LoadOptions;
use crate::engine::checker::Verify;
use crate::engine::limits::Needs;
use crate::engine::plan::{Curve, KeyPolicy, Opening, Part, Plan};
use crate::engine::source;
use crate::failure::Failure;
use crate::human::{Ramp, Span};
use crate::learn::{LearnError, Manner, learn};
use crate::reference::Reference;
use crate::scenario::{Arrivals, Kind, Paced, Rhythm, Scenario, Then, Trick, Tricks, Work};
use crate::speech::Speech;
use clap::ValueEnum;
use js5d::protocol::Status;
use js5d::protocol::profile::{Handshake, is_token};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where a server listens unless said otherwise.
pub(crate) const TARGET: &str = "127.0.0.1:43594";

/// How long a run measures if nothing else ends it.
const DURATION: Duration = Duration::from_secs(10);

/// Connects under way in a worker at most. Well under the usual backlog of 4096.
const OPENING_MAX: u32 = 1024;

/// Seconds are the rows of a report; a short run gets finer ones.
const INTERVAL_NS: u64 = 1_000_000_000;
const FINE_INTERVAL_NS: u64 = 100_000_000;
const FINE_BELOW_NS: u64 = 15_000_000_000;

/// Reads a scenario file.
pub(crate) fn read_file(path: &Path) -> Result<LoadOptions, Failure> {
    let text = std::fs::read_to_string(path);
    let text =
        text.map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "Check --file."))?;
    toml::from_str(&text).map_err(|e| {
        let remedy = "The keys are the long names of the options: see js5-loadgen run --help.";
        Failure::usage(format!("{}: {e}", path.display()), remedy)
    })
}

/// The options given on top of those of a file.
pub(crate) fn overlay(given: LoadOptions, file: LoadOptions) -> Result<LoadOptions, Failure> {
    let bug = |e: &dyn std::fmt::Display| Failure::usage(e, "This is a defect of js5-loadgen.");
    let mut sum = toml::Table::try_from(&file).map_err(|e| bug(&e))?;
    let given = toml::Table::try_from(&given).map_err(|e| bug(&e))?;
    // One of the two names what clients do: the later one wins as a whole.
    if given.contains_key("scenario") || given.contains_key("mix") {
        sum.remove("scenario");
        sum.remove("mix");
    }
    sum.extend(given);
    sum.try_into().map_err(|e: toml::de::Error| bug(&e))
}

/// What is there is not what was looked for.
const JS5_WANTED: &str = "Give the HOST:PORT of a JS5 server; one that expects a PROXY header, as \
                          behind a balancer, wants --proxy-header.";

/// The options as a scenario file.
pub(crate) fn to_file(options: &LoadOptions) -> Result<String, Failure> {
    toml::to_string(options).map_err(|e| Failure::usage(e, "This is a defect of js5-loadgen."))
}

/// The address of a server.
pub(crate) fn target(name: &str) -> Result<SocketAddr, Failure> {
    let name = name.trim();
    let remedy = "Give HOST:PORT, as in 127.0.0.1:43594.";
    let found = name.to_socket_addrs().map_err(|e| Failure::usage(format!("{name}: {e}"), remedy));
    found?.next().ok_or_else(|| Failure::usage(format!("{name} has no address"), remedy))
}

/// A checked load, without what must be asked of the server.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) options: LoadOptions,
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) kinds: Vec<Kind>,
    /// Who the clients are.
    pub(crate) speech: Arc<Speech>,
    key: KeyPolicy,
}

impl Settings {
    /// Checks options.
    pub(crate) fn new(options: LoadOptions) -> Result<Self, Failure> {
        let usage = |cause: String| Failure::usage(cause, "See js5-loadgen run --help.");
        let names = options.target.as_deref().unwrap_or(TARGET);
        let targets: Result<Vec<_>, _> = names.split(',').map(target).collect();
        let targets = targets?;
        let speech = speech(&options).map_err(usage)?;
        let mut kinds = kinds(&options, speech.profile.in_flight).map_err(usage)?;
        if let Some(path) = &options.diff {
            let changed = Arc::new(changes::read(path).map_err(usage)?);
            let days = kinds.iter_mut().filter(|kind| kind.scenario == Scenario::UpdateDay);
            days.for_each(|kind| kind.work = Work::Listed(Arc::clone(&changed)));
        }
        if kinds.iter().any(|kind| kind.urgent == 0 && kind.prefetch == 0) {
            return Err(usage("--urgent 0 with --prefetch 0 asks for nothing".to_owned()));
        }
        if let Some(rate) = options.rate
            && (rate.to <= 0.0 || rate.from < 0.0)
        {
            return Err(usage(format!("--rate {rate}: the rate must end above 0")));
        }
        if options.rate.is_some() && kinds.iter().all(|kind| kind.paced == Paced::Nothing) {
            let cause = "--rate: clients of this scenario do not ask at a rate";
            return Err(usage(cause.to_owned()));
        }
        if let Some(ramp) = options.connections.filter(|ramp| ramp.from > ramp.to) {
            return Err(usage(format!("--connections {ramp}: a ramp of connections must rise")));
        }
        if options.open_rate.is_some() && options.connections.is_some_and(|c| c.from != c.to) {
            let cause =
                "--open-rate with a ramp of --connections: each sets a rate; give one of the two";
            return Err(usage(cause.to_owned()));
        }
        if options.connections.is_some_and(|count| count.from.max(count.to) < 1.0) {
            return Err(usage("--connections 0: at least one client is needed".to_owned()));
        }
        let ends = [
            ("duration", options.duration.map(|span| span.ns() as f64)),
            ("requests", options.requests.map(|count| count.0)),
            ("downloads", options.downloads.map(f64::from)),
        ];
        if let Some((name, _)) = ends.iter().find(|(_, end)| *end == Some(0.0)) {
            return Err(usage(format!("--{name} 0 ends before anything is measured")));
        }
        let is_endless = |kind: &Kind| match kind.work {
            Work::Hostile(_) => true,
            _ => options.requests.is_none() && !kind.is_download,
        };
        let has_other_end = options.requests.is_some() || options.downloads.is_some();
        if options.duration.is_none() && has_other_end && kinds.iter().all(is_endless) {
            let cause = "this scenario never downloads everything, or asks for nothing";
            return Err(usage(format!("{cause}: end it with --duration")));
        }
        if options.resume == Some(true) {
            if options.retry.is_none() {
                return Err(usage("--resume needs --retry: give both".to_owned()));
            }
            if !kinds.iter().any(Kind::can_go_on) {
                return Err(usage("--resume: nothing is downloaded in this scenario".to_owned()));
            }
        }
        let key = parse_key(options.key.as_deref().unwrap_or("none")).map_err(usage)?;
        for (name, count) in [("threads", options.threads), ("processes", options.processes)] {
            if count == Some(0) {
                return Err(usage(format!("--{name} must be at least 1")));
            }
        }
        Ok(Self { options, targets, kinds, speech: Arc::new(speech), key })
    }

    /// Refuses options of the command line that have no effect in this load.
    ///
    /// # Errors
    /// Names the first of them, and where it has an effect.
    pub(crate) fn refuse_unheeded(&self, given: &LoadOptions) -> Result<(), Failure> {
        use Scenario::{Churn, Hostile, Idle, Play, Priority, Slow, UpdateDay};
        let all = &self.options;
        let has =
            |wanted: &[Scenario]| self.kinds.iter().any(|kind| wanted.contains(&kind.scenario));
        let is_ramp = |ramp: Option<Ramp>| ramp.is_some_and(|ramp| ramp.from != ramp.to);
        let thinks = has(&[Play]) && all.rate.is_none();
        let crc = given.crc_every.is_some_and(|every| every > 0);
        let play = "the scenario play without --rate";
        let table = [
            ("think", given.think.is_some(), thinks, play),
            ("burst", given.burst.is_some(), thinks, play),
            ("prefetch-gap", given.prefetch_gap.is_some(), thinks, play),
            (
                "zipf",
                given.zipf.is_some(),
                has(&[Play, Churn, Priority, Hostile]),
                "the scenarios play, churn, priority and hostile",
            ),
            ("changed", given.changed.is_some(), has(&[UpdateDay]), "the scenario update-day"),
            ("diff", given.diff.is_some(), has(&[UpdateDay]), "the scenario update-day"),
            ("read-rate", given.read_rate.is_some(), has(&[Slow]), "the scenario slow"),
            ("churn-requests", given.churn_requests.is_some(), has(&[Churn]), "the scenario churn"),
            ("keepalive", given.keepalive.is_some(), has(&[Idle]), "the scenario idle"),
            ("tricks", given.tricks.is_some(), has(&[Hostile]), "the scenario hostile"),
            ("hold", given.hold.is_some(), has(&[Hostile]), "the scenario hostile"),
            ("arrivals", given.arrivals.is_some(), all.rate.is_some(), "an open loop: --rate"),
            (
                "ramp",
                given.ramp.is_some(),
                is_ramp(all.rate) || is_ramp(all.connections),
                "a ramp of --rate or of --connections",
            ),
            ("crc-every", crc, all.cache.is_none(), "a run without --cache"),
        ];
        match table.iter().find(|(_, is_given, is_heeded, _)| *is_given && !is_heeded) {
            Some((name, .., by)) => {
                let cause = format!("--{name} would have no effect: it belongs to {by}");
                Err(Failure::usage(cause, "See js5-loadgen run --help."))
            }
            None => Ok(()),
        }
    }

    /// How many clients.
    pub(crate) fn connections(&self) -> u32 {
        let given = self.options.connections.unwrap_or(Ramp { from: 64.0, to: 64.0 });
        given.from.max(given.to).clamp(1.0, 1e7) as u32
    }

    /// How many threads work in each process.
    pub(crate) fn threads(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let threads = self.options.threads.unwrap_or(cores.div_ceil(2));
        threads.min(self.connections().div_ceil(self.processes())).max(1)
    }

    /// How many processes.
    pub(crate) fn processes(&self) -> u32 {
        self.options.processes.unwrap_or(1).max(1)
    }

    /// Whether connections come and go.
    pub(crate) fn churns(&self) -> bool {
        self.options.retry.is_some()
            || self
                .kinds
                .iter()
                .any(|kind| kind.then == Then::Reconnect || matches!(kind.work, Work::Hostile(_)))
    }

    /// What the run needs of the machine.
    pub(crate) fn needs(&self) -> Needs {
        let connections = u64::from(self.connections().div_ceil(self.processes()));
        let given = self.options.sources.as_deref().unwrap_or_default();
        let ip = self.targets[0].ip();
        let sources = source::plan(ip, given, connections, self.churns(), 0).len() as u64;
        let pending = u64::from(self.opening(1.0).pending_max) * u64::from(self.threads());
        Needs {
            connections,
            processes: self.processes(),
            threads: self.threads(),
            sources,
            opening: pending * u64::from(self.processes()),
            is_local: ip.is_loopback(),
        }
    }

    /// How long the part that is left out takes.
    pub(crate) fn warmup_ns(&self) -> u64 {
        self.options.warmup.map_or(0, Span::ns)
    }

    /// How long to measure, unless the number of requests or downloads ends the run.
    pub(crate) fn duration_ns(&self) -> Option<u64> {
        let ends_otherwise = self.options.requests.is_some() || self.options.downloads.is_some();
        match self.options.duration {
            Some(span) => Some(span.ns()),
            None if ends_otherwise => None,
            None => Some(DURATION.as_nanos() as u64),
        }
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        self.options.stall_timeout.map_or(Duration::from_secs(5), |span| span.0)
    }

    /// Learns from the server, or from `--groups`, what can be asked for.
    pub(crate) fn catalogue(&self) -> Result<Catalogue, Failure> {
        let options = &self.options;
        let (seed, zipf) = (options.seed.unwrap_or(1), options.zipf.unwrap_or(1.0));
        if let Some(list) = &options.groups {
            let groups = Catalogue::parse_groups(list);
            let groups = groups.map_err(|e| Failure::usage(e, "As in --groups 0/0..4095,2/7."))?;
            return Ok(Catalogue::new(Vec::new(), groups, HashMap::new(), seed, zipf));
        }
        let manner = Manner {
            speech: Arc::clone(&self.speech),
            proxy_header: options.proxy_header == Some(true),
            settle: options.settle.map_or(Duration::ZERO, |span| span.0),
            timeout: self.stall_timeout(),
            seed,
            zipf,
        };
        learn(self.targets[0], &manner).map_err(|error| match &error {
            LearnError::Network { error: network, .. }
                if matches!(
                    network.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                Failure::setup(error, JS5_WANTED)
            }
            LearnError::Network { .. } => Failure::setup(
                error,
                "Is a JS5 server listening there? Try js5d, or give HOST:PORT.",
            ),
            LearnError::NotJs5 { .. } | LearnError::NoStatus { .. } => {
                Failure::setup(error, JS5_WANTED)
            }
            LearnError::Refused { status: Status::OutOfDate, .. } => Failure::setup(
                error,
                "Use --client to name a client that the server serves, as in --client 718.",
            ),
            LearnError::Refused { status: Status::SessionExpired, .. } => {
                Failure::setup(error, "Use --token to give the token that the server wants.")
            }
            LearnError::Refused { .. } => {
                Failure::setup(error, "Wait until the server has room, or raise its limits.")
            }
            LearnError::Silent { .. } => Failure::wrong(
                error,
                "The server may lose requests that follow the status at once: try --settle 500ms. \
                 Or it has no indexes: name groups with --groups.",
            ),
            LearnError::Wrong(_) => Failure::wrong(
                error,
                "The server's indexes are wrong; with --groups they are not needed.",
            ),
            LearnError::Breach { .. } => Failure::wrong(
                error,
                "Is the server for other clients? Use --client to name one that it serves.",
            ),
        })
    }

    /// Refuses to ask for groups that the server does not list.
    ///
    /// # Errors
    /// Names the first of them.
    pub(crate) fn refuse_unlisted(&self, catalogue: &Catalogue) -> Result<(), Failure> {
        let unlisted = self.kinds.iter().find_map(|kind| match &kind.work {
            Work::Listed(groups) => changes::first_unlisted(groups, catalogue),
            _ => None,
        });
        let Some(id) = unlisted else { return Ok(()) };
        let name = &self.speech.profile.name;
        let cause = format!("--diff: the server lists no {id} that a client of {name} can ask for");
        Err(Failure::setup(cause, "It must serve the cache NEW of js5d diff OLD NEW --json."))
    }

    /// The plan of a process's part in the run.
    pub(crate) fn plan(
        &self,
        catalogue: Arc<Catalogue>,
        reference: Option<Arc<Reference>>,
        part: Part,
        trace: bool,
    ) -> Plan {
        let options = &self.options;
        let connections = self.connections();
        let duration_ns = self.duration_ns();
        let whole_s = self.warmup_ns().saturating_add(duration_ns.unwrap_or(0)) as f64 / 1e9;
        let ramp_s = options.ramp.map_or(whole_s, |span| span.0.as_secs_f64());
        let own = u64::from(connections.div_ceil(part.of));
        let sources = options.sources.as_deref().unwrap_or_default();
        let fine = duration_ns.is_some_and(|ns| ns < FINE_BELOW_NS);
        Plan {
            targets: self.targets.clone(),
            sources: source::plan(self.targets[0].ip(), sources, own, self.churns(), part.index),
            speech: Arc::clone(&self.speech),
            proxy_header: options.proxy_header == Some(true),
            seed: options.seed.unwrap_or(1),
            connections,
            part,
            opening: self.opening(ramp_s),
            kinds: self.kinds.clone(),
            pace: options.rate.map(|rate| Curve { rate, ramp_s, start_ns: 0 }),
            poisson: options.arrivals == Some(Arrivals::Poisson),
            warmup_ns: self.warmup_ns(),
            interval_ns: if fine { FINE_INTERVAL_NS } else { INTERVAL_NS },
            duration_ns,
            requests: options.requests.map(|requests| requests.0 as u64),
            downloads: options.downloads,
            key: self.key,
            logged_in: options.logged_in == Some(true),
            settle_ns: options.settle.map_or(0, Span::ns),
            stall_timeout_ns: self.stall_timeout().as_nanos() as u64,
            retry_ns: options.retry.map(Span::ns),
            resume: options.resume == Some(true),
            catalogue,
            verify: Verify {
                crc_every: options.crc_every.unwrap_or(100),
                cache: reference.map(|reference| reference as _),
            },
            threads: self.threads(),
            pin: options.pin.clone().unwrap_or_default(),
            trace,
            own_stall: None,
        }
    }

    fn opening(&self, ramp_s: f64) -> Opening {
        let given = self.options.connections.unwrap_or(Ramp { from: 1.0, to: 1.0 });
        // On an update day all clients reconnect at once.
        let herd = self.kinds.iter().any(|kind| kind.scenario == Scenario::UpdateDay);
        let pending_max = if herd { u32::MAX } else { OPENING_MAX };
        if given.from < given.to {
            let rate = (given.to - given.from) / ramp_s.max(1e-3);
            return Opening { at_once: given.from as u32, rate, pending_max };
        }
        let rate = self.options.open_rate.map_or(f64::INFINITY, |rate| rate.0.max(1e-3));
        Opening { at_once: 1, rate, pending_max }
    }
}

fn parse_key(text: &str) -> Result<KeyPolicy, String> {
    match text {
        "none" => Ok(KeyPolicy::Fixed(0)),
        "random" => Ok(KeyPolicy::Random),
        "changing" => Ok(KeyPolicy::Changing),
        number => number
            .parse()
            .map(KeyPolicy::Fixed)
            .map_err(|_| format!("--key {number:?} is none of none, 1..255, random, changing")),
    }
}

/// How the clients speak.
///
/// # Errors
/// No client has that name, or an option has no effect for it.
fn speech(options: &LoadOptions) -> Result<Speech, String> {
    let mut speech = Speech::of(options.client.as_deref(), options.profiles.as_deref())?;
    if let Some(build) = options.build {
        speech.build = build;
    }
    if let Some(token) = &options.token {
        if !matches!(speech.profile.handshake, Handshake::Prefixed(_)) {
            let name = &speech.profile.name;
            return Err(format!("--token: clients of {name} do not send one; see --client"));
        }
        if !is_token(token) {
            return Err("--token: a token has 1 to 64 bytes, none of them 0".to_owned());
        }
        speech.token.clone_from(token);
    }
    if options.no_break_off == Some(true) {
        if !speech.profile.break_off {
            let name = &speech.profile.name;
            return Err(format!("--no-break-off: clients of {name} never take one broken off"));
        }
        speech.takes_break_offs = false;
    }
    speech.by_group = options.no_prefetch_bit == Some(true);
    Ok(speech)
}

/// The kinds of clients that the options name, with their weights, and with what clients keep
/// `in_flight` of each class.
///
/// # Errors
/// A mix that cannot be read, in words.
fn kinds(options: &LoadOptions, in_flight: [u16; 2]) -> Result<Vec<Kind>, String> {
    let kind = |scenario, weight| kind(scenario, weight, options, in_flight);
    let Some(mix) = &options.mix else {
        return Ok(vec![kind(options.scenario.unwrap_or(Scenario::Download), 1)]);
    };
    let mut kinds = Vec::new();
    for part in mix.split(',') {
        let (name, weight) = part.trim().split_once('=').unwrap_or((part.trim(), "1"));
        let scenario = Scenario::from_str(name, true)
            .map_err(|_| format!("--mix: there is no scenario {name:?}"))?;
        if scenario == Scenario::Priority {
            return Err("--mix: priority is a comparison, not a kind of client".to_owned());
        }
        let weight: u32 = match weight.parse() {
            Ok(weight @ 1..=10_000) => weight,
            _ => return Err(format!("--mix: {weight:?} is not a weight from 1 to 10000")),
        };
        kinds.push(kind(scenario, weight));
    }
    Ok(kinds)
}

/// The name under which results list the scenario.
pub(crate) fn scenario_name(options: &LoadOptions) -> String {
    if let Some(mix) = &options.mix {
        return mix.clone();
    }
    let scenario = options.scenario.unwrap_or(Scenario::Download);
    scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn kind(scenario: Scenario, weight: u32, options: &LoadOptions, in_flight: [u16; 2]) -> Kind {
    let [urgent, prefetch] = in_flight.map(u32::from);
    let base = Kind {
        scenario,
        weight,
        urgent: options.urgent.unwrap_or(urgent),
        prefetch: options.prefetch.unwrap_or(prefetch),
        work: Work::Everything,
        visit_requests: None,
        rhythm: Rhythm::Eager,
        then: Then::Repeat,
        read_rate: None,
        paced: Paced::Requests,
        is_download: false,
    };
    match scenario {
        Scenario::Download => Kind { is_download: true, ..base },
        Scenario::Slow => {
            let rate = options.read_rate.map_or(7000, |rate| rate.0 as u64).max(1);
            Kind { is_download: true, read_rate: Some(rate), ..base }
        }
        Scenario::Play => Kind { work: Work::Popular, rhythm: thinking(options), ..base },
        Scenario::LoginStorm => Kind {
            work: Work::MasterIndex,
            then: Then::Reconnect,
            paced: Paced::Visits,
            is_download: true,
            ..base
        },
        Scenario::UpdateDay => Kind {
            work: Work::Changed(options.changed.unwrap_or(0.05).clamp(0.0, 1.0)),
            then: Then::Stay,
            is_download: true,
            ..base
        },
        Scenario::Idle => {
            let every = options.keepalive.map_or(Duration::from_secs(25), |span| span.0);
            let work = Work::KeepAlive(every.as_nanos() as u64);
            Kind { work, paced: Paced::Nothing, ..base }
        }
        Scenario::Churn => Kind {
            work: Work::Popular,
            visit_requests: Some(options.churn_requests.unwrap_or(10).max(1)),
            then: Then::Reconnect,
            ..base
        },
        // One urgent request at a time, so that it waits for nothing but the prefetch.
        Scenario::Priority => {
            Kind { work: Work::Popular, urgent: options.urgent.unwrap_or(1), ..base }
        }
        Scenario::Hostile => {
            Kind { work: Work::Hostile(tricks(options)), paced: Paced::Nothing, ..base }
        }
    }
}

fn thinking(options: &LoadOptions) -> Rhythm {
    let ns = |span: Option<Span>, default_ms: u64| span.map_or(default_ms * 1_000_000, Span::ns);
    Rhythm::Thinking {
        think_ns: ns(options.think, 2000),
        burst: options.burst.unwrap_or(8),
        prefetch_gap_ns: ns(options.prefetch_gap, 100),
    }
}

fn tricks(options: &LoadOptions) -> Tricks {
    let all = || Trick::value_variants().to_vec();
    let hold_ns = options.hold.map_or(5_000_000_000, Span::ns);
    Tricks { tricks: options.tricks.clone().unwrap_or_else(all), hold_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_by_weight() {
        let options = LoadOptions { mix: Some("play=8, churn=2".to_owned()), ..<_>::default() };
        let kinds = kinds(&options, [20, 20]).unwrap();
        let found: Vec<_> = kinds.iter().map(|kind| (kind.scenario, kind.weight)).collect();
        assert_eq!(found, [(Scenario::Play, 8), (Scenario::Churn, 2)]);
        for wrong in ["dance=1", "play=0", "play=x", "priority=1"] {
            let options = LoadOptions { mix: Some(wrong.to_owned()), ..<_>::default() };
            assert!(super::kinds(&options, [20, 20]).is_err(), "{wrong}");
        }
    }
}
