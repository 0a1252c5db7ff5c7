//! A worker: one thread, one ring, its clients, and the loop that turns completions into
//! answers and answers into requests.

use super::client::Client;
use super::core::{Clock, Core, Op};
use super::pace::Arrivals;
use super::plan::{Plan, Start};
use super::tally::Tally;
use crate::machine::{pin_to, thread_usage};
use crate::stats::{Live, Recorder, Stats};
use crate::trace::Written;
use js5_ring::{Completion, Ring, Size};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

/// The buffers at first are enough for what arrives between two reads of the completions, and few
/// enough to stay in a core's cache. All of them are for thousands of small answers at once.
const RING: Size = Size {
    submissions: 2048,
    completions: 8192,
    buffers: 2048,
    buffers_at_first: 32,
    buffer_bytes: 64 * 1024,
};

/// How often a worker looks for stalls, publishes what the live line shows, and asks whether it
/// is to stop.
const HEARTBEAT_NS: u64 = 100_000_000;

/// Timers that are served, and arrivals that are handed out, before completions are looked at
/// again.
const TIMERS_AT_ONCE: usize = 64;
const CALLS_AT_ONCE: usize = 256;

/// What a worker comes back with.
pub(crate) struct Harvest {
    pub(crate) stats: Stats,
    pub(crate) written: Vec<Written>,
    pub(crate) connect_error: Option<String>,
    /// When it ended, on the run's clock.
    pub(crate) end_ns: u64,
}

/// Runs the clients of worker `index` until the plan, or `stop`, ends it.
///
/// # Errors
/// There is no ring, or it failed.
pub(crate) fn run(
    plan: &Arc<Plan>,
    index: u32,
    gate: &Gate,
    live: &Live,
    stop: &AtomicBool,
) -> io::Result<Harvest> {
    let prepared = prepare(plan, index);
    // A worker that failed to prepare must not keep the others waiting.
    let clock = gate.pass();
    let mut worker = prepared?;
    worker.core.begin(clock);
    worker.run(live, stop)?;
    Ok(worker.harvest(live))
}

fn prepare(plan: &Arc<Plan>, index: u32) -> io::Result<Worker> {
    if !plan.pin.is_empty() {
        // Of all processes' workers, so that no two share a core while there are enough.
        let place = plan.part.index * plan.threads + index;
        pin_to(plan.pin[place as usize % plan.pin.len()])?;
    }
    let ring = Ring::new(RING)?;
    let tally = Tally::new(Recorder::new(plan.warmup_ns, plan.interval_ns));
    let core = Core::new(ring, Arrivals::new(plan, index), tally, plan);
    let numbers = plan.clients_of(index);
    let clients = (0..).zip(numbers).map(|(slot, number)| Client::new(slot, number, plan));
    let (clients, completions) = (clients.collect(), Vec::new());
    Ok(Worker { core, clients, completions, called: Vec::new() })
}

/// Where workers wait for each other and for the start, so that the time in which rings and
/// clients are made is not measured as latency.
pub(crate) struct Gate {
    all_ready: Barrier,
    start: Start,
    begun: OnceLock<Instant>,
}

impl Gate {
    pub(crate) fn new(workers: u32, start: Start) -> Self {
        let all_ready = Barrier::new(workers as usize);
        Self { all_ready, start, begun: OnceLock::new() }
    }

    /// When the run began.
    pub(crate) fn begun(&self) -> Instant {
        *self.begun.get_or_init(|| match self.start {
            Start::At(instant) => instant,
            Start::WhenReady => Instant::now(),
        })
    }

    fn pass(&self) -> Clock {
        self.all_ready.wait();
        let start = self.begun();
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        Clock { start }
    }
}

struct Worker {
    core: Core,
    clients: Vec<Client>,
    completions: Vec<Completion>,
    /// Clients that have something to send because the pace has called.
    called: Vec<u32>,
}

impl Worker {
    fn run(&mut self, live: &Live, stop: &AtomicBool) -> io::Result<()> {
        let plan = Arc::clone(&self.core.plan);
        let end_ns = plan.duration_ns.map_or(u64::MAX, |ns| plan.warmup_ns.saturating_add(ns));
        let mut heartbeat_ns = 0;
        let mut own_stall = plan.own_stall;
        let foreground = self.clients.iter().filter(|c| c.is_foreground(&plan)).count();
        for client in &mut self.clients {
            client.start(&mut self.core);
        }
        loop {
            let now = self.core.tick();
            if now >= end_ns || self.has_ended(foreground) {
                return Ok(());
            }
            if now >= heartbeat_ns {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.heartbeat(live);
                heartbeat_ns = now + HEARTBEAT_NS;
            }
            if let Some(stall) = own_stall.filter(|stall| now >= stall.at_ns) {
                std::thread::sleep(Duration::from_nanos(stall.length_ns));
                own_stall = None;
            }
            let served_all = self.serve_timers();
            let called_all = self.serve_calls();
            self.keep_books();
            self.open_queued();
            let own_stall_ns = own_stall.map(|stall| stall.at_ns);
            let next = [self.core.timers.next_ns(), self.core.arrivals.next_ns(), own_stall_ns];
            let next_ns = next.into_iter().flatten().min().unwrap_or(u64::MAX);
            let wake_ns = next_ns.min(heartbeat_ns).min(end_ns);
            let now = self.core.tick();
            let is_idle = served_all && called_all;
            self.core.wait(if is_idle { wake_ns.saturating_sub(now) } else { 0 })?;
            self.serve_completions();
        }
    }

