//! One measurement: carries out a plan and returns the result, without a verdict.

use super::ceiling;
use crate::engine::plan::{self, Part, Plan};
use crate::engine::{self, Harvest};
use crate::failure::{Failure, RING_REMEDY};
use crate::machine::{Environment, KernelCounters};
use crate::reference::Reference;
use crate::report::live::LiveLine;
use crate::result::{Load, RunResult};
use crate::settings::{Settings, scenario_name};
use crate::stats::{Live, Outcome};
use crate::trace::Written;
use js5d::protocol::{GroupId, MASTER_INDEX};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Set by Ctrl-C and by the request to terminate: runs end early and are still reported.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on a signal no longer ends the process by itself; a second one does.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order: the first signal finds the flag unset.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .map_err(|e| Failure::setup(format!("signals: {e}"), "This should not happen."))?;
        }
        Ok(Self(flag))
    }

    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What does not change between the measurements of a command.
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    pub(crate) catalogue: Arc<crate::catalogue::Catalogue>,
    pub(crate) reference: Option<Arc<Reference>>,
    pub(crate) interrupt: Interrupt,
}

impl Bench {
    /// Learns the catalogue and loads the cache.
    pub(crate) fn set_up(settings: Settings, interrupt: Interrupt) -> Result<Self, Failure> {
        let reference = match &settings.options.cache {
            None => None,
            Some(path) => {
                let loaded = Reference::load(path, &settings.speech.profile).map_err(|e| {
                    let remedy = "Give --cache the directory that the server loads.";
                    Failure::setup(format!("--cache: {e}"), remedy)
                })?;
                Some(Arc::new(loaded))
            }
        };
        let catalogue = Arc::new(settings.catalogue()?);
        settings.refuse_unlisted(&catalogue)?;
        Ok(Self { settings, catalogue, reference, interrupt })
    }

    /// Says so if the server does not serve the cache that its answers are compared with.
    pub(crate) fn warn(&self) {
        let Some(reference) = &self.reference else { return };
        let listed: Vec<_> =
            self.catalogue.indexes.iter().filter(|&&id| id != MASTER_INDEX).collect();
        let differs = |id: &GroupId| self.catalogue.checksum(*id) != reference.checksum(*id);
        let count = listed.iter().filter(|id| differs(id)).count();
        if count > 0 {
            eprintln!(
                "warning      the server does not serve this --cache: {count} of {} archive \
                 indexes differ",
                listed.len()
            );
        }
    }

    /// The plan of a part of the run.
    pub(crate) fn plan(&self, part: Part, trace: bool) -> Plan {
        self.settings.plan(Arc::clone(&self.catalogue), self.reference.clone(), part, trace)
    }

    /// Carries out a plan.
    pub(crate) fn measure(&self, plan: Plan, start: Start, live: &mut LiveLine) -> Measured {
        let warmup_ns = plan.warmup_ns;
        self.measure_with(plan, start, |lives| {
            let elapsed = start.instant.elapsed();
            let phase = match u64::try_from(elapsed.as_nanos()) {
                _ if Instant::now() < start.instant => "waiting",
                Ok(ns) if ns < warmup_ns => "warm-up",
                _ => "measuring",
            };
            live.update(lives, elapsed, phase);
        })
    }

    /// Carries out a plan, and has `show` called with what the workers publish.
    pub(crate) fn measure_with(
        &self,
        plan: Plan,
        start: Start,
        show: impl FnMut(&[Live]),
    ) -> Measured {
        let plan = Arc::new(plan);
        let before = KernelCounters::read();
        let when =
            if start.is_fixed { plan::Start::At(start.instant) } else { plan::Start::WhenReady };
        let harvest = engine::run(&plan, when, self.interrupt.flag(), show);
        let harvest = harvest.map_err(|e| {
            let remedy = format!("{RING_REMEDY} The cores of --pin must exist, too.");
            Failure::setup(format!("a worker cannot run: {e}"), &remedy)
        })?;
        let Harvest { stats, written, connect_error, measured_ns, begun } = harvest;
        let connected =
            stats.connections_max > 0 || stats.outcomes.contains_key(&Outcome::StatusOk);
        if let (Some(error), false) = (&connect_error, connected) {
            let cause = format!("no connection to {} could be opened: {error}", names(&plan));
            return Err(Failure::setup(cause, "Is a JS5 server listening there?"));
        }
        let mut result = RunResult::new(self.load(&plan), stats, measured_ns / 1_000_000);
        result.warmup_ms = plan.warmup_ns / 1_000_000;
        let waited_ms = begun.saturating_duration_since(start.instant).as_millis();
        result.started_unix_ms = start.unix_ms + waited_ms as u64 + result.warmup_ms;
        result.interrupted = self.interrupt.is_set();
        result.offered = plan.is_open_loop().then_some(result.stats.due);
        let workers = f64::from(plan.threads);
        if let Some(ceiling) = ceiling::recall() {
            result.ceiling_per_s = Some(ceiling.responses_per_s * workers);
            result.ceiling_bytes_per_s = Some(ceiling.bytes_per_s * workers);
        }
        let mut environment = Environment::gather(std::env::args().collect());
        environment.counters = KernelCounters::read().since(before);
        result.environments = vec![environment];
        result.compute_rates();
        Ok((result, written, begun))
    }

