//! What the client's session accepts and refuses, and that both sessions agree.

use super::*;
use crate::protocol::frame::{append_keyed, frame};
use crate::protocol::profile::table;
use crate::protocol::session::{Response, ServerSession, Step};
use crate::protocol::{Builds, Clients, MASTER_INDEX};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Collects whole responses.
#[derive(Default)]
struct Collect {
    status: Option<Status>,
    /// Those that have begun, by what tells them apart.
    containers: BTreeMap<(GroupId, bool), Vec<u8>>,
    current: Option<(GroupId, bool)>,
    answered: Vec<(Class, GroupId, u32, Vec<u8>)>,
    resumed: u32,
}

impl ResponseSink<u32> for Collect {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, head: &Head) -> bool {
        self.current = Some((head.id, head.prefetch_bit));
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        let current = self.current.expect("it has begun");
        self.containers.entry(current).or_default().extend_from_slice(bytes);
    }

    fn resume(&mut self, answered: &Answered<u32>) {
        self.current = Some((answered.head.id, answered.head.prefetch_bit));
        self.resumed += 1;
    }

    fn broken_off(&mut self, broken: Answered<u32>) {
        self.containers.remove(&(broken.head.id, broken.head.prefetch_bit));
    }

    fn end(&mut self, answered: Answered<u32>) {
        let key = (answered.head.id, answered.head.prefetch_bit);
        let container = self.containers.remove(&key).expect("it has begun");
        self.answered.push((answered.class, answered.head.id, answered.token, container));
    }
}

fn asked(requests: &[(Class, u32)]) -> ClientSession<u32> {
    let mut client = ClientSession::new(Matching::ByPrefetchBit);
    let mut out = Vec::new();
    client.receive(&[0], &mut Collect::default()).expect("status 0");
    for (token, &(class, group)) in requests.iter().enumerate() {
        client.request(class, GroupId { archive: 2, group }, token as u32, &mut out);
    }
    client
}

/// An uncompressed container: `00`, the length, the payload.
fn plain_container(payload_len: usize) -> Vec<u8> {
    let mut container = vec![0];
    container.extend(u32::try_from(payload_len).expect("short").to_be_bytes());
    container.extend((0..payload_len).map(|i| (i * 31) as u8));
    container
}

#[test]
fn what_the_real_client_sends_is_sent() {
    let mut client = ClientSession::<()>::new(Matching::ByPrefetchBit);
    let mut out = Vec::new();
    client.handshake(550, &mut out);
    client.greet(false, 7, &mut out);
    client.request(Class::Urgent, MASTER_INDEX, (), &mut out);
    let expected = [15, 0, 0, 2, 38, 6, 0, 0, 3, 3, 0, 0, 0, 4, 7, 0, 0, 1, 255, 0, 255];
    assert_eq!(out, expected);
}

#[test]
fn a_server_that_errs_is_found_out() {
    let mut unframed = frame(GroupId { archive: 2, group: 3 }, &plain_container(600));
    unframed[512] = 0xFE;
    let id = GroupId { archive: 2, group: 3 };
    let cases: [(&str, Vec<u8>, Fault); 7] = [
        (
            "unasked",
            vec![2, 0, 9, 0, 0, 0, 0, 1],
            Fault::Unasked { id: GroupId { archive: 2, group: 9 } },
        ),
        ("class", vec![2, 0, 3, 0x80, 0, 0, 0, 1], Fault::WrongClass { id }),
        (
            "compression",
            vec![2, 0, 3, 4, 0, 0, 0, 1],
            Fault::UnknownCompression { id, compression: 4 },
        ),
        ("key", vec![7, 5, 6, 5, 5, 5, 5, 4], Fault::WrongKey { key: 5 }),
        ("length", vec![2, 0, 3, 0, 1, 0, 0, 0], Fault::WrongKey { key: 1 }),
        ("marker", unframed, Fault::WrongMarker { id, block: 1, found: 0xFE }),
        ("twice", [[2, 0, 3, 0, 0, 0, 0, 0]; 2].concat(), Fault::Unasked { id }),
    ];
    for (name, bytes, fault) in cases {
        let mut client = asked(&[(Class::Urgent, 3)]);
        assert_eq!(client.receive(&bytes, &mut Collect::default()), Err(fault), "{name}");
    }
    let mut client = ClientSession::<u32>::new(Matching::ByPrefetchBit);
    assert_eq!(client.receive(&[3], &mut Collect::default()), Err(Fault::UnknownStatus(3)));
    let mut client = ClientSession::<u32>::new(Matching::ByPrefetchBit);
    assert_eq!(client.receive(&[7, 1], &mut Collect::default()), Err(Fault::AfterRefusal));
}

