//! What the server's session promises, on hand-written bytes.

use super::*;
use crate::protocol::Builds;

fn profile() -> Arc<Clients> {
    Arc::new(Clients::like_550(Builds::only([550]), true, 20))
}

fn open_session() -> ServerSession {
    let mut session = ServerSession::new(profile(), None);
    assert_eq!(session.receive(&[15, 0, 0, 2, 38]), Ok(5));
    assert_eq!(session.next_step(), Step::Status(Status::Ok));
    session
}

fn response(class: Class, archive: u8, group: u32, key: u8) -> Step {
    let id = GroupId { archive, group };
    Step::Response(Response::new(id, class, class == Class::Prefetch, key))
}

#[test]
fn the_handshake_is_answered_by_build_and_admission() {
    let cases = [
        (None, [15, 0, 0, 2, 38], Status::Ok),
        (None, [15, 0, 0, 2, 39], Status::OutOfDate),
        (Some(Status::ServerFull), [15, 0, 0, 2, 38], Status::ServerFull),
        (Some(Status::TooManyConnections), [15, 0, 0, 0, 1], Status::TooManyConnections),
    ];
    for (refusal, bytes, expected) in cases {
        let mut session = ServerSession::new(profile(), refusal);
        // One byte at a time, as a slow line delivers them.
        for byte in bytes {
            assert_eq!(session.next_step(), Step::Idle);
            assert_eq!(session.receive(&[byte]), Ok(1));
        }
        assert_eq!(session.next_step(), Step::Status(expected));
        if expected != Status::Ok {
            assert_eq!(session.receive(&[1, 0, 0, 1, 9, 9]), Ok(6), "discarded");
            assert_eq!(session.next_step(), Step::Close(CloseCause::Refused(expected)));
        }
    }
}

#[test]
fn a_request_in_the_same_segment_as_the_handshake_is_served() {
    let mut session = ServerSession::new(profile(), None);
    let bytes = [15, 0, 0, 2, 38, 6, 0, 0, 3, 3, 0, 0, 0, 1, 255, 0, 255, 0, 7];
    assert_eq!(session.receive(&bytes), Ok(bytes.len()));
    assert_eq!(session.next_step(), Step::Status(Status::Ok));
    assert_eq!(session.next_step(), response(Class::Urgent, 255, 255, 0));
    assert_eq!(session.next_step(), Step::Idle, "two bytes of the next message are kept");
    assert_eq!(session.receive(&[1, 2]), Ok(2));
    assert_eq!(session.next_step(), response(Class::Prefetch, 7, 258, 0));
}

#[test]
fn urgent_overtakes_prefetch_and_nothing_is_merged() {
    let mut session = open_session();
    let bytes = [0, 7, 0, 1, 0, 7, 0, 2, 1, 7, 0, 1, 1, 7, 0, 1];
    assert_eq!(session.receive(&bytes), Ok(16));
    let order = [
        response(Class::Urgent, 7, 1, 0),
        response(Class::Urgent, 7, 1, 0),
        response(Class::Prefetch, 7, 1, 0),
        response(Class::Prefetch, 7, 2, 0),
        Step::Idle,
    ];
    assert_eq!(order.map(|_| session.next_step()), order);
}

#[test]
fn a_rekey_holds_for_every_response_not_yet_taken() {
    let mut session = open_session();
    session.receive(&[1, 0, 0, 1, 1, 0, 0, 2]).expect("two requests");
    assert_eq!(session.next_step(), response(Class::Urgent, 0, 1, 0));
    session.receive(&[4, 0xAA, 0, 0, 0, 0, 0, 3]).expect("a rekey and a request");
    assert_eq!(session.next_step(), response(Class::Urgent, 0, 2, 0xAA));
    assert_eq!(session.next_step(), response(Class::Prefetch, 0, 3, 0xAA));
}

#[test]
fn a_full_queue_stops_the_parser_and_loses_nothing() {
    let mut session = open_session();
    let bytes: Vec<u8> = (0..30).flat_map(|group| [0, 1, 0, group]).collect();
    assert_eq!(session.receive(&bytes), Ok(80), "20 of 30 requests");
    assert_eq!(session.receive(&bytes[80..]), Ok(0));
    assert_eq!(session.next_step(), response(Class::Prefetch, 1, 0, 0));
    assert_eq!(session.receive(&bytes[80..]), Ok(4));
    // A message in two parts, the second of which finds no room at first.
    assert_eq!(session.receive(&bytes[84..86]), Ok(2));
    assert_eq!(session.receive(&bytes[86..]), Ok(0));
    for group in 1..=20 {
        assert_eq!(session.next_step(), response(Class::Prefetch, 1, group, 0));
    }
    assert_eq!(session.receive(&bytes[86..]), Ok(34));
    for group in 21..30 {
        assert_eq!(session.next_step(), response(Class::Prefetch, 1, group, 0));
    }
    assert_eq!(session.next_step(), Step::Idle);
}

