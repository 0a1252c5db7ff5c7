//! Replays fuzz/corpus/ on the stable toolchain, and some random changes of it.

#[path = "../examples/reliability/rows/mod.rs"]
mod rows;

use rows::fuzz::{TARGETS, corpus};
use std::path::Path;

#[test]
fn every_committed_input_is_taken_by_its_target() {
    for target in &TARGETS {
        let inputs = corpus(target).expect(target.name);
        assert!(inputs.len() >= 2, "{}: a corpus says something", target.name);
        for input in inputs {
            (target.run)(&input);
        }
    }
}

#[test]
fn every_target_has_its_file_and_its_entry_for_cargo_fuzz() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("a manifest");
    for target in &TARGETS {
        let file = format!("fuzz_targets/{}.rs", target.name);
        let text = std::fs::read_to_string(fuzz.join(&file)).expect("a file");
        assert!(text.contains(&format!("run(\"{}\", data)", target.name)), "{file}");
        assert!(manifest.contains(&format!("path = \"{file}\"")), "{file} is no binary");
    }
}

#[test]
fn nothing_that_is_made_of_the_corpus_at_random_is_taken_wrongly() {
    let row = rows::find(1).expect("a row");
    rows::tell_of_panics();
    let wanted = row.wanted(Some(1));
    let outcome = rows::run(row, wanted, 1);
    assert_eq!(outcome.failure, None, "{}", rows::again(row, 1));
    assert!(outcome.done >= wanted, "{} of {wanted} {}", outcome.done, row.unit);
}