    fn load(&self, plan: &Plan) -> Load {
        let options = &self.settings.options;
        let given = toml::Table::try_from(options).unwrap_or_default();
        let known = ["target", "scenario", "mix", "connections", "rate", "seed", "build", "client"];
        let rest = given.into_iter().filter(|(key, _)| !known.contains(&key.as_str()));
        let options: BTreeMap<_, _> = rest
            .map(|(key, value)| (key, value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect();
        let given = &self.settings.options;
        Load {
            scenario: scenario_name(given),
            target: names(plan),
            connections: plan.clients(),
            rate: given.rate.map(|rate| rate.to_string()),
            urgent_window: plan.kinds.first().map_or(0, |kind| kind.urgent),
            prefetch_window: plan.kinds.first().map_or(0, |kind| kind.prefetch),
            seed: plan.seed,
            build: plan.speech.build,
            client: plan.speech.profile.name.to_string(),
            verification: match (&plan.verify.cache, plan.verify.crc_every) {
                (Some(_), _) => "every byte against a cache".to_owned(),
                (None, 0) => "framing".to_owned(),
                (None, n) => format!("framing; checksum of 1 in {n}"),
            },
            options,
        }
    }
}

fn names(plan: &Plan) -> String {
    let names: Vec<String> = plan.targets.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// A result; if it was wanted, what was asked for; and when the run began.
pub(crate) type Measured = Result<(RunResult, Vec<Written>, Instant), Failure>;

/// When a run begins, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) instant: Instant,
    pub(crate) unix_ms: u64,
    /// Whether that is when others begin, too.
    is_fixed: bool,
}

impl Start {
    /// Now.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), unix_ms: unix_ms(), is_fixed: true }
    }

    /// As soon as all workers are ready.
    pub(crate) fn soon() -> Self {
        Self { is_fixed: false, ..Self::now() }
    }

    /// A while after this.
    pub(crate) fn later(self, wait: Duration) -> Self {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
        Self { instant: self.instant + wait, unix_ms: self.unix_ms + wait_ms, ..self }
    }

    /// At a Unix time in seconds, or after this time: `1767225600`, `+5s`.
    ///
    /// # Errors
    /// It cannot be read, or it has passed.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let remedy = "Give a Unix time in seconds, or +TIME as in +5s.";
        let wrong = || Failure::usage(format!("--start-at {text:?} is not a time"), remedy);
        match text.strip_prefix('+') {
            Some(span) => {
                let wait = span.parse::<crate::human::Span>().map_err(|_| wrong())?.0;
                Ok(Self::now().later(wait))
            }
            None => Self::at_unix(text.parse().map_err(|_| wrong())?),
        }
    }

    /// At a Unix time in seconds.
    ///
    /// # Errors
    /// It has passed: a part that begins late would measure at another time than the others.
    pub(crate) fn at_unix(seconds: f64) -> Result<Self, Failure> {
        let now = Self::now();
        let wait_s = seconds - now.unix_ms as f64 / 1000.0;
        Duration::try_from_secs_f64(wait_s).map(|wait| now.later(wait)).map_err(|_| {
            let cause = format!("the common start was {:.1} s ago", -wait_s);
            Failure::setup(cause, "Give --start-at a time at which all are ready.")
        })
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