#[test]
fn the_same_group_in_both_classes_is_answered_twice() {
    let mut client = asked(&[(Class::Prefetch, 3), (Class::Urgent, 3)]);
    let container = plain_container(2);
    let mut bytes = frame(GroupId { archive: 2, group: 3 }, &container);
    bytes.extend(frame(GroupId { archive: 2, group: 3 }, &container));
    bytes[10 + 3] |= 0x80;
    let mut sink = Collect::default();
    client.receive(&bytes, &mut sink).expect("both are right");
    let id = GroupId { archive: 2, group: 3 };
    let expected = [(Class::Urgent, id, 1, container.clone()), (Class::Prefetch, id, 0, container)];
    assert_eq!(sink.answered, expected);
    assert_eq!(client.outstanding().count(), 0);
}

#[test]
fn a_server_without_the_prefetch_bit_is_matched_by_group() {
    let mut client = ClientSession::new(Matching::ByGroup);
    client.receive(&[0], &mut Collect::default()).expect("status 0");
    let id = GroupId { archive: 2, group: 3 };
    client.request(Class::Prefetch, id, 1, &mut Vec::new());
    let mut sink = Collect::default();
    client.receive(&frame(id, &plain_container(2)), &mut sink).expect("answered");
    assert_eq!(sink.answered[0].0, Class::Prefetch);
}

/// Responses under way, urgent and prefetch: where blocks name theirs, they alternate.
type UnderWay = Vec<(Response, Vec<u8>, usize)>;

/// Sends the next piece of a response: all of it, or a block where blocks name their response.
fn send_piece(under_way: &mut UnderWay, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
    if under_way.is_empty() {
        return;
    }
    let place = random.usize(..under_way.len());
    let (response, framed, at) = &mut under_way[place];
    let framing = response.framing();
    let block_end = (*at / framing.block_len() + 1) * framing.block_len();
    let end = if framing.is_multi() { block_end.min(framed.len()) } else { framed.len() };
    append_keyed(out, &framed[*at..end], response.key());
    *at = end;
    if end == framed.len() {
        under_way.remove(place);
    }
}

