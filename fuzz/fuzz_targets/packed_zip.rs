//! `cargo +nightly fuzz run packed_zip`: docs/testing.md, "Fuzzing".
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| js5d_fuzz::run("packed_zip", data));
