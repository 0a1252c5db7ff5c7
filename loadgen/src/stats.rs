//! What a worker records, one [`Recorder`] each: no locks, no allocation for a response.
//!
//! A response goes into the histograms of the current interval and nowhere else: three additions
//! and a comparison of times. When an interval ends its histograms change places with a second
//! set, and [`Recorder::tick`] packs those one at a time, when the worker has nothing to do:
//! packing ten at once would be seen in the worker's own latencies. Totals are sums of intervals.
//!
//! Latency counts requests that were due within the measurement. Throughput counts responses that
//! ended within it. So a request that was due in the warm-up and answered after it counts for
//! throughput and not for latency.

pub(crate) mod histogram;
pub(crate) mod names;
pub(crate) mod series;

pub(crate) use histogram::Times;
pub(crate) use names::{FaultKind, Metric, Outcome};
pub(crate) use series::{FaultDetail, Interval, StallDetail, Stats};

use js5d::protocol::Class;
use series::DETAILS_MAX;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const NS_PER_MS: u64 = 1_000_000;

/// Intervals of one length; those that follow are ten times as long, so that a run of days keeps
/// its memory. A function of time alone: all workers and machines cut at the same moments.
const INTERVALS_PER_LENGTH: u64 = 1200;

type Set = Box<[Times; Metric::ALL.len()]>;

fn empty_set() -> Set {
    Box::new(std::array::from_fn(|_| Times::new()))
}

/// What one worker records.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Beginning of the measurement, on the run's clock; what ends before is warm-up.
    start_ns: u64,
    /// The length of the first intervals.
    interval_ns: u64,
    /// The end of the current interval.
    interval_end_ns: u64,
    /// The current interval, and its times.
    interval: Interval,
    times: Set,
    /// Times of the last interval of `stats` from this metric on; empty before it.
    unpacked: Set,
    unpacked_from: usize,
    /// What has ended. Its totals are summed at the end.
    stats: Stats,
    connections: u64,
    warmup_bytes: u64,
    /// How many responses came, warm-up included, and the sum of their service times.
    answered: u64,
    answered_ns: u64,
    /// The last sample of [`Recorder::usage`]: CPU time and run-queue delay.
    usage_ns: Option<(u64, u64)>,
    usage_due: bool,
    /// p99 of the responses of the last interval, the slower class.
    p99_ns: u64,
}

impl Recorder {
    /// Measures from `start_ns` on, in intervals of `interval_ns`.
    pub(crate) fn new(start_ns: u64, interval_ns: u64) -> Self {
        let mut recorder = Self {
            start_ns,
            interval_ns: interval_ns.max(NS_PER_MS),
            interval_end_ns: 0,
            interval: Interval::default(),
            times: empty_set(),
            unpacked: empty_set(),
            unpacked_from: Metric::ALL.len(),
            stats: Stats::default(),
            connections: 0,
            warmup_bytes: 0,
            answered: 0,
            answered_ns: 0,
            usage_ns: None,
            usage_due: true,
            p99_ns: 0,
        };
        recorder.begin_interval(start_ns);
        recorder
    }

    /// A request was written.
    #[inline]
    pub(crate) fn request(&mut self, class: Class, written_ns: u64) {
        if written_ns >= self.start_ns {
            *self.stats.requests.of(class) += 1;
        }
    }

    /// Requests of an open loop were due, and were written or not: what was offered, and how much
    /// of it went out.
    #[inline]
    pub(crate) fn due(&mut self, due_ns: u64, count: u64, written: bool) {
        if due_ns >= self.start_ns {
            self.stats.due += count;
            self.stats.due_written += if written { count } else { 0 };
        }
    }

    /// The worker was kept from its work for this time, until now.
    pub(crate) fn pause(&mut self, length_ns: u64, now_ns: u64) {
        let length_ns = length_ns.min(now_ns.saturating_sub(self.start_ns));
        self.stats.paused_ns += length_ns;
        self.stats.paused_max_ns = self.stats.paused_max_ns.max(length_ns);
    }