/// One session pair over a pipe that splits and delays: the containers, a framing model and both
/// sessions must agree whatever the seed. Returns how many blocks were out of turn.
fn simulate(profile: &Profile, lens: &[usize], seed: u64) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let queue_len_max = random.usize(20..=40);
    let clients = Clients::new(vec![profile.clone()], Builds::Any, queue_len_max).expect("known");
    let mut server = ServerSession::new(Arc::new(clients), None);
    let mut client = ClientSession::of(profile);
    let group = |at: u32| if profile.asks_wide() { at * 65_536 } else { at };
    let containers: BTreeMap<u32, Vec<u8>> =
        (0..20).map(|at| (group(at), plain_container(lens[at as usize % lens.len()]))).collect();
    let (mut upstream, mut downstream) = (Vec::new(), Vec::new());
    let mut sink = Collect::default();
    let (mut asked, mut under_way) = (Vec::new(), UnderWay::new());
    client.handshake_with(*profile.builds.start(), b"token", &mut upstream);
    client.greet(random.bool(), random.u8(..), &mut upstream);
    let wanted = random.u32(1..60);
    while (sink.answered.len() as u32) < wanted {
        match random.u8(0..10) {
            0..=2 if (asked.len() as u32) < wanted => {
                let class = if random.bool() { Class::Urgent } else { Class::Prefetch };
                let id = GroupId { archive: 2, group: group(random.u32(0..20)) };
                client.request(class, id, asked.len() as u32, &mut upstream);
                asked.push((class, id));
            }
            3 => client.rekey(random.u8(..), &mut upstream),
            4..=6 => {
                let len = random.usize(0..=upstream.len());
                let taken = server.receive(&upstream[..len]).expect("a valid stream");
                upstream.drain(..taken);
            }
            7 if random.bool() || under_way.iter().any(|one| one.0.class() == Class::Urgent) => {
                send_piece(&mut under_way, &mut random, &mut downstream);
            }
            7 if under_way.is_empty() || server.queued().0 > 0 => match server.next_step() {
                Step::Status(status) => {
                    downstream.push(status.to_byte());
                    downstream.extend(server.greeting());
                    assert_eq!(server.profile(), Some(profile));
                }
                Step::Response(response) => {
                    assert_eq!(response.dialect(), profile.dialect());
                    let framing = response.framing();
                    let mut framed =
                        framing.frame(response.id(), &containers[&response.id().group]);
                    if response.prefetch_bit() {
                        framing.mark(&mut framed, 0);
                    }
                    // Begun at once, so that keys come in the order in which they were taken.
                    let mut begun = vec![(response, framed, 0)];
                    send_piece(&mut begun, &mut random, &mut downstream);
                    under_way.extend(begun);
                }
                Step::Idle | Step::Close(_) => {}
            },
            7 => {}
            _ => {
                let len = random.usize(0..=downstream.len());
                client.receive(&downstream[..len], &mut sink).expect("a correct server");
                downstream.drain(..len);
            }
        }
    }
    assert!(!client.is_mid_response() && client.outstanding().count() == 0);
    check_answers(profile, &mut sink, &asked, &containers);
    sink.resumed
}

fn check_answers(
    profile: &Profile,
    sink: &mut Collect,
    asked: &[(Class, GroupId)],
    containers: &BTreeMap<u32, Vec<u8>>,
) {
    sink.answered.sort_by_key(|answered| answered.2);
    let by_bit = !matches!(profile.mark, Mark::Never | Mark::ByFirstOp6);
    for ((class, id, token, container), (n, asked)) in
        sink.answered.iter().zip(asked.iter().enumerate())
    {
        // Without the bit a client cannot tell which of two requests for a group was answered.
        if by_bit {
            assert_eq!((*token as usize, *class, *id), (n, asked.0, asked.1));
        } else {
            assert_eq!((*token as usize, *id), (n, asked.1));
        }
        assert_eq!(container, &containers[&id.group]);
    }
}

#[test]
fn both_sessions_agree_over_any_pipe_in_every_profile() {
    let short = [0, 1, 500, 503, 504, 505, 1_009, 1_010, 1_015, 1_016, 3_000];
    let seeds = if cfg!(miri) { 1 } else { 300 };
    for profile in table::all() {
        let mut resumed = 0;
        for seed in 0..seeds {
            // The seed is in the panic's backtrace only if it is said here.
            let run = || simulate(&profile, &short, seed);
            match std::panic::catch_unwind(run) {
                Ok(blocks) => resumed += blocks,
                Err(_) => panic!("{} fails with seed {seed}", profile.name),
            }
        }
        if profile.framing == Framing::Multi512 && !cfg!(miri) {
            assert!(resumed > 1_000, "{resumed} blocks are no test of alternation");
        }
    }
}

