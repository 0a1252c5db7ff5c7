//! What a worker, a run or several machines have recorded: totals, intervals, counts. It adds.

use super::histogram::{Packed, Times};
use super::names::{FaultKind, Metric, Outcome};
use js5d::protocol::Class;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Details of faults and of stalls that are kept; all are counted.
pub(crate) const DETAILS_MAX: usize = 32;

/// A number for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PerClass {
    pub(crate) urgent: u64,
    pub(crate) prefetch: u64,
}

impl PerClass {
    /// The number of a class.
    #[inline]
    pub(crate) fn of(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Prefetch => &mut self.prefetch,
        }
    }

    /// Both together.
    pub(crate) fn sum(self) -> u64 {
        self.urgent + self.prefetch
    }

    fn add(&mut self, other: Self) {
        self.urgent += other.urgent;
        self.prefetch += other.prefetch;
    }
}

/// What happened between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// From the beginning of the measurement.
    pub(crate) start_ms: u64,
    pub(crate) length_ms: u64,
    pub(crate) responses: PerClass,
    pub(crate) bytes: u64,
    /// Faults, stalls, and outcomes that are errors.
    pub(crate) errors: u64,
    /// Connections that were up at its end.
    pub(crate) connections: u64,
    /// Connections that were opened.
    pub(crate) connects: u64,
    /// CPU time of all workers.
    pub(crate) cpu_ns: u64,
    /// CPU time of the busiest worker.
    pub(crate) cpu_max_ns: u64,
    /// Time for which workers could have run and did not get a core.
    pub(crate) run_queue_ns: u64,
    /// The times that ended in it; metrics without any are left out.
    pub(crate) times: BTreeMap<Metric, Packed>,
}

impl Interval {
    fn add(&mut self, other: &Self) {
        self.responses.add(other.responses);
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.connections += other.connections;
        self.connects += other.connects;
        self.cpu_ns += other.cpu_ns;
        self.cpu_max_ns = self.cpu_max_ns.max(other.cpu_max_ns);
        self.run_queue_ns += other.run_queue_ns;
        for (&metric, times) in &other.times {
            match self.times.get_mut(&metric) {
                Some(sum) => sum.add(times),
                None => drop(self.times.insert(metric, times.clone())),
            }
        }
    }
}

/// One fault, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FaultDetail {
    pub(crate) kind: FaultKind,
    /// From the beginning of the measurement; negative in the warm-up.
    pub(crate) at_ms: i64,
    pub(crate) connection: u32,
    /// What was received, and what was expected.
    pub(crate) what: String,
}

/// One connection on which the server owed answers and sent nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StallDetail {
    pub(crate) connection: u32,
    /// When the last byte arrived, from the beginning of the measurement; negative in the warm-up.
    pub(crate) since_ms: i64,
    pub(crate) lasted_ms: u64,
    /// Bytes that had come on this connection.
    pub(crate) bytes: u64,
    /// What was outstanding, the oldest first, as in `urgent 2/7, 3 more`.
    pub(crate) outstanding: String,
}

/// Everything that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    /// Requests that were written while measuring.
    pub(crate) requests: PerClass,
    /// Requests of an open loop that were due while measuring, and how many of these were written.
    pub(crate) due: u64,
    pub(crate) due_written: u64,
    /// Responses that ended while measuring.
    pub(crate) responses: PerClass,
    /// Their bytes on the wire, markers and headers included.
    pub(crate) bytes: u64,
    /// Responses before that.
    pub(crate) warmup_responses: u64,
    /// Without an answer when the time was up: recorded as at least that slow.
    pub(crate) in_flight_at_end: PerClass,
    /// Of these, due but not even written.
    pub(crate) unwritten_at_end: u64,
    /// Containers whose checksum was compared, and containers compared byte by byte.
    pub(crate) crc_checked: u64,
    pub(crate) bytes_checked: u64,
    /// Connections up at once, at most.
    pub(crate) connections_max: u64,
    /// Threads that recorded.
    pub(crate) workers: u32,
    /// Their CPU time while measuring, together and of the busiest.
    pub(crate) cpu_ns: u64,
    pub(crate) cpu_max_ns: u64,
    /// Time for which they could have run and had no core, together and of the one with most.
    pub(crate) run_queue_ns: u64,
    pub(crate) run_queue_max_ns: u64,
    /// Time for which workers did nothing although there was something to do: the process was
    /// stopped, or had no core. All pauses of 10 ms and more of the worker that had most of them,
    /// and the longest.
    pub(crate) paused_ns: u64,
    pub(crate) paused_max_ns: u64,
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    pub(crate) faults: BTreeMap<FaultKind, u64>,
    /// The first of them.
    pub(crate) fault_details: Vec<FaultDetail>,
    pub(crate) stalls: u64,
    /// The first of them.
    pub(crate) stall_details: Vec<StallDetail>,
    pub(crate) times: BTreeMap<Metric, Times>,
    pub(crate) intervals: Vec<Interval>,
}

