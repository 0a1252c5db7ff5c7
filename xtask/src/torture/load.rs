//! The load generator as a child: honest clients, and hostile ones.

use super::Findings;
use super::bench::{Bench, CLIENTS, Server, guarded};
use crate::compare::Result;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a run may take beyond the time that it is told.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A run of the load generator under way.
pub(crate) struct Load {
    child: Child,
    json: PathBuf,
    /// When it must have ended.
    until: Instant,
}

/// What a run found.
pub(crate) struct Found {
    /// 0, or 3 for wrong bytes, stalls and cuts that were not expected.
    pub(crate) code: i32,
    result: Value,
}

impl Load {
    /// Starts it against `server`, with every byte compared with the cache.
    pub(crate) fn start(bench: &Bench, server: &Server, options: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(&bench.loadgen), bench, server, options)
    }

    /// The same by another command, which runs it somewhere else.
    pub(crate) fn start_by(
        mut command: Command,
        bench: &Bench,
        server: &Server,
        options: &[&str],
    ) -> Result<Self> {
        let json = bench.dir.join(format!("{}.json", fastrand::u64(..)));
        command.arg("run").arg(server.address.to_string()).args(options);
        command.arg("--cache").arg(&bench.cache).args(["--quiet", "--ignore-limits", "--json"]);
        let mut command = guarded(command.arg(&json))?;
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, json, until: Instant::now() + bench.soak + TIME_MAX })
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Result<Found> {
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > self.until => {
                    return Err("the load generator does not end".into());
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let code = status.code().unwrap_or(-1);
        let text = fs::read_to_string(&self.json).map_err(|error| {
            format!("the load generator ended with {code} and no result: {error}")
        })?;
        Ok(Found { code, result: serde_json::from_str(&text)? })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.json);
    }
}

impl Found {
    /// A percentile of urgent responses, in microseconds.
    pub(crate) fn p99_us(&self) -> f64 {
        self.result["stats"]["times"]["urgent.response"]["p99_us"].as_f64().unwrap_or(f64::NAN)
    }

    /// The longest that a response of either class took, in microseconds.
    pub(crate) fn slowest_us(&self) -> f64 {
        let max = |class: &str| self.result["stats"]["times"][class]["max_us"].as_f64();
        let classes = ["urgent.response", "prefetch.response"];
        classes.into_iter().filter_map(max).reduce(f64::max).unwrap_or(f64::NAN)
    }

    pub(crate) fn answers(&self) -> u64 {
        let responses = &self.result["stats"]["responses"];
        let class = |name: &str| responses[name].as_u64().unwrap_or(0);
        class("urgent") + class("prefetch")
    }

    /// Wrong bytes and the like.
    pub(crate) fn faults(&self) -> String {
        self.result["stats"]["faults"].to_string()
    }

    /// How often connections ended so.
    pub(crate) fn outcome(&self, name: &str) -> u64 {
        self.result["stats"]["outcomes"][name].as_u64().unwrap_or(0)
    }
}

/// The same load by a client of each kind at a time.
pub(crate) struct EachClient(Vec<Load>);

impl EachClient {
    /// Starts one of each.
    pub(crate) fn start(bench: &Bench, server: &Server, options: &[&str]) -> Result<Self> {
        let start = |client| Load::start(bench, server, &[&["--client", client], options].concat());
        CLIENTS.into_iter().map(start).collect::<Result<_>>().map(Self)
    }

    /// Waits for the end of all.
    pub(crate) fn finish(self) -> Result<FoundByEach> {
        self.0.into_iter().map(Load::finish).collect::<Result<_>>().map(FoundByEach)
    }
}

/// What each of [`CLIENTS`] found.
pub(crate) struct FoundByEach(Vec<Found>);

impl FoundByHonest {
    /// Nobody had a wrong byte, stalled or was cut.
    pub(crate) fn hold(&self, row: &str, findings: &mut Findings) {
        let faults = self.timed.faults();
        findings.holds(&format!("{row}: faults of honest peers"), &faults, "none", faults == "{}");
        self.each.hold(row, 1, findings);
    }
}