    /// A response is complete; `bytes` is its length on the wire.
    #[inline]
    pub(crate) fn response(
        &mut self,
        class: Class,
        intended_ns: u64,
        written_ns: u64,
        done_ns: u64,
        bytes: u64,
    ) {
        self.answered += 1;
        self.answered_ns += done_ns.saturating_sub(written_ns);
        if done_ns < self.start_ns {
            self.stats.warmup_responses += 1;
            self.warmup_bytes += bytes;
            return;
        }
        if done_ns >= self.interval_end_ns {
            self.end_interval(done_ns);
        }
        *self.interval.responses.of(class) += 1;
        self.interval.bytes += bytes;
        if intended_ns < self.start_ns {
            return;
        }
        let [response, service, wait] = Metric::clocks(class);
        self.times[response.index()].record(done_ns.saturating_sub(intended_ns));
        self.times[service.index()].record(done_ns.saturating_sub(written_ns));
        self.times[wait.index()].record(written_ns.saturating_sub(intended_ns));
    }

    /// How long the server took for an answer on average, warm-up included; 0 if none came.
    pub(crate) fn answer_ns(&self) -> u64 {
        self.answered_ns.checked_div(self.answered).unwrap_or(0)
    }

    /// A request has no answer at the end: it is recorded as at least as slow as the time that it
    /// had.
    pub(crate) fn in_flight_at_end(
        &mut self,
        class: Class,
        intended_ns: u64,
        written_ns: u64,
        now_ns: u64,
    ) {
        if intended_ns < self.start_ns || intended_ns >= now_ns {
            return;
        }
        *self.stats.in_flight_at_end.of(class) += 1;
        let [response, service, wait] = Metric::clocks(class);
        self.times[response.index()].record(now_ns - intended_ns);
        self.times[service.index()].record(now_ns.saturating_sub(written_ns));
        self.times[wait.index()].record(written_ns.saturating_sub(intended_ns));
    }

    /// As many requests were due and could not even be written.
    pub(crate) fn unwritten_at_end(
        &mut self,
        class: Class,
        intended_ns: u64,
        now_ns: u64,
        count: u64,
    ) {
        if intended_ns < self.start_ns || intended_ns >= now_ns {
            return;
        }
        *self.stats.in_flight_at_end.of(class) += count;
        self.stats.unwritten_at_end += count;
        let [response, _, wait] = Metric::clocks(class);
        self.times[response.index()].record_many(now_ns - intended_ns, count);
        self.times[wait.index()].record_many(now_ns - intended_ns, count);
    }

    /// A connection is up; it was begun, or should have been, at `intended_ns`.
    pub(crate) fn connect(&mut self, intended_ns: u64, done_ns: u64) {
        self.time(Metric::Connect, intended_ns, done_ns);
        self.connected(done_ns);
    }

    /// A connection is up of which no time is measured.
    pub(crate) fn connected(&mut self, done_ns: u64) {
        self.advance(done_ns);
        self.connections += 1;
        self.stats.connections_max = self.stats.connections_max.max(self.connections);
        if done_ns >= self.start_ns {
            self.interval.connects += 1;
        }
        self.interval.connections = self.connections;
    }

    /// A connection that was up ends.
    pub(crate) fn disconnect(&mut self, now_ns: u64) {
        self.advance(now_ns);
        self.connections = self.connections.saturating_sub(1);
        self.interval.connections = self.connections;
    }

    /// The status was read.
    pub(crate) fn handshake(&mut self, written_ns: u64, done_ns: u64) {
        self.time(Metric::Handshake, written_ns, done_ns);
    }

    /// A client's piece of work is done.
    pub(crate) fn download(&mut self, begun_ns: u64, done_ns: u64) {
        self.time(Metric::Download, begun_ns, done_ns);
    }

