//! The hot paths by the clock, with bytes a second and allocations.
//!
//! `cargo bench --bench hot_paths`; a name behind `--` picks. Times are for comparing two
//! builds in turns on one machine; what CI holds fast are the counts of `instructions`.
#![allow(missing_docs, unreachable_pub, reason = "a benchmark has no interface")]

mod support;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use js5d::catalog::{DEMO_GROUPS, DEMO_SEED, Demo, LoadOptions, Source, load};
use js5d::protocol::master_index::{MasterEntry, MasterFormat, encode};
use std::hint::black_box;
use support::cases::{CASES, Case};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// One operation of a case: a read, a batch, a response.
#[divan::bench(args = CASES)]
fn hot_path(bencher: Bencher<'_, '_>, case: Case) {
    let mut operation = (case.prepare)();
    // The first operation grows buffers that every later one finds ready.
    operation();
    bencher.counter(BytesCount::new(case.bytes)).bench_local(operation);
}

/// The master index of a build 550 cache: 29 archives.
#[divan::bench]
fn master_index(bencher: Bencher<'_, '_>) {
    let entries: Vec<_> =
        (1..=29).map(|crc| MasterEntry { crc, version: crc, ..MasterEntry::default() }).collect();
    bencher
        .counter(ItemsCount::new(entries.len()))
        .bench_local(|| encode(MasterFormat::Versioned, black_box(&entries)));
}

/// From stored groups to a checked snapshot: what a start does once the files are read.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn catalog_build(bencher: Bencher<'_, '_>) {
    let demo = Demo::new(DEMO_GROUPS, DEMO_SEED);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bencher.counter(BytesCount::new(demo.data_bytes())).bench_local(|| {
        let mut progress = |_, _| {};
        let loading = load(black_box(&demo), LoadOptions::default(), &mut progress);
        runtime.block_on(loading).expect("a sound cache").snapshot
    });
}
