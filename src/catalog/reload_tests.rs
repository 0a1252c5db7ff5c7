//! The order of reloads, and their bounds. What is loaded is a byte.

use super::*;
use crate::catalog::{Report, Snapshot, SnapshotBuilder};
use crate::protocol::{MASTER_INDEX, frame};
use std::sync::mpsc::channel;
use std::thread;

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A snapshot whose master index is this byte.
fn snapshot(byte: u8) -> Snapshot {
    let mut builder = SnapshotBuilder::new(1, 100).expect("small");
    let at = builder.allocate(MASTER_INDEX, 6).expect("room");
    frame::place(builder.framed_mut(at), 0, &[0, 0, 0, 0, 1, byte]);
    builder.publish(MASTER_INDEX, at);
    builder.seal().expect("sealed")
}

/// Loads what comes; says when it begins, and how much memory it is given.
struct Steps {
    begins: Sender<u64>,
    loads: Receiver<Option<u8>>,
}

impl ReloadSteps for Steps {
    fn begin(&mut self) {}

    fn load(&mut self, memory_bytes_max: u64) -> Result<Loaded, ReloadError> {
        self.begins.send(memory_bytes_max).expect("the test waits");
        let byte = self.loads.recv().expect("the test says");
        let byte = byte.ok_or_else(|| ReloadError::new("no cache", "make one"))?;
        Ok(Loaded { snapshot: snapshot(byte), report: Report::new(Vec::new()) })
    }

    fn end(&mut self, _: &ReloadResult) {}
}

struct Bench {
    handle: Arc<SnapshotHandle>,
    reloader: Reloader,
    begins: Receiver<u64>,
    loads: Sender<Option<u8>>,
}

fn start(limits: ReloadLimits) -> Bench {
    let handle = Arc::new(SnapshotHandle::new(snapshot(0)));
    let (reloader, queue) = Reloader::new(Arc::clone(&handle), limits);
    let ((begins_sender, begins), (loads, loads_receiver)) = (channel(), channel());
    let mut steps = Steps { begins: begins_sender, loads: loads_receiver };
    thread::spawn(move || queue.run(&mut steps));
    Bench { handle, reloader, begins, loads }
}

const AMPLE: ReloadLimits = ReloadLimits { generations_max: 3, memory_bytes_max: 1 << 30 };

#[test]
fn requests_during_a_reload_are_answered_by_one_further_reload() {
    let bench = start(AMPLE);
    bench.reloader.request();
    bench.begins.recv_timeout(PATIENCE).expect("it begins");
    assert!(bench.reloader.status().is_running);
    // They come while it runs, and none of them is lost.
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let reloader = bench.reloader.clone();
            thread::spawn(move || reloader.reload())
        })
        .collect();
    bench.reloader.request();
    thread::sleep(Duration::from_millis(50));
    bench.loads.send(Some(1)).expect("it waits");
    bench.begins.recv_timeout(PATIENCE).expect("a second one begins");
    assert_eq!(bench.reloader.status().changed, 1);
    bench.loads.send(Some(2)).expect("it waits");
    for caller in callers {
        let done = caller.join().expect("no panic").expect("loaded");
        assert_eq!(done.swap, Swap::Replaced);
        assert_eq!(done.generation, bench.handle.load().generation());
    }
    assert!(bench.begins.recv_timeout(Duration::from_millis(50)).is_err(), "no third one");
    assert_eq!(bench.reloader.status().changed, 2);
}

#[test]
fn a_failed_reload_leaves_everything_and_says_why() {
    let bench = start(AMPLE);
    let before = bench.handle.load();
    bench.loads.send(None).expect("it waits");
    let error = bench.reloader.reload().expect_err("no cache");
    assert_eq!(error.to_string(), "no cache; make one");
    assert!(Arc::ptr_eq(&before, &bench.handle.load()));
    bench.loads.send(Some(0)).expect("it waits");
    assert_eq!(bench.reloader.reload().expect("loaded").swap, Swap::Unchanged);
    let status = bench.reloader.status();
    assert_eq!((status.changed, status.unchanged, status.failed), (0, 1, 1));
    assert!(status.last.expect("there was one").result.is_ok());
}

#[test]
fn generations_that_connections_hold_are_bounded() {
    let bench = start(AMPLE);
    let first = bench.handle.load();
    bench.loads.send(Some(1)).expect("it waits");
    bench.reloader.reload().expect("two");
    let second = bench.handle.load();
    bench.loads.send(Some(2)).expect("it waits");
    bench.reloader.reload().expect("three");
    let error = bench.reloader.reload().expect_err("a fourth");
    assert!(error.cause.contains("3 generations") && error.remedy.contains("wait"), "{error}");
    drop(first);
    bench.loads.send(Some(3)).expect("it waits");
    bench.reloader.reload().expect("three again");
    drop(second);
}

#[test]
fn the_memory_left_for_a_reload_depends_on_the_generations_alive() {
    let bench = start(ReloadLimits { generations_max: 3, memory_bytes_max: 10 << 20 });
    let used = bench.handle.load().memory_bytes();
    assert!(used >= 2 << 20, "a huge page at least: {used}");
    bench.loads.send(Some(1)).expect("it waits");
    bench.reloader.reload().expect("loaded");
    assert_eq!(bench.begins.recv_timeout(PATIENCE).expect("it began"), (10 << 20) - used);
}

#[test]
fn too_many_callers_are_told_to_come_back() {
    let bench = start(AMPLE);
    bench.reloader.request();
    bench.begins.recv_timeout(PATIENCE).expect("it begins");
    (0..2 * REQUESTS_MAX).for_each(|_| bench.reloader.request());
    let error = bench.reloader.reload().expect_err("too many");
    assert!(error.cause.contains("64 requests"), "{error}");
    bench.loads.send(Some(1)).expect("it waits");
    bench.begins.recv_timeout(PATIENCE).expect("the one that they wait for");
}
