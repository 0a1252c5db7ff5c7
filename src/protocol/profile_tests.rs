//! The table of profiles against docs/clients.md, and what may be set in it.

use super::*;
use MasterFormat::{Digests, Lengths, Original, Versioned};
use std::collections::BTreeSet;

#[test]
fn the_table_is_in_order_and_without_contradictions() {
    let table = table::all();
    for pair in table.windows(2) {
        assert!(pair[0].builds.end() < pair[1].builds.start(), "{} and next", pair[0].name);
    }
    for profile in &table {
        profile.check().unwrap();
    }
    let names: BTreeSet<_> = table.iter().map(|profile| profile.name.clone()).collect();
    assert_eq!(names.len(), table.len());
}

#[test]
fn a_client_is_named_by_its_build_or_its_profile() {
    for (text, name, build) in [
        ("550", "rs2-530", 550),
        ("rs2-530", "rs2-530", 530),
        ("rs2-718", "rs2-718", 718),
        ("718", "rs2-718", 718),
        ("osrs", "osrs", 1),
        ("oldschool", "osrs-223", 223),
        ("nxt", "nxt-926", 926),
        ("4000000000", "nxt-926", 4_000_000_000),
    ] {
        let (profile, found) = table::client(text).expect(text);
        assert_eq!((&*profile.name, found), (name, build), "{text}");
    }
    for wrong in ["", "0", "800", "rs2", "RS2-530", "-1"] {
        assert_eq!(table::client(wrong), None, "{wrong}");
    }
    let names = table::names(&table::all());
    assert!(names.starts_with("osrs, osrs-223, ") && names.ends_with(", nxt"), "{names}");
}

/// A build, its handshake, the number of integers, the length of messages, header and block, where
/// the prefetch bit is, the master index, requests in flight, the status to a bad token, whether it
/// lets a response be broken off.
type Row = (
    u32,
    &'static str,
    usize,
    &'static str,
    &'static str,
    &'static str,
    MasterFormat,
    &'static str,
    &'static str,
    &'static str,
);

/// What docs/clients.md says.
const ROWS: [Row; 17] = [
    (1, "fixed", 0, "4", "marked-3", "never", Versioned, "200,200", "6", "false"),
    (222, "fixed", 0, "4", "marked-3", "never", Versioned, "200,200", "6", "false"),
    (223, "fixed-key", 0, "4", "marked-3", "never", Versioned, "200,200", "6", "false"),
    (435, "fixed", 0, "4", "marked-3", "by-first-op-6", Original, "20,20", "6", "false"),
    (474, "fixed", 0, "4", "marked-3", "by-first-op-6", Versioned, "20,20", "6", "false"),
    (508, "fixed", 0, "4", "marked-3", "by-first-op-6", Versioned, "20,20", "6", "true"),
    (530, "fixed", 0, "4", "marked-3", "type-bit", Versioned, "20,20", "6", "true"),
    (550, "fixed", 0, "4", "marked-3", "type-bit", Versioned, "20,20", "6", "true"),
    (634, "fixed", 27, "4", "marked-3", "type-bit", Digests, "20,20", "6", "true"),
    (667, "fixed", 27, "4", "marked-3", "type-bit", Digests, "20,20", "6", "true"),
    (718, "prefixed", 27, "6", "marked-5", "type-bit", Digests, "50,20", "6", "true"),
    (742, "prefixed", 26, "6", "marked-5", "type-bit", Digests, "50,20", "48", "true"),
    (831, "prefixed-either", 25, "6", "multi-512", "group-bit", Lengths, "500,500", "48", "false"),
    (
        876,
        "prefixed-language",
        26,
        "6",
        "multi-102400",
        "group-bit",
        Lengths,
        "500,500",
        "48",
        "false",
    ),
    (
        910,
        "prefixed-language",
        27,
        "6",
        "multi-102400",
        "group-bit",
        Lengths,
        "500,500",
        "48",
        "false",
    ),
    (
        918,
        "prefixed-language",
        31,
        "10",
        "multi-102400",
        "group-bit",
        Lengths,
        "500,500",
        "48",
        "false",
    ),
    (
        946,
        "prefixed-language",
        0,
        "10",
        "multi-102400",
        "group-bit",
        Lengths,
        "500,500",
        "48",
        "false",
    ),
];

#[test]
fn each_row_says_what_was_read_of_its_client() {
    let table = table::all();
    for (build, handshake, ints, frame, answer, mark, master, in_flight, bad_token, breaks) in ROWS
    {
        let profile = table.iter().find(|profile| profile.builds.contains(&build)).expect("a row");
        let field = |name| {
            let found = profile.fields().find(|(field, _)| *field == name);
            found.expect("a field").1
        };
        let master = master.to_string().to_lowercase();
        let expected = [
            ("handshake", handshake),
            ("frame", frame),
            ("answer", answer),
            ("mark", mark),
            ("master", &master),
            ("in_flight", in_flight),
            ("bad_token", bad_token),
            ("break_off", breaks),
        ];
        for (name, value) in expected {
            assert_eq!(field(name), value, "{name} of {build}");
        }
        assert_eq!(profile.ints.len(), ints, "{build}");
    }
    for nobodys in [0, 793, 830] {
        assert!(!table.iter().any(|profile| profile.builds.contains(&nobodys)), "{nobodys}");
    }
}