    /// A request was written that could have been at `possible_ns`: it was due by then, and a
    /// window had room. The time since is the generator's lag.
    #[inline]
    pub(crate) fn lag(&mut self, possible_ns: u64, written_ns: u64) {
        self.time(Metric::Lag, possible_ns, written_ns);
    }

    /// How a connection, or an attempt at one, ended.
    pub(crate) fn outcome(&mut self, outcome: Outcome, now_ns: u64) {
        self.advance(now_ns);
        *self.stats.outcomes.entry(outcome).or_default() += 1;
        self.interval.errors += u64::from(outcome.is_error());
    }

    /// The server did what it must not; `what` is asked for only while details are kept.
    pub(crate) fn fault(
        &mut self,
        kind: FaultKind,
        connection: u32,
        now_ns: u64,
        what: impl FnOnce() -> String,
    ) {
        self.advance(now_ns);
        *self.stats.faults.entry(kind).or_default() += 1;
        self.interval.errors += 1;
        if self.stats.fault_details.len() < DETAILS_MAX {
            let at_ms = self.since_start_ms(now_ns);
            self.stats.fault_details.push(FaultDetail { kind, at_ms, connection, what: what() });
        }
    }

    /// A connection on which something is owed, and nothing has come since `since_ns`.
    pub(crate) fn stall(
        &mut self,
        connection: u32,
        since_ns: u64,
        now_ns: u64,
        bytes: u64,
        outstanding: impl FnOnce() -> String,
    ) {
        self.advance(now_ns);
        self.stats.stalls += 1;
        self.interval.errors += 1;
        if self.stats.stall_details.len() < DETAILS_MAX {
            let since_ms = self.since_start_ms(since_ns);
            let lasted_ms = now_ns.saturating_sub(since_ns) / NS_PER_MS;
            let outstanding = outstanding();
            let detail = StallDetail { connection, since_ms, lasted_ms, bytes, outstanding };
            self.stats.stall_details.push(detail);
        }
    }

    /// Containers were compared: by checksum, and byte by byte.
    pub(crate) fn checked(&mut self, by_crc: u64, by_bytes: u64) {
        self.stats.crc_checked += by_crc;
        self.stats.bytes_checked += by_bytes;
    }

    /// The worker's CPU time and run-queue delay since it began. Call it when `tick` says so,
    /// and before `finish`.
    pub(crate) fn usage(&mut self, now_ns: u64, cpu_ns: u64, run_queue_ns: u64) {
        let before = self.usage_ns.replace((cpu_ns, run_queue_ns));
        let Some((cpu_before, queue_before)) = before else { return };
        // A sample just after an interval's end speaks of that interval. The first one, just
        // after the beginning, speaks of the warm-up and has ended above.
        let interval_ns = self.interval.length_ms * NS_PER_MS;
        let is_early = now_ns < self.interval_end_ns.saturating_sub(interval_ns / 2);
        let interval = if is_early && !self.stats.intervals.is_empty() {
            self.stats.intervals.last_mut()
        } else {
            Some(&mut self.interval)
        };
        if let Some(interval) = interval {
            interval.cpu_ns += cpu_ns.saturating_sub(cpu_before);
            interval.cpu_max_ns = interval.cpu_ns;
            interval.run_queue_ns += run_queue_ns.saturating_sub(queue_before);
        }
    }

    /// Does a small piece of work that waits, if there is one; to be called often, when idle.
    /// True at the beginning, and once for each interval that has ended: time for `usage`.
    pub(crate) fn tick(&mut self, now_ns: u64) -> bool {
        self.advance(now_ns);
        self.pack_one();
        now_ns >= self.start_ns && std::mem::take(&mut self.usage_due)
    }

    /// What the live line shows.
    pub(crate) fn publish(&self, to: &Live) {
        let responses = self.stats.responses.sum() + self.interval.responses.sum();
        to.responses.store(responses + self.stats.warmup_responses, Relaxed);
        let bytes = self.stats.bytes + self.interval.bytes;
        to.bytes.store(bytes + self.warmup_bytes, Relaxed);
        to.connections.store(self.connections, Relaxed);
        to.errors.store(self.stats.errors_sum(), Relaxed);
        to.p99_ns.store(self.p99_ns, Relaxed);
    }

