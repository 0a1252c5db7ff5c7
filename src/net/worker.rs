//! A worker: one thread, one ring, its own listeners and connections.
//!
//! Its heartbeat drives every deadline and publishes the counters. The runtime submits operations
//! when its thread parks and ignores a failure there; a heartbeat wakes the thread, so that it
//! submits them again.

use super::accept::{accept, stop_listening};
use super::config::ServeConfig;
use super::connections::Connections;
use super::control::{Control, millis};
use super::count::{Close, LogState, Published, add};
use super::crowd::Crowd;
use super::driver::{HEARTBEAT_MS, Readiness, Runtime, WORKER, spawn};
use super::listener::Listener;
use super::shared::Shared;
use super::sweep::sweep;
use crate::platform::cpu;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// A worker is busy if its thread runs for a larger share of the time, in percent.
const BUSY_PERCENT: u32 = 60;

/// What the tasks of a worker share.
struct Worker {
    shared: Shared,
    connections: Connections,
    /// Notified at each heartbeat.
    beaten: Notify,
}

/// Runs a worker on the calling thread until it has drained. `ready` is called once its ring is
/// set up and connections are accepted.
///
/// # Errors
/// Its ring cannot be set up.
pub fn run(
    config: Arc<ServeConfig>,
    listeners: Vec<Listener>,
    control: Arc<Control>,
    published: Arc<Published>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let runtime = Runtime::new(config.driver, WORKER)?;
    let worker = Rc::new(Worker {
        shared: Shared::new(config),
        connections: Connections::default(),
        beaten: Notify::new(),
    });
    let listeners: Vec<_> = listeners.into_iter().map(Rc::new).collect();
    runtime.block_on(async move {
        spawn(Readiness::new()?.wake_readable());
        worker.start(&listeners, &published);
        ready();
        worker.beat(listeners, &control, &published).await;
        published.pulse.end();
        Ok(())
    })
}

impl Worker {
    /// Starts the tasks that run beside the heartbeat.
    fn start(self: &Rc<Self>, listeners: &[Rc<Listener>], published: &Arc<Published>) {
        spawn(Rc::clone(&self.shared.turns).begin_turns());
        if let Some(egress) = &self.shared.egress {
            spawn(Rc::clone(egress).collect_grants());
        }
        let (worker, published) = (Rc::clone(self), Arc::clone(published));
        spawn(async move {
            sweep(&worker.connections, &worker.shared, &worker.beaten, &published).await;
        });
        let worker = Rc::clone(self);
        spawn(async move { worker.connections.step_ready(&worker.shared).await });
        let worker = Rc::clone(self);
        spawn(async move { worker.connections.submit_again().await });
        for listener in listeners {
            let (worker, listener) = (Rc::clone(self), Rc::clone(listener));
            let accepting = &self.shared.accepting;
            accepting.set(accepting.get() + 1);
            spawn(async move { accept(&listener, &worker.connections, &worker.shared).await });
        }
    }

    /// The heartbeat, every [`HEARTBEAT_MS`]: moves the clock on, follows the course, starts the
    /// sweep, writes the log and publishes the counters. Returns when the worker has drained.
    async fn beat(
        &self,
        mut listeners: Vec<Rc<Listener>>,
        control: &Control,
        published: &Published,
    ) {
        let Self { shared, connections, beaten } = self;
        let interval = Duration::from_millis(HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ran = cpu::thread_time();
        let (mut last, mut drain_ms) = (Instant::now(), 0);
        let (mut logged, mut crowd) = (LogState::default(), Crowd::default());
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed();
            last = Instant::now();
            if elapsed > interval * 2 {
                add(&shared.counters.late_heartbeats, 1);
            }
            let ran_before = std::mem::replace(&mut ran, cpu::thread_time());
            shared.set_busy(ran.saturating_sub(ran_before) > elapsed * BUSY_PERCENT / 100);
            let step = elapsed.min(interval * 2);
            let now_ms = shared.now_ms() + u64::try_from(step.as_millis()).unwrap_or(HEARTBEAT_MS);
            shared.set_now_ms(now_ms);
            if shared.follow(control.course()) {
                drain_ms = now_ms;
                stop_listening(std::mem::take(&mut listeners));
                connections.wake_all();
            }
            beaten.notify_one();
            logged.report(&shared.config.log_gates, &shared.counters, &shared.notes, now_ms);
            let open = connections.len() as u64;
            shared.counters.connections.set(open);
            crowd.beat(open, shared.is_busy());
            shared.turns.beat();
            shared.counters.reckon_queued();
            shared.egress.iter().for_each(|egress| egress.count_waiting(&shared.counters));
            shared.sampler.beat(&shared.counters);
            published.pulse.beat(last);
            shared.counters.publish(published);
            if shared.is_draining() {
                if connections.is_empty() && shared.accepting.get() == 0 {
                    return;
                }
                if now_ms.saturating_sub(drain_ms) > millis(shared.config.limits.drain_timeout) {
                    shared.drain_timed_out.set(true);
                    connections.cut_all(Close::Drain);
                }
            }
        }
    }
}