#[test]
fn what_is_printed_of_a_profile_sets_it() {
    for profile in table::all() {
        let mut copy = Profile { name: profile.name.clone(), ..Profile::build_550() };
        for (field, value) in profile.fields() {
            copy.set(field, &value).unwrap();
        }
        assert_eq!(copy, profile);
    }
    let mut profile = Profile::build_550();
    profile.set("ints", "5,").unwrap();
    assert_eq!(profile.ints, [5]);
    profile.set("ints", "1441, 78700,-1").unwrap();
    assert_eq!(profile.ints, [1441, 78_700, -1]);
    assert_eq!(show_of(&profile, "ints"), "1441,78700,-1");
}

fn show_of(profile: &Profile, name: &str) -> String {
    profile.fields().find(|(field, _)| *field == name).expect("a field").1
}

#[test]
fn a_wrong_value_is_told_what_is_wanted() {
    let cases = [
        ("framing", "x", "'framing' is no field of a profile; there are builds, handshake, "),
        ("frame", "5", "frame = '5': 4, 6 or 10 is wanted"),
        ("builds", "9..=5", "builds = '9..=5': a build (718) or a range (701..=741) is wanted"),
        ("builds", "1..5", "builds = '1..5': "),
        ("ints", "65", "ints = '65': how many (27), or "),
        ("opcodes", "0,1,5", "opcodes = '0,1,5': some of "),
        ("in_flight", "0,20", "in_flight = '0,20': "),
        ("answer", "marked", "answer = 'marked': marked-3, marked-5, multi-512 or "),
        ("index_flags", "16", "index_flags = '16': "),
    ];
    for (field, value, message) in cases {
        let error = Profile::build_550().set(field, value).expect_err(message);
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn fields_that_contradict_each_other_are_named() {
    let contradictions: [&[(&str, &str)]; 4] = [
        &[("answer", "multi-512")],
        &[("mark", "group-bit")],
        &[("answer", "multi-102400"), ("mark", "by-first-op-6")],
        &[("answer", "multi-512"), ("mark", "group-bit"), ("break_off", "true")],
    ];
    for fields in contradictions {
        let mut profile = Profile::build_550();
        for (field, value) in fields {
            profile.set(field, value).unwrap();
        }
        let error = profile.check().expect_err("a contradiction").to_string();
        assert!(error.starts_with("profile rs2-530: with an answer of "), "{error}");
    }
}

#[test]
fn what_is_admitted_decides_what_is_needed() {
    let admit = |builds| Clients::new(table::all(), builds, 200);
    let names = |builds| -> Vec<String> {
        let clients = admit(builds).expect("known builds");
        clients.profiles().iter().map(|profile| profile.name.to_string()).collect()
    };
    assert_eq!(names(Builds::only([550])), ["rs2-530"]);
    assert_eq!(names(Builds::Only(vec![530..=530, 634..=634])), ["rs2-530", "rs2-634"]);
    assert_eq!(names(Builds::Only(vec![1..=399])), ["osrs", "osrs-223"]);
    assert_eq!(names(Builds::Any).len(), table::all().len());
    let clients = admit(Builds::only([550])).expect("known");
    assert_eq!((clients.dialects(), clients.ask_wide()), (vec![Dialect::BUILD_550], false));
    let clients = admit(Builds::only([435, 550, 718, 742])).expect("known");
    let dialect = |framing, master| Dialect { framing, master };
    let expected = [
        dialect(Framing::Marked3, Original),
        Dialect::BUILD_550,
        dialect(Framing::Marked5, Digests),
    ];
    assert_eq!((&clients.dialects()[..], clients.ask_wide()), (&expected[..], true));
    for (builds, gap) in [(0..=5, (0, 0)), (790..=840, (793, 830)), (800..=810, (800, 810))] {
        let error = admit(Builds::Only(vec![builds])).expect_err("unknown builds");
        assert_eq!(error, ProfileError::UnknownBuilds { from: gap.0, to: gap.1 });
    }
}

#[test]
fn of_two_profiles_with_a_build_the_first_of_the_kind_counts() {
    let mut own = Profile { name: Cow::Borrowed("own"), builds: 718..=718, ..Profile::build_550() };
    own.ints = vec![7];
    let mut profiles = vec![own];
    profiles.extend(table::all());
    let clients = Clients::new(profiles, Builds::only([718]), 20).expect("known");
    let name = |admitted: Result<Admitted, Status>| {
        let number = usize::from(admitted.expect("admitted").number);
        (clients.profiles()[number].name.to_string(), clients.greeting(number).len())
    };
    assert_eq!(name(clients.admit_fixed(718)), ("own".into(), 4));
    let prefixed = Prefixed { build: 718, sub_build: 1, token: b"", language: None };
    assert_eq!(name(clients.admit_prefixed(&prefixed)), ("rs2-718".into(), 108));
}
