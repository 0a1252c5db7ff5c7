//! What is asked for, and in which order.

use super::*;
use crate::catalogue::Catalogue;
use crate::cli::LoadOptions;
use crate::engine::plan::Part;
use crate::settings::Settings;
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

fn requests(asker: &mut Asker, plan: &Plan, now: u64, room: Room) -> Vec<(Class, GroupId, u64)> {
    let mut all = Vec::new();
    while let Ask::Request { class, id, intended_ns } = asker.next(&plan.kinds[0], plan, now, room)
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
            let mut asker = Asker::new(client, &plan.kinds[0], &plan);
            let asked = requests(&mut asker, &plan, 5, ROOM);
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
fn clients_of_an_open_loop_share_one_even_pace() {
    let rate = Some("1000".parse().unwrap());
    let connections = Some("4".parse().unwrap());
    let plan = plan(LoadOptions { rate, connections, prefetch: Some(0), ..<_>::default() });
    let mut due: Vec<u64> = (0..4)
        .flat_map(|client| {
            let mut asker = Asker::new(client, &plan.kinds[0], &plan);
            requests(&mut asker, &plan, 19_500_000, ROOM).into_iter().map(|(.., at)| at)
        })
        .collect();
    due.sort_unstable();
    let grid: Vec<u64> = (0..20).map(|i| i * 1_000_000).collect();
    assert_eq!(due, grid, "a request a millisecond, whoever asks");
}

#[test]
fn what_a_full_window_holds_back_keeps_its_time() {
    let rate = Some("1000".parse().unwrap());
    let connections = Some("1".parse().unwrap());
    let plan = plan(LoadOptions { rate, connections, prefetch: Some(0), ..<_>::default() });
    let mut asker = Asker::new(0, &plan.kinds[0], &plan);
    let full = Room { urgent: false, prefetch: false };
    assert_eq!(asker.next(&plan.kinds[0], &plan, 50_000_000, full), Ask::Blocked);
    let mut held = Vec::new();
    asker.unwritten(&plan, 3_000_001, |_, due_ns| held.push(due_ns));
    assert_eq!(held, [0, 1_000_000, 2_000_000, 3_000_000]);
    let asked = requests(&mut asker, &plan, 2_000_000, ROOM);
    assert_eq!(asked.iter().map(|(.., at)| *at).collect::<Vec<_>>(), [0, 1_000_000, 2_000_000]);
}

#[test]
fn requests_are_shared_out_to_the_last_one() {
    let requests_all = Some("10".parse().unwrap());
    let connections = Some("3".parse().unwrap());
    let plan = plan(LoadOptions { requests: requests_all, connections, ..<_>::default() });
    let counts: Vec<usize> = (0..3)
        .map(|client| {
            let mut asker = Asker::new(client, &plan.kinds[0], &plan);
            requests(&mut asker, &plan, 0, ROOM).len()
        })
        .collect();
    assert_eq!(counts, [4, 3, 3]);
}