    /// Whether no client has anything left to do. While a pace is to be held, clients that have
    /// given up do not end the run: what is due and not asked is what it shows.
    fn has_ended(&self, foreground: usize) -> bool {
        let Core { plan, finished, given_up, .. } = &self.core;
        let is_missed = *given_up > 0 && plan.pace.is_some() && plan.duration_ns.is_some();
        *finished == foreground && plan.may_end_early(foreground) && !is_missed
    }

    fn heartbeat(&mut self, live: &Live) {
        let Self { core, clients, .. } = self;
        for client in clients {
            client.watch(core);
        }
        core.tally.recorder.publish(live);
    }

    /// Lets the recorder do a small piece of what waits.
    fn keep_books(&mut self) {
        let Core { tally, now_ns, .. } = &mut self.core;
        if tally.recorder.tick(*now_ns) {
            let (cpu_ns, run_queue_ns) = thread_usage();
            tally.recorder.usage(*now_ns, cpu_ns, run_queue_ns);
        }
    }

    /// True if none is left that is due.
    fn serve_timers(&mut self) -> bool {
        let Self { core, clients, .. } = self;
        for _ in 0..TIMERS_AT_ONCE {
            let Some((due_ns, slot)) = core.timers.pop_due(core.now_ns) else { return true };
            if let Some(client) = clients.get_mut(slot as usize) {
                client.on_timer(core, due_ns);
            }
        }
        false
    }

    /// Hands out what is due to clients that are ready. True if none is left.
    fn serve_calls(&mut self) -> bool {
        let Self { core, clients, called, .. } = self;
        let mut is_done = false;
        for _ in 0..CALLS_AT_ONCE {
            let Some(call) = core.arrivals.call(core.now_ns) else {
                is_done = true;
                break;
            };
            let client = clients.get_mut(call.slot as usize);
            if client.is_some_and(|client| client.on_call(core, &call)) {
                core.arrivals.taken(&call);
                called.push(call.slot);
            }
        }
        // One send for all that a client was called for.
        called.sort_unstable();
        called.dedup();
        for slot in called.drain(..) {
            if let Some(client) = clients.get_mut(slot as usize) {
                client.flush(core);
            }
        }
        is_done
    }

    fn open_queued(&mut self) {
        let Self { core, clients, .. } = self;
        while core.opening < core.plan.opening.pending_max {
            let Some(slot) = core.queued.pop_front() else { return };
            if let Some(client) = clients.get_mut(slot as usize) {
                client.open(core);
            }
        }
    }

    fn serve_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.core.ring.completions(&mut completions);
        let mut without_buffer = 0;
        for completion in completions.drain(..) {
            self.core.tick();
            without_buffer += usize::from(completion.result == -libc::ENOBUFS);
            self.serve(completion);
        }
        if without_buffer > 2 * usize::from(self.core.ring.buffers_in_use()) {
            self.core.ring.grow();
        }
        self.completions = completions;
    }

    fn serve(&mut self, completion: Completion) {
        let Completion { user_data, result, mut buffer, more } = completion;
        let (slot, op) = Op::parse(user_data);
        let Self { core, clients, .. } = self;
        let client = clients.get_mut(slot as usize);
        if let Some(client) = client {
            match op {
                Op::Writable => client.on_writable(core),
                Op::Cancel => {}
                Op::Receive => {
                    if !more {
                        client.receive_ended();
                    }
                    let is_out_of_buffers = result == -libc::ENOBUFS;
                    if result > 0 {
                        client.on_bytes(core, &mut buffer);
                    } else if !is_out_of_buffers {
                        client.on_end(core, -result);
                    }
                    client.received(core);
                }
            }
        }
        core.ring.give_back(&mut buffer);
    }

    fn harvest(mut self, live: &Live) -> Harvest {
        let end_ns = self.core.tick();
        // Read before the ring goes down, which costs CPU time that is not the run's.
        let (cpu_ns, run_queue_ns) = thread_usage();
        for client in &mut self.clients {
            client.end(&mut self.core);
        }
        let Self { core, clients, .. } = self;
        let Core { ring, mut tally, written, arrivals, .. } = core;
        drop(ring);
        drop(clients);
        arrivals.unwritten(end_ns, |class, due_ns, count| {
            tally.recorder.due(due_ns, count, false);
            tally.unwritten(class, due_ns, count);
        });
        tally.recorder.usage(end_ns, cpu_ns, run_queue_ns);
        tally.recorder.publish(live);
        Harvest {
            stats: tally.recorder.finish(end_ns),
            written: written.unwrap_or_default(),
            connect_error: tally.connect_error,
            end_ns,
        }
    }
}