    /// All that was recorded; the measurement ended at `end_ns`.
    pub(crate) fn finish(mut self, end_ns: u64) -> Stats {
        self.end_interval(end_ns);
        while self.pack_one() {}
        let mut stats = self.stats;
        let measured_ms = end_ns.saturating_sub(self.start_ns) / NS_PER_MS;
        stats.end_at(measured_ms);
        stats.workers = 1;
        stats.cpu_ns = stats.intervals.iter().map(|interval| interval.cpu_ns).sum();
        stats.cpu_max_ns = stats.cpu_ns;
        stats.run_queue_ns = stats.intervals.iter().map(|interval| interval.run_queue_ns).sum();
        stats.run_queue_max_ns = stats.run_queue_ns;
        for interval in &stats.intervals {
            for (&metric, packed) in &interval.times {
                stats.times.entry(metric).or_insert_with(Times::new).add(&packed.unpack());
            }
        }
        stats
    }

    fn time(&mut self, metric: Metric, from_ns: u64, to_ns: u64) {
        if from_ns >= self.start_ns {
            self.advance(to_ns);
            self.times[metric.index()].record(to_ns.saturating_sub(from_ns));
        }
    }

    #[inline]
    fn advance(&mut self, now_ns: u64) {
        if now_ns >= self.interval_end_ns {
            self.end_interval(now_ns);
        }
    }

    fn since_start_ms(&self, ns: u64) -> i64 {
        (ns as i64 - self.start_ns as i64) / NS_PER_MS as i64
    }

    #[cold]
    fn end_interval(&mut self, now_ns: u64) {
        while self.pack_one() {}
        std::mem::swap(&mut self.times, &mut self.unpacked);
        self.unpacked_from = 0;
        let ended = std::mem::take(&mut self.interval);
        self.stats.responses.urgent += ended.responses.urgent;
        self.stats.responses.prefetch += ended.responses.prefetch;
        self.stats.bytes += ended.bytes;
        self.stats.intervals.push(ended);
        self.usage_due = true;
        self.begin_interval(now_ns);
    }

    /// Begins the interval that `now_ns` is in.
    fn begin_interval(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.start_ns);
        let mut length_ns = self.interval_ns;
        while since_ns / length_ns >= INTERVALS_PER_LENGTH {
            length_ns = length_ns.saturating_mul(10);
        }
        let start_ns = since_ns / length_ns * length_ns;
        self.interval_end_ns = self.start_ns.saturating_add(start_ns).saturating_add(length_ns);
        self.interval.start_ms = start_ns / NS_PER_MS;
        self.interval.length_ms = length_ns / NS_PER_MS;
        self.interval.connections = self.connections;
    }

    /// Packs one histogram of the interval that has ended; false if none is left.
    fn pack_one(&mut self) -> bool {
        let Some(&metric) = Metric::ALL.get(self.unpacked_from) else { return false };
        self.unpacked_from += 1;
        let times = &mut self.unpacked[metric.index()];
        if metric == Metric::Connect {
            self.p99_ns = 0;
        }
        if times.is_empty() {
            return true;
        }
        if matches!(metric, Metric::UrgentResponse | Metric::PrefetchResponse) {
            self.p99_ns = self.p99_ns.max(times.quantile(0.99));
        }
        if let Some(interval) = self.stats.intervals.last_mut() {
            interval.times.insert(metric, times.pack());
        }
        times.clear();
        true
    }
}

/// What the live line shows of one worker. On lines of its own: the worker alone writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    /// Since the beginning, warm-up included.
    pub(crate) responses: AtomicU64,
    /// As these.
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// p99 of the last interval's responses.
    pub(crate) p99_ns: AtomicU64,
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