#[test]
fn long_blocks_of_several_responses_alternate() {
    let profile = table::all().pop().expect("the youngest client");
    let lens = [1, 102_389, 102_390, 102_391, 204_785, 204_786, 300_000];
    let resumed: u32 =
        (0..if cfg!(miri) { 0 } else { 20 }).map(|seed| simulate(&profile, &lens, seed)).sum();
    assert!(resumed > 100 || cfg!(miri), "{resumed} blocks are no test of alternation");
}

#[test]
fn a_block_that_is_cut_short_is_a_fault() {
    let profile = table::all().into_iter().find(|profile| profile.framing == Framing::Multi512);
    let profile = profile.expect("a row");
    let mut client = ClientSession::of(&profile);
    let mut out = Vec::new();
    let id = |group| GroupId { archive: 2, group };
    let mut sink = Collect::default();
    client.receive(&[0], &mut sink).expect("status 0");
    client.receive(&[0; 100], &mut sink).expect("25 integers");
    client.request(Class::Urgent, id(1), 0, &mut out);
    client.request(Class::Prefetch, id(2), 1, &mut out);
    let framed = |group| Framing::Multi512.frame(id(group), &plain_container(1_000));
    // The other's header, where the first block has 100 bytes to go: taken for its content.
    let cut = [&framed(2)[..412], &framed(1)].concat();
    assert!(client.receive(&cut, &mut sink).is_err());
}

/// A prefetch response of two blocks of which one has come, an urgent one in between, and the
/// first once more, whole; under a key.
fn broken_off(between: &[u8], key: u8) -> Vec<u8> {
    let mut whole = frame(GroupId { archive: 2, group: 0 }, &plain_container(600));
    whole[3] |= 0x80;
    let wire = [&whole[..512], between, &whole].concat();
    wire.iter().map(|byte| byte ^ key).collect()
}

#[test]
fn a_prefetch_that_is_broken_off_for_an_urgent_one_stays_outstanding() {
    let urgent = [2, 0, 1, 0, 0, 0, 0, 1, 9];
    for key in [0, 7, 0xFF] {
        let mut client = asked(&[(Class::Prefetch, 0), (Class::Urgent, 1), (Class::Prefetch, 2)]);
        client.rekey(key, &mut Vec::new());
        let (mut sink, wire) = (Collect::default(), broken_off(&urgent, key));
        client.receive(&wire[..520], &mut sink).expect("a response in between");
        assert_eq!(client.outstanding_len(Class::Prefetch), 2, "both are to come, key {key}");
        client.receive(&wire[520..], &mut sink).expect("and the first again");
        let tokens: Vec<_> = sink.answered.iter().map(|answered| answered.2).collect();
        assert_eq!(tokens, [1, 0]);
        assert_eq!(sink.answered[1].3, plain_container(600), "whole");
    }
}

#[test]
fn what_is_no_urgent_response_where_a_marker_is_due_is_wrong() {
    let id = GroupId { archive: 2, group: 0 };
    let wrong = |found| Fault::WrongMarker { id, block: 1, found };
    let prefetch = [2, 0, 2, 0x80, 0, 0, 0, 1, 9];
    let unasked = [3, 0, 9, 0, 0, 0, 0, 1, 9];
    for (between, found) in [(prefetch, 2), (unasked, 3), ([0xFE; 9], 0xFE)] {
        let mut client = asked(&[(Class::Prefetch, 0), (Class::Prefetch, 2)]);
        let result = client.receive(&broken_off(&between, 0), &mut Collect::default());
        assert_eq!(result, Err(wrong(found)));
    }
    let urgent = broken_off(&[2, 0, 1, 0, 0, 0, 0, 1, 9], 0);
    let mut strict = asked(&[(Class::Prefetch, 0), (Class::Urgent, 1)]).without_break_offs();
    assert_eq!(strict.receive(&urgent, &mut Collect::default()), Err(wrong(2)));
    // An urgent response is never broken off.
    let mut client = asked(&[(Class::Urgent, 0), (Class::Urgent, 1)]);
    let mut wire = urgent;
    wire[3] = 0;
    assert_eq!(client.receive(&wire, &mut Collect::default()), Err(wrong(2)));
}

