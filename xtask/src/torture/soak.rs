//! Row 23: everything at once, for minutes or for a day.

use super::Findings;
use super::bench::Bench;
use super::load::{EachClient, Load};
use crate::compare::Result;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the cache is loaded again, and memory looked at.
const INTERVAL: Duration = Duration::from_secs(3);

/// The time between two heartbeats of a worker.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A thread that only has heartbeats, on the same cores: if it is late, the machine is the reason.
struct Witness {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Witness {
    fn new() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut late = 0;
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(HEARTBEAT);
                late += u32::from(began.elapsed() > HEARTBEAT * 2);
            }
            late
        });
        Self { ends, thread }
    }

    /// How often it was late.
    fn end(self) -> Result<u32> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the witness panicked".into())
    }
}

/// The archive in which a group comes and goes, the largest of a demo cache.
const CHANGING: usize = 7;

/// A cache whose content is another one at each reload: in turn each group of one archive is
/// missing. A reload of what is served already is put aside, and shows nothing of what a generation
/// leaves behind. The master index stays as it is, and so do the groups that clients ask for, so
/// that every byte of theirs can be compared.
struct ChangingCache {
    dir: PathBuf,
}

/// An idx file has an entry of six bytes a group: its size and its first sector. One of zeros
/// means that there is none.
const ENTRY: usize = 6;

impl ChangingCache {
    fn new(bench: &Bench) -> Result<Self> {
        let dir = bench.dir.join("changing");
        fs::create_dir_all(&dir)?;
        for file in fs::read_dir(&bench.cache)? {
            let file = file?;
            fs::copy(file.path(), dir.join(file.file_name()))?;
        }
        let cache = Self { dir };
        fs::copy(cache.index(CHANGING), cache.whole())?;
        Ok(cache)
    }

    fn index(&self, archive: usize) -> PathBuf {
        self.dir.join(format!("main_file_cache.idx{archive}"))
    }

    /// The index of the changing archive with all of its groups.
    fn whole(&self) -> PathBuf {
        self.dir.with_extension("whole")
    }

    /// Which groups an index has.
    fn groups(index: &[u8]) -> impl Iterator<Item = usize> {
        let entries = index.chunks_exact(ENTRY).enumerate();
        entries.filter(|(_, entry)| *entry != [0; ENTRY]).map(|(group, _)| group)
    }

    /// Another group is missing than before.
    fn change(&self, turn: usize) -> Result<()> {
        let mut index = fs::read(self.whole())?;
        let groups: Vec<_> = Self::groups(&index).collect();
        let group = groups.get(turn % groups.len().max(1)).ok_or("the archive has no groups")?;
        index.get_mut(group * ENTRY..(group + 1) * ENTRY).ok_or("no entry")?.fill(0);
        // In one step, as an operator puts a cache in place.
        let next = self.dir.with_extension("next");
        fs::write(&next, index)?;
        Ok(fs::rename(next, self.index(CHANGING))?)
    }

    /// The groups that stay, as the load generator takes them.
    fn lasting(&self) -> Result<String> {
        let mut list = Vec::new();
        for archive in (0..255).filter(|&archive| archive != CHANGING) {
            let Ok(index) = fs::read(self.index(archive)) else { continue };
            list.extend(Self::groups(&index).map(|group| format!("{archive}/{group}")));
        }
        if list.is_empty() {
            return Err("the cache has one archive only".into());
        }
        Ok(list.join(","))
    }
}

/// Churn, resets, slow readers, rekeys, reloads, refusals: memory stays, descriptors come back,
/// no byte is wrong, no heartbeat is late.
pub(super) fn soak(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let time = if bench.quick { Duration::from_secs(20) } else { bench.soak };
    let options = [
        "--connections-max",
        "500",
        "--send-timeout",
        "5s",
        "--idle-timeout",
        "10s",
        "--skip-corrupt",
        // A slow reader holds its generation over some of the next.
        "--generations-max",
        "12",
        "--generation-timeout",
        "2s",
    ];
    let cache = ChangingCache::new(bench)?;
    let mut server = bench.serve_cache(&cache.dir, &options)?;
    let descriptors = server.descriptors();
    let seconds = format!("{}s", time.as_secs());
    let groups = cache.lasting()?;
    let common =
        ["--retry", "100ms", "--key", "changing", "--duration", &seconds, "--groups", &groups];
    let options =
        |mix, connections| [&["--mix", mix, "--connections", connections], &common[..]].concat();
    let honest = options("play=4,churn=2,slow=1,login-storm=1", "60");
    let honest = EachClient::start(bench, &server, &honest)?;
    let hostile = Load::start(bench, &server, &options("hostile=1", "100"))?;
    // More than the places that are left.
    let crowd = Load::start(bench, &server, &options("churn=1", "300"))?;
    let witness = Witness::new();
    let began = Instant::now();
    let mut memory = Vec::new();
    while began.elapsed() + INTERVAL < time {
        cache.change(memory.len())?;
        server.signal(Signal::HUP)?;
        thread::sleep(INTERVAL);
        // The reload has ended, and its read buffers are freed.
        memory.push(server.memory_bytes() as f64 / 1e6);
    }
    let machine_late = witness.end()?;
    honest.finish()?.hold("soak", 1, findings);
    for (name, load) in [("hostile", hostile), ("crowd", crowd)] {
        let found = load.finish()?;
        let promise = format!("soak: wrong bytes, {name}");
        findings.holds(&promise, found.faults(), "none", found.faults() == "{}");
    }
    // The first third warms up: pools fill, and the allocator finds its size.
    let third = memory.len() / 3;
    let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (middle, last) = (highest(&memory[third..2 * third]), highest(&memory[2 * third..]));
    findings.at_most("soak: memory at its end, to its middle", last / middle, 1.15, "");
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    server.descriptors_back("soak", descriptors, findings);
    let metrics = server.metrics()?;
    let refused = metrics.sum("js5d_refused_total{reason=\"server_full\"}");
    findings.holds("soak: there were refusals", refused, "> 0", refused > 0.0);
    let reloads = |result| metrics.sum(&format!("js5d_reloads_total{{result=\"{result}\"}}"));
    let changed = reloads("changed") as u64;
    findings.exactly("soak: reloads of another cache", changed, memory.len() as u64);
    findings.exactly("soak: reloads that failed", reloads("failed") as u64, 0);
    let late = metrics.sum("js5d_late_heartbeats_total");
    // Of both workers.
    findings.at_most("soak: late heartbeats", late, f64::from(2 * machine_late), "");
    Ok(())
}