impl Stats {
    /// Adds another's: histograms add, counts add, intervals add by their start.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.add(other);
        // Workers and machines are there at the same time.
        self.connections_max += other.connections_max;
        self.workers += other.workers;
        self.cpu_max_ns = self.cpu_max_ns.max(other.cpu_max_ns);
        self.run_queue_max_ns = self.run_queue_max_ns.max(other.run_queue_max_ns);
        self.paused_ns = self.paused_ns.max(other.paused_ns);
        let intervals = std::mem::take(&mut self.intervals);
        let mut by_start: BTreeMap<u64, Interval> =
            intervals.into_iter().map(|interval| (interval.start_ms, interval)).collect();
        for interval in &other.intervals {
            let empty = || Interval {
                start_ms: interval.start_ms,
                length_ms: interval.length_ms,
                ..Interval::default()
            };
            by_start.entry(interval.start_ms).or_insert_with(empty).add(interval);
        }
        self.intervals = by_start.into_values().collect();
    }

    /// Adds what was recorded after it, from `at_ms` on.
    pub(crate) fn follow(&mut self, other: &Self, at_ms: u64) {
        self.add(other);
        self.connections_max = self.connections_max.max(other.connections_max);
        self.workers = self.workers.max(other.workers);
        self.cpu_max_ns += other.cpu_max_ns;
        self.run_queue_max_ns += other.run_queue_max_ns;
        self.paused_ns += other.paused_ns;
        self.intervals.extend(other.intervals.iter().cloned().map(|mut interval| {
            interval.start_ms += at_ms;
            interval
        }));
    }

    /// What adds in the same way, at the same time or one after the other.
    fn add(&mut self, other: &Self) {
        self.requests.add(other.requests);
        self.due += other.due;
        self.due_written += other.due_written;
        self.responses.add(other.responses);
        self.bytes += other.bytes;
        self.warmup_responses += other.warmup_responses;
        self.in_flight_at_end.add(other.in_flight_at_end);
        self.unwritten_at_end += other.unwritten_at_end;
        self.crc_checked += other.crc_checked;
        self.bytes_checked += other.bytes_checked;
        self.cpu_ns += other.cpu_ns;
        self.run_queue_ns += other.run_queue_ns;
        self.paused_max_ns = self.paused_max_ns.max(other.paused_max_ns);
        self.stalls += other.stalls;
        add_counts(&mut self.outcomes, &other.outcomes);
        add_counts(&mut self.faults, &other.faults);
        add_details(&mut self.fault_details, &other.fault_details);
        add_details(&mut self.stall_details, &other.stall_details);
        for (&metric, times) in &other.times {
            self.times.entry(metric).or_insert_with(Times::new).add(times);
        }
    }

    /// Cuts the last interval where the measurement ended. What was recorded in the moment after
    /// belongs to it too.
    pub(crate) fn end_at(&mut self, measured_ms: u64) {
        let is_over = |interval: &Interval| interval.start_ms >= measured_ms;
        while self.intervals.len() > 1 && self.intervals.last().is_some_and(is_over) {
            let after = self.intervals.pop().unwrap_or_default();
            if let Some(last) = self.intervals.last_mut() {
                let connections = after.connections;
                last.add(&after);
                last.connections = connections;
            }
        }
        if let Some(last) = self.intervals.last_mut() {
            last.length_ms = last.length_ms.min(measured_ms.saturating_sub(last.start_ms)).max(1);
        }
    }

    /// The times of a metric, if there are any.
    pub(crate) fn times(&self, metric: Metric) -> Option<&Times> {
        self.times.get(&metric).filter(|times| !times.is_empty())
    }

    /// Faults of all kinds.
    pub(crate) fn faults_sum(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Faults, stalls, and outcomes that are errors.
    pub(crate) fn errors_sum(&self) -> u64 {
        self.faults_sum() + self.stalls + self.outcomes_sum(Outcome::is_error)
    }

    /// Statuses that refuse.
    pub(crate) fn refusals_sum(&self) -> u64 {
        self.outcomes_sum(Outcome::is_refusal)
    }

    fn outcomes_sum(&self, wanted: fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| wanted(**outcome)).map(|(_, n)| n).sum()
    }
}

fn add_counts<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (&key, count) in from {
        *to.entry(key).or_default() += count;
    }
}

fn add_details<T: Clone>(to: &mut Vec<T>, from: &[T]) {
    let room = DETAILS_MAX.saturating_sub(to.len());
    to.extend(from.iter().take(room).cloned());
}