/// The keys that a client sets before each of its requests for groups 0, 1, …, and what a server
/// makes of them: the group and the key of each response.
#[test]
fn a_response_is_under_the_key_of_its_request_or_a_later_one() {
    let id = |group| GroupId { archive: 2, group };
    let old = |group, key, expected| Err(Fault::OldKey { id: id(group), key, expected });
    type Case = (&'static [&'static [u8]], &'static [(u32, u8)], Result<(), Fault>);
    let cases: [Case; 8] = [
        (&[&[7], &[]], &[(0, 7), (1, 7)], Ok(())),
        // It goes on without a key, as servers do that know none.
        (&[&[7]], &[(0, 0)], old(0, 0, 7)),
        (&[&[], &[7]], &[(0, 0), (1, 7)], Ok(())),
        (&[&[], &[7]], &[(0, 7), (1, 7)], Ok(())),
        (&[&[], &[7]], &[(1, 0)], old(1, 0, 7)),
        // The same key again, after another one.
        (&[&[5], &[7, 5]], &[(0, 5), (1, 5), (1, 5)], Err(Fault::Unasked { id: id(1) })),
        (&[&[5], &[7, 5], &[7]], &[(0, 5), (1, 5), (2, 5)], old(2, 5, 7)),
        (&[&[5, 0]], &[(0, 5)], old(0, 5, 0)),
    ];
    for (keys, responses, expected) in cases {
        let mut client = asked(&[]);
        for (group, keys) in (0..).zip(keys) {
            for &key in *keys {
                client.rekey(key, &mut Vec::new());
            }
            client.request(Class::Urgent, id(group), 0, &mut Vec::new());
        }
        let mut bytes = Vec::new();
        for &(group, key) in responses {
            append_keyed(&mut bytes, &frame(id(group), &plain_container(2)), key);
        }
        let result = client.receive(&bytes, &mut Collect::default());
        assert_eq!(result, expected, "{keys:?} {responses:?}");
    }
}

#[test]
fn a_client_that_knows_no_keys_reads_on_after_it_sent_one() {
    let mut client = ClientSession::of(&Profile { xor: false, ..Profile::build_550() });
    client.rekey(7, &mut Vec::new());
    client.request(Class::Urgent, GroupId { archive: 2, group: 3 }, 0, &mut Vec::new());
    let bytes = [0, 2, 0, 3, 0, 0, 0, 0, 1, 9];
    assert_eq!(client.receive(&bytes, &mut Collect::default()), Ok(()));
}

#[test]
fn without_the_prefetch_bit_a_response_is_to_the_request_that_its_key_fits() {
    let id = |group| GroupId { archive: 2, group };
    let mut client = ClientSession::new(Matching::ByGroup);
    client.receive(&[0], &mut Collect::default()).expect("status 0");
    for (key, class, group) in
        [(5, Class::Prefetch, 3), (128, Class::Urgent, 4), (5, Class::Urgent, 3)]
    {
        client.rekey(key, &mut Vec::new());
        client.request(class, id(group), u32::from(key), &mut Vec::new());
    }
    let mut bytes = Vec::new();
    for (group, key) in [(3, 5), (4, 128), (3, 5)] {
        append_keyed(&mut bytes, &frame(id(group), &plain_container(2)), key);
    }
    let mut sink = Collect::default();
    client.receive(&bytes, &mut sink).expect("a correct server");
    let classes: Vec<_> = sink.answered.iter().map(|answered| answered.0).collect();
    assert_eq!(classes, [Class::Prefetch, Class::Urgent, Class::Urgent]);
}