#[test]
fn violations_are_named() {
    let mut session = ServerSession::new(profile(), None);
    assert_eq!(session.receive(&[14, 0]), Err(Violation::NotJs5 { opcode: 14 }));
    let mut session = open_session();
    assert_eq!(session.receive(&[5, 0, 0, 0]), Err(Violation::UnknownOpcode { opcode: 5 }));
}

#[test]
fn a_disconnect_drops_the_queue_but_never_the_status() {
    let mut session = ServerSession::new(profile(), None);
    let bytes = [15, 0, 0, 2, 38, 1, 0, 0, 1, 7, 0, 0, 0, 1, 0, 0, 2];
    assert_eq!(session.receive(&bytes), Ok(bytes.len()));
    assert_eq!(session.next_step(), Step::Status(Status::Ok));
    assert_eq!(session.next_step(), Step::Close(CloseCause::Disconnected));
}

#[test]
fn any_split_of_the_stream_gives_the_same_responses() {
    let mut stream = vec![15, 0, 0, 2, 38, 6, 0, 0, 3, 2, 0, 0, 0];
    for group in 0..200_u16 {
        let [high, low] = group.to_be_bytes();
        stream.extend([(group % 3 == 0).into(), (group % 5) as u8, high, low]);
        if group % 50 == 49 {
            stream.extend([4, group as u8, 0, 0]);
        }
    }
    let run = |sizes: &mut dyn FnMut() -> usize| {
        let mut session = ServerSession::new(profile(), None);
        let (mut steps, mut at) = (Vec::new(), 0);
        while at < stream.len() {
            let end = stream.len().min(at + sizes());
            while at < end {
                at += session.receive(&stream[at..end]).expect("a valid stream");
                // One message at a time may be pending, so that the order does not depend on
                // the split.
                loop {
                    match session.next_step() {
                        Step::Idle => break,
                        step => steps.push(step),
                    }
                }
            }
        }
        steps
    };
    let bytewise = run(&mut || 1);
    assert_eq!(bytewise.len(), 201);
    let mut random = fastrand::Rng::with_seed(3);
    let splits = if cfg!(miri) { 3 } else { 500 };
    for _ in 0..splits {
        // Up to one message: larger reads may reorder classes, which is their purpose.
        assert_eq!(run(&mut || random.usize(1..=3)), bytewise);
    }
    let mut all: Vec<_> = run(&mut || 256);
    let (mut sorted, mut expected) = (Vec::new(), Vec::new());
    let key = |step: &Step| match step {
        Step::Response(r) => (r.id(), r.class() == Class::Urgent),
        _ => (GroupId { archive: 0, group: 0 }, false),
    };
    sorted.append(&mut all);
    expected.extend(bytewise);
    sorted.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(
        sorted.iter().map(key).collect::<Vec<_>>(),
        expected.iter().map(key).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_broken_off_is_answered_again_before_the_other_prefetches() {
    let mut session = open_session();
    let id = |archive, group| GroupId { archive, group };
    let ask = |session: &mut ServerSession, class, id| {
        session.receive(&Message::Request(class, id).to_bytes()).expect("a request");
    };
    let next = |session: &mut ServerSession| match session.next_step() {
        Step::Response(response) => (response, response.class(), response.id()),
        other => panic!("{other:?}"),
    };
    ask(&mut session, Class::Prefetch, id(2, 1));
    ask(&mut session, Class::Prefetch, id(2, 2));
    let (begun, ..) = next(&mut session);
    assert!(!session.prepare_break_off(begun, |_| true), "nothing urgent waits");
    for urgent in [id(255, 3), id(2, 4), id(2, 5)] {
        ask(&mut session, Class::Urgent, urgent);
    }
    assert!(!session.prepare_break_off(begun, |_| false), "the cache does not hold it");
    // Archive 255 would be taken for a marker: the one behind it goes first.
    assert!(session.prepare_break_off(begun, |id| id.group != 4));
    session.put_back(begun);
    let order = [
        (Class::Urgent, id(2, 5)),
        (Class::Urgent, id(255, 3)),
        (Class::Urgent, id(2, 4)),
        (Class::Prefetch, id(2, 1)),
        (Class::Prefetch, id(2, 2)),
    ];
    for (place, expected) in order.into_iter().enumerate() {
        let (response, class, id) = next(&mut session);
        assert_eq!((class, id), expected);
        assert_eq!(response.times_broken_off(), u8::from(place == 3));
    }
    ask(&mut session, Class::Prefetch, id(2, 1));
    let (begun, ..) = next(&mut session);
    ask(&mut session, Class::Urgent, id(2, 4));
    session.receive(&Message::Rekey(9).to_bytes()).expect("a rekey");
    assert!(!session.prepare_break_off(begun, |_| true), "the client reads by the new key");
}
