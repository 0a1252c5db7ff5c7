//! `cargo +nightly fuzz run idx_file`: docs/testing.md, "Fuzzing".
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| js5d_fuzz::run("idx_file", data));