impl FoundByEach {
    /// No byte was wrong, nobody stalled or was cut, whoever the client was; and each was
    /// answered `answers_min` times at least.
    pub(crate) fn hold(&self, row: &str, answers_min: u64, findings: &mut Findings) {
        let faults = CLIENTS.iter().zip(&self.0).filter(|(_, found)| found.faults() != "{}");
        let faults: Vec<_> = faults.map(|(name, it)| format!("{name} {}", it.faults())).collect();
        let value = if faults.is_empty() { "none".to_owned() } else { faults.join(" ") };
        let names = CLIENTS.join(", ");
        findings.holds(&format!("{row}: wrong bytes, {names}"), value, "none", faults.is_empty());
        let answers: Vec<_> = self.0.iter().map(Found::answers).collect();
        let is_so = answers.iter().all(|&answers| answers >= answers_min);
        let (value, bound) =
            (answers.iter().map(u64::to_string).collect::<Vec<_>>(), format!(">= {answers_min}"));
        findings.holds(&format!("{row}: answers of each"), value.join(" "), &bound, is_so);
    }

    /// How often connections of all of them ended so.
    pub(crate) fn outcome(&self, name: &str) -> u64 {
        self.0.iter().map(|found| found.outcome(name)).sum()
    }
}

/// Peers of build 550 whose times are told.
const TIMED: usize = 100;

/// Peers of each of [`CLIENTS`] beside them.
const OF_EACH: usize = 4;

/// Honest peers that are on a server at a time.
pub(crate) const HONEST: usize = TIMED + OF_EACH * CLIENTS.len();

/// Honest peers for some seconds: small urgent requests with think times, beside whatever else
/// goes on. Those of build 550 are many, so that their times mean something; of each other kind
/// there are a few, whose bytes are compared.
pub(crate) struct Honest {
    timed: Load,
    each: EachClient,
}

impl Honest {
    pub(crate) fn begin(bench: &Bench, server: &Server, seconds: u64) -> Result<Self> {
        let (time, few, many) = (format!("{seconds}s"), OF_EACH.to_string(), TIMED.to_string());
        let options = |connections| {
            let own = ["--scenario", "play", "--think", "100ms", "--connections", connections];
            [&own[..], &["--warmup", "500ms", "--duration", &time]].concat()
        };
        Ok(Self {
            each: EachClient::start(bench, server, &options(&few))?,
            timed: Load::start(bench, server, &options(&many))?,
        })
    }

    /// Waits for the end of all.
    pub(crate) fn finish(self) -> Result<FoundByHonest> {
        Ok(FoundByHonest { timed: self.timed.finish()?, each: self.each.finish()? })
    }
}

/// What honest peers found.
pub(crate) struct FoundByHonest {
    /// Those whose times are told.
    pub(crate) timed: Found,
    pub(crate) each: FoundByEach,
}

/// Honest peers on a server in trouble and, at the same time, on an idle twin of it: what else the
/// machine does slows both. A calm minute before would be compared with another machine.
pub(crate) struct Beside {
    troubled: Honest,
    calm: Honest,
}

impl Beside {
    pub(crate) fn begin(
        bench: &Bench,
        server: &Server,
        twin: &Server,
        seconds: u64,
    ) -> Result<Self> {
        let calm = Honest::begin(bench, twin, seconds)?;
        Ok(Self { troubled: Honest::begin(bench, server, seconds)?, calm })
    }

    /// Waits for the end of both.
    pub(crate) fn finish(self) -> Result<Compared> {
        let (troubled, calm) = (self.troubled.finish()?, self.calm.finish()?);
        Ok(Compared {
            p99: troubled.timed.p99_us() / calm.timed.p99_us(),
            slowest: troubled.timed.slowest_us() / calm.timed.slowest_us(),
            found: troubled,
        })
    }
}

/// Times of honest peers on the server in trouble, compared with those on the idle one.
pub(crate) struct Compared {
    /// Times of responses, as a multiple of the others'.
    pub(crate) p99: f64,
    pub(crate) slowest: f64,
    /// What they saw of wrong bytes, stalls and cuts.
    pub(crate) found: FoundByHonest,
}
