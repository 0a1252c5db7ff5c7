//! Row 16 of docs/testing.md: each corrupt cache is named by its place and costs little.
//!
//! Alone in its process, whose memory it measures.

#[path = "../examples/reliability/rows/mod.rs"]
mod rows;

#[test]
fn each_corrupt_cache_is_named_by_its_place_and_costs_little() {
    let row = rows::find(16).expect("a row");
    rows::tell_of_panics();
    let outcome = rows::run(row, row.wanted(None), 1);
    assert_eq!(outcome.failure, None, "{}: {}", row.name, rows::again(row, 1));
    assert_eq!(outcome.done, row.count, "{} done", row.unit);
}
