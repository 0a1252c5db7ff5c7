//! The rows of docs/testing.md that need no process, with few cases each.
//!
//! The same code with the rows' own numbers is the example `reliability`. Row 16 measures the
//! memory of its process, and so has one of its own: tests/corrupt_caches.rs.

#[path = "../examples/reliability/rows/mod.rs"]
mod rows;

fn check(number: u8, cases: u64) {
    let row = rows::find(number).expect("a row");
    rows::tell_of_panics();
    let wanted = row.wanted(Some(cases));
    let outcome = rows::run(row, wanted, 1);
    if let Some((seed, what)) = outcome.failure {
        panic!("{}, seed {seed}: {what}\nagain: {}", row.name, rows::again(row, seed));
    }
    assert!(outcome.done >= wanted, "{}: {} done", row.name, outcome.done);
    assert!(rows::ROWS.iter().all(|row| row.count > 0 && !row.unit.is_empty()));
}

#[test]
fn any_split_of_a_stream_does_what_one_big_read_does() {
    check(2, 4000);
}

#[test]
fn every_length_is_framed_as_the_slow_model_does() {
    check(3, 4200);
}

#[test]
fn whatever_happens_between_them_both_ends_agree_with_the_model() {
    check(4, 3000);
}

#[test]
fn whatever_is_changed_in_a_cache_only_what_is_sound_is_served_and_all_of_that() {
    check(17, 2000);
}

#[test]
fn a_rekey_in_the_middle_of_a_queue_takes_effect_at_the_next_response() {
    check(19, 5000);
}

#[test]
fn of_caches_as_people_have_them_all_that_is_sound_is_served_and_all_damage_is_named() {
    check(27, 200);
}
