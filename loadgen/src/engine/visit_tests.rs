//! What is asked for, and in which order.

use super::*;
use crate::catalogue::Catalogue;
use crate::cli::LoadOptions;
use crate::engine::plan::Part;
use crate::settings::Settings;
use crate::trace::TracedRequest;
use std::collections::HashMap;
use std::sync::Arc;

const ROOM: Room = Room { urgent: true, prefetch: true };

fn plan(options: LoadOptions) -> Plan {
    let id = |archive, group| GroupId { archive, group };
    let groups = (0..100).map(|group| id(0, group)).collect();
    let indexes = vec![MASTER_INDEX, id(255, 0)];
    let catalogue = Catalogue::new(indexes, groups, HashMap::new(), 1, 1.0);
    let settings = Settings::new(options).unwrap();
    settings.plan(Arc::new(catalogue), None, Part { index: 0, of: 1 }, false)
}

fn requests(visit: &mut Visit, plan: &Plan, now: u64, room: Room) -> Vec<(Class, GroupId, u64)> {
    let mut all = Vec::new();
    while let Ask::Request { class, id, intended_ns } = visit.next(&plan.kinds[0], plan, now, room)
    {
        all.push((class, id, intended_ns));
    }
    all
}

#[test]
fn a_download_asks_for_the_indexes_first_and_for_each_group_once() {
    let plan = plan(LoadOptions::default());
    let orders: Vec<Vec<GroupId>> = (0..2)
        .map(|client| {
            let mut visit = Visit::new(client, &plan.kinds[0], &plan);
            let asked = requests(&mut visit, &plan, 5, ROOM);
            assert!(asked.iter().all(|(class, _, at)| *class == Class::Urgent && *at == 5));
            asked.into_iter().map(|(_, id, _)| id).collect()
        })
        .collect();
    for order in &orders {
        assert_eq!(order[0], MASTER_INDEX);
        let mut groups: Vec<u32> = order[2..].iter().map(|id| id.group).collect();
        groups.sort_unstable();
        assert_eq!(groups, (0..100).collect::<Vec<_>>());
    }
    assert_ne!(orders[0], orders[1], "clients do not march in step");
}

#[test]
fn an_open_loop_is_called_and_asks_for_the_same_sequence() {
    let rate = Some("1000".parse().unwrap());
    let plan = plan(LoadOptions { rate, prefetch: Some(0), ..<_>::default() });
    let kind = &plan.kinds[0];
    let mut visit = Visit::new(0, kind, &plan);
    assert_eq!(visit.next(kind, &plan, 50_000_000, ROOM), Ask::OnCall);
    let called: Vec<GroupId> = std::iter::from_fn(|| visit.called(kind, &plan)).collect();
    assert_eq!(called.len(), 102, "the indexes and each group, then no more");
    assert_eq!(called[0], MASTER_INDEX);
    assert_eq!(visit.next(kind, &plan, 50_000_000, ROOM), Ask::Finished);
}

#[test]
fn what_a_lost_connection_owed_is_asked_first_and_keeps_its_time() {
    let plan = plan(LoadOptions::default());
    let kind = &plan.kinds[0];
    let mut visit = Visit::new(0, kind, &plan);
    let Ask::Request { class, id, .. } = visit.next(kind, &plan, 5, ROOM) else { panic!() };
    visit.go_on_later([(class, id, 5)].into_iter());
    visit.begin_or_go_on(kind, 900);
    assert_eq!(visit.called(kind, &plan), None, "not before what is owed");
    assert_eq!(visit.next(kind, &plan, 900, ROOM), Ask::Again { class, id, intended_ns: 5 });
    assert_eq!(visit.owed().count(), 0);
    let Ask::Request { id: next, .. } = visit.next(kind, &plan, 900, ROOM) else { panic!() };
    assert_ne!(next, id, "the work goes on from where it was");
}

#[test]
fn what_is_left_of_a_trace_is_known() {
    let id = GroupId { archive: 0, group: 1 };
    let request = |at_us| TracedRequest { at_us, class: Class::Urgent, id };
    let traced = TracedClient { requests: vec![request(0), request(10), request(20)] };
    let mut plan = plan(LoadOptions::default());
    plan.kinds[0].work = Work::Trace(Arc::new(vec![traced]));
    let kind = plan.kinds[0].clone();
    let mut visit = Visit::new(0, &kind, &plan);
    assert!(matches!(visit.next(&kind, &plan, 0, ROOM), Ask::Request { intended_ns: 0, .. }));
    assert_eq!(visit.next(&kind, &plan, 0, ROOM), Ask::At(10_000));
    // A new connection does not begin the trace anew.
    visit.begin_or_go_on(&kind, 5);
    let left: Vec<u64> = visit.untraced(&kind, &plan, u64::MAX).map(|(_, due)| due).collect();
    assert_eq!(left, [10_000, 20_000]);
    assert_eq!(visit.untraced(&kind, &plan, 15_000).count(), 1);
}

#[test]
fn requests_are_shared_out_to_the_last_one() {
    let requests_all = Some("10".parse().unwrap());
    let connections = Some("3".parse().unwrap());
    let plan = plan(LoadOptions { requests: requests_all, connections, ..<_>::default() });
    let counts: Vec<usize> = (0..3)
        .map(|client| {
            let mut visit = Visit::new(client, &plan.kinds[0], &plan);
            requests(&mut visit, &plan, 0, ROOM).len()
        })
        .collect();
    assert_eq!(counts, [4, 3, 3]);
}
