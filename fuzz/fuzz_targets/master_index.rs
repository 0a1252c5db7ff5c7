//! `cargo +nightly fuzz run master_index`: docs/testing.md, "Fuzzing".
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| js5d_fuzz::run("master_index", data));
